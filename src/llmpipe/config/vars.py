"""What `vars` declares and what the command line gives for it: typed values, every mistake named."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmpipe.config.fields import Fields, plain
from llmpipe.config.near import did_you_mean, listed
from llmpipe.config.nodes import Node
from llmpipe.config.paths import display
from llmpipe.config.problems import Problems
from llmpipe.config.source import parse, parse_value
from llmpipe.config.text_files import read_text
from llmpipe.errors import ConfigError, Place
from llmpipe.frozen import frozen
from llmpipe.json_numbers import one_form, read_number
from llmpipe.shell_text import is_utf8

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "list": (list,),
    "object": (dict,),
}
_EMPTY = {"string": "", "integer": 0, "number": 0, "boolean": False, "list": [], "object": {}}
_WORDS = {"string": "text", "integer": "a whole number", "number": "a number", "boolean": "true or false"} | {
    "list": "a list",
    "object": "a mapping",
}
_GIVEN = "the command line"
_AT_THE_LINE = Place(_GIVEN)
_TRUE, _FALSE = frozenset({"yes", "y", "on", "1", "t"}), frozenset({"no", "n", "off", "0", "f"})


class Given(dict[str, Any]):
    """The values that are given for vars, by name. `names` and `values_at` are the places of those from a file.

    `files` are the files that were read for them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[str, Place] = {}
        self.values_at: dict[str, Place] = {}
        self.files: list[Path] = []

    def put(self, name: str, value: Any, *, name_at: Place | None = None, value_at: Place | None = None) -> None:
        """Note a value; the later one of a name counts, wherever the earlier stood."""
        self[name] = value
        for places, place in ((self.names, name_at), (self.values_at, value_at)):
            places.pop(name, None)
            if place is not None:
                places[name] = place


@frozen
class Declaration:
    """A var of the file. `type` None takes any value."""

    name: str
    type: str | None
    place: Place
    required: bool = False
    default: Any = None
    enum: tuple[Any, ...] = ()
    description: str = ""


def read_vars(pipeline: Fields, given: Mapping[str, Any], problems: Problems) -> dict[str, Any]:
    """The values of a run's vars: those that are given, over the defaults.

    A given text is read as the declared type asks; other values have to be of it.
    """
    declared = {name: _declaration(name, node, pipeline.node, problems) for name, node in pipeline.each("vars")}
    for name in given:
        if name not in declared:
            hint, note = did_you_mean(name, declared), f"declared under `vars`: {listed(declared)}"
            at = given.names.get(name) if isinstance(given, Given) else None
            by = "--var" if at is None else "a file of vars"
            message = f"the pipeline declares no var '{name}', which {by} gives"
            problems.add("C220", message, at or _AT_THE_LINE, hint=hint, note=note)
    return {name: one_form(_value(d, given, problems)) for name, d in declared.items()}


def parse_assignments(
    assignments: Sequence[str], files: Sequence[Path] = (), *, problems: Problems | None = None
) -> Given:
    """The vars that `--var name=value`, `--var name=@file` and `--vars-file` give; the later wins, --var over files.

    `@@` begins a value that begins with `@`.

    Values of --var stay text until the pipeline says what type they have. Raises ConfigError, or adds to `problems`
    where they are collected.
    """
    found = Given()
    told = Problems() if problems is None else problems
    for path in files:
        found.files.append(path)
        _take_file(path, found, told)
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name.strip():
            told.add("C220", f"--var {assignment}: write it as name=value or name=@file", _AT_THE_LINE)
        elif not is_utf8(assignment) and not value.startswith("@"):
            told.add("C220", f"--var {assignment} is not UTF-8", _AT_THE_LINE)
        elif value.startswith("@") and not value.startswith("@@"):
            found.files.append(Path(value[1:]))
            found.put(name.strip(), _file_text(found.files[-1], told))
        else:
            found.put(name.strip(), value[1:] if value.startswith("@@") else value)
    if problems is None:
        told.check()
    return found


def parse_overrides(assignments: Sequence[str], *, problems: Problems | None = None) -> dict[str, str]:
    """The overrides that `--set path.to.key=value` gives. Raises ConfigError, or adds to `problems`."""
    found: dict[str, str] = {}
    told = Problems() if problems is None else problems
    for assignment in assignments:
        path, equals, value = assignment.partition("=")
        if not equals or not path.strip():
            told.add("C224", f"--set {assignment}: write it as path.to.key=value", _AT_THE_LINE)
        elif not is_utf8(assignment):
            told.add("C224", f"--set {assignment} is not UTF-8", _AT_THE_LINE)
        else:
            found[path.strip()] = value
    if problems is None:
        told.check()
    return found


