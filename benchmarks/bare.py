"""The least that a Python program can do: the same requests in a loop over aiohttp. `bare.py URL CALLS IN_FLIGHT`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator

import aiohttp
from project import body_of


async def worker(session: aiohttp.ClientSession, url: str, numbers: Iterator[int]) -> None:
    for number in numbers:
        async with session.post(url, data=body_of(number), headers=HEADERS) as response:
            reply = json.loads(await response.read())
            json.loads(reply["choices"][0]["message"]["content"])


async def main(url: str, calls: int, in_flight: int) -> None:
    numbers = iter(range(calls))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(worker(session, url, numbers) for _ in range(in_flight)))


HEADERS = {"content-type": "application/json", "authorization": "Bearer sk-benchmark-0123456789"}

if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] + "/chat/completions", int(sys.argv[2]), int(sys.argv[3])))
