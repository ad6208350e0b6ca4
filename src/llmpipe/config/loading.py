"""What every part of the loader shares while one pipeline file is being read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from llmpipe.config.near import did_you_mean, listed
from llmpipe.config.nodes import Node, SourceText
from llmpipe.config.paths import Fence, PathRefused, display
from llmpipe.config.pipeline import SourceFile
from llmpipe.config.problems import Problems
from llmpipe.config.templates import Expression, Read, Template, compile_expression, compile_template
from llmpipe.config.text_files import MAX_BYTES, read_text
from llmpipe.errors import ConfigError, ItemError, Place

T = TypeVar("T")


@dataclass(slots=True)
class Loading:
    """One load: the project, its fence, the problems so far, the values of the vars and the files that were read."""

    root: Path
    fence: Fence
    problems: Problems
    vars: Mapping[str, Any] = field(default_factory=dict)
    files: dict[Path, SourceText] = field(default_factory=dict)
    inputs: set[Path] = field(default_factory=set)  # the other files that a run reads: rows, values of vars, code
    patterns: dict[str, str] = field(default_factory=dict)  # absolute path or glob of a dataset: its name
    lacks_names: bool = False  # an included file that may declare what is missing cannot be used

    def miss_names(self) -> None:
        """From now on tell nothing of datasets, vars and models that are not there."""
        self.lacks_names = True
        self.problems.mute("C213", "C214", "C215")

    def read(self, path: Path, *, max_bytes: int = MAX_BYTES) -> SourceText:
        """The text of a file, read once; it becomes one of the pipeline's sources. Raises ConfigError."""
        if path not in self.files:
            self.files[path] = read_text(path, file=display(path), max_bytes=max_bytes)
        return self.files[path]

    def sources(self) -> tuple[SourceFile, ...]:
        """Every file that was read, with its digest."""
        return tuple(
            SourceFile(path, hashlib.sha256(source.text.encode("utf-8", "surrogatepass")).hexdigest())
            for path, source in sorted(self.files.items())
        )

    def folder(self, node: Node) -> Path:
        """The folder that paths of this node are relative to: that of the file which it stands in."""
        return node.source.path.parent if node.source.path is not None else self.folder_of_pipeline

    @property
    def folder_of_pipeline(self) -> Path:
        """The folder of the pipeline file, the first one that was read."""
        return next(iter(self.files)).parent if self.files else self.root

    def named_file(self, node: Node) -> Path | None:
        """The file that a text (with the vars filled in) names; None, and a problem, if there is none."""
        text = self.fill(node)
        if text is None:
            return None
        return self.refused(node, lambda: self.fence.file(self.folder(node), text))

    def refused(self, node: Node, find: Callable[[], T]) -> T | None:
        """What `find` returns; None, and a problem at the node, where it raises PathRefused."""
        try:
            return find()
        except PathRefused as error:
            self.problems.add(error.code, str(error), node, note=error.note)
        except ConfigError as error:
            self.problems.extend(error.problems)
        return None

    def fill(self, node: Node) -> str | None:
        """A text that may use vars and nothing else, filled in; None, and a problem, if it cannot be."""
        if "{{" not in node.value and "{%" not in node.value:
            return str(node.value)
        template = self.template(node)
        if template is None:
            return None
        alien = [read for read in template.reads if read.path[0] != "vars"]
        for read in alien:
            note = "only vars may be used here"
            self.problems.add("C210", f"'{'.'.join(read.path)}' is not known here", read.place, note=note)
        unknown = [read for read in template.reads if _is_unknown(read, self.vars)]
        if alien or unknown:
            self.unknown_vars(unknown)
            return None
        try:
            return template.render({"vars": dict(self.vars)})
        except ItemError as error:
            self.problems.add("C210", str(error), node)
            return None

    def unknown_vars(self, reads: list[Read]) -> None:
        """Note the vars that a template reads and nobody declares."""
        for read in reads:
            if len(read.path) < 2:
                continue
            hint = did_you_mean(read.path[1], self.vars, prefix="vars.")
            note = f"vars: {listed(self.vars)}"
            self.problems.add("C214", f"there is no var '{read.path[1]}'", read.place, hint=hint, note=note)

    def template(self, node: Node) -> Template | None:
        """The text of a node, compiled; None, and problems, if it is no template."""
        return self._compiled(lambda: compile_template(node.value, place=node.place, locate=_locate(node)))

    def expression(self, node: Node) -> Expression | None:
        """The text of a node as an expression; None, and problems, if it is none."""
        return self._compiled(lambda: compile_expression(node.value, place=node.place, locate=_locate(node)))

    def _compiled(self, compile: Callable[[], T]) -> T | None:
        try:
            return compile()
        except ConfigError as error:
            self.problems.extend(error.problems)
            return None


def _is_unknown(read: Read, vars: Mapping[str, Any]) -> bool:
    return read.path[0] == "vars" and len(read.path) > 1 and read.path[1] not in vars


def _locate(node: Node) -> Callable[[int, int], Place]:
    def place(line: int, column: int) -> Place:
        return node.locate(line, column)

    return place
