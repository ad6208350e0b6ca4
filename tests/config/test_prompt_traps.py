"""Warnings of texts that say something else than was meant; and that ordinary files get none."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent, indent

import pytest

from llmpipe.config.load import load_pipeline
from llmpipe.config.pipeline import Dataset
from llmpipe.config.rows import read_rows
from llmpipe.errors import ConfigError, Place, Problem
from tests.config.project import unmark
from tests.conftest import REPOSITORY

HEAD = """\
version: 1
models: {m: {provider: echo}}
datasets: {d: {path: d.jsonl, key: id}}
"""


def problems(tmp_path: Path, text: str) -> list[Problem]:
    """What is said of a pipeline whose head is HEAD, errors first."""
    folder = tmp_path / "pipelines"
    folder.mkdir(exist_ok=True)
    (folder / "d.jsonl").write_text('{"id": 1, "text": "a", "city": "Ulm"}\n{"id": 2, "text": "b", "city": "Rom"}\n')
    (folder / "x.yaml").write_text(HEAD + dedent(text), encoding="utf-8")
    try:
        found = load_pipeline(folder / "x.yaml").warnings
    except ConfigError as err:
        found = err.problems
    return [problem for problem in found if problem.code != "C230"]  # a dataset that a case does not need


def of(found: list[Problem], code: str) -> list[Problem]:
    return [problem for problem in found if problem.code == code]


def shown(problem: Problem, tmp_path: Path) -> str:
    """What the caret stands under."""
    place = problem.place
    line = (tmp_path / "pipelines" / "x.yaml").read_text(encoding="utf-8").splitlines()[place.line - 1]
    return line[place.column - 1 : place.column - 1 + place.width]


# -- a comment that cuts a text ----------------------------------------------------------------------------------------

CUT = """
steps: [{id: a, prompt: Compare C «# and F#»
  }]
---
steps:
  - id: a
    prompt: Compare C «# and F# for a beginner.»
---
steps:
  - id: a
    prompt: Ask for C  «#1»
---
steps:
  - id: a
    prompt: «# Sort this»
---
steps:
  - id: a
    prompt: two
      lines «# of it»
---
steps:
  - id: a
    system: You know C «# and F#.»
    prompt: x
---
vars: {x: 1}
steps:
  - id: a
    render: ticket «# {{ vars.x }}»
---
steps:
  - id: a
    messages:
      - role: user
        content: see issue «#12 first»
---
steps:
  - id: a
    messages: [{role: user, content: see issue «#12»
      }]
---
steps:
  - id: a
    prompt: x
    check: output != 'a' «# 1 and output != 'b'»
---
steps:
  - id: a
    prompt: x
    check:
      - output == 'a «# b'»
---
steps:
  - id: a
    prompt: x
    check: «# output != ''»
---
steps:
  - {id: a, prompt: x}
  - id: b
    if: steps.a == 'C' «# or steps.a == 'F'»
    prompt: y
---
steps:
  - {id: a, foreach: datasets.d, prompt: '{{ item.text }}'}
  - id: g
    foreach:
      group: steps.a
      by: item.city «# or item.text»
    render: x
---
steps:
  - id: a
    foreach: {split: datasets.d, size: 10,
      text: item.text «# ~ item.city or item.id»
      }
    prompt: '{{ item.text }}'
---
steps:
  - {id: a, foreach: datasets.d, prompt: '{{ item.text }}'}
outputs:
  - from: steps.a
    path: output/a.csv
    columns:
      x: item.text «# if output == 'x' else item.id»
---
steps:
  - {id: a, foreach: datasets.d, prompt: '{{ item.text }}'}
outputs:
  - {from: steps.a, path: output/a.csv, columns: {x: item.text «# ~ item.city»
      }}
---
steps:
  - {id: a, foreach: datasets.d, prompt: '{{ item.text }}'}
outputs:
  - from: steps.a
    path: output/a.csv
    columns:
      x: item.text «# + item.city»
---
vars:
  intro: Read this note on C «# carefully»
steps: [{id: a, prompt: '{{ vars.intro }}'}]
---
vars:
  intro: {default: Read this note on C «# carefully»
    }
