"""The table of wires and faults: current, bounded in time, without a key anywhere; the soak runs all of it."""

from __future__ import annotations

import re

import pytest

from tests.conftest import REPOSITORY
from tests.faults.matrix import FAULTS, IMPOSSIBLE, ROWS, STREAMED, Cell, cells, run_cell

Name = tuple[bool, str, str]  # streamed, wire, fault


def committed() -> dict[Name, str]:
    """The cells of docs/faults.md without their seconds."""
    page = (REPOSITORY / "docs/faults.md").read_text(encoding="utf-8")
    found = {}
    for stream, names, part in zip((False, True), (FAULTS, STREAMED), page.split("\n## ")[1:], strict=True):
        rows = [line.strip("| \n").split(" | ") for line in part.splitlines() if line.startswith("| ")][1:]
        for (fault, words), (said, *row) in zip(names.items(), rows, strict=True):
            assert said == words
            for wire, cell in zip(ROWS, row, strict=True):
                if (wire, fault) not in IMPOSSIBLE:
                    found[stream, wire, fault] = re.sub(r" · [0-9.]+ s · ", " · ", cell)
    return found


def sample() -> list[Name]:
    """A cell of each fault, the wires in turn."""
    wires = list(ROWS)
    found = []
    for stream, names in ((False, FAULTS), (True, STREAMED)):
        for number, fault in enumerate(names):
            wire = next(w for w in wires[number % 5 :] + wires if (w, fault) not in IMPOSSIBLE)
            found.append((stream, wire, fault))
    return found


def check(name: Name) -> Cell:
    stream, wire, fault = name
    cell = run_cell(wire, fault, stream=stream)
    assert cell.leaks == ()
    assert cell.seconds < 60
    assert cell.attempts == cell.requests
    assert re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", cell.err.replace("\t", " ")) is None
    assert cell.verdict == committed()[name]
    return cell


@pytest.mark.parametrize("name", sample(), ids=lambda n: "-".join(map(str, n[1:])) + ("-stream" if n[0] else ""))
def test_a_cell_of_each_fault_is_what_the_page_says(name: Name) -> None:
    check(name)


def test_the_table_is_as_large_as_was_promised() -> None:
    assert len(ROWS) >= 5
    assert len(FAULTS) >= 25
    assert len(committed()) == len(cells(stream=False)) + len(cells(stream=True))


@pytest.mark.soak
@pytest.mark.parametrize("wire", ROWS)
@pytest.mark.parametrize("stream", [False, True])
def test_every_cell_is_what_the_page_says(wire: str, stream: bool) -> None:
    for cell_wire, fault in cells(stream=stream):
        if cell_wire == wire:
            check((stream, wire, fault))
