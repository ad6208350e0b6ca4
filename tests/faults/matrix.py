"""Wire × fault: what a run makes of each, found by running it. `python -m tests.faults.matrix > docs/faults.md`."""

from __future__ import annotations

import base64
import contextlib
import html
import io
import json
import os
import re
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, quote_plus

from llmpipe.cli.main import main
from tests.faults.server import FaultServer

ROWS = {
    "openai_chat": "openai",
    "openai_responses": "openai_responses",
    "anthropic": "anthropic",
    "gemini": "gemini",
    "ollama": "ollama",
}
KEY = 'canary-"7f\\9/+=&%<k>~Zq3'
VARIABLE = "MATRIX_API_KEY"
# Where the clocks are what is shown, they are short; elsewhere no machine can be so slow that they are.
SHORT = "connect: 1s, first_token: 500ms, idle: 500ms, attempt: 900ms"
LONG = "connect: 1m, first_token: 1m, idle: 1m, attempt: 2m"
ASK = "(SELECT id FROM steps WHERE name = 'ask')"
SILENT = {
    "silence", "silence_after_head", "silence_in_body", "drip_head", "drip_body",
    "stream_stall", "stream_stall_at_head", "stream_comments",
}  # fmt: skip
PIPELINE = """
version: 1
name: cell
models:
  m: {{provider: {row}, model: test, base_url: "{url}", api_key_env: {variable}, stream: {stream},
      params: {{max_output_tokens: 1000}}, limits: {{concurrency: 1}}}}
defaults:
  model: m
  timeout: {{{clocks}, total: 5m}}
  retry: {{max_retries: 2, base: 10ms, cap: 20ms, retry_after_max: 2s}}
steps:
  - {{id: before, prompt: "Hello!"}}
  - {{id: ask, needs: [before], prompt: "How are you?", on_error: continue}}
"""
FAULTS = {
    "ok": "a whole answer",
    "ok_then_silent_close": "a whole answer, then the connection is closed though it was promised to stay",
    "rate_limit": "429, no word how long",
    "rate_limit_1s": "429, `Retry-After: 1`",
    "rate_limit_ms": "429, `retry-after-ms: 200`",
    "rate_limit_hour": "429, `Retry-After: 3600`",
    "rate_limit_date": "429, `Retry-After:` a date in 2099",
    "rate_limit_bad_hint": "429, `Retry-After: 1e308`",
    "rate_limit_negative": "429, `Retry-After: -5`",
    "overloaded": "529, overloaded",
    "unavailable": "503, overloaded",
    "error_with_200": "200, and an error in the body",
    "server_error": "500",
    "bad_gateway": "502",
    "request_timeout": "408",
    "should_not_retry": "500, `x-should-retry: false`",
    "should_retry": "400, `x-should-retry: true`",
    "key_refused": "401, and the key in the message",
    "access_denied": "403",
    "quota": "429, quota used up",
    "model_unknown": "404, model not found",
    "bad_request": "400, unknown parameter",
    "context_length": "400, prompt too long",
    "content_filter": "400, blocked by a filter",
    "schema_rejected": "400, schema not taken",
    "escapes": "400, terminal escapes in the message",
    "ends_length": "the answer ended at the output limit",
    "ends_refusal": "the model refused",
    "ends_filtered": "the answer was filtered",
    "ends_unknown": "the answer ended for a reason that nobody knows",
    "ends_empty": "a complete answer with nothing in it",
    "html_200": "200, a web page",
    "html_502": "502, a web page",
    "empty_body": "200, no body",
    "not_json": "200, not JSON",
    "null_json": "200, `null`",
    "deep_json": "200, 200,000 brackets",
    "nan_json": "200, `NaN`",
    "bad_utf8": "200, not UTF-8",
    "utf16": "200, UTF-16",
    "twice_named": "200, every name twice",
    "many_values": "200, two million empty lists",
    "surrogate": "200, half a surrogate pair",
    "gzip": "200, gzip though identity was asked for",
    "twice_gzip": "200, gzip twice",
    "many_headers": "100,000 headers",
    "long_header": "a header of 1 MB",
    "endless_head": "headers without end",
    "redirect": "307 to the address of a cloud's metadata",
    "redirect_file": "302 to `file:///etc/passwd`",
    "silence": "nothing at all",
    "silence_after_head": "headers, then nothing",
    "silence_in_body": "half a body, then nothing",
    "drip_head": "headers, 20 bytes a second",
    "drip_body": "a body, 20 bytes a second",
    "hang_up": "the connection is closed before an answer",
    "reset": "the connection is reset",
    "cut_length": "closed before `Content-Length` is reached",
    "cut_chunked": "closed within a chunk",
    "cut_close_delimited": "closed in the midst, no length given",
    "not_http": "another protocol",
    "two_lengths": "two different `Content-Length`",
    "huge_length": "`Content-Length: 10000000000`",
    "endless_body": "a body without end",
}
STREAMED = {
    "ok": "a whole stream",
    "ok_chunked": "a plain answer instead of a stream",
    "stream_slow": "a slow stream",
    "stream_cut": "closed within the stream",
    "stream_unfinished": "a stream that ends without its terminal event",
    "stream_close_delimited": "the same, no chunks",
    "stream_error": "an error within the stream",
    "stream_stall": "the first events, then nothing",
    "stream_stall_at_head": "headers, then nothing",
    "stream_comments": "signs of life without end",
    "stream_endless": "events without end",
    "stream_long_line": "a line without end",
    "stream_not_json": "an event that is not JSON",
    "rate_limit_ms": "429, `retry-after-ms: 200`",
    "server_error": "500",
    "key_refused": "401, and the key in the message",
    "html_200": "200, a web page",
    "silence": "nothing at all",
    "reset": "the connection is reset",
}
# What a wire cannot say.
IMPOSSIBLE = {("ollama", "ends_refusal"), ("ollama", "ends_filtered")}


