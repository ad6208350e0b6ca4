"""The lock of a pipeline: one at a time, dead with its process, refused on network file systems."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import pytest

from llmpipe.engine.lock import RunLock, is_held, refuse_network
from llmpipe.errors import LockHeld, StorageError

HOLD = """
import sys, time
from pathlib import Path
from llmpipe.engine.lock import RunLock
with RunLock(Path(sys.argv[1]), command="llmpipe run x"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", dedent(HOLD), str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    yield process  # type: ignore[misc]
    process.kill()
    process.communicate()


def test_a_second_run_is_told_who_holds_the_lock(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    assert is_held(tmp_path)
    with pytest.raises(LockHeld, match=f"process {holder.pid}"), RunLock(tmp_path):
        pass


def test_the_lock_dies_with_its_process(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    with RunLock(tmp_path):
        assert is_held(tmp_path)
    assert not is_held(tmp_path)


def test_waiting_takes_the_lock_once_it_is_free(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    begun = time.monotonic()
    with pytest.raises(LockHeld), RunLock(tmp_path, wait_s=0.5):
        pass
    assert time.monotonic() - begun >= 0.5
    holder.kill()
    with RunLock(tmp_path, wait_s=60):
        pass


def test_the_lock_says_who_holds_it_and_is_empty_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    assert not is_held(folder)
    with RunLock(folder, command="llmpipe run x"):
        said = json.loads((folder / ".lock").read_text())
        assert (said["pid"], said["command"]) == (os.getpid(), "llmpipe run x")
        time.strptime(said["since"], "%Y-%m-%d %H:%M:%S")
        assert (folder / ".lock").stat().st_mode & 0o777 == 0o600
        with pytest.raises(LockHeld) as caught, RunLock(folder):
            pass
        assert str(caught.value).endswith(f"at work: process {os.getpid()}, since {said['since']}")
        for unreadable in ("", "{", "[]", "3", '{"pid": 1}'):
            (folder / ".lock").write_text(unreadable)
            with pytest.raises(LockHeld, match="at work: process unknown"), RunLock(folder):
                pass
        assert is_held(folder)
    assert (folder / ".lock").read_text() == ""
    assert not is_held(folder)
    with RunLock(folder), pytest.raises(LockHeld), RunLock(folder):
        pass


def test_network_file_systems_are_refused_with_the_reason(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/sda1 / ext4 rw 0 0\nserver:/x /mnt/share nfs4 rw 0 0\ntmpfs /mnt/share/local tmpfs rw 0 0\n"
    )
    with pytest.raises(StorageError, match=r"network file system \(nfs4\).*--output"):
        refuse_network(Path("/mnt/share/x"), mounts=mounts)
    for local in ("/srv", "/mnt/share/local/x", "/mnt/shared"):
        refuse_network(Path(local), mounts=mounts)
