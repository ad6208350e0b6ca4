"""The loopback server of the benchmarks, started in a process of its own and on its own core if there are two.

server.c is compiled if there is a compiler; otherwise this file serves, as a bare asyncio protocol: slower, but that
costs the client nothing. `server.py DELAY_MS` prints "port N".
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
ANSWER = json.dumps({"label": "billing", "score": 3, "why": "x" * 699})
REPLY = {
    "id": "chatcmpl-bench",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": "bench",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": ANSWER, "refusal": None}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 120, "completion_tokens": 60, "total_tokens": 180},
}


class Connection(asyncio.Protocol):
    """Answers each request after the delay; counts over all connections."""

    delay_s = 0.02
    requests = in_flight = peak = 0
    body = json.dumps(REPLY).encode()

    def __init__(self) -> None:
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end].lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
            if len(self._data) < end + 4 + length:
                return
            self._data = self._data[end + 4 + length :]
            if head.startswith(b"get "):
                self._send(json.dumps({"requests": Connection.requests, "peak": Connection.peak}).encode())
            else:
                self._begin()

    def _begin(self) -> None:
        Connection.requests += 1
        Connection.in_flight += 1
        Connection.peak = max(Connection.peak, Connection.in_flight)
        asyncio.get_running_loop().call_later(self.delay_s, self._end)

    def _end(self) -> None:
        Connection.in_flight -= 1
        self._send(self.body)

    def _send(self, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        self._transport.write(head % len(body) + body)


async def serve(delay_ms: float) -> None:
    Connection.delay_s = delay_ms / 1000
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0, backlog=4096)
    print("port", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def compiled(folder: Path) -> list[str]:
    """The command that serves: server.c, compiled into `folder`, or this file."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        return [sys.executable, str(HERE / "server.py")]
    program = folder / "server"
    subprocess.run([compiler, "-O2", "-o", str(program), str(HERE / "server.c")], check=True)
    return [str(program)]


@contextmanager
def running(folder: Path, delay_ms: float) -> Iterator[str]:
    """A server until the block ends; gives its URL. The caller's process and children get the other cores."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    process = subprocess.Popen([*compiled(folder), str(delay_ms)], stdout=subprocess.PIPE, text=True)
    if len(cores) > 1:
        os.sched_setaffinity(process.pid, cores[-1:])
        os.sched_setaffinity(0, cores[:-1])
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().split()[1]}"
    finally:
        process.terminate()
        process.wait()
        if len(cores) > 1:
            os.sched_setaffinity(0, cores)


def stats(url: str) -> dict[str, int]:
    """What the server counted so far: requests, and the most in flight at once."""
    with urllib.request.urlopen(url + "/stats", timeout=5) as reply:
        counted: dict[str, int] = json.loads(reply.read())
    return counted


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
