"""The rows of a dataset, one after the other, each with its key and its place in the file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from llmpipe.config.paths import project_root
from llmpipe.config.pipeline import Dataset
from llmpipe.config.rows_files import Part, lines, parts, raw_lines, reporting, whole_text
from llmpipe.config.rows_json import MAX_ROW, canonical, parse_row, stream_array
from llmpipe.config.rows_keys import ColumnKeys, ContentKeys
from llmpipe.config.rows_source import Reading, file_sha256
from llmpipe.config.rows_types import typed
from llmpipe.errors import ConfigError, DataError
from llmpipe.json_numbers import one_form

_Numbered = Iterator[tuple[int, Any]]


class Row(NamedTuple):
    """One row: `key` is unique in its dataset, `line` (from 1) is where it begins in `file`."""

    key: str
    data: Mapping[str, Any]
    file: str
    line: int


def read_rows(dataset: Dataset, *, stdin: BinaryIO | None = None, reading: Reading | None = None) -> Iterator[Row]:
    """The rows in the order of the files; nothing is read whole but one row (at most 32 MiB) and `files`.

    jsonl, json, yaml: objects as they stand · csv, tsv: texts by the names in the first line · lines: `text` and
    `number`, blank lines left out · files: `path` (relative to the project root), `name`, `text`. `types` of the
    dataset convert texts.
    The key is the dataset's column; without one the path (files), the text (lines) or the content of the row, as
    `ContentKeys` says. Every format may be packed with gzip. `stdin` stands for the process's own. `reading` gets what
    each file was, once its last row was taken.

    Raises DataError with file and line: D301 cannot be read, D302 not in the format, D303 encoding, D304 not an
    object, D305 duplicate key, D306 no key, D307 columns, D308 unusual JSON, D309 too large or deep, D316 a cell
    that is not of its type.
    """
    read = _READERS[dataset.format]
    with _identifying(dataset) as identify:
        for part in parts(dataset, stdin, reading):
            file = part.file
            with reporting(file):
                for line, data in read(part, dataset):
                    if type(data) is not dict:
                        message = f"every row must be an object, not {_kind(data)}"
                        raise DataError(message, file=file, line=line, code="D304")
                    if dataset.types:
                        typed(data, dataset.types, file=file, line=line)
                    yield Row(identify(data, file, line), data, file, line)


@contextmanager
def _identifying(dataset: Dataset) -> Iterator[Callable[[dict[str, Any], str, int], str]]:
    """How this dataset makes the key of a row."""
    if dataset.key is not None or dataset.format == "files":
        with closing(ColumnKeys(dataset.key or "path")) as by_column:
            yield lambda data, file, line: by_column.key(data, file=file, line=line)
        return
    with closing(ContentKeys()) as by_content:
        if dataset.format == "lines":  # whose numbers change with the lines before them
            yield lambda data, file, line: by_content.key(data["text"], file=file, line=line)
        else:
            yield lambda data, file, line: by_content.key(data, file=file, line=line)


def count_rows(dataset: Dataset, *, stdin: BinaryIO | None = None) -> int | None:
    """How many rows there are, as cheaply as the format allows; None for standard input that is not given.

    Raises DataError for what cannot be read; rows that are read later may still be refused.
    """
    if dataset.stdin and stdin is None:
        return None
    if dataset.format == "files" and not dataset.stdin:
        return len(dataset.paths)
    read = _READERS[dataset.format]
    count = 0
    for part in parts(dataset, stdin):
        with reporting(part.file):
            if dataset.format in ("jsonl", "lines"):
                count += sum(1 for line in raw_lines(part.stream) if not line.isspace())
            else:
                count += sum(1 for _ in read(part, dataset))
    return count


def peek_columns(dataset: Dataset) -> tuple[str, ...]:
    """The names of the first row's columns; () if they cannot be told without standard input or without trouble."""
    fixed = {"lines": ("text", "number"), "files": ("path", "name", "text")}.get(dataset.format)
    if fixed is not None or dataset.stdin:
        return fixed or ()
    rows = read_rows(dataset)
    try:
        return tuple(next(rows).data)
    except (DataError, StopIteration):
        return ()
    finally:
        rows.close()  # type: ignore[attr-defined]


def file_digest(dataset: Dataset, digests: Iterable[bytes] | None = None) -> str:
    """SHA-256, in hexadecimal, over the files as they are, or as `digests` says that they were read.

    For `files` it is over their paths too, which are columns. Raises DataError D301. Standard input has no files: the
    digest of nothing.
    """
    whole = hashlib.sha256()
    found = (file_sha256(path) for path in dataset.paths) if digests is None else digests
    for path, digest in zip(dataset.paths, found, strict=True):
        name = relative_path(path, dataset) if dataset.format == "files" else ""
        whole.update(digest + name.encode("utf-8", "surrogateescape") + b"\0")
    return whole.hexdigest()


