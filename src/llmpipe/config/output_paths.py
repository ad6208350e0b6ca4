"""Where results may be written: never over what a project, a pipeline or a run is made of."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterable, Mapping, Set
from pathlib import Path

from llmpipe.config.paths import matches
from llmpipe.frozen import frozen

# Files that a person or another program keeps in a project. They are compared without case: on some systems
# `makefile` is `Makefile`, and make reads both.
_ANYWHERE = frozenset({"makefile", "gnumakefile", "bsdmakefile", "justfile", "dockerfile", "containerfile"})
_AT_THE_ROOT = frozenset(
    {"pyproject.toml", "setup.py", "setup.cfg", "tox.ini", "noxfile.py", "package.json", "package-lock.json"}
)
_STEMS_AT_THE_ROOT = (
    "readme", "license", "licence", "copying", "notice", "requirements", "changelog", "contributing", "cmakelists",
    "tsconfig", "composer", "docker-compose",
)  # fmt: skip
# Code, configuration and databases: results have such names below `output` only.
_NO_RESULTS = tuple(
    ".py .pyi .pyx .ipynb .r .jl .sh .bash .zsh .fish .ps1 .bat .js .mjs .cjs .jsx .ts .tsx .java .kt .go .rs .c .h .cc"
    " .cpp .hpp .cs .rb .php .pl .lua .swift .scala .sql .lock .toml .cfg .ini .conf .mod .sum .in .mk .cmake .gradle"
    " .tf .schema.json .db .sqlite .sqlite3 .parquet .pem .key".split()
)
_LOCK = ".lock"  # every folder of runs has one


def folded(text: str) -> str:
    """The spelling by which two names are compared: one file on a system that keeps neither case nor composition."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def among_runs(path: Path, output: Path, names: Iterable[str]) -> str:
    """Why a path is refused that lies in, or is, the folder of the runs of a pipeline; "" for any other."""
    first, shown = folded(str(path)), folded(str(output))
    if not first.startswith(f"{shown}/"):
        return ""
    name = path.parts[len(output.parts)]
    if folded(name) in {folded(known) for known in names} or os.path.lexists(output / name / _LOCK):
        return f"{output.name}/{name} holds the runs of pipeline '{name}'"
    return ""


@frozen
class Taken:
    """What a project has already; its runs lie in `root/output`."""

    root: Path
    pipeline: Path
    names: tuple[str, ...]  # of the project's pipelines
    files: Set[Path]  # what this pipeline is made of and what it reads
    patterns: Mapping[str, str]  # absolute path or glob of a dataset: its name

    def reason(self, path: Path, text: str) -> str:
        """Why results may not go to `path`, which is real and named `text`; "" if they may."""
        written = Path(os.path.normpath(self.root / text))  # what a symlink is called counts as well
        for named in (path, written):
            if said := self._by_name(named) if named.is_relative_to(self.root) else "":
                return said
        return self._by_what_is_there(path) or self._by_pattern(path) or self._by_kind(path)

    def _by_name(self, path: Path) -> str:
        parts = [folded(part) for part in path.relative_to(self.root).parts]
        if any(part.startswith(".") for part in parts):
            return "names that begin with a dot belong to the project and its tools"
        output = self.root / "output"
        for folder in (output, Path(os.path.realpath(output))):
            if said := among_runs(path, folder, self.names):
                return said
        is_at_the_root = parts[0] in _AT_THE_ROOT or parts[0].startswith(_STEMS_AT_THE_ROOT)
        if parts[-1] in _ANYWHERE or (len(parts) == 1 and is_at_the_root):
            return f"{path.name} is a file of the project"
        is_beside = folded(str(path.parent)) == folded(str(self.pipeline.parent))
        if parts[-1].endswith((".yaml", ".yml")) and ("pipelines" in parts[:-1] or is_beside):
            return "a YAML file there is a pipeline, or a part of one"
        return ""

    def _by_kind(self, path: Path) -> str:
        parts = [folded(part) for part in path.relative_to(self.root).parts]
        if parts[0] != "output" and (parts[-1].endswith(_NO_RESULTS) or (len(parts) == 1 and "." not in parts[0])):
            return f"{path.name} is named as code and configuration are, for which there is only output/"
        if parts[0] == "pipelines" and "prompts" in parts[1:-1]:
            return "the files there are prompts"
        return ""

    def _by_what_is_there(self, path: Path) -> str:
        try:
            found = path.lstat()
        except (FileNotFoundError, NotADirectoryError):  # whether the folder can be made is the run's to find out
            return ""
        except (OSError, ValueError) as error:
            return f"the system refuses it: {getattr(error, 'strerror', None) or error}"
        if not stat.S_ISREG(found.st_mode):
            return "it is a folder" if stat.S_ISDIR(found.st_mode) else "it is no regular file"
        number = (found.st_dev, found.st_ino)  # a hard link, or a spelling that this file system does not tell apart
        if path in self.files or any(number == _number(other) for other in self.files):
            return "this pipeline is made of that file, or reads it"
        return ""

    def _by_pattern(self, path: Path) -> str:
        found = (name for pattern, name in self.patterns.items() if matches(path, pattern))
        return next((f"the next run would read it as rows of dataset '{name}'" for name in found), "")


def _number(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
