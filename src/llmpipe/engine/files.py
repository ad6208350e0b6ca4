"""Files that are there whole or not at all: temporary, fsync, rename; folders 0700, files 0600."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

_DRAFT = ".part"
_FORGOTTEN_S = 3600.0


def private_folder(path: Path) -> Path:
    """Make a folder (and those above it that are missing) that only its owner may enter. Raises OSError."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def replacing(path: Path, *, newline: str | None = None) -> Iterator[IO[str]]:
    """Open a temporary file beside `path` for text; when the block ends well it takes the path's place, durably."""
    private_folder(path.parent)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:32]}.", suffix=_DRAFT)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogatepass", newline=newline) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
    _sync_folder(path.parent)


def sweep_run(folder: Path) -> None:
    """Remove what a killed process left half-written in a run's folder and beside it. Only for who holds its lock."""
    drafts = [*folder.rglob(f".*{_DRAFT}"), *folder.parent.glob(f".*{_DRAFT}"), *folder.parent.glob(".latest-*")]
    for draft in drafts:
        with contextlib.suppress(OSError):
            draft.unlink()


def sweep_drafts(path: Path) -> None:
    """Remove drafts of `path` that nobody has written to for an hour: a killed process left them."""
    for draft in path.parent.glob(f".{glob.escape(path.name[:32])}.*{_DRAFT}"):
        with contextlib.suppress(OSError):
            if time.time() - draft.stat().st_mtime > _FORGOTTEN_S:
                draft.unlink()


def _sync_folder(path: Path) -> None:
    """Make a rename durable; not every file system lets a folder be synced."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by the value as indented JSON. Raises OSError."""
    with replacing(path) as file:
        json.dump(value, file, ensure_ascii=False, indent=2)
        file.write("\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file that llmpipe wrote, or None if it is not there or not readable."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def point_latest(folder: Path) -> None:
    """Let `latest`, beside the run's folder, point to it. A file system without symlinks goes without."""
    link = folder.parent / "latest"
    temporary = folder.parent / f".latest-{folder.name}"
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(folder.name)
        temporary.replace(link)
