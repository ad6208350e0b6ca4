"""Where the module of `module:object` is, and what it imports of the project, without running any of its code."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from pathlib import Path

from llmpipe.config.loading import Loading
from llmpipe.config.near import did_you_mean
from llmpipe.config.nodes import Node
from llmpipe.errors import Place


def check_module(node: Node | None, loading: Loading, *, what: str, needed: bool = True) -> Place | None:
    """Where `module:object` stands; C250 if its module is neither in the project nor installed.

    `what` names it; a warning if it is not `needed`, as where somebody may give the object itself.
    """
    if node is None:
        return None
    module, _, attribute = str(node.value).partition(":")
    folders = tuple(dict.fromkeys((loading.folder_of_pipeline, loading.root)))
    own = [file for folder in folders for file in _files(folder, module)]
    loading.inputs.update(own, project_files(module, folders))
    if own or _is_installed(module.split(".")[0], folders):
        return node.place
    file = f"{module.replace('.', '/')}.py"
    near = did_you_mean(module, _modules(folders))
    hint = near and f"{near[:-2]}:{attribute}'?"
    note = f"looked for {file} beside the pipeline file and in the project root, and among what is installed"
    tell = loading.problems.add if needed else loading.problems.warn
    tell("C250", f"{what} names a module that is not there: '{module}'", node, hint=hint, note=note)
    return node.place


def project_files(module: str, folders: Iterable[Path]) -> list[Path]:
    """The files of the project that importing `module` runs, its own first, as far as import statements tell.

    `folders` in the order in which Python looks through them.
    """
    folders = tuple(folders)
    waiting, seen, found = [module], set[str](), dict[Path, None]()
    while waiting:
        name = waiting.pop(0)
        if name in seen:
            continue
        seen.add(name)
        file = next((file for folder in folders for file in _files(folder, name)), None)
        waiting += [name.rpartition(".")[0]] if "." in name else []
        if file is not None:
            found[file] = None
            waiting += _imports(file, name)
    return list(found)


def _imports(file: Path, module: str) -> Iterator[str]:
    """The modules that a file may import, those that are none among them."""
    try:
        tree = ast.parse(file.read_bytes()) if file.suffix == ".py" else None
    except (OSError, SyntaxError, ValueError):  # importing it tells
        tree = None
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            around = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*around, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}".lstrip(".") for alias in node.names)


def _files(folder: Path, module: str) -> list[Path]:
    path = folder.joinpath(*module.split("."))
    files = [path.with_name(path.name + suffix) for suffix in (".py", *EXTENSION_SUFFIXES)]
    return [file for file in (*files, path / "__init__.py") if file.is_file()]


def _is_installed(top: str, folders: Iterable[Path]) -> bool:
    """Whether Python finds the package elsewhere; what lies inside of it is known only once it is imported."""
    if top in sys.builtin_module_names:
        return True
    own = {str(folder) for folder in folders}
    found = PathFinder.find_spec(top, [path for path in sys.path if path not in own])
    return found is not None and found.origin is not None


def _modules(folders: Iterable[Path]) -> list[str]:
    return sorted({file.stem for folder in folders for file in folder.glob("*.py")})
