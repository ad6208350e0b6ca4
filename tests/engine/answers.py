"""A chat-completions server on loopback that answers by a function of the prompt, and counts what it was asked."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

Reply = Callable[[str], Any]  # prompt → text, a JSON value, or (status, body)
Delay = float | Callable[[int], float]  # seconds before each reply, or those before that of the nth request


class Answers:
    """`with Answers(lambda prompt: ...) as server: server.url`. One thread, any number of connections."""

    def __init__(self, reply: Reply = lambda prompt: f"re: {prompt}", *, delay_s: Delay = 0.0) -> None:
        self.reply, self.delay_s = reply, delay_s
        self.asked: Counter[str] = Counter()
        self.prompts: list[str] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.together = 0  # replies wait until so many requests have been in flight at once, for a minute at most
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> Answers:
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def total(self) -> int:
        return sum(self.asked.values())

    def wait_until_idle(self) -> None:
        """Wait until no request is in flight, a minute at most."""
        end = time.monotonic() + 60
        while self.in_flight and time.monotonic() < end:
            time.sleep(0.01)
        assert not self.in_flight

    def wait_for(self, count: int, *, seconds: float = 120.0) -> None:
        end = time.monotonic() + seconds
        while self.total < count:
            assert time.monotonic() < end, f"{self.total} of {count} requests came"
            time.sleep(0.005)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=1024)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(int(h[15:]) for h in head.split(b"\r\n") if h.lower().startswith(b"content-length:"))
                body = json.loads(await reader.readexactly(length))
                writer.write(await self._answer(body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, body: dict[str, Any]) -> bytes:
        prompt = body["messages"][-1]["content"].partition("\n\nAnswer with one JSON")[0]
        self.asked[prompt] += 1
        self.prompts.append(prompt)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            for _ in range(6000):
                if self.most_in_flight >= self.together:
                    break
                await asyncio.sleep(0.01)
            await asyncio.sleep(self.delay_s(self.total) if callable(self.delay_s) else self.delay_s)
        finally:
            self.in_flight -= 1
        found = self.reply(prompt)
        status, payload = found if isinstance(found, tuple) else (200, None)
        if payload is None:
            text = found if isinstance(found, str) else json.dumps(found)
            payload = {
                "id": "c-1",
                "model": body["model"],
                "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
                "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
            }
        data = json.dumps(payload).encode()
        return (
            f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode()
            + data
        )
