"""Reads what a schema refers to: files of the project, as plain JSON, of bounded size and depth."""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmpipe.json_numbers import read_float
from llmpipe.structured.keywords import lookup
from llmpipe.structured.problems import did_you_mean

MAX_FILE_BYTES = 1024 * 1024
MAX_SCHEMA_DEPTH = 100


def plain(value: Any, depth: int = 0) -> Any:
    """A deep copy of `value` in plain dicts and lists. Raises ValueError if it is no JSON, or too deep."""
    if depth > MAX_SCHEMA_DEPTH:
        raise ValueError(f"it is nested deeper than {MAX_SCHEMA_DEPTH} levels")
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("a key is not text")
        return {key: plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is not a JSON value")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise ValueError(f"{type(value).__name__} is not a JSON value")


class RefusedReference(Exception):
    """A reference that is not followed: (message, hint)."""


def read_schema(path: Path, address: str) -> dict[str, Any]:
    """The schema in a file, which `address` named. Raises RefusedReference."""
    if path.suffix in (".yaml", ".yml"):
        raise RefusedReference(f"{address!r} is YAML: a schema that is referred to has to be JSON", "")
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise RefusedReference(f"{address!r} is no regular file", "")
        if found.st_size > MAX_FILE_BYTES:
            raise RefusedReference(f"{address!r} is larger than {MAX_FILE_BYTES} bytes", "")
        contents = plain(json.loads(path.read_text(encoding="utf-8-sig"), parse_float=read_float))
    except OSError as error:
        raise RefusedReference(f"{address!r} cannot be read: {error.strerror or error}", "") from error
    except (ValueError, RecursionError) as error:
        raise RefusedReference(f"{address!r} is not JSON: {error}", "") from error
    if not isinstance(contents, dict):
        raise RefusedReference(f"{address!r} does not hold a schema object", "")
    return contents


def nearest(contents: Any, path: tuple[str, ...]) -> str:
    """A suggestion for the first token of `path` that is not there."""
    for index, token in enumerate(path):
        try:
            lookup(contents, path[: index + 1])
        except KeyError:
            parent = lookup(contents, path[:index])
            return did_you_mean(token, parent) if isinstance(parent, dict) else ""
    return ""
