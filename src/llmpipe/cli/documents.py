"""Our frozen objects as JSON documents for `--json`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import PurePath
from typing import Any

from llmpipe.report.plain import plain_json


def document(value: Any, *, indent: int | None = 2) -> str:
    """JSON text: money as numbers, paths as strings, control characters escaped."""
    return plain_json(json.dumps(value, default=_json_form, ensure_ascii=False, indent=indent, allow_nan=False))


def _json_form(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"no JSON form for {type(value).__name__}")
