"""Which definitions the results in a ledger are of: those of one fingerprint, or of several until all were compared."""

from __future__ import annotations

from pathlib import Path

from llmpipe.engine.ledger import Ledger
from llmpipe.engine.ledger_read import LedgerReader
from llmpipe.errors import StorageError

_NAME = "results_of"
_OF = "SELECT value FROM meta WHERE name = ?"
_MIXED = ""


def begin(ledger: Ledger, fingerprint: str, *, has_results: bool) -> bool:
    """Say that results of `fingerprint` come now. True if the ledger has no others.

    A process that dies on the way leaves the ledger marked as mixed: no result in it is trusted before it is compared.
    """
    there = ledger.value(_OF, (_NAME,)) if has_results else fingerprint
    _note(ledger, fingerprint if there == fingerprint else _MIXED)
    return bool(there == fingerprint)


def end(ledger: Ledger, fingerprint: str) -> None:
    """Say that every result was made by, or compared with, the definitions of `fingerprint`."""
    _note(ledger, fingerprint)


def results_of(path: Path) -> str:
    """The fingerprint that all results in the ledger at `path` are of; "" if they are of several, or it is not one."""
    try:
        with LedgerReader(path) as ledger:
            return ledger.value(_OF, (_NAME,)) or _MIXED
    except StorageError:
        return _MIXED


def is_blank(path: Path) -> bool:
    """True for a ledger without a single item: there is nothing in it to go on with. Raises StorageError."""
    with LedgerReader(path) as ledger:
        return not ledger.rows("SELECT 1 FROM items LIMIT 1")


def _note(ledger: Ledger, value: str) -> None:
    ledger.put("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (_NAME, value))
