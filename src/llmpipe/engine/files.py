"""Files that are there whole or not at all (temporary, fsync, rename): private, or published for others to read."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from llmpipe.engine.items import is_text

_DRAFT = ".part"
_FORGOTTEN_S = 3600.0


def private_folder(path: Path) -> Path:
    """Make a folder (and those above it that are missing) that only its owner may enter. Raises OSError."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def shared_folder(path: Path) -> Path:
    """Make a folder (and those above it that are missing) that others may look into: 0755 less the umask.

    Raises OSError.
    """
    for folder in (*reversed(path.parents), path):
        if not folder.exists():
            folder.mkdir(mode=0o755, exist_ok=True)
    return path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[str]]:
    """Open a temporary file (0600) for text; when the block ends well it takes the place of `path`, durably."""
    private_folder(path.parent)
    with _drafted(path, mode=0o600, newline=None) as file:
        yield file


@contextlib.contextmanager
def publishing(path: Path) -> Iterator[IO[str]]:
    """As `replacing`, for others to read: with the mode of the file that is replaced, else 0644 less the umask.

    Line ends are written as they come.
    """
    shared_folder(path.parent)
    mode = stat.S_IMODE(path.stat().st_mode) & 0o777 if path.is_file() else None
    with _drafted(path, mode=0o644, newline="") as file:
        if mode is not None:
            os.fchmod(file.fileno(), mode)
        yield file


@contextlib.contextmanager
def _drafted(path: Path, *, mode: int, newline: str | None) -> Iterator[IO[str]]:
    draft = path.with_name(f".{path.name[:32]}.{secrets.token_hex(8)}{_DRAFT}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline=newline) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
    _sync_folder(path.parent)


def is_gone(folder: Path) -> bool:
    """True for a folder that is not there; where nobody may look it may be."""
    try:
        return not stat.S_ISDIR(folder.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False


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
    text = json.dumps(value, ensure_ascii=False, indent=2)
    with replacing(path) as file:
        file.write((text if is_text(text) else json.dumps(value, indent=2)) + "\n")  # a path need not be UTF-8


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
