"""The cache on disk: nothing runs out of it, nothing is lost in it silently, nothing fails because of it."""

from __future__ import annotations

import asyncio
import os
import pickle
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from llmpipe.client.cache import Cache, SimpleMemoryCache
from llmpipe.client.disk_cache import CacheWarning, DiskCache
from llmpipe.client.encoding import seal
from llmpipe.client.keys import digest
from llmpipe.client.private_folder import network_filesystem, private_folder
from llmpipe.errors import StorageError
from llmpipe.types import LLMResponse

SOURCE = Path(__file__).resolve().parents[2] / "src"


def entry(n: int, size: int = 10) -> tuple[str, bytes]:
    material = str(n).encode()
    return digest(material), seal(LLMResponse("x" * size, "m", "p"), material=material, at=1.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(folder: Path) -> Iterator[DiskCache]:
    opened = DiskCache(folder)
    yield opened
    opened.close()


def put(cache: Cache, *entries: tuple[str, bytes]) -> None:
    async def scene() -> None:
        await asyncio.gather(*(cache.put(k, v) for k, v in entries))

    asyncio.run(scene())


def get(cache: Cache, key: str) -> bytes | None:
    return asyncio.run(_get(cache, key))


async def _get(cache: Cache, key: str) -> bytes | None:
    return await cache.get(key)


@pytest.fixture(params=["memory", "disk"])
def any_cache(request: pytest.FixtureRequest, folder: Path) -> Iterator[Cache]:
    opened: Cache = SimpleMemoryCache() if request.param == "memory" else DiskCache(folder)
    yield opened
    opened.close()


def test_what_was_put_is_got_and_the_last_put_wins(any_cache: Cache) -> None:
    assert get(any_cache, "aa") is None
    put(any_cache, ("aa" * 32, b"one"))
    put(any_cache, ("aa" * 32, b"two"), ("bb" * 32, b"three"))
    assert (get(any_cache, "aa" * 32), get(any_cache, "bb" * 32)) == (b"two", b"three")


def test_a_claim_holds_until_it_is_given_back_or_old(any_cache: Cache) -> None:
    key = "ab" * 32
    assert any_cache.claim(key, 60)
    assert not any_cache.claim(key, 60)
    assert any_cache.claim("cd" * 32, 60)
    any_cache.release(key)
    assert any_cache.claim(key, 0.01)
    time.sleep(0.02)
    assert any_cache.claim(key, 60)
    any_cache.release("ef" * 32)


def test_a_memory_cache_forgets_only_when_told_how_much_to_keep() -> None:
    cache = SimpleMemoryCache(max_entries=2)
    put(cache, ("a", b"1"), ("b", b"2"), ("a", b"3"), ("c", b"4"))
    assert [get(cache, k) for k in "abc"] == [b"3", None, b"4"]
    cache.clear()
    assert len(cache) == 0


def test_it_outlives_the_process(folder: Path) -> None:
    key, value = entry(1)
    code = (
        "import asyncio, os, sys; from pathlib import Path; from llmpipe.client.disk_cache import DiskCache\n"
        "async def main():\n"
        f"    await DiskCache(Path({str(folder)!r})).put({key!r}, {value!r})\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())"
    )
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(SOURCE)}, check=False)
    again = DiskCache(folder)
    assert get(again, key) == value
    again.close()


def test_nothing_is_evicted(cache: DiskCache) -> None:
    entries = [entry(n, size=2000) for n in range(300)]
    put(cache, *entries)
    assert all(get(cache, k) == v for k, v in entries)
    assert cache.stats().entries == 300


def test_folder_and_files_are_for_us_alone(cache: DiskCache, folder: Path) -> None:
    put(cache, entry(1, size=100_000))
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {p.name.split("-")[0] for p in folder.iterdir()} == {"cache.db", "claims.lock"}
    assert all(p.stat().st_mode & 0o077 == 0 for p in folder.iterdir())


