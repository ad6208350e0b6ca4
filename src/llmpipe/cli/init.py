"""`llmpipe init`: a small project that runs at once, without a key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmpipe.cli.parsing import FAULT, OK, USAGE, CommandParser, UsageError, epilog, examples, exit_codes

if TYPE_CHECKING:
    from pathlib import Path

    from llmpipe.cli.console import Console

# A file of the package → where it goes in the project.
FILES: tuple[tuple[str, str], ...] = (
    ("pipelines/hello.yaml", "pipelines/hello.yaml"),
    ("pipelines/data/reviews.jsonl", "pipelines/data/reviews.jsonl"),
    ("schemas/review.schema.json", "schemas/review.schema.json"),
    ("README.md", "README.md"),
    ("github/llmpipe.yml", ".github/workflows/llmpipe.yml"),
    ("requirements.lock", ".github/llmpipe-requirements.lock"),
    ("gitignore", ".gitignore"),
)
SCHEMA = "schemas/pipeline.schema.json"
IGNORED = ("/output/", ".env")

EPILOG = epilog(
    examples(
        ("llmpipe init", "into the working directory"),
        ("llmpipe init reviews && cd reviews", "into a new folder"),
    ),
    "Files that exist are left as they are.",
    exit_codes(OK, USAGE, FAULT),
)


def parser() -> CommandParser:
    """The parser of `llmpipe init`."""
    made = CommandParser(
        "init", arguments="[DIR]", summary="Write a small project that runs at once, without a key.", epilog=EPILOG
    )
    made.add_argument("folder", metavar="DIR", nargs="?", default=".", help="where (default: the working directory)")
    return made


def main(words: Sequence[str], console: Console) -> int:
    """Write the files that are not there yet, and say what to do next."""
    args = parser().read(words)
    from pathlib import Path

    root = Path(args.folder)
    if root.exists() and not root.is_dir():
        raise UsageError(f"{args.folder} is a file")
    try:
        kept = _written(root, console)
    except OSError as error:
        raise UsageError(f"cannot write {error.filename or args.folder}: {error.strerror}") from error
    missing = _not_ignored(root) if ".gitignore" in kept else []
    if missing:
        console.err(f"add to .gitignore: {' '.join(missing)}")
    console.err(*_next_steps(args.folder))
    return 0


def _written(root: Path, console: Console) -> list[str]:
    """Write each file unless it exists; the names of those that do."""
    kept = []
    for name, text in _texts():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("x", encoding="utf-8", newline="\n") as file:
                file.write(text)
            console.err(f"wrote  {path}")
        except FileExistsError:
            kept.append(name)
            console.err(f"kept   {path} (it was there)")
    return kept


def _texts() -> list[tuple[str, str]]:
    from importlib.resources import files

    from llmpipe._version import __version__
    from llmpipe.cli.schema import pipeline_schema

    scaffold = files("llmpipe.cli").joinpath("scaffold")
    texts = [(target, scaffold.joinpath(source).read_text(encoding="utf-8")) for source, target in FILES]
    written = [(target, text.replace("LLMPIPE_VERSION", __version__)) for target, text in texts]
    return [*written, (SCHEMA, pipeline_schema())]


def _not_ignored(root: Path) -> list[str]:
    try:
        lines = {line.strip().strip("/") for line in (root / ".gitignore").read_text(encoding="utf-8").splitlines()}
    except (OSError, UnicodeDecodeError):
        return list(IGNORED)
    return [name for name in IGNORED if name.strip("/") not in lines]


def _next_steps(folder: str) -> list[str]:
    from llmpipe.shell_text import quoted

    lines = [] if folder == "." else [f"  cd {quoted(folder)}"]
    return [
        "",
        "next:",
        *lines,
        "  llmpipe run pipelines/hello.yaml     runs at once: `echo` answers, no key is needed",
        "  llmpipe show last rate r2            one item's whole story",
    ]
