"""Where the runs of a project are, seen from where a person stands."""

from __future__ import annotations

from pathlib import Path

from llmpipe.shell_text import quoted

OUTPUT = "output"


def output_folder(given: str | None, start: Path | None = None) -> Path:
    """The folder of all runs: the one that was given, else `output` of the project around the working directory.

    The project is the nearest folder at or above that holds `pipelines`, else `pyproject.toml`, else `.git`, else
    the working directory itself.
    """
    if given:
        return Path(given).absolute()
    here = (start or Path.cwd()).resolve()
    above = (here, *here.parents)
    if (here / OUTPUT).is_dir():
        return here / OUTPUT
    for sign in ("pipelines", "pyproject.toml", ".git"):
        for folder in above:
            if (folder / sign).exists():
                return folder / OUTPUT
    return here / OUTPUT


def show_command(run_folder: Path) -> str:
    """`llmpipe show`, with the --output that it needs from here to find this run."""
    output = run_folder.parent.parent
    try:
        if output_folder(None).resolve() == output.resolve():
            return "llmpipe show"
    except OSError:
        pass
    return f"llmpipe show --output {quoted(str(output))}"
