"""The page of every key is the one that the schema file makes."""

from __future__ import annotations

from llmpipe.config import keys
from llmpipe.config.keys_table import keys_table
from tests.conftest import REPOSITORY


def test_the_committed_page_is_current() -> None:
    assert (REPOSITORY / "docs/keys.md").read_text(encoding="utf-8") == keys_table()


def test_every_key_stands_in_it() -> None:
    page = keys_table()
    for _, key, _ in keys.rows():
        assert f"`{key}`" in page


def test_the_schema_of_the_repository_is_the_one_that_ships() -> None:
    link = REPOSITORY / "schemas/pipeline.schema.json"
    assert link.read_text(encoding="utf-8") == keys.schema_text()
    assert not link.is_symlink() or link.readlink().as_posix() == "../src/llmpipe/config/pipeline.schema.json"
