"""Guards around every test: no network but loopback, no real keys, a home and a working directory of its own."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("house", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")

REPOSITORY = Path(__file__).resolve().parent.parent
KEY_ENDINGS = ("_API_KEY", "_BASE_URL", "_API_BASE", "_ENDPOINT", "_TOKEN", "_PROXY", "_proxy")
KEPT = ("COVERAGE_", "COV_", "PYTEST_", "PIP_")
_guarded = True
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:  # started in the background, by nohup: children would ignore it too
        signal.signal(_number, _handler)


class NetworkForbidden(BaseException):
    """A test reached for the network. Not an Exception, so that no retry can swallow it."""


def _is_loopback(host: object) -> bool:
    text = host.decode() if isinstance(host, bytes) else str(host)
    if text in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(text.split("%", 1)[0]).is_loopback
    except ValueError:
        return False


def _guard(event: str, args: tuple[Any, ...]) -> None:
    """An audit hook: sees what Python and its C modules ask the system for, whichever library asks."""
    if not _guarded:
        return
    if event in ("socket.connect", "socket.sendto", "socket.bind"):
        address = args[1]
        if isinstance(address, tuple) and not _is_loopback(address[0]):
            raise NetworkForbidden(f"{event} {address}")
    elif event in ("socket.getaddrinfo", "socket.gethostbyname") and args[0] is not None and not _is_loopback(args[0]):
        raise NetworkForbidden(f"{event} {args[0]!r}")


sys.addaudithook(_guard)


@pytest.fixture(autouse=True)
def _alone(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away the keys, addresses and folders of whoever runs the tests."""
    home = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        if name.endswith(KEY_ENDINGS) and not name.startswith(KEPT):
            monkeypatch.delenv(name)
    for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "CI", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    for name in [n for n in os.environ if n.startswith("LLMPIPE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    for name, folder in (("XDG_CACHE_HOME", "cache"), ("XDG_CONFIG_HOME", "config"), ("XDG_DATA_HOME", "data")):
        monkeypatch.setenv(name, str(home / folder))
    monkeypatch.chdir(home)


@pytest.fixture
def repository() -> Path:
    """The root of this project."""
    return REPOSITORY


@pytest.fixture
def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
