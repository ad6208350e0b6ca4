"""Folders that cannot be written are found before anything is sent, and told with what is in the way."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import PIPELINE
from tests.cli.words import here

FILE = "pipelines/small.yaml"


@contextlib.contextmanager
def by_the_modes() -> Iterator[None]:
    """Let the modes of folders hold for root too: without its right to pass over them (capabilities 1 and 2)."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    head, rights = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(head, rights) == 0
    before = rights[0]
    rights[0] &= ~0b110
    assert libc.capset(head, rights) == 0
    try:
        yield
    finally:
        rights[0] = before
        assert libc.capset(head, rights) == 0


@pytest.fixture
def shared(project: Path) -> Iterator[Path]:
    """A project that nobody can write in; the working directory."""
    (project / FILE).write_text(PIPELINE.replace("output/page.md", "pages/page.md"))
    project.chmod(0o555)
    yield project
    project.chmod(0o755)


def test_an_output_folder_that_cannot_be_made_is_named_with_its_owner(shared: Path) -> None:
    (shared / FILE).write_text((shared / FILE).read_text().partition("outputs:")[0])
    with by_the_modes():
        done = here("run", FILE)
    assert done.code == 2
    first, *rest = done.err.splitlines()
    assert first.startswith("error[X930]: the output folder output/small cannot be written: the folder ")
    assert "(dr-xr-xr-x), and this process is " in first
    assert rest == ["  Nothing was sent. Get the right to write there, or choose another folder with --output DIR."]
    assert "Errno" not in done.err
    assert not (shared / "output").exists()


@pytest.mark.parametrize("name", ["output", "output/small"])
def test_an_output_folder_that_is_a_file_is_told(name: str, project: Path) -> None:
    (project / name).parent.mkdir(exist_ok=True)
    (project / name).write_text("")
    done = here("run", FILE, "--limit", "1")
    assert done.code == 2
    assert f"error[X930]: the output folder output/small cannot be written: {name} is not a folder" in done.err


def test_a_lock_that_cannot_be_taken_is_told(shared: Path) -> None:
    (shared / FILE).write_text((shared / FILE).read_text().partition("outputs:")[0])
    shared.chmod(0o755)
    assert here("run", FILE).code == 0
    for path in (shared / "output", shared / "output/small"):
        path.chmod(0o555)
    (shared / "output/small/.lock").chmod(0o444)
    with by_the_modes():
        done = here("run", FILE)
    assert (done.code, "error[X930]: the output folder output/small cannot be written" in done.err) == (2, True)
    assert "Errno" not in done.err
    for path in (shared / "output", shared / "output/small"):
        path.chmod(0o755)


def test_an_output_that_could_not_be_published_is_found_before_anything_is_sent(shared: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    with by_the_modes():
        done = here("run", FILE, "--output", str(runs))
        partial = here("run", FILE, "--output", str(runs), "--limit", "1")
    assert done.code == 2
    assert "error[O524]: the output 'pages/page.md' could not be written: the folder" in " ".join(done.err.split())
    assert "--> pipelines/small.yaml:16:30" in done.err
    assert "nothing was sent" in done.err
    assert partial.code == 0, partial.err


def test_an_output_below_a_file_is_found_before_anything_is_sent(project: Path) -> None:
    (project / "pages").write_text("")
    (project / FILE).write_text(PIPELINE.replace("output/page.md", "pages/page.md"))
    done = here("run", FILE)
    said = "error[O524]: the output 'pages/page.md' could not be written: pages is not a folder"
    assert (done.code, said in " ".join(done.err.split())) == (2, True)
    assert not (project / "output").exists()


def test_a_run_that_could_not_be_removed_whole_is_still_one(project: Path) -> None:
    for _ in range(4):
        assert here("run", FILE).code == 0
    home = project / "output/small"
    folders = [path for path in home.iterdir() if path.is_dir() and not path.is_symlink()]
    for folder in folders:
        (folder / "steps").chmod(0)
    with by_the_modes():
        assert all(here("runs", "rm", folder.name).code != 0 for folder in folders)
    for folder in folders:
        (folder / "steps").chmod(0o700)
    assert all(folder.name in here("runs").out for folder in folders)
    assert here("run", FILE, "--resume", "auto").code == 0
    assert here("runs", "gc", "--keep", "1").code == 0
    assert [path.name for path in home.iterdir() if path.is_dir() and not path.is_symlink()] == [
        (home / "latest").readlink().name
    ]


SHUT = """\
version: 1
name: small
steps: [{id: a, python: "shuts_%s:shut"}, {id: b, needs: [a], render: x}]
"""
CODE = """\
import os, pathlib

def shut():
    home = pathlib.Path(__file__).parent.parent / "output" / "small"
    folder = next(f for f in home.iterdir() if (f / "run.json").exists())
    os.chmod(home if %r == "home" else folder, 0)
    return "x"
"""


@pytest.mark.parametrize("which", ["home", "folder"])
def test_a_folder_that_is_shut_while_a_run_works_ends_it_with_its_summary(which: str, project: Path) -> None:
    (project / FILE).write_text(SHUT % which)
    (project / f"pipelines/shuts_{which}.py").write_text(CODE % which)
    with by_the_modes():
        done = here("run", FILE, "--allow-python")
    home = project / "output/small"
    home.chmod(0o700)
    (folder,) = [path for path in home.iterdir() if path.is_dir() and not path.is_symlink()]
    folder.chmod(0o700)
    assert done.code == 1
    assert f"output/small/{folder.name} can no longer be used: permission denied. Get the right to it" in done.err
    assert f"--resume {folder.name}" in done.err.splitlines()[-1]
    assert here("run", FILE, "--allow-python", "--resume", folder.name).code == 0
