"""Words of a command line come back from a shell as they were."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.shell_text import is_utf8, joined, quoted

WORDS = st.lists(
    st.binary(max_size=12).map(os.fsdecode).filter(lambda word: "\0" not in word)
    | st.text(alphabet="a'\"\\\\$`!~ \n\té\u00a0\u200b🦊\udcff", max_size=8),
    max_size=5,
)


def spoken(shell: str, words: list[str]) -> list[str]:
    script = f"printf '%s\\0' {joined(words)}" if words else "true"
    done = subprocess.run([shell, "-c", os.fsencode(script)], capture_output=True, check=True)
    return [os.fsdecode(word) for word in done.stdout.split(b"\0")[:-1]]


@pytest.mark.parametrize("shell", [shell for shell in ("bash", "zsh") if shutil.which(shell)])
@given(words=WORDS)
def test_a_shell_reads_back_what_was_quoted(shell: str, words: list[str]) -> None:
    assert spoken(shell, words) == words


@given(words=WORDS)
def test_a_quoted_word_can_be_printed_and_kept(words: list[str]) -> None:
    line = joined(words)
    assert is_utf8(line)
    assert line.isprintable()


def test_plain_words_stay_as_they_are() -> None:
    assert joined(["run", "a b", "größe.yaml", ""]) == "run 'a b' 'größe.yaml' ''"
    assert quoted("\udcff'\\") == "$'\\xff\\'\\\\'"
