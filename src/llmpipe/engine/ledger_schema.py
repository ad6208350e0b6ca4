"""The tables of `run.db`: what was intended, what came back, and what each column means.

People may query the file (`sqlite3 output/x/7f3a/run.db`); docs/ledger.md explains it with examples.
"""

from __future__ import annotations

VERSION = 2  # raised by the first change to the tables after a release; docs/ledger.md says how to add a column

TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS scopes (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS steps (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, scope INTEGER NOT NULL, kind TEXT NOT NULL, model TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS datasets (
    name TEXT PRIMARY KEY, sha256 TEXT NOT NULL, rows INTEGER NOT NULL, head_bytes INTEGER NOT NULL,
    head_sha256 TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS invocations (
    id INTEGER PRIMARY KEY, started_at REAL NOT NULL, finished_at REAL, pid INTEGER, command TEXT,
    duration_s REAL);
CREATE TABLE IF NOT EXISTS items (
    id INTEGER PRIMARY KEY, scope INTEGER NOT NULL, key TEXT NOT NULL, parent INTEGER, ord TEXT NOT NULL,
    data TEXT NOT NULL, digest BLOB NOT NULL, live INTEGER NOT NULL DEFAULT 1,
    UNIQUE (scope, key));
CREATE INDEX IF NOT EXISTS items_in_order ON items (scope, ord) WHERE live = 1;
CREATE INDEX IF NOT EXISTS items_below ON items (parent, scope) WHERE parent IS NOT NULL;
CREATE TABLE IF NOT EXISTS changed_items (item INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS results (
    step INTEGER NOT NULL, item INTEGER NOT NULL, status TEXT NOT NULL, digest BLOB NOT NULL, output TEXT,
    reason TEXT, error_type TEXT, code TEXT, error TEXT, permanent INTEGER NOT NULL DEFAULT 0, failure_file TEXT,
    cached INTEGER NOT NULL DEFAULT 0, carried INTEGER NOT NULL DEFAULT 0, reasks INTEGER NOT NULL DEFAULT 0,
    retries INTEGER NOT NULL DEFAULT 0, fallbacks INTEGER NOT NULL DEFAULT 0, latency_s REAL, answered_by TEXT,
    notes TEXT, request_key TEXT, finished_at REAL NOT NULL, invocation INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (step, item)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS results_not_succeeded ON results (step, status, item) WHERE status <> 'succeeded';
CREATE TABLE IF NOT EXISTS attempts (
    id INTEGER PRIMARY KEY, step INTEGER NOT NULL, item INTEGER NOT NULL, invocation INTEGER NOT NULL,
    request_id TEXT NOT NULL, key TEXT NOT NULL, number INTEGER NOT NULL, model TEXT NOT NULL, started_at REAL NOT NULL,
    outcome TEXT, code TEXT, status INTEGER, error TEXT, latency_s REAL, wait_s REAL, billed TEXT,
    input_tokens INTEGER, output_tokens INTEGER, cached_tokens INTEGER, reasoning_tokens INTEGER, cost_usd REAL,
    reserved_usd REAL, reserved_tokens INTEGER, request TEXT, reply TEXT, raw TEXT, provider_request_id TEXT);
CREATE TABLE IF NOT EXISTS masked (
    what TEXT NOT NULL, step INTEGER NOT NULL, id INTEGER NOT NULL, variable TEXT NOT NULL,
    PRIMARY KEY (what, step, id, variable)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS attempts_of ON attempts (step, item);
CREATE INDEX IF NOT EXISTS attempts_open ON attempts (id) WHERE outcome IS NULL;
"""

VIEWS = """
CREATE VIEW answers AS
    SELECT steps.name AS step, items.key AS key, results.status AS status, results.output AS output,
           results.code AS code, results.error AS error, results.reason AS reason, items.ord AS ord
    FROM results JOIN steps ON steps.id = results.step JOIN items ON items.id = results.item WHERE items.live = 1;
CREATE VIEW spending AS
    SELECT steps.name AS step, attempts.model AS model, COUNT(*) AS attempts, SUM(input_tokens) AS input_tokens,
           SUM(output_tokens) AS output_tokens, SUM(cost_usd) AS cost_usd, SUM(outcome IS NULL) AS unknown_outcome
    FROM attempts JOIN steps ON steps.id = attempts.step GROUP BY steps.name, attempts.model;
"""

INSERT_ITEM = (
    "INSERT INTO items (id, scope, key, parent, ord, data, digest) VALUES (?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (scope, key) DO UPDATE SET parent = excluded.parent, ord = excluded.ord, data = excluded.data,"
    " digest = excluded.digest, live = 1"
)
ITEM_CHANGED = "INSERT OR IGNORE INTO changed_items (item) VALUES (?)"
ITEM_COMPARED = "DELETE FROM changed_items WHERE item = ?"
PUT_RESULT = (
    "INSERT OR REPLACE INTO results (step, item, status, digest, output, reason, error_type, code, error, permanent,"
    " failure_file, cached, carried, reasks, retries, fallbacks, latency_s, answered_by, notes, request_key,"
    " finished_at, invocation)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
PUT_MASKED = "INSERT OR IGNORE INTO masked (what, step, id, variable) VALUES (?, ?, ?, ?)"
INTEND = (
    "INSERT INTO attempts (id, step, item, invocation, request_id, key, number, model, started_at, request,"
    " reserved_usd, reserved_tokens, billed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
SETTLE = (
    "UPDATE attempts SET outcome = ?, code = ?, status = ?, error = ?, latency_s = ?, wait_s = ?, billed = ?,"
    " input_tokens = ?, output_tokens = ?, cached_tokens = ?, reasoning_tokens = ?, cost_usd = ?, reply = ?, raw = ?,"
    " provider_request_id = ?, model = ? WHERE id = ?"
)
LASTED = "UPDATE invocations SET duration_s = ? WHERE id = ?"
