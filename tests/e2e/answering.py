"""A server on loopback that speaks five wires and answers every schema with something that fits it."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.faults.replies import answer, wire_of


@dataclass
class Asked:
    """What came in: path, headers (lower-case names) and body of each request."""

    url: str = ""
    requests: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)


def fitting(schema: dict[str, Any], seed: str) -> Any:
    """An instance of a plain schema, chosen by the seed."""
    number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4], "big")
    if "enum" in schema:
        return schema["enum"][number % len(schema["enum"])]
    if "anyOf" in schema:
        return fitting(schema["anyOf"][0], seed)
    match schema.get("type"):
        case "object":
            return {name: fitting(below, f"{seed}/{name}") for name, below in schema["properties"].items()}
        case "array":
            return [fitting(schema["items"], f"{seed}/{n}") for n in range(number % 3)]
        case "boolean":
            return number % 2 == 0
        case "integer" | "number":
            return schema.get("minimum", 1)
    return f"said {number % 1000}"


def schema_of(wire: str, body: dict[str, Any]) -> dict[str, Any] | None:
    """The schema that a request asks for, wherever its wire puts it."""
    found: Any = {
        "openai_chat": lambda: body.get("response_format", {}).get("json_schema", {}).get("schema"),
        "openai_responses": lambda: body.get("text", {}).get("format", {}).get("schema"),
        "anthropic": lambda: body.get("output_config", {}).get("format", {}).get("schema"),
        "gemini": lambda: body.get("generationConfig", {}).get("responseJsonSchema"),
        "ollama": lambda: body.get("format"),
    }[wire]()
    return found


@contextmanager
def answering() -> Iterator[Asked]:
    """Serve on a free port; yields what is asked."""
    asked = Asked()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            wire = wire_of(self.path)
            seed = json.dumps(body.get("messages") or body.get("contents") or body.get("input"))
            schema = schema_of(wire, body)
            text = json.dumps(fitting(schema, seed)) if schema else "An answer."
            reply = json.dumps(answer(wire, text)).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 128

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    asked.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