@dataclass(frozen=True)
class Cell:
    """What came of one fault: how the item ended ("ok" or the error's class and code), and what it took."""

    outcome: str
    code: str
    attempts: int
    requests: int
    seconds: float
    exit: int
    err: str
    leaks: tuple[str, ...]

    @property
    def text(self) -> str:
        """The cell as it stands in the table."""
        name = f"`{self.code}` {self.outcome}" if self.code else self.outcome
        return f"{name} · {self.attempts} · {self.seconds:.1f} s · {self.exit}"

    @property
    def verdict(self) -> str:
        """The part of `text` that no clock is in."""
        return re.sub(r" · [0-9.]+ s · ", " · ", self.text)


def spelled(key: str) -> str:
    """A key in the spellings in which a provider might repeat it."""
    raw = key.encode()
    shifted = [base64.b64encode(pad + raw).decode() for pad in (b"", b"u:", b"x")]
    plain = [key, quote(key, safe=""), quote_plus(key), json.dumps(key)[1:-1], raw.hex(), *shifted]
    return " ".join([*plain, *(spell(key) for spell in MIXED.values()), f"cut: {key[:-3]}"])


# What encoders make of a key that touch some characters, or all.
MIXED = {
    "each character escaped": lambda key: "".join(f"\\u{ord(ch):04x}" for ch in key),
    "escaped as .NET does": lambda key: "".join(f"\\u{ord(ch):04X}" if ch in '+&<>"\\' else ch for ch in key),
    "each byte in an address": lambda key: "".join(f"%{ord(ch):02X}" for ch in key),
    "HTML": html.escape,
    "broken over lines": lambda key: f"{key[:9]}\n  {key[9:]}",
}


def spellings(key: str) -> Iterator[tuple[str, bytes]]:
    """What must not be found in anything that a run leaves, by name."""
    raw = key.encode()
    escaped = json.dumps(key)[1:-1]
    yield "raw", raw
    yield "json", escaped.encode()
    yield "json twice", json.dumps(escaped)[1:-1].encode()
    yield "url", quote(key, safe="").encode()
    yield "url, lower case", quote(key, safe="").lower().encode()
    yield "url, slashes left", quote(key).encode()
    yield "hex", raw.hex().encode()
    yield "cut", key[:-3].encode()
    yield "broken over lines in JSON", json.dumps(MIXED["broken over lines"](key))[1:-1].encode()
    for name, spell in MIXED.items():
        yield name, spell(key).encode()
        yield f"{name}, in JSON", json.dumps(spell(key))[1:-1].encode()
    for skip in range(3):
        encoded = base64.b64encode(b"\0" * skip + raw).decode().rstrip("=")[2 if skip else 0 : -2]
        yield f"base64 at {skip}", encoded.encode()
        yield f"base64 for addresses at {skip}", encoded.replace("+", "-").replace("/", "_").encode()


