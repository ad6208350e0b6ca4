"""YAML text in, nodes with positions out; whatever the bytes are, nodes or problems and never a surprise.

The document is built from the parser's events, so that repeated keys, deep nesting, alias bombs and tags are seen
before anything grows. The only module that imports yaml.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import yaml

from llmpipe.config.flow_types import is_shroud, masked, shrouded, unmasked
from llmpipe.config.line_breaks import ElementTooLong, JoinedStream, joined, parted
from llmpipe.config.nodes import SPOILT, Node, SourceText, key_word, style_at
from llmpipe.config.scalars import BadNumber, resolve
from llmpipe.config.yaml_traps import advise, end_of_braces
from llmpipe.errors import ConfigError, Place, Problem

MAX_DEPTH = 64
MAX_TRAPS = 50  # values that want quotes, before the rest of a file is left alone
MAX_NODES = 100_000  # aliases counted with all they stand for
_TEXT_OF_A_VALUE = 100  # characters of a text that count as one value more

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse(source: SourceText) -> tuple[Node | None, list[Problem]]:
    """The document of a text, and what is wrong with it; the node is None if nothing usable could be built."""
    known = source.text
    node, problems = _parsed(source, known)
    for patterns in (False, True):
        if not any(problem.code in ("Y103", "Y109") for problem in problems):
            break
        text = masked(source.text, patterns=patterns)
        again = _parsed(source, text) if text is not None else (None, problems)
        if text is not None and (again[0] is not None or _reaches_further(again[1], problems)):
            (node, problems), known = again, text
    return (node, problems) if node is not None else _beyond_traps(source, known, problems)


def _beyond_traps(source: SourceText, text: str, problems: list[Problem]) -> tuple[Node | None, list[Problem]]:
    """Values that want quotes read as if they had them, so that what is wrong below them is told as well."""
    node: Node | None = None
    told: list[Problem] = []
    while node is None and problems[-1].code == "Y109" and len(told) < MAX_TRAPS:
        trap = problems[-1]
        start = source.index(trap.place)
        text = shrouded(text, start, start + trap.place.width)
        node, found = _parsed(source, text)
        if node is None and not (found and found[-1].place.line > trap.place.line):
            break
        told, problems = [*told, trap], found
    return node, sorted([*told, *problems], key=lambda problem: (problem.place.line, problem.place.column))


def _parsed(source: SourceText, text: str) -> tuple[Node | None, list[Problem]]:
    """`text` is that of the source, or stands for it sign by sign."""
    builder = _Builder(source, is_masked=text is not source.text)
    try:
        for event in _events(joined(text)):
            builder.feed(event)
    except _Stop:
        return None, builder.problems
    except yaml.YAMLError as error:
        return None, [*builder.problems, _syntax_problem(source, error)]
    if builder.root is None and not builder.problems:
        builder.report("Y110", "the file is empty", 0, 1, note="a pipeline needs at least `version: 1` and `steps`")
    return builder.root, builder.problems


def _reaches_further(found: list[Problem], before: list[Problem]) -> bool:
    def end(problems: list[Problem]) -> tuple[int, int]:
        return max(((p.place.line, p.place.column) for p in problems), default=(0, 0))

    return end(found) > end(before)


def parse_value(text: str, *, file: str, place: Place) -> tuple[Node | None, list[Problem]]:
    """A YAML value given outside of a file, as by `--set` or `--var`; every problem stands at `place`."""
    return parse(SourceText(text, file=file, fixed=place))


def iter_list(stream: BinaryIO, *, file: str, max_bytes: int = 2**25) -> Iterator[tuple[int, Any]]:
    """The elements of a YAML list, each with its 1-based line, without reading the file whole.

    An element may take `max_bytes` (and the parser may look a little further). Raises ConfigError.
    """
    source = SourceText("", file=file)
    most = MAX_NODES + max_bytes // _TEXT_OF_A_VALUE
    builder, text = _Builder(source, streaming=True, most=most), JoinedStream(stream, max_bytes)
    try:
        for event in _events(text):
            builder.feed(event)
            if builder.ready is not None:
                line, node = builder.ready
                builder.ready = None
                text.taken = 0
                if builder.problems:
                    break
                yield line, node.plain()
    except _Stop:
        pass
    except yaml.YAMLError as error:
        builder.problems.append(_syntax_problem(source, error))
    except UnicodeDecodeError as error:
        said = f"the file is not UTF-8: byte 0x{error.object[error.start]:02x}"
        builder.problems.append(Problem("Y101", said, Place(file, text.line)))
    except ElementTooLong:
        said = f"a row is longer than {max_bytes // 1024 // 1024} MiB"
        builder.problems.append(Problem("Y107", said, Place(file, builder.line)))
    if builder.problems:
        raise ConfigError(builder.problems)


def _events(stream: str | JoinedStream) -> Iterator[Any]:
    loader = _LOADER(stream)
    try:
        while loader.check_event():
            yield loader.get_event()
    finally:
        loader.dispose()


def _syntax_problem(source: SourceText, error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    said = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
    index = mark.index if mark is not None else getattr(error, "position", 0)
    if not source.text:
        place = Place(source.file, mark.line + 1, mark.column + 1) if mark is not None else Place(source.file)
        return Problem("Y103", f"not YAML: {said}", place)
    context = getattr(error, "context_mark", None)
    return advise(source, str(said), min(index, len(source.text)), context.index if context is not None else None)


class _Stop(Exception):
    """The document cannot be built any further; the problem is already noted."""


class _Frame:
    """A mapping or list under construction."""

    __slots__ = ("anchor", "key", "line", "node", "size")

    def __init__(self, node: Node, anchor: str | None, line: int) -> None:
        self.node, self.anchor, self.line = node, anchor, line
        self.key: Node | None = None
        self.size = 1


class _Builder:
    """Events in, nodes out; a stack of frames instead of recursion, so that no depth can exhaust the interpreter."""

    def __init__(
        self, source: SourceText, *, streaming: bool = False, is_masked: bool = False, most: int = MAX_NODES
    ) -> None:
        self.source, self.streaming, self.is_masked, self.most = source, streaming, is_masked, most
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self.ready: tuple[int, Node] | None = None
        self._frames: list[_Frame] = []
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._total = self._kept = 0  # values of the document (of a stream: of the element), and under anchors
        self._documents = 0
        self.line = 1

    def report(self, code: str, message: str, start: int, end: int, *, hint: str = "", note: str = "") -> None:
        """Note a problem at characters of the source (or at the line, where a stream is read)."""
        place = Place(self.source.file, self.line) if self.streaming else self.source.place(start, end)
        self.problems.append(Problem(code, message, place, hint=hint, note=note))

    def feed(self, event: Any) -> None:
        """Take the parser's next event."""
        self.line = event.start_mark.line + 1
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            self._open(event)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            frame = self._frames.pop()
            self.line = frame.line
            frame.node.end = _index(event.end_mark)
            self._complete(frame.node, frame.anchor, frame.size, new=1)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                self._stop("Y110", "a second document ('---') in the file", event, note="one file is one document")

    def _stop(self, code: str, message: str, event: Any, *, hint: str = "", note: str = "") -> None:
        self.report(code, message, event.start_mark.index, event.end_mark.index, hint=hint, note=note)
        raise _Stop

    def _scalar(self, event: Any) -> None:
        self._refuse_tag(event)
        raw = parted(event.value)
        raw = unmasked(raw) if self.is_masked else raw
        wants_quotes = self.is_masked and is_shroud(raw)
        if wants_quotes:
            raw = self.source.text[event.start_mark.index : event.end_mark.index]
        start, end = self._span(event)
        kind, value = "str", raw
        if event.implicit[0] and event.tag is None and not wants_quotes:
            try:
                kind, value = resolve(raw)
            except BadNumber as error:
                self.report("Y111", str(error), start, end, hint="quote this")
        node = Node(kind, value, self.source, start, end)  # type: ignore[arg-type]
        node.raw = raw
        node.style = event.style or style_at(self.source.text, node.start, plain=event.implicit[0])
        self._complete(node, event.anchor, 1 + len(raw) // _TEXT_OF_A_VALUE)

    def _span(self, event: Any) -> tuple[int, int]:
        """Where a value stands, without the anchor and the tag before it."""
        start, end = event.start_mark.index, event.end_mark.index
        if event.anchor is None and event.tag is None:
            return start, end
        return self.source.behind_properties(start, end), end

    def _open(self, event: Any) -> None:
        self._refuse_tag(event)
        frame = self._frames[-1] if self._frames else None
        if frame is not None and frame.node.kind == "map" and frame.key is None:
            self._refuse_key(frame.node, event)
        if len(self._frames) >= MAX_DEPTH:
            self._stop("Y107", f"nested deeper than {MAX_DEPTH} levels", event)
        if self.streaming and frame is None and isinstance(event, yaml.MappingStartEvent):
            self._stop("Y110", "the file holds a mapping, not a list of rows", event)
        kind = "map" if isinstance(event, yaml.MappingStartEvent) else "list"
        node = Node(kind, {} if kind == "map" else [], self.source, *self._span(event))  # type: ignore[arg-type]
        self._frames.append(_Frame(node, event.anchor, self.line))

    def _refuse_key(self, parent: Node, event: Any) -> None:
        start = event.start_mark.index
        if self.source.text[parent.start : parent.start + 2] == "{{" and start == parent.start + 1:
            self.report(
                "Y109",
                "'{{' opens a YAML mapping here, not a template",
                parent.start,
                end_of_braces(self.source.text, parent.start),
                hint="quote this",
                note="write it as \"{{ ... }}\", or as a block after '|'",
            )
            raise _Stop
        self._stop("Y105", "a key must be text, not a mapping or a list", event, hint="quote this")

    def _refuse_tag(self, event: Any) -> None:
        if event.tag is not None and event.tag != "!":
            start, end = event.start_mark.index, event.end_mark.index
            self.report("Y108", f"the tag '{event.tag}' is not used here", start, end, hint="quote this if it is text")

    def _alias(self, event: Any) -> None:
        if any(frame.anchor == event.anchor for frame in self._frames):
            self._stop("Y106", f"the alias '*{event.anchor}' stands inside of what it names", event)
        known = self._anchors.get(event.anchor)
        if known is None:
            start, end = event.start_mark.index, event.end_mark.index
            message, note = f"unknown alias '*{event.anchor}'", f"no '&{event.anchor}' stands above"
            self.report("Y106", message, start, end, hint="quote this if it is text", note=note)
            self._complete(Node("null", None, self.source, start, end, style=SPOILT), None, 1)
            return
        self._complete(known[0], None, known[1])

    def _complete(self, node: Node, anchor: str | None, size: int, *, new: int | None = None) -> None:
        """Put a value where it belongs; it is worth `size` values, of which `new` are not counted yet (or all)."""
        self._total += size if new is None else new
        if anchor is not None:
            self._kept += size - self._anchors.get(anchor, (node, 0))[1]
            self._anchors[anchor] = (node, size)
        if self._total > self.most or (self.streaming and self._kept > self.most):
            self.report("Y107", f"more than {self.most:,} values, aliases counted in full", node.start, node.end)
            raise _Stop
        if not self._frames:
            self.root = node
            if self.streaming and node.kind not in ("list", "null"):
                self.report("Y110", "the file does not hold a list of rows", node.start, node.end)
            return
        frame = self._frames[-1]
        frame.size += size
        if frame.node.kind == "list":
            self._append(frame, node, size)
        elif frame.key is None:
            frame.key = self._key(node)
        else:
            self._store(frame, frame.key, node)
            frame.key = None

    def _append(self, frame: _Frame, node: Node, size: int) -> None:
        if self.streaming and len(self._frames) == 1:
            self.ready = (self.line, node)
            self._total, frame.size = 0, 1
        else:
            frame.node.value.append(node)

    def _key(self, node: Node) -> Node:
        if node.kind != "str":
            shown = node.raw or "nothing"
            message = f"a key must be text, but '{shown}' is {key_word(node)}"
            self.report("Y105", message, node.start, node.end, hint="quote this")
        elif node.value == "<<" and node.style is None:
            note = "merge keys are not part of YAML 1.2; use `defaults`, or `include` for several files"
            self.report("Y106", "'<<' merges nothing here", node.start, node.end, note=note)
        return node

    def _store(self, frame: _Frame, key: Node, node: Node) -> None:
        name = str(key.value) if key.kind == "str" else key.raw
        first = frame.node.keys.get(name)
        if first is not None:
            line = self.source.place(first.start).line if not self.streaming else self.line
            note = f"the first '{name}' stands in line {line}"
            self.report("Y104", f"the key '{name}' stands twice", key.start, key.end, hint="remove one", note=note)
            return
        frame.node.keys[name] = key
        frame.node.value[name] = node


def _index(mark: Any) -> int:
    return int(mark.index)
