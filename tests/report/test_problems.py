"""Problems as they are printed: 80 columns, a caret under the place, secrets and escapes gone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmpipe.errors import Place, Problem
from llmpipe.report.figures import columns_of
from llmpipe.report.problems import FORMS, WIDTH, render

TEXT = """\
  - id: rate
    model: fast
    temprature: 0.2
    prompt: |
      Rate it.
      Review: {{ revew }}
"""
GOLDEN = """\
error[C203]: unknown key 'temprature' in step 'rate'
  --> r.yaml:3:5
   |
1  |   - id: rate
2  |     model: fast
3  |     temprature: 0.2
   |     ^^^^^^^^^^ did you mean 'temperature' under 'params'?
   |
   = allowed here: cache, check

error[C210]: 'revew' is not defined in the prompt of step 'rate'
  --> r.yaml:6:18   (line 2 of the prompt)
   |
4  |     prompt: |
5  |       Rate it.
6  |       Review: {{ revew }}
   |                  ^^^^^ did you mean 'item.review'?

warning[C230]: no step runs over dataset 'd'
  --> r.yaml:1:5
   |
1  |   - id: rate
   |     ^^

2 errors and 1 warning in r.yaml; nothing was sent"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yaml").write_text(TEXT)
    return "r.yaml"


def some(file: str) -> list[Problem]:
    return [
        Problem(
            "C203",
            "unknown key 'temprature' in step 'rate'",
            Place(file, 3, 5, 10),
            hint="did you mean 'temperature' under 'params'?",
            note="allowed here: cache, check",
        ),
        Problem(
            "C210",
            "'revew' is not defined in the prompt of step 'rate'",
            Place(file, 6, 18, 5),
            hint="did you mean 'item.review'?",
            where="line 2 of the prompt",
        ),
        Problem("C230", "no step runs over dataset 'd'", Place(file, 1, 5, 2), severity="warning"),
    ]


def test_the_text_form(file: str) -> None:
    assert render(some(file)) == GOLDEN


def test_the_concise_form(file: str) -> None:
    first = render(some(file), "concise").splitlines()[0]
    assert first == (
        "r.yaml:3:5: error C203 unknown key 'temprature' in step 'rate' (did you mean 'temperature' under 'params'?)"
    )


def test_the_json_form(file: str) -> None:
    found = json.loads(render(some(file), "json"))
    assert [(p["code"], p["severity"], p["line"], p["column"]) for p in found] == [
        ("C203", "error", 3, 5),
        ("C210", "error", 6, 18),
        ("C230", "warning", 1, 5),
    ]
    assert json.loads(render([], "json")) == []


def test_the_github_form() -> None:
    problem = Problem("C2", "100% wrong:\nyes", Place("a,b:c.yaml", 3, 5, 2), note="line\ntwo")
    assert render([problem], "github") == (
        "::error file=a%2Cb%3Ac.yaml,line=3,col=5,endColumn=7,title=llmpipe C2::100%25 wrong:%0Ayes%0Aline%0Atwo"
    )


def test_nothing_is_nothing() -> None:
    assert [render([], form) for form in ("text", "concise", "github")] == ["", "", ""]


@pytest.mark.parametrize("column", [1, 30, 79, 150, 400, 790])
def test_a_long_line_is_cut_around_the_place(column: int, tmp_path: Path) -> None:
    line = "".join(chr(97 + n % 26) for n in range(800))
    path = tmp_path / "l"
    path.write_text(f"{line}\n{line}\n")
    problem = Problem("C2", "word " * 60, Place(str(path), 2, column, 5), hint="mean " * 30, note="note " * 40)
    printed = render([problem]).splitlines()
    assert all(len(row) <= WIDTH or str(path) in row for row in printed)
    caret = next(n for n, row in enumerate(printed) if "^" in row)
    at = printed[caret].index("^")
    assert printed[caret - 1][at : at + 5] == line[column - 1 : column + 4]


def test_secrets_and_escapes_do_not_come_through(tmp_path: Path) -> None:
    key = "sk-ant-api03-AbCd1234EfGh5678IjKl"
    path = tmp_path / "s"
    path.write_text(f"api_key: hunter2hunter2\nprompt: {key}\x1b[31m\u202e\n")
    problem = Problem("P455", f"no {key}\x1b[2J", Place(str(path), 2, 9, 5), hint=key, note=f"{key}\u202e")
    for form in FORMS:
        printed = render([problem], form)
        assert key not in printed
        assert "hunter2" not in printed
        assert "\x1b" not in printed
        assert "\u202e" not in printed


@pytest.mark.parametrize("file", ["the command line", "--set models.m.model", "gone.yaml", "a\0b"])
def test_a_place_that_is_no_file(file: str) -> None:
    printed = render([Problem("C220", "no such var", Place(file), hint="did you mean 'team'?", note="vars: team")])
    assert printed.splitlines()[0] == "error[C220]: no such var"
    assert "did you mean 'team'?" in printed
    assert "vars: team" in printed


def test_a_place_behind_the_end_of_a_file(file: str) -> None:
    assert "error[C2]: gone" in render([Problem("C2", "gone", Place(file, 99, 5))])
    assert "^" in render([Problem("C2", "end", Place(file, 7, 1))])


def test_the_values_of_a_dotenv_are_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text('PLAIN=hush\nMY_API_KEY="open\nnaked-word\n')
    problems = [Problem("Y103", "a line of .env is NAME=value", Place(".env", line, 1, 9)) for line in (2, 3)]
    for form in FORMS:
        told = render(problems, form)
        assert not [word for word in ("hush", "open", "naked") if word in told]
    assert "MY_API_KEY=*****" in render(problems)


@pytest.mark.parametrize(
    ("before", "columns"),
    [("日本語", 6), ("e\u0301", 1), ("\N{GRINNING FACE}", 2), ("a\tb", 3), ("a\u2028b", 3), ("\u202ea", 2)],
)
def test_the_caret_stands_below_what_is_meant_on_a_terminal(tmp_path: Path, before: str, columns: int) -> None:
    file = tmp_path / "wide.yaml"
    file.write_text(f"{before}nope\n", encoding="utf-8")
    text = render([Problem("C210", "x", Place(str(file), 1, len(before) + 1, 4))])
    assert f"  | {' ' * columns}^^^^\n" in f"{text}\n"


def test_a_long_line_of_wide_characters_keeps_to_the_width(tmp_path: Path) -> None:
    file = tmp_path / "wide.yaml"
    file.write_text("日" * 200 + "nope" + "本" * 200, encoding="utf-8")
    line, caret = render([Problem("C210", "x", Place(str(file), 1, 201, 4))]).splitlines()[3:5]
    assert columns_of(line) <= WIDTH
    assert columns_of(line[: line.index("nope")]) == caret.index("^^^^")
