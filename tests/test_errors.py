"""The errors: the verdict that each class carries, and the evidence that each object starts with."""

from __future__ import annotations

import pytest

from llmpipe import errors
from llmpipe.errors import (
    CallFailed,
    CallTimeout,
    ConfigError,
    DataError,
    ItemError,
    KeyMissing,
    LlmpipeError,
    Place,
    Problem,
    SchemaUnusable,
    every_class,
)

# Each class with its base, code and exit code; then what is true of it besides its base, and its limit of retries.
TREE = """
LlmpipeError Exception X900 1
ConfigError LlmpipeError C200 2
SchemaUnusable LlmpipeError C240 2
DataError LlmpipeError D300 2
ItemError LlmpipeError D310 1
KeyMissing LlmpipeError P401 4
LockHeld LlmpipeError X920 75
StorageError LlmpipeError X930 1
InternalError LlmpipeError X901 3
CallFailed LlmpipeError P400 1
AccountError CallFailed P400 1 account fallback
KeyRefused AccountError P402 4
AccessDenied AccountError P403 4
QuotaExhausted AccountError P404 1
ModelUnknown AccountError P405 1
SchemaRejected AccountError P406 1
RedirectRefused AccountError P407 1
PlainHttpRefused AccountError P408 1
CertificateRefused AccountError P409 1
RequestRefused CallFailed P400 1 permanent
BadRequest RequestRefused P410 1
ContextTooLong RequestRefused P411 1 fallback
ContentFiltered RequestRefused P412 1
RequestTooLarge RequestRefused P413 1 fallback
TemporaryFault CallFailed P400 1 retryable fallback
RateLimited TemporaryFault P420 1 hold
Overloaded TemporaryFault P421 1 hold fault
ServerFault TemporaryFault P422 1 fault
RemoteFetchFailed TemporaryFault P423 1 1
Conflict TemporaryFault P424 1 1
RetryAfterTooLong CallFailed P425 75 fallback
ProviderDown CallFailed P426 75 fallback
RetryAllowanceSpent CallFailed P427 75 fallback
NetworkFault TemporaryFault P430 1 fault
CallTimeout TemporaryFault P431 1 fault
TotalTimeout CallFailed P432 1 fallback
StreamCut TemporaryFault P433 1 fault
BadReply TemporaryFault P434 1 fault
ReplyTooLarge CallFailed P435 1
Refused CallFailed P440 1 permanent
Truncated CallFailed P441 1 permanent
EmptyAnswer TemporaryFault P442 1 2
IncompleteAnswer CallFailed P443 1
NotRecorded CallFailed P450 1
OutOfResources CallFailed X940 1
BudgetExceeded CallFailed P460 6
InvalidOutput CallFailed P400 1 permanent
NotJson InvalidOutput O501 1
SchemaMismatch InvalidOutput O503 1
CheckFailed InvalidOutput O504 1
"""
ROWS = [line.split() for line in TREE.strip().splitlines()]
VERDICTS = ("retryable", "account", "hold", "fallback", "fault", "permanent")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_class_carries_its_verdict(row: list[str]) -> None:
    name, base, code, exit_code, *own = row
    kind = getattr(errors, name)
    assert (kind.__bases__[0].__name__, kind.code, kind.exit_code) == (base, code, int(exit_code))
    assert kind.title
    if issubclass(kind, CallFailed):
        parent = kind.__bases__[0]
        said = {word for word in own if not word.isdigit()}
        assert {v for v in VERDICTS if getattr(kind, v)} == said | {v for v in VERDICTS if getattr(parent, v, False)}
        assert kind.retry_limit == next((int(word) for word in own if word.isdigit()), None)


def test_every_class_is_found_once_its_base_before_it() -> None:
    found = [kind.__name__ for kind in every_class() if kind.__module__ == "llmpipe.errors"]
    assert sorted(found) == sorted(row[0] for row in ROWS)
    assert all(base == "Exception" or found.index(base) < found.index(name) for name, base, *_ in ROWS)
    assert found[:2] == ["LlmpipeError", "ConfigError"]
    assert [kind.__name__ for kind in every_class(errors.RequestRefused)][:2] == ["RequestRefused", "BadRequest"]


def test_an_error_of_a_call_starts_with_no_evidence_but_its_message() -> None:
    error = CallFailed("odd")
    assert vars(error) == {
        "message": "odd", "status": None, "provider_code": None, "retry_after": None, "should_retry": None,
        "raw": None, "usage": None, "billed": "no", "provider_request_id": None, "details": None, "attempts": (),
        "silence": None, "request_id": None, "asked": None, "reasks": 0, "sent": True,
    }  # fmt: skip
    assert (str(error), error.kind, errors.NotJson("x").kind) == ("odd", "CallFailed", "NotJson")
    assert [str(kind(message="odd")) for kind in (CallFailed, CallTimeout, ItemError)] == ["odd"] * 3


def test_evidence_stays_where_it_was_given() -> None:
    given = {
        "status": 500, "provider_code": "c", "retry_after": 2.0, "should_retry": False, "raw": "{}", "usage": None,
        "billed": "maybe", "provider_request_id": "r", "details": {"a": 1},
    }  # fmt: skip
    error = CallTimeout("late", clock="idle", **given)
    assert {name: getattr(error, name) for name in given} == given
    assert (error.clock, CallTimeout("late").clock, str(error)) == ("idle", "attempt", "late")
    assert errors.BudgetExceeded("no room").lack is None


def test_advice_can_be_replaced_on_one_error_alone() -> None:
    error = LlmpipeError("x")
    assert error.advising("Do this.") is error
    assert (error.advice, LlmpipeError.advice, LlmpipeError("y").advice) == ("Do this.", "", "")


def test_a_config_error_names_the_first_problem_and_counts_the_others() -> None:
    first = Problem("Y101", "no such key", Place("p.yaml", 3, 7))
    assert str(ConfigError([])) == ""
    assert str(ConfigError([first])) == "p.yaml:3:7: Y101 no such key"
    assert str(ConfigError([first, first])) == "p.yaml:3:7: Y101 no such key (and 1 more)"
    assert ConfigError([first, first]).problems == (first, first)
    assert str(SchemaUnusable(["/a: odd", "/b: odd"])) == "/a: odd; /b: odd"
    assert SchemaUnusable(["/a: odd"]).problems == ("/a: odd",)


def test_a_problem_is_an_error_at_the_first_character_unless_it_says_otherwise() -> None:
    assert Place("a") == Place("a", 1, 1, 1)
    assert Problem("C1", "m", Place("a")) == Problem("C1", "m", Place("a"), "", "", "", "error")


def test_a_data_error_says_where_and_becomes_a_problem_at_that_place() -> None:
    whole, row = DataError("empty", file="d.csv"), DataError("odd", file="d.csv", line=4, column=2, code="D305")
    assert (str(whole), str(row)) == ("d.csv: D300 empty", "d.csv:4: D305 odd")
    assert (whole.line, whole.column, row.row_code) == (None, None, "D305")
    note = "mend or remove the row, then run again"
    assert whole.problem() == Problem("D300", "empty", Place("d.csv", 1, 1), note=note)
    assert row.problem() == Problem("D305", "odd", Place("d.csv", 4, 2), note=note)
    assert DataError("m", file="f", line=7).problem().place == Place("f", 7, 1)


def test_an_item_error_has_a_code_of_its_own_and_a_missing_key_no_attempts() -> None:
    assert (ItemError("x").item_code, ItemError("x", code="D339").item_code) == ("D310", "D339")
    assert (KeyMissing("k").attempts, KeyMissing("k").request_id) == ((), None)
