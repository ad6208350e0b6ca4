"""Schemas and values for property tests: small vocabularies, so that values often fit and often just miss."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

# without shrinking, which takes minutes on schemas that recurse
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
SETTINGS = settings(max_examples=120, deadline=None, phases=PHASES, suppress_health_check=list(HealthCheck))

NAMES = ("a", "b", "cc", "1")
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 6),
    st.sampled_from([0.0, 1.0, 0.5, 2.5, -1.0, 0.1, 0.3, 1e308, 10**20]),
    st.sampled_from(["", "a", "ab", "abc", "é", "1", "2026-11-22", "a@b.de", "x\n"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)),
    max_leaves=8,
)
types = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])
counts = st.one_of(st.integers(0, 3), st.sampled_from([0.0, 1.0, 2.0]))
numbers = st.sampled_from([-1, 0, 1, 2, 5, 0.5, 1.0, 2.5])
names = st.lists(st.sampled_from(NAMES), unique=True, max_size=3)
patterns = st.sampled_from(["a", "^a", "b$", "^[a-z]+$", "^.{2,}$", "^(a|b)*$", "[0-9]"])


def _keywords(inner: st.SearchStrategy[Any], dialect: str) -> dict[str, st.SearchStrategy[Any]]:
    mapping = st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)
    several = st.lists(inner, min_size=1, max_size=3)
    found: dict[str, st.SearchStrategy[Any]] = {
        "type": st.one_of(types, st.lists(types, unique=True, min_size=1, max_size=3)),
        "enum": st.lists(values, min_size=1, max_size=3),
        "const": values,
        "multipleOf": st.sampled_from([1, 2, 0.5, 0.1, 3, 1e-300]),
        "minimum": numbers,
        "maximum": numbers,
        "exclusiveMinimum": numbers,
        "exclusiveMaximum": numbers,
        "minLength": counts,
        "maxLength": counts,
        "pattern": patterns,
        "format": st.sampled_from(["date", "email", "uuid", "nonsense"]),
        "minItems": counts,
        "maxItems": counts,
        "uniqueItems": st.booleans(),
        "minProperties": counts,
        "maxProperties": counts,
        "required": names,
        "properties": mapping,
        "patternProperties": st.dictionaries(patterns, inner, max_size=2),
        "additionalProperties": inner,
        "propertyNames": inner,
        "contains": inner,
        "allOf": several,
        "anyOf": several,
        "oneOf": several,
        "not": inner,
        "if": inner,
        "then": inner,
        "else": inner,
        "$ref": st.sampled_from(["#/$defs/x", "#/$defs/y"]),
        "title": st.just("t"),
    }
    if dialect == "draft-07":
        dependency = st.one_of(inner, names)
        found |= {
            "items": st.one_of(inner, several),
            "dependencies": st.dictionaries(st.sampled_from(NAMES), dependency, max_size=2),
        }
        found |= {"additionalItems": inner}
    else:
        found |= {"items": inner, "prefixItems": several, "minContains": counts, "maxContains": counts}
        found |= {
            "dependentRequired": st.dictionaries(st.sampled_from(NAMES), names, max_size=2),
            "dependentSchemas": mapping,
        }
        found |= {"dependencies": mapping, "unevaluatedProperties": inner, "unevaluatedItems": inner}
    return found


@st.composite
def schemas(draw: st.DrawFn, dialect: str = "2020-12", depth: int = 3) -> Any:
    """A schema with up to four keywords a level; `$ref` only where `x` and `y` are defined."""
    if depth == 0:
        return draw(st.one_of(st.booleans(), types.map(lambda t: {"type": t}), st.just({})))
    keywords = _keywords(schemas(dialect=dialect, depth=depth - 1), dialect)
    chosen = draw(st.lists(st.sampled_from(sorted(keywords)), unique=True, min_size=1, max_size=4))
    return {keyword: draw(keywords[keyword]) for keyword in chosen}


@st.composite
def documents(draw: st.DrawFn, dialect: str = "2020-12") -> dict[str, Any]:
    """A whole schema with two definitions, which may refer to each other."""
    document = draw(schemas(dialect=dialect).filter(lambda s: isinstance(s, dict)))
    document["$defs"] = {"x": draw(schemas(dialect=dialect, depth=2)), "y": draw(schemas(dialect=dialect, depth=1))}
    if dialect == "draft-07":
        document["$schema"] = "http://json-schema.org/draft-07/schema#"
    return document
