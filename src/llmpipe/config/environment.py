"""The environment: the one reader of os.environ, with a project's `.env` below it.

Whatever was handed out as a secret is known to the redactor. A `.env` comes with a checked-out project, so it may give
keys but never say where they are sent (facts D9).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from llmpipe.errors import ConfigError, Place, Problem
from llmpipe.late import late

_LINE = late(r"\s*(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*=\s*(?P<value>.*?)\s*\Z", re.DOTALL)
_FORBIDDEN = late(
    r"(?i)(?:^|_)(?:BASE_URL|API_BASE|URL|ENDPOINT|HOST|PROXY|CUSTOM_HEADERS)$"
    r"|^(?:SSL_|REQUESTS_|CURL_)|^(?:PATH|PYTHON\w*|LD_\w+|LLMPIPE_\w+)$"
)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$"}
_MAX_BYTES = 64 * 1024


class Environment:
    """Variables of the process, and of `.env` where the process has none of that name."""

    def __init__(self, variables: Mapping[str, str], dotenv: Mapping[str, str] | None = None) -> None:
        self._variables, self._dotenv = dict(variables), dict(dotenv or {})
        self._handed_out: dict[str, str] = {}

    @classmethod
    def load(cls, project_root: Path | None = None) -> Environment:
        """The process's environment over the `.env` beside the project root.

        Raises ConfigError: P456 for a base URL, host or proxy in `.env`, Y112 and Y103 if it cannot be read.
        """
        return cls(os.environ, read_dotenv(project_root / ".env") if project_root is not None else None)

    def get(self, name: str, default: str | None = None) -> str | None:
        """A setting; an empty value counts as none. The process wins over `.env`, which has no addresses or proxies."""
        return self._variables.get(name) or self._dotenv.get(name) or default

    def secret(self, name: str) -> str | None:
        """A key, remembered for the redactor; blank counts as missing. The process wins over `.env`."""
        value = (self._variables.get(name) or "").strip() or self._dotenv.get(name, "").strip()
        if not value:
            return None
        self._handed_out[name] = value
        return value

    def has(self, name: str) -> bool:
        """Whether there is such a key, without handing it out."""
        return bool((self._variables.get(name) or self._dotenv.get(name) or "").strip())

    def origin(self, name: str) -> str:
        """Where a key comes from: "environment", ".env" or ""."""
        if (self._variables.get(name) or "").strip():
            return "environment"
        return ".env" if self._dotenv.get(name, "").strip() else ""

    @property
    def variables(self) -> Mapping[str, str]:
        """The process's own variables, for what has to see them all (proxy settings); never those of `.env`."""
        return dict(self._variables)

    @property
    def handed_out(self) -> Mapping[str, str]:
        """The secrets that were handed out so far, by the names of their variables."""
        return dict(self._handed_out)

    def __repr__(self) -> str:
        return f"Environment({len(self._variables)} variables, {len(self._dotenv)} in .env)"


def variable(name: str) -> str | None:
    """A variable of the process, for clients that no project's environment belongs to; None if it is not set."""
    return os.environ.get(name)


def hand_down(name: str, value: str) -> None:
    """Set a variable for what this process starts, or becomes; one that is set already stays."""
    os.environ.setdefault(name, value)


def read_dotenv(path: Path) -> dict[str, str]:
    """The variables of a `.env` file; empty if there is none. Raises ConfigError."""
    if not path.is_file():
        return {}
    file = _shown(path)
    try:
        with path.open("rb") as stream:
            text = stream.read(_MAX_BYTES + 1).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError([Problem("Y101", f"'{file}' is not UTF-8", Place(file))]) from None
    except OSError as error:
        raise ConfigError([Problem("Y112", f"cannot read '{file}': {error.strerror}", Place(file))]) from None
    if len(text.encode()) > _MAX_BYTES:
        raise ConfigError([Problem("Y102", f"'{file}' is larger than {_MAX_BYTES // 1024} KiB", Place(file))])
    return _parse(text, file)


def _parse(text: str, file: str) -> dict[str, str]:
    found: dict[str, str] = {}
    problems = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.match(line)
        value = _value(match["value"]) if match else None
        if match is None or value is None:
            problems.append(Problem("Y103", "a line of .env is NAME=value", Place(file, number, 1, len(line))))
        elif _FORBIDDEN.search(match["name"]):
            note = "set it in the real environment, or `base_url` in the pipeline file; .env gives keys only"
            place = Place(file, number, line.index(match["name"]) + 1, len(match["name"]))
            problems.append(Problem("P456", f".env may not set {match['name']}", place, note=note))
        else:
            found[match["name"]] = value
    if problems:
        raise ConfigError(problems)
    return found


def _value(text: str) -> str | None:
    """A value without its quotes or trailing comment; None for a quote that is not closed."""
    if text[:1] in ("'", '"'):
        quote = text[0]
        body = re.match(r"'([^']*)'\s*(?:#.*)?\Z" if quote == "'" else r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?\Z', text)
        if body is None:
            return None
        return body[1] if quote == "'" else re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[0]), body[1])
    return re.split(r"\s+#", text, maxsplit=1)[0].strip()


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)