steps: [{id: a, prompt: '{{ vars.intro }}'}]
""".split("---\n")


@pytest.mark.parametrize("marked", CUT)
def test_a_comment_that_cuts_a_text_is_named(tmp_path: Path, marked: str) -> None:
    text, ((line, column, width),) = unmark(marked)
    (found,) = of(problems(tmp_path, text), "Y113")
    above = HEAD.count("\n")
    assert (found.place.line, found.place.column, found.place.width) == (line + above, column, width)
    assert shown(found, tmp_path) in found.message
    assert (found.severity, found.hint) == ("warning", "quote the value")


WHOLE = """
version: 1  # of the form
name: x # the name
description: Sorts what comes in # for the team on call
vars: {team: Support, deep: {type: string, default: none}} # plain
models:
  m: # the cheap one
    provider: echo # no key
    params: {max_output_tokens: 20} # short
defaults: {model: m} # of all
datasets:
  d: {path: d.jsonl, key: id} # the rows
steps:
  - id: a # first
    foreach: datasets.d # each row
    model: m # the cheap one and the best
    system: "You sort # tickets" # quoted
    prompt: | # a block
      Sort {{ item.text }} # not a comment
    schema: {label: string} # short
    check: output.label != ''  # must not be empty
    on_error: continue # go on
  - id: b
    foreach: steps.a # the same rows
    if: steps.a.label != 'x' # only what is known
    prompt: 'So {{ item.text }}' # and so on
    check:
      - output | length > 0 # > 0 is enough
      - output != 'none' # nobody wants it, or the other
  - id: g
    foreach:
      group: steps.a
      by: output.label # the label
      size: 10 # at once, item - by item
    render: "{{ item.key }}" # the key
outputs:
  - from: steps.a # of a
    path: output/a.csv # a table
    columns:
      id: item.id # the id of the item
      label: output.label # one of five
