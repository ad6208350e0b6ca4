"""A client, and a cache, that were used before a fork work in the child of it and go on working in the parent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

HEAD = """\
import asyncio, json, os, sys, threading, time
from pathlib import Path
from llmpipe import DiskCache, LLMClient, LLMRequest

def ask(client, prompt):
    response = client.call(LLMRequest(model="demo", prompt=prompt))
    return [str(response), response.cached]

def in_child(work):
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(theirs, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    os.waitpid(child, 0)
    with open(ours) as pipe:
        return json.loads(pipe.read())
"""


def run(script: str, folder: Path) -> Any:
    """What a script prints as JSON; a hang is an error."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", HEAD + script, str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_client_is_used_before_in_and_after_a_fork(tmp_path: Path) -> None:
    script = """
client = LLMClient()
before = ask(client, "one")
child = in_child(lambda: [ask(client, "one"), ask(client, "two")])
print(json.dumps([before, child, ask(client, "two")]))
"""
    assert run(script, tmp_path) == [
        ["echo: one", False],
        [["echo: one", True], ["echo: two", False]],
        ["echo: two", False],
    ]


def test_a_fork_in_the_middle_of_a_call_does_not_wait_for_what_the_parent_waits_for(tmp_path: Path) -> None:
    script = """
client = LLMClient()
ask(client, "one")  # a fork while a module is being imported is Python's to answer for
slow = LLMRequest(model="demo", prompt="slow", latency_s=1.0)
thread = threading.Thread(target=client.call, args=(slow,))
thread.start()
time.sleep(0.3)
child = in_child(lambda: str(client.call(LLMRequest(model="demo", prompt="other"))))
thread.join()
print(json.dumps([child, str(client.call(slow))]))
"""
    assert run(script, tmp_path) == ["echo: other", "echo: slow"]


def test_a_cache_on_disk_is_used_before_in_and_after_a_fork(tmp_path: Path) -> None:
    script = """
cache = DiskCache(Path(sys.argv[1]) / "cache")
client = LLMClient(cache=cache)
before = ask(client, "one")
cache.claim("a" * 64, 60)
child = in_child(lambda: [ask(client, "one"), ask(client, "two"), cache.claim("a" * 64, 60), cache.release("a" * 64)])
other = DiskCache(Path(sys.argv[1]) / "cache")
print(json.dumps([before, child, ask(client, "two"), other.claim("a" * 64, 60), cache.stats().entries]))
"""
    assert run(script, tmp_path) == [
        ["echo: one", False],
        [["echo: one", True], ["echo: two", False], False, None],
        ["echo: two", True],
        False,
        2,
    ]
