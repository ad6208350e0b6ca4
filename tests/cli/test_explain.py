"""Every code that llmpipe can print has an explanation."""

from __future__ import annotations

import json
import re

import pytest

from llmpipe.cli.explain import every_entry
from llmpipe.errors import every_class
from tests.cli.words import here
from tests.conftest import REPOSITORY

SOURCES = [p for p in (REPOSITORY / "src" / "llmpipe").rglob("*.py") if p.name != "codes.py"]
RAISED = {code for path in SOURCES for code in re.findall(r'"([YCDPOX]\d{3})"', path.read_text())}


def test_every_code_in_the_source_is_explained() -> None:
    known = every_entry()
    assert len(RAISED) > 100
    assert RAISED - set(known) == set()


def test_no_code_is_explained_that_nothing_raises() -> None:
    assert set(every_entry()) - RAISED == set()


@pytest.mark.parametrize("code", sorted(every_entry()))
def test_an_explanation_says_what_it_is_and_what_to_do(code: str) -> None:
    entry = every_entry()[code]
    assert re.match(r"[a-z`]", entry.title) or entry.title[:2].isupper() or entry.title.startswith(("JSON", "Python"))
    assert not entry.title.endswith(".")
    assert entry.advice.endswith((".", ".)", '."', "`.")) or entry.advice == ""
    assert entry.advice or code == "X900"


def test_one_code() -> None:
    done = here("explain", "P431")
    assert done.code == 0
    assert done.out.startswith("P431: the call timed out\n\nRaise the clock that is named under `timeout`")
    assert "error_type CallTimeout" in done.out
    assert "retried" in done.out


@pytest.mark.parametrize("word", ["p431", "[P431]", "CallTimeout", "calltimeout", " P431: "])
def test_a_code_as_it_was_copied(word: str) -> None:
    assert here("explain", word).out == here("explain", "P431").out


def test_an_account_error_says_that_it_ends_the_run() -> None:
    done = here("explain", "P402")
    assert "not retried: every call with this key and model would fail alike" in done.out
    assert "exit code 4" in done.out


def test_an_unknown_code_is_a_usage_error_with_a_suggestion() -> None:
    done = here("explain", "P4311")
    assert done.code == 2
    assert "did you mean 'P431'?" in done.err


def test_all_codes_in_order() -> None:
    lines = here("explain").out.splitlines()
    assert {line[:4] for line in lines} >= {kind.code for kind in every_class()}
    assert [line[0] for line in lines] == sorted((line[0] for line in lines), key="YCDPOX".index)
    assert all(len(line) <= 90 for line in lines)


def test_the_same_for_a_program() -> None:
    entry = json.loads(here("explain", "P431", "--json").out)
    assert entry["code"] == "P431"
    assert entry["name"] == "CallTimeout"
    assert len(json.loads(here("explain", "--json").out)) == len(every_entry())


def test_no_two_kinds_of_error_share_a_code() -> None:
    every_entry()  # which loads the classes
    codes = [kind.code for kind in every_class() if "code" in vars(kind)]
    assert [code for code in set(codes) if codes.count(code) > 1] == []
