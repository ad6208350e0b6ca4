"""Keys come from the process, then from `.env`; addresses and proxies never from `.env`."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmpipe.config.environment import Environment, read_dotenv
from llmpipe.errors import ConfigError


def dotenv(folder: Path, text: str) -> Path:
    path = folder / ".env"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_process_wins_over_dotenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dotenv(tmp_path, "A_API_KEY=from-file\nB_API_KEY=from-file\nC_API_KEY=from-file\n")
    monkeypatch.setenv("A_API_KEY", "from-process")
    monkeypatch.setenv("B_API_KEY", "  ")
    environment = Environment.load(tmp_path)
    assert [environment.secret(f"{n}_API_KEY") for n in "ABCD"] == ["from-process", "from-file", "from-file", None]
    assert [environment.origin(f"{n}_API_KEY") for n in "ABD"] == ["environment", ".env", ""]
    assert environment.handed_out == {"A_API_KEY": "from-process", "B_API_KEY": "from-file", "C_API_KEY": "from-file"}


def test_only_what_was_handed_out_is_a_known_secret() -> None:
    environment = Environment({"ONE_API_KEY": "aaa", "TWO_API_KEY": "bbb"})
    assert environment.has("ONE_API_KEY")
    assert environment.handed_out == {}
    environment.secret("TWO_API_KEY")
    assert tuple(environment.handed_out.values()) == ("bbb",)
    assert "aaa" not in repr(environment)
    assert "bbb" not in repr(environment)


def test_the_forms_of_a_line(tmp_path: Path) -> None:
    text = """
# a comment
export ONE_KEY=plain
TWO_KEY = 'single # quoted' # comment
THREE_KEY="double \\"quoted\\"\\n$x"
FOUR_KEY=value # comment
FIVE_KEY=
SIX_KEY=a=b#c
"""
    assert read_dotenv(dotenv(tmp_path, text)) == {
        "ONE_KEY": "plain",
        "TWO_KEY": "single # quoted",
        "THREE_KEY": 'double "quoted"\n$x',
        "FOUR_KEY": "value",
        "FIVE_KEY": "",
        "SIX_KEY": "a=b#c",
    }


def test_no_file_is_no_problem(tmp_path: Path) -> None:
    assert read_dotenv(tmp_path / ".env") == {}


@pytest.mark.parametrize(
    "name",
    (
        "OPENAI_BASE_URL OLLAMA_HOST HTTPS_PROXY http_proxy ALL_PROXY NO_PROXY SSL_CERT_FILE PATH "
        "AZURE_OPENAI_ENDPOINT ANTHROPIC_CUSTOM_HEADERS PYTHONPATH LD_PRELOAD MY_API_BASE LLMPIPE_X"
    ).split(),
)
def test_dotenv_may_not_say_where_keys_go(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_dotenv(dotenv(tmp_path, f"A_KEY=1\nexport {name}=http://evil.example\n"))
    (problem,) = caught.value.problems
    assert (problem.code, problem.place.line, problem.place.column) == ("P456", 2, 8)
    assert "evil" not in problem.message


@pytest.mark.parametrize("line", ["no equals sign", "1A=x", "A='never closed", 'A="x" y'])
def test_a_line_that_is_none(line: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Y103"):
        read_dotenv(dotenv(tmp_path, f"{line}\n"))


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"A=\xff")
    with pytest.raises(ConfigError, match="Y101"):
        read_dotenv(tmp_path / ".env")
    (tmp_path / ".env").write_bytes(b"A=" + b"x" * 70_000)
    with pytest.raises(ConfigError, match="Y102"):
        read_dotenv(tmp_path / ".env")
