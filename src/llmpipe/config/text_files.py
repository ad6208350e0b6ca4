"""The text of the files that people write: UTF-8, of bounded size, with the place of each character."""

from __future__ import annotations

from pathlib import Path

from llmpipe.config.nodes import SourceText
from llmpipe.errors import ConfigError, Place, Problem

MAX_BYTES = 1024 * 1024


def read_text(path: Path, *, file: str, max_bytes: int = MAX_BYTES) -> SourceText:
    """The text of a UTF-8 file (a byte order mark is dropped). Raises ConfigError: Y101, Y102, Y112."""
    try:
        with path.open("rb") as stream:
            data = stream.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not a usable path"
        raise ConfigError([Problem("Y112", f"cannot read '{file}': {reason}", Place(file))]) from None
    return decode(data, file=file, path=path, max_bytes=max_bytes)


def decode(data: bytes, *, file: str, path: Path | None = None, max_bytes: int = MAX_BYTES) -> SourceText:
    """Bytes as text with positions. Raises ConfigError: Y101, Y102."""
    if len(data) > max_bytes:
        raise ConfigError([Problem("Y102", f"the file is larger than {max_bytes // 1024} KiB", Place(file))])
    try:
        return SourceText(data.decode("utf-8-sig"), file=file, path=path)
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig", "replace")
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        message = f"the file is not UTF-8: byte 0x{data[error.start]:02x}"
        raise ConfigError([Problem("Y101", message, Place(file, line, column), note="save it as UTF-8")]) from None
