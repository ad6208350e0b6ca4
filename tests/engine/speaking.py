"""A server on loopback that speaks five wires and says what a function tells it to, and counts what it was asked."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.e2e.answering import schema_of
from tests.faults.replies import answer, wire_of

# provider of a pipeline file -> what its base_url has behind host and port
PROVIDERS = {"openai": "/v1", "openai_responses": "/v1", "anthropic": "", "gemini": "", "ollama": ""}


@dataclass(frozen=True)
class Asked:
    """One request: `texts` are the turns, `schema` what was asked for natively."""

    wire: str
    number: int
    body: dict[str, Any]
    texts: tuple[str, ...]
    schema: Any
    model: str

    @property
    def is_reask(self) -> bool:
        return "Answer again" in self.texts[-1]


Say = Callable[[Asked], Any]  # a text, or a mapping: the body of the reply


class Speaking:
    """`with Speaking(lambda asked: "...") as server: server.model("openai")`."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.asked: list[Asked] = []
        lock = threading.Lock()
        speaking = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with lock:
                    asked = _asked(self.path, body, len(speaking.asked))
                    speaking.asked.append(asked)
                said = speaking.say(asked)
                status, said = said if isinstance(said, tuple) else (200, said)
                reply = said if isinstance(said, Mapping) else answer(asked.wire, said)
                data = json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                with contextlib.suppress(ConnectionError):  # of a client that was killed
                    self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            request_queue_size = 128
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Speaking:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def total(self) -> int:
        return len(self.asked)

    def model(self, provider: str = "openai", *, id: str = "m", more: str = "") -> str:
        """An entry of `models`, as flow YAML."""
        key = "" if provider == "ollama" else ", api_key_env: A_TEST_KEY"
        where = f"base_url: '{self.url}{PROVIDERS[provider]}'"
        return f"{{provider: {provider}, model: {id}, {where}{key}, price: {{input: 1, output: 1}}{more}}}"


def _asked(path: str, body: dict[str, Any], number: int) -> Asked:
    wire = wire_of(path)
    turns = body.get("messages") or body.get("contents") or body.get("input")
    texts = tuple(_text(turn.get("content", turn.get("parts"))) for turn in turns)
    model = body.get("model") or path.rsplit("/", 1)[-1].split(":")[0]
    return Asked(wire, number, body, texts, schema_of(wire, body), model)


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
