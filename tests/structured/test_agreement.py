"""Our checking accepts and rejects exactly what plain jsonschema does."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
import referencing
from hypothesis import event, given
from hypothesis import strategies as st

from llmpipe.errors import SchemaUnusable
from llmpipe.structured import formats
from llmpipe.structured.fast import compile_fast
from llmpipe.structured.instance import NoExample, example_instance
from llmpipe.structured.lint import lint
from llmpipe.structured.schema import compile_schema
from tests.structured.generated import SETTINGS, documents, scalars, values

KINDS = {"2020-12": jsonschema.Draft202012Validator, "draft-07": jsonschema.Draft7Validator}


def plain(document: dict[str, Any], dialect: str) -> Any:
    checker = jsonschema.FormatChecker(formats=())
    for name, check in formats.CHECKS.items():
        checker.checks(name)(lambda v, check=check: not isinstance(v, str) or check(v))
    return KINDS[dialect](document, registry=referencing.Registry(), format_checker=checker)


@pytest.mark.parametrize("dialect", ["2020-12", "draft-07"])
@SETTINGS
@given(data=st.data())
def test_accepts_and_rejects_what_jsonschema_does(dialect: str, data: st.DataObject) -> None:
    document = data.draw(documents(dialect))
    try:
        schema = compile_schema(document)
    except SchemaUnusable:
        event("refused by the linter")
        return
    fast = compile_fast(schema.document, schema.dialect)
    event(f"fast path: {fast is not None}")
    judge = plain(document, dialect)
    for value in [*data.draw(st.lists(values, min_size=1, max_size=6)), *near(schema.document, data)]:
        try:
            expected = judge.is_valid(value)
        except (TypeError, AttributeError, re_error()):
            assert schema.violations(value)[0].kind == "validator_failed" or fast is not None
            continue
        violations = schema.violations(value)
        assert (not violations) == expected, (document, value, violations)
        assert schema.accepts(value) == expected
        if fast is not None:
            assert fast(value) == expected, (document, value)
        event(f"valid: {expected}")


def near(document: dict[str, Any], data: st.DataObject) -> list[Any]:
    """A value that is made to fit, and some that miss it by one change; none where no value is found that fits."""
    try:
        value = example_instance(document, data.draw(st.integers(0, 3)))
    except NoExample:
        return []
    event("with a value that is made to fit")
    return [value, *(bent(value, data) for _ in range(3))]


def bent(value: Any, data: st.DataObject) -> Any:
    """The value with one thing in it replaced, removed, added or repeated."""
    if isinstance(value, dict) and value and data.draw(st.booleans()):
        name = data.draw(st.sampled_from(sorted(value)))
        rest = {key: item for key, item in value.items() if key != name}
        how = data.draw(st.sampled_from(["remove", "rename", "bend"]))
        return rest if how == "remove" else rest | {name + "x" * (how == "rename"): bent(value[name], data)}
    if isinstance(value, list) and value and data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(value) - 1))
        return [
            *value[:at],
            *data.draw(st.sampled_from([[], [bent(value[at], data)], [value[at]] * 2])),
            *value[at + 1 :],
        ]
    return data.draw(scalars)


def re_error() -> type[Exception]:
    import re

    return re.error


@SETTINGS
@given(st.data())
def test_a_schema_that_the_linter_passes_is_one_by_the_meta_schema(data: st.DataObject) -> None:
    """Keywords get values of any shape; what the meta-schema refuses, the linter refuses as well."""
    from llmpipe.structured.keywords import SHAPES

    dialect = data.draw(st.sampled_from(["2020-12", "draft-07"]))
    anything = st.one_of(
        values, st.sampled_from([{"type": "string"}, ["a", "a"], [{}, 3], {"a": 1}, {"a": ["b"]}, -1, 0.5, "("])
    )
    keywords = st.sampled_from(sorted(set(SHAPES[dialect]) - {"$schema", "$ref", "$id", "$dynamicRef", "$vocabulary"}))
    document = data.draw(st.dictionaries(keywords, st.one_of(anything, scalars), min_size=1, max_size=3))
    if dialect == "draft-07":
        document["$schema"] = "http://json-schema.org/draft-07/schema#"
    ours = [problem for problem in lint(document) if problem.severity == "error"]
    try:
        KINDS[dialect].check_schema(document, format_checker=KINDS[dialect].FORMAT_CHECKER)
        refused = False
    except jsonschema.SchemaError:
        refused = True
    event(f"refused: {refused}")
    assert ours or not refused, document