def test_a_folder_that_others_may_write_to_is_refused(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o770)
    with pytest.raises(StorageError, match="mode 770"):
        DiskCache(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)
    with pytest.raises(StorageError, match="another user"):
        DiskCache(folder)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        DiskCache(tmp_path / "file" / "cache")


def test_a_network_file_system_is_recognised(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    name = str(tmp_path).replace(" ", "\\040")
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nhost:/x {name}/net nfs4 rw 0 0\ntmpfs {name}/net/local tmpfs rw 0 0\n")
    kinds = [network_filesystem(tmp_path / p, mounts=mounts) for p in ("a", "net", "net/b", "net/local/c", "network")]
    assert kinds == [None, "nfs4", "nfs4", None, None]
    assert network_filesystem(tmp_path, mounts=tmp_path / "none") is None
    assert private_folder(tmp_path / "own").is_dir()


class Bomb:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path(os.environ["BOMB"]),))


@pytest.fixture
def bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[bytes]:
    """A pickle that makes a file when it is loaded, which must not be there in the end."""
    mark = tmp_path / "exploded"
    monkeypatch.setenv("BOMB", str(mark))
    yield pickle.dumps(Bomb())
    assert not mark.exists()


def tamper(folder: Path, statement: str, *values: Any) -> None:
    with sqlite3.connect(folder / "cache.db") as database:
        database.execute(statement, values)
    database.close()


@pytest.mark.parametrize("change", ["mode = 4, value = :bomb", "value = 12", "value = 'text'", "mode = 3", "mode = 2"])
def test_a_tampered_value_is_a_miss(cache: DiskCache, folder: Path, bomb: bytes, change: str) -> None:
    key, value = entry(1)
    put(cache, (key, value))
    values = (bomb,) if ":bomb" in change else ()
    tamper(folder, f"UPDATE Cache SET {change.replace(':bomb', '?')}", *values)
    assert get(cache, key) is None
    assert list(cache.entries()) == []


def test_a_pickled_key_is_never_loaded(cache: DiskCache, folder: Path, bomb: bytes) -> None:
    put(cache, entry(1))
    tamper(folder, "UPDATE Cache SET raw = 0, key = ?", bomb)
    assert list(cache.entries()) == []
    assert cache.stats().entries == 1
    assert cache.clear() == 1


@pytest.mark.parametrize("name", ["/etc/hostname", "../victim", "victim", "ab/cd/" + "e" * 28 + ".val"])
def test_a_planted_file_name_is_neither_read_nor_deleted(cache: DiskCache, folder: Path, name: str) -> None:
    victims = [folder.parent / "victim", folder / "victim", folder / "ab" / "cd" / ("e" * 28 + ".val")]
    for victim in victims:
        victim.parent.mkdir(parents=True, exist_ok=True)
        victim.write_text("precious")
    key, value = entry(1)
    for mode in (1, 2, 3, 4):
        put(cache, (key, value))
        tamper(folder, "UPDATE Cache SET filename = ?, value = NULL, mode = ?", name, mode)
        assert get(cache, key) is None
    put(cache, (key, value))
    assert get(cache, key) == value
    tamper(folder, "UPDATE Cache SET filename = ?", name)
    assert cache.clear() == 1
    assert [v.read_text() for v in victims] == ["precious"] * 3


@pytest.mark.parametrize(
    ("key", "value"),
    [("cull_limit", 10), ("eviction_policy", "least-recently-stored"), ("get", 1), ("sqlite_foo", 1)],
)
def test_settings_that_are_not_ours_are_refused(folder: Path, key: str, value: Any) -> None:
    DiskCache(folder).close()
    tamper(folder, "INSERT OR REPLACE INTO Settings VALUES (?, ?)", key, value)
    with pytest.warns(CacheWarning, match="settings"):
        cache = DiskCache(folder)
    assert not cache.usable
    put(cache, entry(1))
    assert get(cache, entry(1)[0]) is None
    with pytest.raises(StorageError):
        cache.stats()
    cache.close()