def _take_file(path: Path, given: Given, problems: Problems) -> None:
    try:
        root, found = parse(read_text(path, file=display(path)))
    except ConfigError as error:
        root, found = None, list(error.problems)
    problems.extend(found)
    if root is not None and root.kind != "map":
        problems.add("C220", "a file of vars is a mapping of names to values", root)
    if root is not None and root.kind == "map":
        for name, node in root.value.items():
            given.put(name, node.plain(), name_at=root.key_place(name), value_at=node.place)


def _file_text(path: Path, problems: Problems) -> str:
    try:
        return read_text(path, file=display(path)).text.rstrip("\n")
    except ConfigError as error:
        note = "--var NAME=@FILE takes the text of a file; a value that begins with '@' is written '@@...'"
        problems.extend(replace(p, note=p.note or note) for p in error.problems)
        return ""


def _declaration(name: str, node: Node, owner: Node | None, problems: Problems) -> Declaration:
    place = owner.value["vars"].key_place(name) if owner is not None else node.place
    if node.kind != "map":
        return Declaration(name, _type_of(node.plain()), place, default=node.plain())
    fields = Fields(node, "var_declaration", problems)
    declaration = Declaration(
        name,
        fields.read("type", plain, None),
        place,
        required=fields.read("required", plain, False),
        default=fields.read("default", plain, None),
        enum=tuple(fields.read("enum", plain, ())),
        description=str(fields.read("description", plain, "")),
    )
    default = fields.get("default")
    if default is not None and (fault := _fault(declaration, one_form(default.plain()))):
        problems.add("C222", f"the default of var '{name}' {fault}", default)
    if default is not None and declaration.required:
        problems.add("C222", f"var '{name}' is required, so its default is never used", default, hint="remove one")
    if default is None and not declaration.required:
        note = "add `default`, or `required: true`"
        problems.add("C222", f"var '{name}' has neither a default nor is it required", place, note=note)
    return declaration


def _type_of(value: Any) -> str | None:
    if value is None:
        return None
    return next(name for name, types in _TYPES.items() if _is(value, types))


def _is(value: Any, types: tuple[type, ...]) -> bool:
    return isinstance(value, types) and isinstance(value, bool) == (types == (bool,))


def _value(d: Declaration, given: Mapping[str, Any], problems: Problems) -> Any:
    if d.name not in given:
        if d.required:
            note = d.description and f"{d.name}: {d.description}"
            hint = f"pass --var {d.name}=VALUE"
            problems.add("C221", f"var '{d.name}' is required and has no value", d.place, hint=hint, note=note)
            return _stand_in(d)
        return d.default
    value, why = one_form(given[d.name]), ""
    if isinstance(value, str) and d.type not in (None, "string"):
        value, why = _read_as(d, value)
    if fault := _fault(d, value):
        note = f"declared in line {d.place.line} of {d.place.file}"
        at = given.values_at.get(d.name) if isinstance(given, Given) else None
        what = f"--var {d.name}" if at is None else f"var '{d.name}'"
        problems.add("C222", f"{what} {fault}", at or _AT_THE_LINE, hint=why or _truth(d, value), note=note)
        return _stand_in(d)
    return value


def _stand_in(d: Declaration) -> Any:
    """Any value of the right type, so that what follows is checked too and not reported for want of this one."""
    return d.default if d.default is not None else d.enum[0] if d.enum else _EMPTY.get(d.type or "string")


def _read_as(d: Declaration, text: str) -> tuple[Any, str]:
    """The value of a text given for a var that is no text; the text itself, and why, if it cannot be read."""
    if d.type in ("list", "object"):
        try:
            return json.loads(text, parse_float=read_number), ""
        except (ValueError, RecursionError):
            pass
    node, found = parse_value(text, file=_GIVEN, place=d.place)
    if node is None or found:
        return text, next((problem.message for problem in found if problem.code == "Y111"), "")
    return one_form(node.plain()), ""


def _fault(d: Declaration, value: Any) -> str:
    """What is wrong with a value, "" if nothing is."""
    said = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    said = said if len(said) <= 50 else f"{said[:47]}..."
    if d.type is not None and not _is(value, _TYPES[d.type]):
        return f"wants {_WORDS[d.type]}, not {said}"
    if d.enum and value not in d.enum:
        choices = (choice if isinstance(choice, str) else json.dumps(choice, default=str) for choice in d.enum)
        return f"wants one of {', '.join(choices)}, not {said}"
    return ""


def _truth(d: Declaration, value: Any) -> str:
    """What to write for a truth value that other languages spell so; "" for anything else."""
    word = str(value).lower()
    if d.type != "boolean" or word not in _TRUE | _FALSE:
        return ""
    return "write true" if word in _TRUE else "write false"
