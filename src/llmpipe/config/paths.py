"""Where a project begins, and which files a pipeline may read: those inside it, symlinks resolved."""

from __future__ import annotations

import fnmatch
import glob
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from llmpipe.frozen import frozen
from llmpipe.late import late

_MAGIC = frozenset("*?[")
_FIXED_PART = late(r"(?:[^*?\[/]*/)*")  # the folders of a glob before the first that has to be looked for


def project_root(path: Path) -> Path:
    """The parent of the nearest folder named `pipelines` above the file, else the nearest folder with a
    `pyproject.toml`, else with a `.git`, else the file's folder. Symlinks are resolved; the working directory plays
    no part."""
    folder = path.resolve().parent
    above = [folder, *folder.parents]
    for candidate in above:
        if candidate.name == "pipelines":
            return candidate.parent
    for mark in ("pyproject.toml", ".git"):
        for candidate in above:
            if (candidate / mark).exists():
                return candidate
    return folder


def display(path: Path) -> str:
    """How a file is shown to people: relative to where they are, if it lies below; else whole."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, a folder that may not be entered
        return False


class PathRefused(ValueError):
    """A path that leads out of the project. `code` C228, or D301 for what is not there."""

    def __init__(self, message: str, *, code: str = "C228", note: str = "") -> None:
        super().__init__(message)
        self.code, self.note = code, note


@frozen
class Fence:
    """The folders that may be read: the project root, and what `--allow-read` adds."""

    root: Path
    further: tuple[Path, ...] = ()

    def holds(self, path: Path) -> bool:
        """Whether the real path lies inside."""
        real = Path(os.path.realpath(path))
        return any(real.is_relative_to(folder) for folder in (self.root, *self.further))

    def file(self, folder: Path, text: str) -> Path:
        """The real path of an existing file named relative to `folder`. Raises PathRefused."""
        path = self._join(folder, text)
        try:
            mode = path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            what = "is a symbolic link that leads nowhere" if (folder / text).is_symlink() else "does not exist"
            raise PathRefused(f"'{text}' {what}", code="D301", note=_neighbours(path)) from None
        except OSError as error:
            raise PathRefused(f"'{text:.100}' cannot be read: {error.strerror}", code="D301") from None
        if stat.S_ISDIR(mode):
            note = f"for files in it write a pattern, as in '{text.rstrip('/')}/*.md'"
            raise PathRefused(f"'{text}' is a folder, not a file", code="D301", note=note)
        if not stat.S_ISREG(mode):
            note = 'for what another program writes, read standard input: `path: "-"`'
            raise PathRefused(f"'{text}' is no regular file", code="D301", note=note)
        return path

    def files(self, folder: Path, pattern: str) -> tuple[Path, ...]:
        """The files of a path or a glob, real and sorted. Raises PathRefused if there are none, or one lies outside."""
        _refuse_odd(pattern)
        if not _MAGIC & set(pattern) or _is_file(folder / pattern):  # a name may hold a bracket
            return (self.file(folder, pattern),)
        fixed = _FIXED_PART.match(pattern)
        if not self.holds(folder / (fixed[0] if fixed is not None else "")):
            raise _outside(pattern)
        found = glob.glob(str(Path(glob.escape(str(folder))) / pattern), recursive=True)  # noqa: PTH207 - takes ".."
        paths = {Path(os.path.realpath(name)) for name in found if _is_file(Path(name))}
        for path in paths:
            if not self.holds(path):
                raise _outside(str(path))
        if not paths:
            raise PathRefused(f"no file matches '{pattern}'", code="D301")
        return tuple(sorted(paths, key=lambda p: p.as_posix()))

    def _join(self, folder: Path, text: str) -> Path:
        _refuse_odd(text)
        try:
            path = Path(os.path.realpath(folder / text))
        except (OSError, ValueError) as error:
            raise PathRefused(f"'{text}' is not a usable path: {error}") from None
        if not self.holds(path):
            raise _outside(text)
        return path


def matches(path: Path, pattern: str) -> bool:
    """Whether `Fence.files` would find a real path, existing or not, by an absolute pattern."""
    fixed = _FIXED_PART.match(pattern)
    head = fixed[0] if fixed is not None else ""
    folder = Path(os.path.realpath(head))
    wanted = [part for part in pattern[len(head) :].split("/") if part]
    return path.is_relative_to(folder) and _fits(path.relative_to(folder).parts, wanted)


def _fits(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    if not wanted:
        return not parts
    if wanted[0] == "**":
        return any(_fits(parts[skipped:], wanted[1:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], wanted[0]) and _fits(parts[1:], wanted[1:])


def inside(root: Path, text: str) -> Path:
    """The path of a file to be written, relative to the root and inside of it. Raises PathRefused."""
    _refuse_odd(text)
    path = Path(os.path.realpath(root / text))
    if not path.is_relative_to(root) or path == root:
        raise PathRefused(f"'{text}' lies outside of the project", note=f"the project root is {root}")
    return path


def allowed(folders: Sequence[Path]) -> tuple[Path, ...]:
    """The folders of `--allow-read`, symlinks resolved."""
    return tuple(Path(os.path.realpath(folder)) for folder in folders)


def _refuse_odd(text: str) -> None:
    if "\0" in text or text.startswith("~"):
        raise PathRefused(f"{text!r} is not a path that is used here", note="write it relative to the pipeline file")
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        message = f"{text!r} cannot be the name of a file: this process takes names for {sys.getfilesystemencoding()}"
        raise PathRefused(message, note="start Python in its UTF-8 mode: PYTHONUTF8=1") from None


def _outside(text: str) -> PathRefused:
    note = "files are read inside the project only; --allow-read DIR adds a folder for one run"
    return PathRefused(f"'{text}' lies outside of the project", note=note)


def _neighbours(path: Path) -> str:
    from llmpipe.config.near import nearest

    try:
        names = sorted(entry.name for entry in path.parent.iterdir())[:500]
    except OSError:
        return f"the folder {display(path.parent)} does not exist"
    near = nearest(path.name, names)
    return f"in that folder there is '{near}'" if near else f"looked for {display(path)}"
