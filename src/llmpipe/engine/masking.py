"""Real keys on their way into a run's files: what is written instead, and how often a run met them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from llmpipe.engine.items import to_json
from llmpipe.engine.ledger_read import LedgerReader
from llmpipe.engine.ledger_schema import PUT_MASKED
from llmpipe.engine.results import MaskedCount
from llmpipe.providers.table import resolve
from llmpipe.types import Model

if TYPE_CHECKING:
    from llmpipe.client.redact import Redactor

RESPONSE, ROW, RESULT = "response", "row", "result"
_COUNTS = {  # a row or result that was replaced since may hold none any more
    RESPONSE: "SELECT variable, COUNT(DISTINCT id) FROM masked WHERE what = 'response' GROUP BY 1",
    ROW: (
        "SELECT variable, COUNT(*) FROM masked JOIN items ON items.id = masked.id"
        " WHERE what = 'row' AND items.live = 1 AND items.data LIKE '%[redacted]%' GROUP BY 1"
    ),
    RESULT: (
        "SELECT variable, COUNT(*) FROM masked JOIN results ON results.step = masked.step AND results.item = masked.id"
        " WHERE what = 'result' AND results.output LIKE '%[redacted]%' GROUP BY 1"
    ),
}
_ANY_ROW = (
    "SELECT 1 FROM masked JOIN items ON items.id = masked.id"
    " WHERE what = 'row' AND items.live = 1 AND items.scope = ? LIMIT 1"
)
Put = tuple[str, tuple[str, int, int, str]]


def redactor_for(models: Mapping[str, Model], values: Mapping[str, str], *, shapes: bool = True) -> Redactor:
    """A redactor of the values of key variables; the names of models, providers and hosts are no secrets.

    `shapes`: messages also lose what looks like a key.
    """
    from llmpipe.client.key_values import public_names
    from llmpipe.client.redact import Redactor

    public = public_names(models.values(), [resolve(model).origin for model in models.values()])
    return Redactor(values, shapes=shapes, public=public)


def unmasked_note(values: Mapping[str, str], redactor: Redactor) -> str:
    """The warning about key variables whose values are not masked; "" if there are none."""
    names = [name for name, value in values.items() if not redactor.is_masked(value)]
    if not names:
        return ""
    hold, it = ("holds", "it is") if len(names) == 1 else ("hold", "they are")
    return (
        f"warning: {', '.join(names)} {hold} no real key (fewer than 12 characters, a word, or a public name): {it} not"
        " masked in rows, responses and files"
    )


def without_keys(text: str, redactor: Redactor) -> tuple[str, tuple[str, ...]]:
    """JSON without the values of keys, and the variables whose values it held."""
    names = redactor.names(text)
    if not names:
        return text, ()
    masked = to_json(redactor.known_data(json.loads(text)))
    return (to_json(redactor.known(text)) if redactor.names(masked) else masked), names


def key_without_keys(key: str, redactor: Redactor) -> str:
    """An item's key as it is written and seen; a digest keeps two of them apart that differ in what is masked."""
    masked = redactor.known(key)
    return key if masked is key else f"{masked}-{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def puts(what: str, names: Sequence[str], id: int, step: int = 0) -> list[Put]:
    """The statements that write down that a response, row or result held the values of these variables."""
    return [(PUT_MASKED, (what, step, id, name)) for name in names]


def has_masked_rows(ledger: LedgerReader, scope: int) -> bool:
    """Whether the ledger has some rows of a scope otherwise than they came: these have to be read from the file."""
    return bool(ledger.rows(_ANY_ROW, (scope,)))


def masked_counts(ledger: LedgerReader) -> tuple[MaskedCount, ...]:
    """How many responses, rows and results of a run held the values of which variables."""
    return tuple(
        MaskedCount(variable or "a key", what, count)
        for what, sql in _COUNTS.items()
        for variable, count in ledger.rows(sql)
    )
