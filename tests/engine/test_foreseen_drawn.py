"""Plans of drawn pipelines over drawn histories: rows come and change, prompts change, runs go on; each plan holds."""

from __future__ import annotations

import random
from typing import Any

import pytest

from llmpipe.engine.choose import Changed
from llmpipe.engine.runs import NoSuchRun
from tests.engine.conftest import Project
from tests.engine.foreseen import foresee_and_run

HEAD = """\
version: 1
models: {m: {provider: echo, model: demo}, n: {provider: echo, model: other}}
defaults: {model: m}
datasets: {d: {path: d.jsonl, key: id}}
steps:
"""
OPTIONS: list[dict[str, Any]] = [
    *[{}] * 3,
    *[{"resume": "auto"}] * 4,
    {"limit": 3},
    {"key": "r1"},
    {"cache": "refresh"},
    {"resume": "last", "accept_changes": True},
    {"retry_failed": "last", "accept_changes": True},
    {"only": "s1"},
    {"from_step": "s1"},
    {"resume": "auto", "cache": "off"},
    {"resume": "auto", "limit": 4},
]


class Drawn:
    """A pipeline of a few steps that build on each other, and its rows."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.rows = [self._row(n) for n in range(rng.randint(1, 6))]
        self.words = ["one", "two", "three", "four", "five"]
        self.shapes = [self._shape(n) for n in range(rng.randint(2, 5))]

    def _row(self, n: int) -> dict[str, Any]:
        return {"id": f"r{n}", "n": self.rng.randint(0, 5), "text": f"text {self.rng.randint(0, 999)}"}

    def _shape(self, n: int) -> str:
        above = [f"s{i}" for i in range(n)]
        kinds = ["row", "row", "row"]
        if above:
            kinds += ["own", "own", "whole", "list", "group", "render", "when", "once"]
        kind = self.rng.choice(kinds)
        used = self.rng.choice(above) if above else ""
        return {
            "row": '{foreach: datasets.d, prompt: "WORD {{ item.text }}", schema: {kind: "enum[x, y]", n: integer}}',
            "own": f'{{foreach: steps.{used}, prompt: "WORD {{{{ steps.{used} }}}}"}}',
            "whole": f'{{foreach: datasets.d, prompt: "WORD {{{{ steps.{used} | length }}}}"}}',
            "list": '{foreach: datasets.d, prompt: "WORD {{ item.id }}", samples: 2, if: item.n > 1}',
            "group": f'{{foreach: {{group: steps.{used}, size: 2}}, prompt: "WORD {{{{ item.rows | length }}}}"}}',
            "render": f'{{foreach: steps.{used}, render: "WORD {{{{ steps.{used} }}}}"}}',
            "when": f'{{foreach: steps.{used}, if: "(steps.{used} | tojson | length) % 2 > 0", prompt: WORD}}',
            "once": f'{{prompt: "WORD {{{{ steps.{used} | length }}}}"}}',
        }[kind]

    def text(self) -> str:
        steps = [
            f"  - {shape.replace('{', f'{{id: s{n}, ', 1).replace('WORD', self.words[n])}\n"
            for n, shape in enumerate(self.shapes)
        ]
        return HEAD + "".join(steps)

    def change(self) -> None:
        """Something that people do between two runs."""
        match self.rng.randint(0, 4):
            case 0:
                self.rows.append(self._row(len(self.rows) + self.rng.randint(0, 3)))
                self.rows = list({row["id"]: row for row in self.rows}.values())
            case 1:
                row = self.rng.choice(self.rows)
                row["text"] = f"text {self.rng.randint(0, 999)}"
            case 2:
                self.rng.choice(self.rows)["n"] = self.rng.randint(0, 5)
            case 3 if len(self.rows) > 1:
                self.rows.pop(self.rng.randrange(len(self.rows)))
            case _:
                n = self.rng.randrange(len(self.shapes))
                self.words[n] = f"word{self.rng.randint(0, 2)}"


@pytest.mark.parametrize("seed", range(40))
def test_a_drawn_plan_holds(project: Project, seed: int) -> None:
    rng = random.Random(seed)
    drawn = Drawn(rng)
    for turn in range(6):
        project.rows("d.jsonl", drawn.rows)
        options = rng.choice(OPTIONS) if turn else {}
        try:
            foresee_and_run(project, drawn.text(), **options)
        except (NoSuchRun, Changed):
            assert turn
        drawn.change()
