"""Keys that were seen: as a dictionary would have them, in little memory, and without a place for files too."""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.config.pipeline import Dataset
from llmpipe.config.rows import read_rows
from llmpipe.config.rows_seen import IN_MEMORY, KeyTable
from llmpipe.errors import DataError, Place

KEYS = st.lists(st.tuples(st.booleans(), st.integers(0, 400)), max_size=400)


@given(KEYS, st.sampled_from([0, 1, 7, 100, 1000]))
def test_a_table_answers_as_a_dictionary_does(asked: list[tuple[bool, int]], in_memory: int) -> None:
    known: dict[str, int] = {}
    with closing(KeyTable(in_memory)) as table:
        for number, (counts, n) in enumerate(asked):
            key = f"{n}" if counts else f"at {n}"
            if counts:
                known[key] = known.get(key, 0) + 1
                assert table.count(key) == known[key]
            else:
                assert table.put(key, number) == known.get(key)
                known.setdefault(key, number)


@pytest.mark.parametrize("in_memory", [1000, IN_MEMORY])
def test_a_table_forgets_no_key_while_it_grows(in_memory: int) -> None:
    with closing(KeyTable(in_memory)) as table:
        assert all(table.put(str(n), n << 40 | n) is None for n in range(20_000))
        assert all(table.put(str(n), 0) == n << 40 | n for n in range(20_000))
        assert [table.count("again") for _ in range(3)] == [1, 2, 3]


def test_many_keys_take_no_more_memory_than_some() -> None:
    def peak(keys: int) -> int:
        gc.collect()
        tracemalloc.start()
        try:
            with closing(KeyTable(8_000)) as table:
                for n in range(keys):
                    table.put(str(n), n)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    some = peak(20_000)
    assert peak(80_000) < 1.05 * some
    assert some < 1_000_000


def test_without_a_place_for_files_the_keys_stay_in_memory(tmp_path: Path) -> None:
    """Told by a limit on the size of files, which stands for a full disk: from the beginning, and later."""
    for limit in (0, 40_000):
        done = _in_a_process_with(limit, tmp_path)
        assert done.stdout.split() == ["True", "True"], done.stderr


def _in_a_process_with(limit: int, folder: Path) -> subprocess.CompletedProcess[str]:
    code = (
        "from llmpipe.config.rows_seen import KeyTable\n"
        "table = KeyTable(100)\n"
        "print(all(table.put(str(n), n) is None for n in range(5000)))\n"
        "print(all(table.count(str(n)) == n + 1 for n in range(5000)))\n"
        "table.close()"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TMPDIR": str(folder)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def large(tmp_path: Path) -> Dataset:
    """More rows than keys are kept of in memory; the last has the key of the tenth."""
    path = tmp_path / "large.jsonl"
    ids = [*range(2 * IN_MEMORY), 9]
    path.write_text("".join(f'{{"id": {id}}}\n' for id in ids))
    return Dataset("d", (path,), "jsonl", "id", Place("p.yaml"))


def test_a_key_that_comes_back_after_very_many_is_told_with_both_lines(large: Dataset) -> None:
    rows = read_rows(large)
    with pytest.raises(DataError, match=r"the key '9' \(id\) is already that of line 10") as caught:
        list(rows)
    assert caught.value.line == 2 * IN_MEMORY + 1


def test_rows_that_nobody_reads_on_leave_no_file_open(large: Dataset) -> None:
    before = sorted(_open_files())
    rows = read_rows(large)
    for _ in range(2 * IN_MEMORY):
        next(rows)
    assert len(list(_open_files())) == len(before) + 2, "the dataset, and the file of its keys"
    rows.close()  # type: ignore[attr-defined]
    assert sorted(_open_files()) == before


def _open_files() -> Iterator[str]:
    for link in Path("/proc/self/fd").iterdir():
        if link.is_symlink():
            yield str(link.readlink())
