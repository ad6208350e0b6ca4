"""The cells of a table as expressions and templates see them: texts that are never silently unequal to a number."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llmpipe.config.template_values import as_text

_SHOWN = 40
_KEEP = (
    "strip lstrip rstrip replace removeprefix removesuffix lower upper casefold capitalize title zfill __getitem__"
    " split rsplit splitlines partition rpartition"
).split()
_COMPARE = "eq ne lt le gt ge".split()
_COMPUTE = "add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod pow rpow".split()
_ALONE = "neg pos abs round".split()


class TextForNumber(Exception):
    """A text of a table was used as if it were a number."""


class TextCell(str):
    """The text of one cell. Raises TextForNumber when it is compared with a number, or computed with."""

    __slots__ = ("column",)
    column: str

    def __new__(cls, text: str, column: str) -> TextCell:
        made = super().__new__(cls, text)
        made.column = column
        return made

    __hash__ = str.__hash__

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)  # what is copied leaves the template


def conversion(path: str, column: str | None, *, boolean: bool = False) -> str:
    """How a text becomes a number, or a boolean, for a message: the text at a path, of a column of a table."""
    here = f'`{path} == "true"`' if boolean else f"`{path} | int` (or float)"
    there = f", or `types: {{{column}: {'boolean' if boolean else 'integer'}}}` in the dataset" if column else ""
    return f"write {here}{there}"


class TextRow(dict[str, Any]):
    """A row of a table, whose texts come out as TextCell."""

    def __getitem__(self, name: str) -> Any:
        return _cell(name, super().__getitem__(name))

    def get(self, name: str, default: Any = None) -> Any:
        """The cell of a column."""
        return _cell(name, super().get(name, default))

    def values(self) -> Any:
        """All cells."""
        return self._cells().values()

    def items(self) -> Any:
        """All columns with their cells."""
        return self._cells().items()

    def _cells(self) -> dict[str, Any]:
        return {name: _cell(name, value) for name, value in super().items()}


def _cell(name: str, value: Any) -> Any:
    return TextCell(value, name) if type(value) is str else value


def _refuse(cell: TextCell, other: str, *, boolean: bool = False) -> TextForNumber:
    shown = str(cell) if len(cell) <= _SHOWN else str(cell)[: _SHOWN - 1] + "…"
    name = f"item.{cell.column}" if cell.column.isidentifier() else f'item["{cell.column}"]'
    advice = conversion(name, cell.column, boolean=boolean)
    return TextForNumber(f"column {cell.column!r} is text ({shown!r}) {other}; {advice}")


def _guarded(name: str, verb: str) -> Any:
    """The operator `name` of str, but not with a number."""
    plain = getattr(str, name, None)

    def operator(self: TextCell, other: Any = None, *rest: Any) -> Any:
        if isinstance(other, int | float):
            raise _refuse(self, f"and is {verb} {as_text(other)}", boolean=isinstance(other, bool))
        return NotImplemented if plain is None else plain(self, other, *rest)

    operator.__name__ = name
    return operator


def _never(name: str) -> Any:
    def operator(self: TextCell, *_rest: Any) -> Any:
        raise _refuse(self, "and is taken for a number")

    operator.__name__ = name
    return operator


def _keeping(name: str) -> Any:
    """The method `name` of str, whose result (or the parts of it) is still of the same column."""
    plain = getattr(str, name)

    def method(self: TextCell, *args: Any, **named: Any) -> Any:
        found = plain(self, *args, **named)
        if isinstance(found, str):
            return TextCell(found, self.column)
        return type(found)(TextCell(part, self.column) for part in found)

    method.__name__ = name
    return method


def _define(names: Iterable[str], make: Any, *args: str) -> None:
    for name in names:
        setattr(TextCell, name, make(name, *args))


_define((f"__{name}__" for name in _COMPARE), _guarded, "compared with")
_define((f"__{name}__" for name in _COMPUTE), _guarded, "computed with")
_define((f"__{name}__" for name in _ALONE), _never)
_define(_KEEP, _keeping)