"""


def test_comments_behind_whole_values_are_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "pipelines"
    folder.mkdir()
    (folder / "d.jsonl").write_text('{"id": 1, "text": "a"}\n')
    (folder / "x.yaml").write_text(WHOLE)
    assert load_pipeline(folder / "x.yaml").warnings == ()


def test_a_bracket_that_only_a_comment_closes_is_told_where_it_is(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, "steps: [{id: a, prompt: it's C # and F#}]\n")
    assert (found.code, shown(found, tmp_path)) == ("Y103", "# and F#}]")
    assert "comment" in found.message


# -- a prompt that uses nothing of its item ----------------------------------------------------------------------------

ROWLESS = [
    ("Sort this: {text}", "{text}", "item.text"),
    ("Sort this: $text", "$text", "item.text"),
    ("Sort this: ${text}", "${text}", "item.text"),
    ("Sort this: <text>", "<text>", "item.text"),
    ("Sort this: [text]", "[text]", "item.text"),
    ("Sort this: %(text)s", "%(text)s", "item.text"),
    ("Where is {City}?", "{City}", "item.city"),
    ("Sort this.", "", ""),
    ("Sort {{ vars.what }}.", "", ""),
    ('A JSON like {"answer": 1} please', "", ""),
]


@pytest.mark.parametrize(("prompt", "caret", "meant"), ROWLESS)
@pytest.mark.parametrize("style", ["quoted", "block", "message"])
def test_a_prompt_that_uses_nothing_of_its_row(tmp_path: Path, prompt: str, caret: str, meant: str, style: str) -> None:
    body = {
        "quoted": f"prompt: '{prompt}'",
        "block": f"prompt: |\n  Look.\n  {prompt}",
        "message": f"system: Be short.\nmessages:\n  - role: user\n    content: '{prompt}'",
    }[style]
    text = f"vars: {{what: x}}\nsteps:\n  - id: a\n    foreach: datasets.d\n{indent(body, '    ')}\n"
    (found,) = of(problems(tmp_path, text), "C234")
    assert "nothing of its item" in found.message
    if caret:
        assert shown(found, tmp_path) == caret
        assert found.hint == f"did you mean '{{{{ {meant} }}}}'?"
    else:
        assert "id, text, city" in found.note


def test_a_prompt_file_that_uses_nothing_of_its_row(tmp_path: Path) -> None:
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "p.md").write_text("Look.\nSort {text}\n")
    (found,) = of(problems(tmp_path, "steps: [{id: a, foreach: datasets.d, prompt_file: p.md}]\n"), "C234")
    assert (Path(found.place.file).name, found.place.line, found.place.column) == ("p.md", 2, 6)
    assert found.hint == "did you mean '{{ item.text }}'?"


FANNED = "  - {id: l, foreach: datasets.d, prompt: '{{ item.text }}', schema: {claims: 'list[string]', n: integer}}\n"
USED = [
    "  - {id: a, prompt: Write a line.}\n",
    "  - {id: a, prompt: Write a line., samples: 3}\n",
    "  - {id: a, foreach: datasets.d, prompt: Sort it., system: 'It is {{ item.text }}'}\n",
    "  - {id: a, foreach: datasets.d, prompt: 'Sort {{ key }}'}\n",
    "  - {id: a, foreach: datasets.d, prompt: '{% if item.city == \"Ulm\" %}here{% else %}there{% endif %}'}\n",
    "  - {id: a, foreach: datasets.d, prompt: '{% for c in item %}{{ c }}{% endfor %}'}\n",
    "  - {id: a, foreach: datasets.d, samples: 2, prompt: '{{ item.text }}'}\n",
    "  - {id: a, foreach: steps.l, prompt: 'Sum up {{ steps.l.n }}'}\n",
    "  - {id: a, foreach: datasets.d, prompt: 'Sum up {{ steps.l.n }}'}\n",
    "  - {id: a, foreach: steps.l.claims, prompt: 'Is it in {{ parent.text }}?'}\n",
    "  - {id: a, foreach: steps.l.claims, prompt: 'Sum up {{ steps.l.n }}'}\n",
    "  - {id: a, foreach: {group: steps.l, size: 2}, prompt: '{{ item.rows | length }}'}\n",
    "  - {id: a, foreach: {split: datasets.d, size: 5}, prompt: '{{ item.text }}'}\n",
    "  - {id: c, foreach: steps.l.claims, render: x}\n  - {id: a, foreach: steps.l, prompt: '{{ steps.c }}'}\n",
    "  - {id: a, foreach: datasets.d, render: a constant}\n",
]


@pytest.mark.parametrize("steps", USED)
def test_a_prompt_that_uses_its_row_somehow_is_left_alone(tmp_path: Path, steps: str) -> None:
    assert problems(tmp_path, f"steps:\n{FANNED}{steps}") == []


@pytest.mark.parametrize(
    "step",
    [
        "{id: a, foreach: steps.l.claims, prompt: 'Is it so?'}",
        "{id: a, foreach: {group: steps.l, size: 2}, prompt: 'Sum up.'}",
        "{id: a, foreach: {split: datasets.d, size: 5}, prompt: 'Sum up.'}",
        "{id: a, foreach: datasets.d, samples: 2, prompt: 'Sum up.'}",
        "{id: a, foreach: datasets.d, prompt: '{% for r in steps.once %}x{% endfor %}{{ steps.once }}'}",
        "{id: a, foreach: datasets.d, if: item.text == 'a', prompt: 'Sum up.'}",
    ],
)
def test_other_items_are_looked_at_too(tmp_path: Path, step: str) -> None:
    text = f"steps:\n{FANNED}  - {{id: once, prompt: x}}\n  - {step}\n"
    assert len(of(problems(tmp_path, text), "C234")) == 1


# -- a prompt that is the name of a file -------------------------------------------------------------------------------

PATHS = [
    ("prompts/a.md", "prompts/a.md"),
    ("./prompts/a.md", "./prompts/a.md"),
    ("'@prompts/a.md'", "prompts/a.md"),
    ("'prompts/{{ vars.lang }}.md'", "prompts/{{ vars.lang }}.md"),
    ("prompts/missing.txt", "prompts/missing.txt"),
    ("notes.prompt", "notes.prompt"),
    ("pipelines/prompts/a.md", "prompts/a.md"),
    ("texts/b.md", "../texts/b.md"),
    ("prompts/of two", "prompts/of two"),
]


@pytest.mark.parametrize(("prompt", "named"), PATHS)
def test_a_prompt_that_is_a_path(tmp_path: Path, prompt: str, named: str) -> None:
    folder = tmp_path / "pipelines" / "prompts"
    folder.mkdir(parents=True)
    (tmp_path / "texts").mkdir()
    for path in (folder / "a.md", folder / "of two", tmp_path / "texts" / "b.md"):
        path.write_text("Sort {{ item.text }}")
    found = problems(
        tmp_path, f"vars: {{lang: de}}\nsteps:\n  - id: a\n    foreach: datasets.d\n    prompt: {prompt}\n"
    )
    (problem,) = found
    assert (problem.code, problem.severity) == ("C233", "warning")
    assert problem.hint == f"did you mean `prompt_file: {named}`?"
    assert shown(problem, tmp_path) == prompt


def test_a_path_in_another_text(tmp_path: Path) -> None:
    text = "steps:\n  - {id: a, system: prompts/a.md, messages: [{role: user, content: x.txt}]}\n"
    found = problems(tmp_path, text)
    assert [problem.code for problem in found] == ["C233", "C233"]
    assert all("prompt_file" in problem.note for problem in found)


@pytest.mark.parametrize(
    "prompt",
    ["Read README.md", "a/b", "1.5", "yes", "e.g. this", "x.py is a file?", "https://example.org/a.md says", "..."],
)
def test_other_texts_are_no_paths(tmp_path: Path, prompt: str) -> None:
    assert problems(tmp_path, f"steps:\n  - id: a\n    prompt: '{prompt}'\n") == []


# -- lines that are no text --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "line"), [(b"one\rtwo\r", 1), (b"one\n" + bytes(64), 2), (b"one\nt\rwo\n", 2)])
def test_lines_with_a_bare_cr_or_nul_are_no_lines(tmp_path: Path, data: bytes, line: int) -> None:
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "t.txt").write_bytes(data)
    text = (
        HEAD.replace("d.jsonl, key: id", "t.txt, format: lines")
        + "steps: [{id: a, foreach: datasets.d, prompt: '{{ item.text }}'}]"
    )
    (tmp_path / "pipelines" / "y.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_pipeline(tmp_path / "pipelines" / "y.yaml")
    (found,) = caught.value.problems
    assert (found.code, found.severity, Path(found.place.file).name, found.place.line) == (
        "D302",
        "error",
        "t.txt",
        line,
    )


def test_other_signs_that_end_lines_elsewhere_belong_to_a_line(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes("a\x85b\u2028c\u2029d\x0be\x0cf\r\ng\n".encode())
    found = [row.data["text"] for row in read_rows(Dataset("d", (tmp_path / "t.txt",), "lines", None, Place("t.txt")))]
    assert found == ["a\x85b\u2028c\u2029d\x0be\x0cf", "g"]


# -- no false alarms ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(REPOSITORY.glob("pipelines/*.yaml")), ids=lambda path: path.stem)
def test_the_pipelines_of_the_repository_get_no_warning(path: Path) -> None:
    assert load_pipeline(path).warnings == ()


def test_the_examples_of_the_docs_get_none_of_these_warnings(tmp_path: Path) -> None:
    looked_at = 0
    for page in [*REPOSITORY.glob("docs/*.md"), REPOSITORY / "README.md"]:
        for block in re.findall(r"```ya?ml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            if "steps:" in block:
                looked_at += 1
                head = "" if "version:" in block else "version: 1\nmodels: {mm: {provider: echo}}\n"
                (tmp_path / "x.yaml").write_text(head + block, encoding="utf-8")
                try:
                    found = list(load_pipeline(tmp_path / "x.yaml").warnings)
                except ConfigError as err:
                    found = list(err.problems)
                assert [p for p in found if p.code in ("Y113", "C233", "C234")] == [], page.name
    assert looked_at > 3
