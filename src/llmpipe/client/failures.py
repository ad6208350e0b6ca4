"""Raw failure files: what was asked, what went wrong, and everything that came back, in one JSON file."""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmpipe.client.redact import Redactor

DEFAULT_FILE = "output/raw_failure.json"
_DEPTH = 64
_INT_BITS = 10_000  # Python refuses to print an integer of more than 4,300 digits


def persist_raw_failure(
    payload: Any,
    err: BaseException,
    *,
    filename: str | os.PathLike[str] = DEFAULT_FILE,
    redactor: Redactor | None = None,
) -> Path:
    """Write `payload` and `err` to `filename` (atomically, mode 0600, folders made 0700) and return its path.

    The file holds `payload`, `error_type`, `error`, and what the error carries: `code`, `advice`, `request_id`,
    `status`, `raw`, `details`, `attempts`. Whatever JSON cannot hold is written as its `repr`, so that any payload can
    be kept. `redactor` takes secrets out. Raises OSError only if the file cannot be written.
    """
    record = {"payload": payload, "error_type": type(err).__name__, "error": str(err), **_carried(err)}
    data = _plain(record, ())
    if redactor is not None:
        data = redactor.data(data)
    path = Path(filename)
    write_private(path, (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace"))
    return path


def write_private(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step, mode 0600; missing folders are made, 0700. Raises OSError."""
    _make_folders(path.parent)
    draft = path.parent / f".{path.name[:32]}.{secrets.token_hex(8)}.part"
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


def _make_folders(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)


def _carried(err: BaseException) -> dict[str, Any]:
    names = ("code", "advice", "request_id", "status", "provider_code", "retry_after", "raw", "details", "attempts")
    found = {name: getattr(err, name, None) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def _plain(value: Any, above: tuple[int, ...]) -> Any:
    """`value` as JSON data; what has no JSON form, is nested too deeply or holds itself becomes text.

    `above` are the identities of the containers around it.
    """
    if value is None or isinstance(value, (bool, int, float, str, bytes, bytearray)):
        return _scalar(value)
    if len(above) >= _DEPTH or id(value) in above:
        return f"<{type(value).__name__}, nested too deeply>"
    inside = (*above, id(value))
    if isinstance(value, Mapping):
        return {_name(key): _plain(item, inside) for key, item in value.items()}
    if isinstance(value, (list, tuple, Set)):
        return [_plain(item, inside) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name), inside) for f in fields(value)}
    return _shown(value)


def _scalar(value: bool | int | float | str | bytes | bytearray | None) -> Any:
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "backslashreplace")
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, int) and value.bit_length() >= _INT_BITS:
        return hex(value)
    return value


def _name(key: Any) -> str:
    return key if isinstance(key, str) else _shown(key)


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except Exception as err:  # noqa: BLE001 - a failing repr must not cost the evidence
        return f"<{type(value).__name__}, whose repr failed: {type(err).__name__}>"
