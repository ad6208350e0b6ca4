"""An item as it flows through a pass, and the cells (what a step made of it) that it gathers on the way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from llmpipe.frozen import frozen
from llmpipe.json_text import writer

_canonical = writer(sort_keys=True, allow_nan=False)
_readable = writer(compact=False)
_LINE_ENDS = str.maketrans({"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"})

CellStatus = Literal["succeeded", "failed", "skipped", "unsent"]


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values have equal text."""
    return _canonical(value)


def to_json(value: Any) -> str:
    """JSON for the ledger and for result files: readable, and one line to whoever splits lines as Unicode does.

    It is escaped where it holds a line end of Unicode, and throughout where it holds half a surrogate pair.
    """
    text = _readable(value)
    if text.isascii():
        return text
    if not is_text(text):
        return json.dumps(value)
    return text.translate(_LINE_ENDS) if any(end in text for end in "\x85\u2028\u2029") else text


def is_storable(value: Any) -> bool:
    """Whether UTF-8 can spell every text in a value."""
    if isinstance(value, str):
        return is_text(value)
    return not isinstance(value, dict | list) or is_text(_readable(value))


def clean(text: str) -> str:
    """Text that a file can hold: halves of surrogate pairs replaced."""
    return text if is_text(text) else text.encode("utf-8", "replace").decode("utf-8")


def is_text(text: str) -> bool:
    """Whether UTF-8 can spell it: half a surrogate pair is no character."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def digest_of(*texts: str | bytes) -> bytes:
    """16 bytes of SHA-256 over the parts, each framed by its length."""
    framed: list[bytes] = []
    for text in texts:
        raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        framed += (len(raw).to_bytes(8, "big"), raw)
    return hashlib.sha256(b"".join(framed)).digest()[:16]


def unmade(reason: str) -> dict[str, str]:
    """The data of an item that could not be made: it fails in every step, with the reason."""
    return {"": reason}


def why_unmade(data: Any) -> str | None:
    """The reason of `unmade`; None for every other data."""
    return data[""] if isinstance(data, dict) and data.keys() == {""} else None


@frozen
class Cell:
    """What one step made of one item. `digest` names what was read for it; `output` is None unless it succeeded."""

    status: CellStatus
    digest: bytes = b""
    output: Any = None
    reason: str = ""  # why it was skipped or not sent
    code: str = ""
    error: str = ""
    permanent: bool = False


UNSENT = Cell("unsent")


class Item:
    """One row as a step sees it, with the items that enclose it and what the steps made of it so far."""

    __slots__ = ("cells", "changed", "children", "data", "digest", "id", "key", "known", "ord", "parent", "scope")

    def __init__(
        self, id: int, scope: str, key: str, ord: str, data: Any, *, parent: Item | None = None, digest: bytes = b""
    ) -> None:
        self.id, self.scope, self.key, self.ord, self.data, self.parent = id, scope, key, ord, data, parent
        self.digest = digest or digest_of(canonical(data))
        self.cells: dict[str, Cell] = {}
        self.children: dict[str, list[Item]] = {}
        self.known: Mapping[str, Cell] | None = None  # results from the ledger, read once when first asked for
        self.changed = False  # its row is not the one that results in the ledger were made of; to be held against it

    @property
    def order(self) -> int:
        """The number of the row that the item is or lies in: rows begun are ended before more are begun."""
        return int(self.ord[:8] or "0", 16)

    def enclosing(self) -> Iterator[Item]:
        """This item and those around it, innermost first."""
        item: Item | None = self
        while item is not None:
            yield item
            item = item.parent

    def release(self) -> None:
        """Let go of what was made of the item, and of what lies below and refers to it: all is in the ledger.

        The rows of a block stay until its last one is done, and cycles until they are searched for.
        """
        self.cells.clear()
        for below in self.children.values():
            for child in below:
                child.release()
        self.children.clear()

    def within(self, scope: str) -> Item | None:
        """The item of `scope` that this one is or lies in."""
        item: Item | None = self
        while item is not None and item.scope != scope:
            item = item.parent
        return item

    def below(self, scope: str, path: tuple[str, ...]) -> Iterator[Item]:
        """The items of `scope` below this one, in order; `path` are the scopes on the way down, this item's first."""
        if self.scope == scope:
            yield self
            return
        for child in self.children.get(path[path.index(self.scope) + 1], ()):
            yield from child.below(scope, path)


def child_ord(parent: str, index: int) -> str:
    """The sort key of the item at `index` below the one sorted by `parent`; text order is input order."""
    return f"{parent}.{index:08x}" if parent else f"{index:08x}"
