"""A schema made ready once: its document, its digest, and a check that neither hangs nor raises.

value → measured (caps, NaN) → accepted by the fast path?  yes: valid
                                                           no, or not supported: jsonschema decides and explains
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmpipe.errors import SchemaUnusable
from llmpipe.frozen import frozen
from llmpipe.structured.bundle import bundle, walk
from llmpipe.structured.fast import compile_fast
from llmpipe.structured.keywords import Dialect, dialect_of
from llmpipe.structured.lint import TOO_DEEP, folder_of, lint, problems_of
from llmpipe.structured.measure import Measure, NotPlain, measure
from llmpipe.structured.problems import SchemaProblem
from llmpipe.structured.regexes import SearchTooLong, may_be_long
from llmpipe.structured.violations import Violation, from_errors, show

if TYPE_CHECKING:
    from llmpipe.structured.judge import Judge

MANY_NODES = 2_000  # above, checking may take longer than an event loop should wait


@frozen
class OutputSchema:
    """A JSON Schema, ready to check answers. Two are equal if their documents are.

    `document` is plain JSON whose every `$ref` points into itself; nobody may change it. `digest` is the sha256 of its
    canonical JSON. `files` are the files that `$ref`s read; `warnings` problems that do not keep it from being used.
    """

    digest: str
    document: dict[str, Any] = field(compare=False, repr=False)
    dialect: Dialect = field(compare=False)
    files: tuple[Path, ...] = field(compare=False, default=())
    warnings: tuple[SchemaProblem, ...] = field(compare=False, default=())
    _checks: _Checks = field(compare=False, repr=False, kw_only=True)

    def violations(self, value: Any) -> list[Violation]:
        """What in `value` does not fit, at most 20, by path; empty if it is valid. Raises nothing.

        Blocks for as long as the check takes: in an event loop use `violations_async`.
        """
        size = _measured(value)
        return self._checks.violations(value) if isinstance(size, Measure) else size

    async def violations_async(self, value: Any) -> list[Violation]:
        """As `violations`; large values, and searches that may be long, are checked in a thread."""
        size = _measured(value)
        if not isinstance(size, Measure):
            return size
        if size.nodes > MANY_NODES or self._checks.may_block(size.longest):
            import asyncio

            return await asyncio.to_thread(self._checks.violations, value)
        return self._checks.violations(value)

    def may_block(self, longest: int) -> bool:
        """Whether looking at a value with a text of so many characters may take longer than an event loop waits."""
        return self._checks.may_block(longest)

    def accepts(self, value: Any) -> bool:
        """Whether `value` is valid; quicker than `violations` for one that is not."""
        return isinstance(_measured(value), Measure) and self._checks.accepts(value)


def compile_schema(document: Mapping[str, Any], *, base: Path | None = None, root: Path | None = None) -> OutputSchema:
    """Make a schema ready: JSON Schema 2020-12, or draft-07 where `$schema` says so.

    `base` is the file (or folder) that relative `$ref`s start from, `root` the folder they may not leave; without them
    references to files are refused. References to hosts are never followed.
    Raises SchemaUnusable with every problem.
    """
    dialect = dialect_of(document)
    try:
        whole = bundle(document, folder=folder_of(base), root=root) if dialect else None
    except ValueError:
        whole = None
    if whole is None or dialect is None:
        raise SchemaUnusable(lint(document))
    problems = problems_of(whole, dialect)
    if any(problem.severity == "error" for problem in problems):
        raise SchemaUnusable([problem for problem in problems if problem.severity == "error"])
    judged = whole.document if whole.written is None else whole.written
    digest = hashlib.sha256(json.dumps(judged, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    try:
        checks = _prepared(_compact(whole.document), _compact(judged), dialect)
    except RecursionError:
        raise SchemaUnusable([SchemaProblem(TOO_DEEP)]) from None
    return OutputSchema(digest, whole.document, dialect, whole.files, tuple(problems), _checks=checks)


@functools.lru_cache(maxsize=256)
def _prepared(text: str, judged: str, dialect: Dialect) -> _Checks:
    return _Checks(json.loads(text), dialect, judged=json.loads(judged))


def _compact(document: Mapping[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def _measured(value: Any) -> Measure | list[Violation]:
    try:
        return measure(value)
    except NotPlain as error:
        wanted = "a JSON value" if error.kind == "not_json" else "a smaller value"
        found = show(value) if isinstance(value, dict | list | str) else type(value).__name__
        return [Violation("$", f"the value cannot be checked: {error.message}", found, wanted, error.kind)]


class _Checks:
    """The fast path and the judge of one document, each made once. `judged`: the same for jsonschema."""

    def __init__(self, document: dict[str, Any], dialect: Dialect, *, judged: dict[str, Any]) -> None:
        self.judged, self.dialect = judged, dialect
        self.fast: Callable[[Any], bool] | None = compile_fast(document, dialect)
        self.patterns = tuple({p for _, schema in walk(document, dialect) for p in _patterns_in(schema)})
        self._judge: Judge | None = None

    def may_block(self, longest: int) -> bool:
        """Whether a search in a text of so many characters may have to go to the child process."""
        return any(may_be_long(pattern, longest) for pattern in self.patterns)

    def accepts(self, value: Any) -> bool:
        """Whether a value fits, without saying why not."""
        if self.fast is None:
            return not self.violations(value)
        try:
            return self.fast(value)
        except (SearchTooLong, RecursionError):
            return False

    def violations(self, value: Any) -> list[Violation]:
        """What does not fit, with every exception of a validator turned into a violation of its own kind."""
        rejected = False
        try:
            if self.fast is not None:
                if self.fast(value):
                    return []
                rejected = True
            return from_errors(self.judge().errors(value))
        except SearchTooLong:
            return [_given_up(value, "search_too_long", "a pattern takes too long on a text in it")]
        except RecursionError:
            return [_given_up(value, "too_deep", "it is nested too deep for its schema")]
        except Exception as error:  # noqa: BLE001 - jsonschema raises what it likes on schemas that trip it (facts C)
            if type(error).__name__ != "TooManySteps":
                return [_given_up(value, "validator_failed", f"the validator raised {type(error).__name__}")]
        said = "it does not fit" if rejected else "the schema multiplies its work beyond reason"
        return [_given_up(value, "too_costly", said)]

    def judge(self) -> Judge:
        """jsonschema, prepared when it is first needed."""
        if self._judge is None:
            from llmpipe.structured.judge import Judge

            self._judge = Judge(self.judged, self.dialect)
        return self._judge


def _patterns_in(schema: Mapping[str, Any]) -> list[str]:
    pattern = schema.get("pattern")
    return [*schema.get("patternProperties", ()), *([pattern] if isinstance(pattern, str) else [])]


def _given_up(value: Any, kind: str, message: str) -> Violation:
    return Violation("$", f"the value was not accepted: {message}", show(value), "a value that fits the schema", kind)