def leaks(folder: Path, *texts: str) -> Iterator[str]:
    """Where and how the key stands in the files of `folder` and in what was printed."""
    found = [(str(path.relative_to(folder)), path.read_bytes()) for path in folder.rglob("*") if path.is_file()]
    for name, data in [*found, *(("printed", text.encode()) for text in texts)]:
        for kind, form in spellings(KEY):
            if form in data:
                yield f"{kind} in {name}"


def run_cell(wire: str, fault: str, *, stream: bool = False) -> Cell:
    """One run against a server that answers one call, so that it is not down, and shows `fault` from then on."""
    with tempfile.TemporaryDirectory() as name, FaultServer(["ok", fault], echo=spelled) as server:
        root = Path(name)
        path = root / "pipelines" / "cell.yaml"
        path.parent.mkdir()
        values = {"row": ROWS[wire], "url": server.base(wire), "stream": json.dumps(stream)}
        path.write_text(PIPELINE.format(**values, variable=VARIABLE, clocks=SHORT if fault in SILENT else LONG))
        os.environ[VARIABLE] = KEY
        out, err = io.StringIO(), io.StringIO()
        began = time.monotonic()
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main(["run", str(path), "--json"])
        finally:
            del os.environ[VARIABLE]
        seconds = time.monotonic() - began
        outcome, error_code = _outcome(root, out.getvalue())
        attempts = _ledger(root, f"SELECT COUNT(*) FROM attempts WHERE step = {ASK}")[0][0]
        found = tuple(leaks(root, out.getvalue(), err.getvalue()))
        return Cell(outcome, error_code, attempts, len(server.requests) - 1, seconds, code, err.getvalue(), found)


def _outcome(root: Path, out: str) -> tuple[str, str]:
    rows = _ledger(root, f"SELECT status, error_type, code FROM results WHERE step = {ASK}")
    if rows:
        status, kind, code = rows[0]
        return ("ok", "") if status == "succeeded" else (str(kind), str(code))
    return f"unsent ({json.loads(out)['reason'].partition(':')[0]})", ""


def _ledger(root: Path, query: str) -> list[tuple[object, ...]]:
    path = root / "output" / "cell" / "latest" / "run.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        return db.execute(query).fetchall()


def cells(*, stream: bool) -> list[tuple[str, str]]:
    """Every (wire, fault) of a table."""
    names = STREAMED if stream else FAULTS
    return [(wire, fault) for fault in names for wire in ROWS if (wire, fault) not in IMPOSSIBLE]


def page() -> str:
    """The whole page, by running every cell."""
    tables = "\n\n".join(
        f"## {title}\n\n{_table(stream=stream)}" for title, stream in (("Whole replies", False), ("Streams", True))
    )
    return _HEAD + tables + "\n"


_HEAD = """# What a run makes of every fault

Generated by `make faults`, which runs a pipeline of two steps against a server on loopback that answers the first step,
shows one fault to the second and nothing else, and repeats the key in every spelling wherever it can; tests keep it
current. A cell is: code and class of the item's error · attempts · seconds · exit code of the run. The pipeline has
`retry: {max_retries: 2, base: 10ms, cap: 20ms, retry_after_max: 2s}` and, where the server falls silent, `timeout:
{first_token: 500ms, idle: 500ms, attempt: 900ms}`. A provider that answers nothing from the start ends a run with 75.
[Errors](errors.md) says what follows from each class.

"""


def _table(*, stream: bool) -> str:
    names = STREAMED if stream else FAULTS
    lines = [f"| fault | {' | '.join(ROWS)} |", "|---" * (len(ROWS) + 1) + "|"]
    for fault, words in names.items():
        row = []
        for wire in ROWS:
            row.append("–" if (wire, fault) in IMPOSSIBLE else run_cell(wire, fault, stream=stream).text)
            sys.stderr.write(f"{wire} {fault}: {row[-1]}\n")
        lines.append(f"| {words} | {' | '.join(row)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(page())
