"""Regular expressions that are compiled when they are first used: all of them at once cost a command 20 to 50 ms."""

from __future__ import annotations

import re

TYPE_CHECKING = False  # typing costs more to import than all that --help needs
if TYPE_CHECKING:
    from typing import Any, AnyStr


class _Late:
    def __init__(self, pattern: str | bytes, flags: int) -> None:
        self._given = (pattern, flags)

    def __getattr__(self, name: str) -> Any:
        """Asked once for each name: then it stands in the instance, at the price of a look into a dict."""
        if name.startswith("__"):
            raise AttributeError(name)
        pattern, flags = self._given
        compiled: Any = re.compile(pattern, flags)
        found = getattr(compiled, name)
        self.__dict__[name] = found
        return found


def late(pattern: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """What `re.compile` gives, as far as its methods go. For the patterns of modules."""
    found: Any = _Late(pattern, flags)
    return found  # type: ignore[no-any-return]
