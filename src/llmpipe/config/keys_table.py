"""Writes docs/keys.md from the schema file: every key, its default, where it may stand.

python -m llmpipe.config.keys_table > docs/keys.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from llmpipe.config.keys import Definition, definition, deref, mappings

_HEAD = """# Every key of a pipeline file

Generated from `schemas/pipeline.schema.json` by `python -m llmpipe.config.keys_table`; a test keeps it current.

Left out = the default. Durations: `500ms`, `30s`, `10m`, `2h`, `7d`. Counts: `500`, `3_000_000`, `200k`, `2M`.
`0` or `none` turns a dial off where the table says so; a negative value is an error. A key in **bold** is required.
"""
# Where each mapping stands, outermost first; `model`, `limits` and the others are named after the key that holds them.
_PLACES: Mapping[str, str] = {
    "pipeline": "The file itself",
    "var_declaration": "`vars.<name>`, where it is a declaration",
    "dataset": "`datasets.<name>`",
    "model": "`models.<name>`",
    "limits": "`limits` of a model",
    "fallback": "An entry of `fallback`",
    "price": "`price` of a model",
    "params": "`params` of a model or a step",
    "faults": "`faults` of `params`, for `provider: echo`",
    "defaults": "`defaults`",
    "step": "An entry of `steps`",
    "group": "`foreach` of a step: groups",
    "split": "`foreach` of a step: pieces of a text",
    "message": "An entry of `messages` of a step",
    "timeout": "`timeout` of a step or the defaults",
    "retry": "`retry` of a step or the defaults",
    "cache_policy": "`cache` of a step or the defaults",
    "budget": "`budget`",
    "output": "An entry of `outputs`",
}


def keys_table() -> str:
    """The whole page."""
    missing = set(mappings()) ^ set(_PLACES)
    if missing:
        raise ValueError(f"places and mappings differ: {sorted(missing)}")
    return "\n".join([_HEAD, *(line for name, place in _PLACES.items() for line in _section(name, place))])


def _section(name: str, place: str) -> Iterator[str]:
    body = definition(name)
    yield f"## {place}\n"
    yield "| key | value | default | meaning |"
    yield "|---|---|---|---|"
    for key, value in body["properties"].items():
        shown = f"**`{key}`**" if key in body.get("required", ()) else f"`{key}`"
        yield f"| {shown} | {_cell(_kind(value))} | {_default(value)} | {_cell(value['description'])} |"
    if "oneOf" in body:
        keys = [f"`{branch['required'][0]}`" for branch in body["oneOf"]]
        yield f"\nExactly one of {', '.join(keys)}."
    yield ""


def _kind(value: Definition) -> str:
    whole = {**deref(value), **value}
    if "enum" in whole:
        return ", ".join(f"`{choice}`" for choice in whole["enum"])
    if "x-wants" in whole:
        return str(whole["x-wants"])
    if "const" in whole:
        return f"`{whole['const']}`"
    if "properties" in whole:
        return f"a mapping, see `{whole.get('title')}`"
    types = whole.get("type", "any value")
    words = {"object": "a mapping", "array": "a list", "string": "text", "boolean": "`true`, `false`"}
    words |= {"integer": "a whole number", "number": "a number"}
    text = " or ".join(words.get(t, t) for t in ([types] if isinstance(types, str) else types))
    return text + _range(whole)


def _range(whole: Mapping[str, Any]) -> str:
    low, high = whole.get("minimum"), whole.get("maximum")
    if low is not None and high is not None:
        return f", {low} to {high}"
    return f", from {low}" if low is not None else ""


def _default(value: Definition) -> str:
    default = value.get("default")
    if default is None:
        return ""
    return f"`{default}`" if isinstance(default, str) else f"`{json.dumps(default)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    sys.stdout.write(keys_table())