def relative_path(path: Path, dataset: Dataset) -> str:
    """The path as rows of `files` show it: from the project root, with `/` on every system."""
    return Path(os.path.relpath(path, dataset.root or project_root(path))).as_posix()


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    return {list: "a list", str: "a text", bool: "true or false"}.get(type(value), "a number")


def _jsonl(part: Part, _dataset: Dataset) -> _Numbered:
    file = part.file
    for number, text in lines(part.stream, file=file):
        if not text.isspace():
            yield number, parse_row(text, file=file, line=number)


def _json(part: Part, _dataset: Dataset) -> _Numbered:
    return stream_array(part.stream, file=part.file)


def _lines(part: Part, _dataset: Dataset) -> _Numbered:
    for number, text in lines(part.stream, file=part.file):
        content = text.removesuffix("\n").removesuffix("\r")
        if "\r" in content:
            message = "not lines: a line ends with a bare CR; save it with LF or CRLF"
            raise DataError(message, file=part.file, line=number, code="D302")
        if "\0" in content:
            message = "not text: a NUL, as in a file that was cut off or is no UTF-8"
            raise DataError(message, file=part.file, line=number, code="D302")
        if not text.isspace():
            yield number, {"text": content, "number": number}


def _files(part: Part, dataset: Dataset) -> _Numbered:
    path = "<stdin>" if part.path is None else relative_path(part.path, dataset)
    try:
        path.encode()
    except UnicodeEncodeError:
        raise DataError(
            "the name of the file is not UTF-8, and `path` and `name` are texts; rename it", file=part.file, code="D303"
        ) from None
    yield 1, {"path": path, "name": Path(path).name, "text": whole_text(part.stream, file=part.file)}


def _yaml(part: Part, _dataset: Dataset) -> _Numbered:
    from llmpipe.config.source import iter_list

    try:
        for line, value in iter_list(part.stream, file=part.file, max_bytes=MAX_ROW):
            _check_yaml(value, part.file, line)
            yield line, one_form(value)
    except ConfigError as error:
        first = error.problems[0]
        code = {"Y101": "D303", "Y107": "D309"}.get(first.code, "D302")
        raise DataError(first.message, file=part.file, line=first.place.line, code=code) from None


def _check_yaml(value: Any, file: str, line: int) -> None:
    """YAML can say what JSON cannot: such a row would fail only when it is asked about."""
    try:
        canonical(value)
    except (TypeError, ValueError) as error:
        raise DataError(f"the row holds what JSON cannot: {error}", file=file, line=line, code="D308") from None


def _table(part: Part, dataset: Dataset) -> _Numbered:
    """Rows of CSV or TSV as RFC 4180 has them: quoted fields may hold line ends; every row has every column."""
    import csv

    csv.field_size_limit(MAX_ROW)
    delimiter = "\t" if dataset.format == "tsv" else ","
    names: list[str] = []
    is_quoted = False

    def texts() -> Iterator[str]:
        nonlocal is_quoted
        for _, text in lines(part.stream, file=part.file):
            is_quoted = is_quoted or (not names and '"' in text)
            yield text

    reader = csv.reader(texts(), delimiter=delimiter, strict=True)
    began = 1
    try:
        for fields in reader:
            if names and fields:
                yield began, _named(names, fields, part.file, began)
            elif fields:
                names = _header(fields, delimiter, part.file, began, is_quoted=is_quoted)
            began = reader.line_num + 1
    except csv.Error as error:
        said = "a line ends with a bare CR; save it with LF or CRLF" if "new-line" in str(error) else error
        raise DataError(f"not {dataset.format.upper()}: {said}", file=part.file, line=began, code="D302") from None


def _header(fields: list[str], delimiter: str, file: str, line: int, *, is_quoted: bool) -> list[str]:
    """The names of the columns. Where none is quoted, blanks beside a delimiter belong to no name."""
    names = fields if is_quoted else [name.strip() for name in fields]
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise DataError(f"two columns are named {twice!r:.80}", file=file, line=line, code="D307")
    other = next((mark for mark in ";\t,|" if mark != delimiter and mark in names[0]), None)
    if len(names) == 1 and other is not None and not is_quoted:
        message = (
            f"there is one column, {names[0]!r:.80}; its parts seem to be separated by {other!r}, not {delimiter!r}"
        )
        raise DataError(message, file=file, line=line, code="D307")
    return names


def _named(names: list[str], fields: list[str], file: str, line: int) -> dict[str, str]:
    if len(fields) != len(names):
        message = f"the row has {len(fields)} fields, the header {len(names)}"
        raise DataError(message, file=file, line=line, code="D307")
    return dict(zip(names, fields, strict=True))


_READERS: Mapping[str, Callable[[Part, Dataset], _Numbered]] = {
    "jsonl": _jsonl,
    "json": _json,
    "csv": _table,
    "tsv": _table,
    "yaml": _yaml,
    "lines": _lines,
    "files": _files,
}