def test_how_much_memory_an_earlier_version_took_does_not_matter(folder: Path) -> None:
    """Caches that were made with a map of 64 MiB and pages of 32 MiB are read, and take no more than new ones."""
    cache = DiskCache(folder)
    key, value = entry(1)
    put(cache, (key, value))
    cache.close()
    tamper(folder, "UPDATE Settings SET value = ? WHERE key = 'sqlite_cache_size'", 1 << 13)
    tamper(folder, "UPDATE Settings SET value = ? WHERE key = 'sqlite_mmap_size'", 1 << 26)
    cache = DiskCache(folder)
    assert get(cache, key) == value
    cache.close()
    with closing(sqlite3.connect(folder / "cache.db")) as database:
        kept = dict(database.execute("SELECT key, value FROM Settings"))
    assert kept["sqlite_cache_size"] * 4096 <= 8 * 1024 * 1024
    assert kept["sqlite_mmap_size"] == 0, "mapped pages count as memory of the process"


def aside(folder: Path) -> list[Path]:
    return sorted(folder.glob("cache-damaged-*.db"))


def test_a_database_that_is_none_is_set_aside_and_told_once(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    (folder / "cache.db").write_bytes(b"this is no database" * 1000)
    told: list[str] = []
    cache = DiskCache(folder, warn=told.append)
    put(cache, entry(1), entry(2))
    assert get(cache, entry(1)[0]) == entry(1)[1]
    cache.close()
    (kept,) = aside(folder)
    assert kept.read_bytes() == b"this is no database" * 1000
    assert told == [f"the response cache in {folder} was damaged; it was set aside as {kept.name}, and a new one begun"]
    again = DiskCache(folder, warn=told.append)
    assert get(again, entry(2)[0]) == entry(2)[1]
    again.close()
    assert len(told) == 1
    assert aside(folder) == [kept]


def rotten(folder: Path, *, first_page: int) -> None:
    """A cache of 200 answers whose pages from `first_page` on are noise."""
    cache = DiskCache(folder)
    put(cache, *(entry(n, size=3000) for n in range(200)))
    cache.close()
    size = (folder / "cache.db").stat().st_size
    with (folder / "cache.db").open("r+b") as file:
        file.seek((first_page - 1) * 4096)
        file.write(os.urandom(size - (first_page - 1) * 4096 - 4096))


def test_pages_that_have_rotted_are_set_aside_at_once_where_opening_meets_them(folder: Path) -> None:
    told: list[str] = []
    rotten(folder, first_page=2)
    cache = DiskCache(folder, warn=told.append)
    assert get(cache, entry(3, size=3000)[0]) is None
    put(cache, entry(3))
    assert get(cache, entry(3)[0]) == entry(3)[1]
    cache.close()
    assert len(told) == len(aside(folder)) == 1
    assert _open_below(folder) == [], "diskcache forgets its connection where it cannot begin"


def test_pages_that_rot_under_a_run_are_misses_and_set_aside_at_its_end(folder: Path) -> None:
    told: list[str] = []
    rotten(folder, first_page=12)
    cache = DiskCache(folder, warn=told.append)
    assert cache.usable
    found = [get(cache, entry(n, size=3000)[0]) for n in range(200)]
    put(cache, *(entry(n) for n in range(300, 320)))
    before = list(told)
    cache.close()
    assert None in found
    assert all("going on without" in line for line in before)
    moved = f"the response cache in {folder} had damage; it was set aside as {aside(folder)[0].name}"
    assert told[len(before) :] == [f"{moved}, and the next run begins a new one"]
    again = DiskCache(folder, warn=told.append)
    put(again, entry(5))
    assert get(again, entry(5)[0]) == entry(5)[1]
    again.close()
    assert len(told) == len(before) + 1


def test_who_only_looks_sets_nothing_aside(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    (folder / "cache.db").write_bytes(b"this is no database" * 1000)
    told: list[str] = []
    cache = DiskCache(folder, warn=told.append, heals=False)
    assert not cache.usable
    assert cache.claim("ab" * 32, 60)
    assert get(cache, entry(1)[0]) is None
    cache.close()
    assert len(told) == 1
    assert aside(folder) == []


def test_processes_that_find_the_same_damage_set_it_aside_once(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    code = (
        "import asyncio, sys; from pathlib import Path; from llmpipe.client.disk_cache import DiskCache\n"
        "from llmpipe.client.encoding import seal; from llmpipe.client.keys import digest\n"
        "from llmpipe.types import LLMResponse\n"
        "n = sys.argv[1]; told = []; sys.stdin.readline()\n"
        f"cache = DiskCache(Path({str(folder)!r}), warn=told.append)\n"
        "sealed = seal(LLMResponse('x' * 10, 'm', 'p'), material=n.encode(), at=1.0)\n"
        "asyncio.run(cache.put(digest(n.encode()), sealed)); cache.close(); print(len(told), cache.usable)\n"
    )
    for round in range(3):
        for path in folder.iterdir():
            path.unlink()
        (folder / "cache.db").write_bytes(os.urandom(20_000))
        env = {**os.environ, "PYTHONPATH": str(SOURCE)}
        args = [sys.executable, "-c", code]
        workers = [
            subprocess.Popen([*args, str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
            for n in range(4)
        ]
        said = [worker.communicate("go\n", timeout=60)[0].split() for worker in workers]
        assert [usable for _, usable in said] == ["True"] * 4, round
        assert sum(int(count) for count, _ in said) == len(aside(folder)) == 1
        cache = DiskCache(folder)
        assert all(get(cache, entry(n)[0]) == entry(n)[1] for n in range(4))
        cache.close()


@pytest.mark.parametrize("trouble", ["locked", "full", "not permitted", "a folder", "gone"])
def test_a_good_database_is_never_set_aside(trouble: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever keeps it from being used for a while, the answers are there afterwards."""
    cache = DiskCache(folder)
    put(cache, entry(1))
    cache.close()
    monkeypatch.setattr("llmpipe.client.cache_database.LOCK_WAIT_S", 0.05)
    told: list[str] = []
    with _in_trouble(trouble, folder / "cache.db"):
        cache = DiskCache(folder, warn=told.append)
        put(cache, entry(2, size=500_000))
        cache.close()
    if trouble in ("locked", "a folder"):
        assert told
    assert aside(folder) == []
    cache = DiskCache(folder)
    assert get(cache, entry(1)[0]) == entry(1)[1]
    cache.close()


@contextmanager
def _in_trouble(trouble: str, database: Path) -> Iterator[None]:
    safe = database.with_name("safe")
    if trouble == "locked":
        with closing(sqlite3.connect(database, isolation_level=None)) as other:
            other.execute("PRAGMA locking_mode = EXCLUSIVE")
            other.execute("BEGIN EXCLUSIVE")
            yield
            other.execute("ROLLBACK")
    elif trouble == "full":
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, handler)
    elif trouble == "not permitted":
        database.chmod(0)
        yield
        database.chmod(0o600)
    else:
        database.rename(safe)
        if trouble == "a folder":
            database.mkdir()
        yield
        for path in database.parent.glob("cache.db*"):
            path.rmdir() if path.is_dir() else path.unlink()
        safe.rename(database)


def _open_below(folder: Path) -> list[str]:
    """The files below `folder` that this process holds open, where the system tells."""
    found = []
    for link in Path("/proc/self/fd").iterdir() if Path("/proc/self/fd").is_dir() else ():
        with suppress(OSError):  # closed meanwhile
            found.append(str(link.readlink()))
    return [name for name in found if name.startswith(str(folder))]


def test_a_full_disk_is_told_once_and_the_answers_go_through(folder: Path) -> None:
    """A limit on the size of files stands for the full disk."""
    code = (
        "import asyncio, resource, signal; from pathlib import Path; from llmpipe.client.disk_cache import DiskCache\n"
        "told = []\n"
        f"cache = DiskCache(Path({str(folder)!r}), warn=told.append)\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
        "async def main():\n"
        "    for n in range(60):\n"
        "        await cache.put(f'{n:064x}', b'x' * 20_000)\n"
        "    return await cache.get(f'{0:064x}')\n"
        "first = asyncio.run(main()); cache.close()\n"
        "print(len(told), first == b'x' * 20_000)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(SOURCE)}, capture_output=True, check=True
    )
    assert done.stdout.split() == [b"1", b"True"], done.stderr


def test_another_writer_does_not_block_the_event_loop(cache: DiskCache, folder: Path) -> None:
    key, value = entry(1)
    put(cache, (key, value))
    database = sqlite3.connect(folder / "cache.db", isolation_level=None)
    database.execute("BEGIN IMMEDIATE")

    async def scene() -> tuple[bytes | None, bytes | None]:
        writing = asyncio.create_task(cache.put(*entry(2)))
        for _ in range(20):
            await asyncio.sleep(0.01)
        read = await cache.get(key)  # reading goes on beside a writer
        assert not writing.done()  # it waits for the other, and this loop did not wait with it
        database.execute("ROLLBACK")
        await writing
        return read, await cache.get(entry(2)[0])

    read, written = asyncio.run(scene())
    database.close()
    assert (read, written) == (value, entry(2)[1])


def test_several_threads_and_loops_may_share_it(cache: DiskCache) -> None:
    def work(n: int) -> None:
        put(cache, *(entry(n * 100 + i) for i in range(20)))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.stats().entries == 80


def test_a_claim_of_another_process_holds_and_dies_with_it(cache: DiskCache, folder: Path) -> None:
    key = "ab" * 32
    code = (
        "import sys; from pathlib import Path; from llmpipe.client.disk_cache import DiskCache\n"
        f"print(DiskCache(Path({str(folder)!r})).claim({key!r}, 600), flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(SOURCE)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert other.stdin is not None
    assert other.stdout is not None
    assert other.stdout.readline() == b"True\n"
    assert not cache.claim(key, 600)
    other.kill()
    other.wait()
    other.stdin.close()
    other.stdout.close()
    assert cache.claim(key, 600)


def test_closing_one_cache_keeps_the_claims_of_another_on_the_same_folder(cache: DiskCache, folder: Path) -> None:
    second = DiskCache(folder)
    assert cache.claim("ab" * 32, 600)
    assert not second.claim("ab" * 32, 600)
    second.close()
    third = DiskCache(folder)
    assert not third.claim("ab" * 32, 600)
    third.close()


def test_prune_deletes_the_oldest_and_gives_the_space_back(cache: DiskCache, folder: Path) -> None:
    entries = [entry(n, size=5000) for n in range(100)]
    for one in entries:
        put(cache, one)
    before = cache.stats()
    assert cache.prune(max_bytes=10 * len(entries[0][1])) in (90, 91)
    after = cache.stats()
    assert after.bytes < before.bytes / 2
    assert get(cache, entries[-1][0]) == entries[-1][1]
    assert get(cache, entries[0][0]) is None
    assert after.oldest is not None
    assert after.newest is not None
    assert cache.prune(older_than_s=3600) == 0
    assert cache.prune(older_than_s=0) == after.entries
    assert cache.stats().entries == 0


def test_peek_reads_without_an_event_loop(cache: DiskCache) -> None:
    put(cache, entry(1))
    assert (cache.peek(entry(1)[0]), cache.peek(entry(2)[0])) == (entry(1)[1], None)


def test_entries_lists_what_is_intact(cache: DiskCache, folder: Path) -> None:
    put(cache, entry(1), entry(2), (digest(b"3"), b"damaged"))
    assert [key for key, _ in cache.entries()] == [entry(1)[0], entry(2)[0]]


def test_after_close_the_database_is_let_go(folder: Path) -> None:
    cache = DiskCache(folder)
    put(cache, entry(1))
    cache.close()
    cache.close()
    put(cache, entry(2))
    assert get(cache, entry(1)[0]) is None
    assert {p.name for p in folder.iterdir()} == {"cache.db", "claims.lock"}
