"""What is wrong with a schema, with the spot, so that whoever knows the file can point at the line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from llmpipe.frozen import frozen


@frozen
class SchemaProblem:
    """One thing that is wrong with a schema.

    `message` is one sentence without a full stop, `hint` the next step ("did you mean 'required'?").
    `pointer` is a JSON pointer (RFC 6901) into `file`, or into the given document where `file` is None.
    A "warning" does not keep the schema from being used.
    """

    message: str
    pointer: str = ""
    hint: str = ""
    file: Path | None = None
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        where = f"{self.file.name if self.file else ''}#{self.pointer}"
        return f"{where}: {self.message}{f' ({self.hint})' if self.hint else ''}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ "did you mean 'x'?" for the closest known word, "" if none is close."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.7)
    return f"did you mean {found[0]!r}?" if found else ""
