"""How items get into the ledger: new ones with a number, known ones matched by key, those that are gone taken out."""

from __future__ import annotations

import json

from llmpipe.config.pipeline import Scope
from llmpipe.engine.items import Item, child_ord, to_json
from llmpipe.engine.ledger_schema import INSERT_ITEM, ITEM_CHANGED
from llmpipe.engine.masking import ROW, key_without_keys, puts
from llmpipe.engine.state import RunState

Fresh = tuple[int, str, object, bytes]  # place among its siblings, key, data, digest

THERE = (
    "SELECT key, id, ord, digest, live, EXISTS (SELECT 1 FROM changed_items WHERE item = items.id) FROM items"
    " WHERE scope = ? AND key IN (SELECT value FROM json_each(?))"
)
LIVE = "SELECT id FROM items WHERE scope = ? AND live = 1"
_BELOW = (
    "WITH RECURSIVE gone (id) AS (SELECT value FROM json_each(?) UNION"
    " SELECT items.id FROM items JOIN gone ON items.parent = gone.id WHERE items.live = 1) SELECT id FROM gone"
)
LOST = (
    "SELECT step, status, COUNT(*) FROM results WHERE step IN (SELECT id FROM steps)"
    " AND item IN (SELECT value FROM json_each(?)) GROUP BY step, status"
)
_DROP = "UPDATE items SET live = 0 WHERE id IN (SELECT value FROM json_each(?))"
DROP_RESULTS = "DELETE FROM results WHERE step IN (SELECT id FROM steps) AND item IN (SELECT value FROM json_each(?))"


class Entering:
    """Writes items down. One per run."""

    def __init__(self, run: RunState) -> None:
        self._run = run
        self._seen = bytearray()  # a bit per item number: entered by this process

    def enter(
        self, scope: Scope, fresh: list[Fresh], *, parent: Item | None = None, matched: bool
    ) -> tuple[list[Item], set[int]]:
        """Items with their numbers, queued for the ledger where they are new or changed; and which are as they were.

        `matched`: some may be in the ledger already.
        """
        number = self._run.scope_numbers[scope.id]
        redactor = self._run.values_redactor
        fresh = [(n, key_without_keys(key, redactor), data, digest) for n, key, data, digest in fresh]
        keys = json.dumps([key for _, key, _, _ in fresh]) if matched and fresh else ""
        rows = self._run.ledger.rows(THERE, (number, keys)) if keys else []
        there = {key: rest for key, *rest in rows}
        above = parent if parent is not None and parent is not self._run.root else None
        items, same = [], set()
        for n, key, data, digest in fresh:
            ord = child_ord(above.ord if above else "", n)
            known = there.get(key)
            id = known[0] if known else self._run.ledger.next_id("items")
            item = Item(id, scope.id, key, ord, data, parent=parent or self._run.root, digest=digest)
            items.append(item)
            if matched:
                self._see(id)
            if known and known[2:] == [digest, 1, 0]:
                same.add(id)
            elif known:
                item.changed = True
                self._run.ledger.put(ITEM_CHANGED, (id,))
            if not known or known[1:4] != [ord, digest, 1]:
                text, names = self._run.without_keys(to_json(data))
                for put in puts(ROW, names, id) if scope.dataset else ():
                    self._run.ledger.put(*put)
                self._run.ledger.put(INSERT_ITEM, (id, number, key, above.id if above else None, ord, text, digest))
        self._count(scope, len(fresh) - sum(rest[3] for rest in there.values()))
        return items, same

    def see_first(self, scope: Scope, rows: int) -> None:
        """Take the items of the first `rows` places for entered: their rows are known to be as they were."""
        sql = f"{LIVE} AND ord < ?"
        for block in self._run.ledger.scan(sql, (self._run.scope_numbers[scope.id], child_ord("", rows))):
            for (id,) in block:
                self._see(id)

    def drop_unseen(self, scope: Scope) -> None:
        """Take out the items of a top scope that this process did not enter, with all below them."""
        blocks = self._run.ledger.scan(LIVE, (self._run.scope_numbers[scope.id],), size=5000)
        self._drop(scope, [id for block in blocks for (id,) in block if not self._was_seen(id)])

    def drop_others(self, parent: Item, scope: Scope, kept: set[int]) -> None:
        """Take out the items of a child scope below `parent` that are not among `kept`."""
        there = self._run.ledger.rows(f"{LIVE} AND parent = ?", (self._run.scope_numbers[scope.id], parent.id))
        self._drop(scope, [id for (id,) in there if id not in kept])

    def _drop(self, scope: Scope, ids: list[int]) -> None:
        """Take items out, with all below them and what the steps made of them."""
        if not ids:
            return
        self._count(scope, -len(ids))
        ledger = self._run.ledger
        every = json.dumps([id for (id,) in ledger.rows(_BELOW, (json.dumps(ids),))])
        steps = {number: id for id, number in self._run.step_numbers.items()}
        for number, status, count in ledger.rows(LOST, (every,)):
            if number in steps:
                self._run.tallies[steps[number]].lose(status, count)
        ledger.put(_DROP, (every,))
        ledger.put(DROP_RESULTS, (every,))

    def _count(self, scope: Scope, more: int) -> None:
        for step in self._run.pipeline.steps:
            if step.scope == scope.id:
                self._run.tallies[step.id].known_items += more

    def _see(self, id: int) -> None:
        place = id >> 3
        if place >= len(self._seen):
            self._seen.extend(bytes(max(1024, place + 1 - len(self._seen))))
        self._seen[place] |= 1 << (id & 7)

    def _was_seen(self, id: int) -> bool:
        place = id >> 3
        return place < len(self._seen) and bool(self._seen[place] & (1 << (id & 7)))
