"""What templates may name: each read of a template is followed as far as anything is known, and misses are told.

A reference to another step becomes an edge of the graph on the way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from llmpipe.config.loading import Loading
from llmpipe.config.near import did_you_mean, listed, nearest
from llmpipe.config.nodes import Node
from llmpipe.config.pipeline import ROOT_SCOPE, Scope, StepRef
from llmpipe.config.scopes import Scopes
from llmpipe.config.shapes import ANY, BOOLEAN, NUMBER, TEXT, Shape, of_value, record
from llmpipe.config.templates import Expression, Read, Template
from llmpipe.config.text_cells import conversion
from llmpipe.errors import Place
from llmpipe.frozen import frozen

if TYPE_CHECKING:
    from llmpipe.config.template_numbers import Meeting, Side

_LIST_FIELDS = ("failed", "skipped")
_NOTHING = record((), sure=True)
_GROUP = record(("key", "number", "rows"), sure=True)
_PIECE = record(("text", "start", "end", "number"), sure=True)


@frozen
class Reader:
    """Who reads: a part of a step, seen from a scope. `output` is the shape of `output` where it may be named."""

    what: str  # "the prompt of step 'rate'"
    scope: str
    node: Node
    output: Shape | None = None
    self_id: str | None = None
    only_steps: frozenset[str] | None = None  # None: every step may be named


class References:
    """Follows the reads of a pipeline's templates; knows the shapes of rows, outputs and vars."""

    def __init__(
        self, scopes: Scopes, loading: Loading, rows: Mapping[str, Shape], outputs: Mapping[str, Shape]
    ) -> None:
        self._scopes, self._loading, self._rows, self._outputs = scopes, loading, rows, outputs
        self._items: dict[str, Shape] = {}
        self._asked_for: set[tuple[str | None, tuple[str, ...]]] = set()  # what a step asks for before it uses it

    def note_guards(self, part: Template | Expression, reader: Reader) -> None:
        """Note what a part of a step asks for (`is defined`, `default`): another part may then use it."""
        self._asked_for |= {(reader.self_id, read.path) for read in part.reads if read.guarded}

    def follow(self, part: Template | Expression, reader: Reader) -> list[StepRef]:
        """The steps that a template refers to; problems for names that cannot be there."""
        found = []
        self.note_guards(part, reader)
        for read in part.reads:
            if read.path[0] == "steps":
                ref = self._step(read, reader)
                if ref is not None:
                    found.append(ref)
            else:
                self._plain(read, reader)
        for meeting in part.meetings:
            self._check_numbers(part, meeting, reader)
        return found

    def _check_numbers(self, part: Template | Expression, meeting: Meeting, reader: Reader) -> None:
        """Text that is taken for a number or a boolean, which it never equals; a cell of a table is meant as one."""
        left, right = self._side(meeting.left, reader), self._side(meeting.right, reader)
        for side, shape, other in ((meeting.left, left, right), (meeting.right, right, left)):
            is_text = shape.type == "cell" or (shape.type == "text" and meeting.is_compared)
            if not is_text or other.type not in ("number", "boolean"):
                continue
            path, place = ".".join(side.path), part.place_of(side.position, len(".".join(side.path)))
            column = side.path[-1] if self._shape_of(side.path[:-1], reader).what == "columns" else None
            hint = conversion(path, column, boolean=other.type == "boolean")
            said = f"so `{meeting.never}` is false" if meeting.never else f"and is used with a {other.type}"
            message = f"'{path}' is text, {said} in {reader.what}"
            if meeting.never or shape.type == "text":
                self._loading.problems.warn("C231", message, place, hint=hint)
            else:
                self._loading.problems.add("C231", message, place, hint=hint, where=_line_of(reader, place))
            return

    def _side(self, side: Side, reader: Reader) -> Shape:
        """What is known of one side."""
        known = NUMBER if side.type == "number" else BOOLEAN
        return self._shape_of(side.path, reader) if side.path else known

    def _shape_of(self, path: tuple[str, ...], reader: Reader) -> Shape:
        """What is known of the value at a path."""
        if not path:
            return ANY
        if path[0] == "steps":
            id, rest = path[1] if len(path) > 1 else "", path[2:]
            is_own = id in self._scopes.drafts and self._scopes.mode(reader.scope, id) == "own"
            return (self._at(self.output_of(id), rest) or ANY) if is_own else ANY
        return self._at(self._names(reader).get(path[0], ANY), path[1:]) or ANY

    def output_of(self, step: str) -> Shape:
        """The shape of a step's output."""
        return self._outputs.get(step, ANY)

    def item_of(self, scope: str) -> Shape:
        """The shape of the items of a scope."""
        if scope not in self._items:
            self._items[scope] = ANY
            self._items[scope] = self._item(self._scopes.made[scope])
        return self._items[scope]

    def _item(self, scope: Scope) -> Shape:
        if scope.kind in ("samples", "models"):
            return self.item_of(scope.parent or ROOT_SCOPE)
        rows = self._rows.get(scope.dataset or "", ANY)
        known = {"dataset": rows, "split": _PIECE, "root": _NOTHING}
        if scope.kind == "group":
            return replace(_GROUP, fields={**(_GROUP.fields or {}), "key": self._key_of(scope)})
        if scope.kind in known:
            return known[scope.kind]
        whole = self.output_of(scope.step or "") if scope.kind == "fanout" else of_value(dict(self._loading.vars))
        found = self._at(whole, scope.path)
        return found.element or ANY if found is not None else ANY

    def _key_of(self, group: Scope) -> Shape:
        """What is known of the `key` of a group: that of the value which `by` names."""
        source = self._scopes.drafts.get(group.step or "")
        path = group.by.path if group.by is not None else None
        if source is None or path is None or self._scopes.is_unknown(self._scopes.home(source.id)):
            return ANY
        reader = Reader("`by`", self._scopes.home(source.id), source.node, output=self.output_of(source.id))
        return self._shape_of(path, reader)

    @staticmethod
    def _at(shape: Shape, path: Iterable[str]) -> Shape | None:
        for part in path:
            if shape.sort != "object" or not shape.fields or part not in shape.fields:
                return None
            shape = shape.fields[part]
        return shape

    def check_fanout(self, scope: Scope, node: Node) -> None:
        """The path of `foreach: steps.x.path` leads to a list, as far as x's schema tells."""
        shape = self.output_of(scope.step or "")
        for i, part in enumerate(scope.path):
            step = ".".join((scope.step or "", *scope.path[:i]))
            if shape.sort in ("scalar", "list") or (
                shape.sort == "object" and shape.sure and part not in shape.names()
            ):
                sort = "a list itself" if shape.sort == "list" else "plain text" if shape.sort == "scalar" else ""
                said = f"the output of '{step}' is {sort}" if sort else f"the output of '{step}' has no '{part}'"
                note = f"its schema has: {listed(shape.names())}" if shape.names() else ""
                hint = did_you_mean(part, shape.names())
                self._loading.problems.add("C217", said, node, hint=hint, note=note)
                return
            shape = (shape.fields or {}).get(part, ANY)
        if shape.sort in ("scalar", "object"):
            self._loading.problems.add("C219", f"'{node.value}' is not a list, so there is nothing to run over", node)

    def _plain(self, read: Read, reader: Reader) -> None:
        known = self._names(reader)
        name, *path = read.path
        if name not in known:
            if not read.guarded:
                self._unknown(read, reader, known)
            return
        if name == "vars" and path and path[0] not in self._loading.vars:
            self._loading.unknown_vars([read])
            return
        self._fields(read, reader, known[name], name, path)

    def _names(self, reader: Reader) -> dict[str, Shape]:
        known: dict[str, Shape] = {"vars": of_value(dict(self._loading.vars))}
        chain = self._scopes.chain(reader.scope)
        if any(self._scopes.made[s].kind not in ("root", "samples", "models") for s in chain):
            known |= {"item": self.item_of(reader.scope)}
        if reader.scope != ROOT_SCOPE:
            known |= {"key": TEXT}
        if len(chain) > 2:
            known["parent"] = self.item_of(chain[1])
        if self._scopes.is_unknown(reader.scope):
            known["parent"] = ANY
        if reader.output is not None:
            known["output"] = reader.output
        return known

    def _unknown(self, read: Read, reader: Reader, known: Mapping[str, Shape]) -> None:
        name, notes = read.path[0], []
        item = known.get("item", ANY)
        hint = f"did you mean 'item.{name}'?" if name in item.names() else ""
        if not hint:
            column, direct = nearest(name, item.names()), nearest(name, [*known, "steps"])
            hint = f"did you mean '{direct}'?" if direct else f"did you mean 'item.{column}'?" if column else ""
        if name in self._scopes.drafts and not hint:
            hint = f"did you mean 'steps.{name}'?"
        if name in ("item", "key") and not hint.startswith("did you mean 'item."):
            hint, notes = "", ["a step without `foreach` runs once and has no item"]
        elif name == "parent":
            hint = ""
            notes = ["only items inside of other items have a parent", f"known here: {listed([*known, 'steps'])}"]
        elif name == "output":
            hint, notes = "", ["`output` is known in `check`, in `by` of a group and in the columns of `outputs`"]
        if item.names():
            notes.append(f"{item.what or 'item'}: {listed(item.names())}")
        notes = notes or [f"known here: {listed([*known, 'steps'])}"]
        self._report(
            "C210",
            f"'{name}' is not defined in {reader.what}",
            read,
            reader,
            width=len(name),
            hint=hint,
            note="; ".join(notes),
        )

    def _fields(self, read: Read, reader: Reader, shape: Shape, name: str, path: list[str]) -> None:
        for part in path:
            if shape.sort != "object" or shape.fields is None:
                return
            if part not in shape.fields:
                self._missing(read, reader, shape, name, part)
                return
            name, shape = f"{name}.{part}", shape.fields[part]

    def _missing(self, read: Read, reader: Reader, shape: Shape, name: str, part: str) -> None:
        """A field that is not among the known ones: an error where there can be no others, or a slip of the pen."""
        near = nearest(part, shape.names())
        if read.guarded or not (shape.sure or near or shape.seen):
            return
        hint = f"did you mean '{name}.{near}'?" if near else ""
        what = shape.what or f"'{name}' has"
        note = f"{what}: {listed(shape.names())}" if shape.what else f"{what} {listed(shape.names())}"
        message = f"there is no '{part}' in '{name}', which {reader.what} uses"
        if shape.sure:
            self._report("C217", message, read, reader, hint=hint, note=note)
        elif not any((reader.self_id, read.path[:n]) in self._asked_for for n in range(2, len(read.path) + 1)):
            message = f"there is no '{part}' in {shape.seen or 'the first rows'}, which {reader.what} uses"
            self._loading.problems.warn("C217", message, read.place, hint=hint, note=note)

    def _step(self, read: Read, reader: Reader) -> StepRef | None:
        if len(read.path) < 2:
            note = f"name one: {listed(self._scopes.drafts)}"
            self._report("C212", f"'steps' alone is nothing that {reader.what} can use", read, reader, note=note)
            return None
        id, path = read.path[1], list(read.path[2:])
        if id not in self._scopes.drafts:
            hint, note = did_you_mean(id, self._scopes.drafts, prefix="steps."), f"steps: {listed(self._scopes.drafts)}"
            self._report("C212", f"there is no step '{id}'", read, reader, hint=hint, note=note)
            return None
        if id == reader.self_id:
            note = "its own answer is `output`, in `check`" if reader.output is not None else ""
            self._report("C216", f"step '{id}' refers to itself", read, reader, note=note)
            return None
        if reader.only_steps is not None and id not in reader.only_steps:
            note = f"known here: {listed([f'steps.{s}' for s in sorted(reader.only_steps)])}"
            self._report("C210", f"'steps.{id}' is not known in {reader.what}", read, reader, note=note)
            return None
        mode = self._scopes.mode(reader.scope, id)
        if self._scopes.is_unknown(reader.scope) or self._scopes.is_unknown(self._scopes.home(id)):
            return StepRef(id, mode, read.place)
        if mode == "own":
            self._fields(read, reader, self._own_shape(id, reader, read, path), f"steps.{id}", path)
        elif path and path[0] not in _LIST_FIELDS and not path[0].isdigit():
            column = ".".join(["row", *([] if path[0] in ("item", "key", "output") else ["output"]), *path])
            note = f"loop over it: {{% for row in steps.{id} %}}{{{{ {column} }}}}{{% endfor %}}"
            self._report(
                "C218", f"'steps.{id}' is a list in {reader.what}, so it has no '{path[0]}'", read, reader, note=note
            )
        return StepRef(id, mode, read.place)

    def _own_shape(self, id: str, reader: Reader, read: Read, path: list[str]) -> Shape:
        shape = self.output_of(id)
        if shape.sort == "scalar" and path and not read.guarded:
            note = f"give step '{id}' a `schema` to get fields"
            message = f"the output of step '{id}' is plain text, so it has no '{path[0]}'"
            self._report("C217", message, read, reader, note=note)
        return shape

    def _report(
        self,
        code: str,
        message: str,
        read: Read,
        reader: Reader,
        *,
        width: int | None = None,
        hint: str = "",
        note: str = "",
    ) -> None:
        place = read.place
        if width is not None:
            place = Place(place.file, place.line, place.column, width)
        self._loading.problems.add(code, message, place, hint=hint, note=note, where=_line_of(reader, place))


def _line_of(reader: Reader, place: Place) -> str:
    """ "line 2 of the prompt", for texts of several lines."""
    if reader.node.kind != "str" or "\n" not in reader.node.value.strip("\n"):
        return ""
    line = place.line - reader.node.locate(1, 1).line + 1
    part = re.sub(r"^the | of (?:step|output) .*$", "", reader.what)
    return f"line {line} of the {part}" if place.file == reader.node.source.file else ""
