"""Folders that a run has to write in: found out before anything is sent, and told so that somebody can mend them."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from llmpipe.config.output_paths import among_runs
from llmpipe.config.paths import display
from llmpipe.config.pipeline import Pipeline
from llmpipe.engine.options import RunOptions
from llmpipe.errors import ConfigError, Problem, StorageError
from llmpipe.local_faults import local_fault, out_of_resources


class FolderRefused(StorageError):
    """The folder of the runs cannot be written; nothing was sent."""

    title = "the output folder cannot be written"
    advice = "Nothing was sent. Get the right to write there, or choose another folder with --output DIR."
    exit_code = 2


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raise faults of the machine in the block as faults of `folder`: FolderRefused, StorageError, OutOfResources."""
    try:
        yield
    except (OSError, MemoryError, RuntimeError) as err:
        limit = out_of_resources(err)
        if limit is not None:
            raise limit from err
        if not isinstance(err, OSError):
            raise
        known = local_fault(err)
        if err.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO) and known is not None:
            raise known from err
        reason = why_not(folder) or f"the system refuses it: {err.strerror or err}"
        raise FolderRefused(f"the output folder {display(folder)} cannot be written: {reason}") from err


def why_not(folder: Path) -> str:
    """Why nothing can be written in a folder that is or is still to be made; "" if nothing is in the way."""
    there = folder
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    name = display(there) if there != Path.cwd() else f"the folder {there}"
    if not there.is_dir():
        return f"{name} is not a folder"
    if os.access(there, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        return ""
    found = there.stat()
    if os.statvfs(there).f_flag & os.ST_RDONLY:
        return f"{name} lies on a file system that is read-only"
    return (
        f"{name} belongs to {_owner(found.st_uid)} ({stat.filemode(found.st_mode)}),"
        f" and this process is {_owner(os.geteuid())}"
    )


def _owner(number: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def require_writable(pipeline: Pipeline, options: RunOptions) -> None:
    """Raise ConfigError for every declared output of this run that could not be written at its end (O524), or would
    lie among the runs (O523)."""
    some = options.limit is not None or options.key is not None
    if (some and options.retry_failed is None) or options.only:
        return  # such a run publishes nothing
    found = []
    for published in pipeline.outputs:
        if options.output_dir is not None and (
            said := among_runs(published.path, Path(os.path.realpath(options.output_dir)), [pipeline.name])
        ):
            message = f"results cannot be written to '{display(published.path)}': {said}"
            found.append(
                Problem("O523", message, published.place, note="give it another path, or choose another --output")
            )
        elif reason := why_not(published.path.parent):
            message = f"the output '{display(published.path)}' could not be written: {reason}"
            note = "get the right to write there, or give it another path"
            found.append(Problem("O524", message, published.place, note=note))
    if found:
        raise ConfigError(found)
