"""The guards of conftest.py hold, whichever way the network is asked for."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from tests.conftest import NetworkForbidden


def test_a_connection_to_another_host_is_refused() -> None:
    with socket.socket() as s, pytest.raises(NetworkForbidden):
        s.connect(("192.0.2.1", 80))


def test_a_name_is_not_looked_up() -> None:
    with pytest.raises(NetworkForbidden):
        socket.getaddrinfo("example.org", 443)


def test_asyncio_is_guarded_too() -> None:
    with pytest.raises(NetworkForbidden):
        asyncio.run(asyncio.open_connection("192.0.2.1", 80))


def test_loopback_is_open(free_port: int) -> None:
    async def talk() -> bytes:
        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"hi")
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", free_port):
            reader, writer = await asyncio.open_connection("localhost", free_port)
            said = await reader.read()
            writer.close()
            await writer.wait_closed()
            return said

    assert asyncio.run(talk()) == b"hi"


def test_no_key_and_no_proxy_is_seen() -> None:
    assert [n for n in os.environ if n.endswith(("_API_KEY", "_BASE_URL", "_PROXY", "_proxy"))] == []


def test_home_is_an_empty_folder() -> None:
    assert list(Path.home().iterdir()) == []
    assert Path.cwd() == Path.home()
