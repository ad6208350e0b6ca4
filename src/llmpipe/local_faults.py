"""Faults of the machine under a command: which exceptions are a full disk or too small a limit, and what to do then."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import tempfile
from pathlib import Path
from typing import Any

from llmpipe.errors import OutOfResources, StorageError

resource: Any = None  # a system without such limits has no such module
with contextlib.suppress(ImportError):  # at once: when no file can be opened, no module can be loaded any more
    resource = importlib.import_module("resource")

_FREE_SPACE = "Free some space there or choose another folder with --output, then continue with --resume."
_NEARLY = 64 * 1024
_LEAVE = "Run again; nothing else may change the output folder meanwhile."
_STORAGE = {
    errno.ENOSPC: ("no space or no inodes are left on the disk", _FREE_SPACE),
    errno.EDQUOT: ("the disk quota is used up", _FREE_SPACE),
    errno.EFBIG: (
        "a file reached the size limit of this process (ulimit -f)",
        "Raise the limit, then continue with --resume.",
    ),
    errno.EROFS: (
        "the file system is read-only",
        "Mount it writable or choose another folder with --output, then continue with --resume.",
    ),
    errno.EIO: ("the disk reports an input/output error", "Check the disk, then continue with --resume."),
    errno.EACCES: ("the permission is missing", "Get the right to write there, then continue with --resume."),
    errno.EPERM: ("the system does not permit it", "Get the right to write there, then continue with --resume."),
    errno.ENOENT: ("a file or folder was removed or moved meanwhile", _LEAVE),
    errno.ENOTDIR: ("a folder was replaced by a file meanwhile", _LEAVE),
    errno.EISDIR: (
        "a folder is in the place of a file",
        "Remove it or choose another folder with --output, then continue with --resume.",
    ),
}
_FILES = "Raise the limit (ulimit -n; 1024 is usual) or lower limits.concurrency, then continue with --resume."
_MEMORY = "Free memory, raise the limit (ulimit -v) or lower limits.concurrency, then continue with --resume."
_THREADS = "Raise the limit on processes and threads (ulimit -u), then continue with --resume."
_RESOURCES = {errno.ENFILE: _FILES, errno.EMFILE: _FILES, errno.ENOBUFS: _MEMORY, errno.ENOMEM: _MEMORY}


def local_fault(err: BaseException) -> StorageError | OutOfResources | None:
    """`err` as an error that says what to do; None for what is no fault of the machine."""
    for one in _chain(err):
        if isinstance(one, StorageError | OutOfResources):
            return one
        found = _storage(one) or _resources(one)
        if found is not None:
            return found
    return None


def out_of_resources(err: BaseException) -> OutOfResources | None:
    """`err` as a limit of this process or machine that was reached; None for anything else."""
    return next((found for one in _chain(err) if (found := _resources(one)) is not None), None)


def _chain(err: BaseException) -> list[BaseException]:
    """The exception, and what it stands for: the members of a group, else what it was raised from."""
    found: list[BaseException] = []
    left: list[BaseException] = [err]
    while left and len(found) < 20:
        one = left.pop()
        found.append(one)
        left += one.exceptions if isinstance(one, BaseExceptionGroup) else [c for c in (one.__cause__,) if c]
    return found


def _storage(err: BaseException) -> StorageError | None:
    if not isinstance(err, OSError) or err.errno not in _STORAGE:
        return None
    words, advice = _STORAGE[err.errno]
    where = f"{err.filename2 or err.filename}: " if err.filename else ""
    return StorageError(f"{where}{words}").advising(advice)


def _resources(err: BaseException) -> OutOfResources | None:
    if isinstance(err, MemoryError):
        return OutOfResources("there is not enough memory").advising(_MEMORY)
    if isinstance(err, RuntimeError) and "can't start new thread" in str(err):
        return OutOfResources("the system gives this process no more threads").advising(_THREADS)
    number = err.errno if isinstance(err, OSError) else _number(err) if isinstance(err, ImportError) else None
    if number not in _RESOURCES:
        return None
    words = os.strerror(number).lower()
    if number == errno.EMFILE:
        words = f"this process may open only {open_files_limit()} files at once"
    return OutOfResources(words).advising(_RESOURCES[number])


def _number(err: ImportError) -> int | None:
    """The loader says only in words why a module's library could not be opened."""
    return next((number for number in _RESOURCES if os.strerror(number) in str(err)), None)


def no_descriptor_left() -> OutOfResources | None:
    """The limit on open files, if it is reached just now."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as err:
        return out_of_resources(err)
    return None


def why_unwritable(path: Path) -> StorageError | OutOfResources | None:
    """Why a database, which says little itself, could not be written at `path`, found out by trying; None if it can."""
    limit = _limit("RLIMIT_FSIZE")
    with contextlib.suppress(OSError):
        if (
            limit > 0
            and max((f.stat().st_size for f in path.parent.glob(f"{path.name}*")), default=0) > limit - _NEARLY
        ):
            return _storage(OSError(errno.EFBIG, ""))
    try:
        with tempfile.TemporaryFile(dir=path.parent) as file:
            file.write(os.urandom(_NEARLY))
            file.flush()
    except OSError as err:
        err.filename = None
        return local_fault(err)
    return None


def open_files_limit() -> int:
    """How many files this process may have open at once; 0 if there is no limit, or nobody can say."""
    return _limit("RLIMIT_NOFILE")


def raise_open_files_limit(needed: int) -> None:
    """Let this process have `needed` files open, or as many as its hard limit allows. Raises OSError, ValueError."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _limit(name: str) -> int:
    if resource is not None:
        soft: int = resource.getrlimit(getattr(resource, name))[0]
        return 0 if soft == resource.RLIM_INFINITY else soft
    return 0
