"""A folder that nobody else can write to: made 0700, refused where that cannot be had."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from llmpipe.errors import StorageError

_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "glusterfs", "fuse.glusterfs", "lustre", "gpfs", "beegfs"}
    | {"ocfs2", "gfs2", "fuse.sshfs", "fuse.s3fs", "fuse.rclone", "davfs", "fuse.davfs2"}
)  # 9p is left out: it is the root of some sandboxes on one host
MOUNTS = Path("/proc/self/mounts")


def private_folder(folder: Path) -> Path:
    """Make `folder` (0700) if it is not there, and check that it is ours alone to write to (facts D7).

    Raises StorageError for a folder of another user, one that group or others may write to, and one on a network file
    system, where SQLite's locks cannot be trusted (facts C).
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as err:
        raise StorageError(f"{folder}: {err.strerror or err}") from err
    refuse_foreign(folder)
    return folder


def refuse_foreign(folder: Path) -> None:
    """Raise StorageError for a folder that `private_folder` would refuse."""
    try:
        found = folder.stat()
    except OSError as err:
        raise StorageError(f"{folder}: {err.strerror or err}") from err
    if found.st_uid != os.geteuid():
        raise StorageError(f"{folder} belongs to another user (uid {found.st_uid}), who could plant answers in it")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.S_IMODE(found.st_mode)
        raise StorageError(f"{folder} may be written to by others (mode {mode:03o}); `chmod 700` it, or choose another")
    kind = network_filesystem(folder)
    if kind is not None:
        raise StorageError(f"{folder} lies on a network file system ({kind}), where SQLite's locks cannot be trusted")


def network_filesystem(folder: Path, *, mounts: Path = MOUNTS) -> str | None:
    """The kind of network file system that `folder` lies on, or None (also where the system does not say)."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        path = folder.resolve()
    except OSError:
        return None
    best, kind = -1, ""
    for line in lines:
        words = line.split(" ")
        if len(words) < 3:
            continue
        point = Path(_unescaped(words[1]))
        depth = len(point.parts)
        if depth >= best and path.is_relative_to(point):  # of two mounts on one point the later one counts
            best, kind = depth, words[2]
    return kind if kind in _NETWORK else None


def _unescaped(point: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        point = point.replace(code, character)
    return point
