"""jsonschema as the judge: prepared once per schema, fetching nothing, bounded in CPU time and in searches.

Loaded only when a value was not accepted by the fast path, since importing jsonschema takes over 100 ms.
"""

from __future__ import annotations

import functools
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from llmpipe.structured import formats
from llmpipe.structured.equality import are_unique, is_multiple
from llmpipe.structured.evaluated import evaluated_items, evaluated_names
from llmpipe.structured.keywords import Dialect
from llmpipe.structured.regexes import search

MAX_CPU_S = 1.0
STEPS_BETWEEN_LOOKS = 200  # keywords applied to values between two looks at the clock
MAX_ERRORS = 200

_budget = threading.local()


class TooManySteps(Exception):
    """Checking was given up: the schema multiplies its work beyond reason."""


class Judge:
    """A prepared jsonschema validator for one document."""

    def __init__(self, document: Mapping[str, Any], dialect: Dialect) -> None:
        import referencing

        kind, checker = _validator_class(dialect)
        registry: Any = referencing.Registry()  # empty and without a way to retrieve: nothing is fetched (facts C)
        self._validator = kind(document, registry=registry, format_checker=checker)

    def errors(self, value: Any) -> list[Any]:
        """jsonschema's first errors, at most MAX_ERRORS; none means valid.

        Raises TooManySteps, SearchTooLong, RecursionError, and whatever a validator raises on a schema it trips over.
        """
        _budget.steps, _budget.end = 0, time.thread_time() + MAX_CPU_S
        return list(itertools.islice(self._validator.iter_errors(value), MAX_ERRORS))

    def takes(self, schema: Any, value: Any) -> bool:
        """Whether one schema of the document, rather than the whole, takes a value. Raises as `errors` does."""
        _budget.steps, _budget.end = 0, time.thread_time() + MAX_CPU_S
        return bool(self._validator.evolve(schema=schema).is_valid(value))


@functools.lru_cache(maxsize=2)
def _validator_class(dialect: Dialect) -> tuple[Any, Any]:
    import jsonschema

    base: Any = jsonschema.Draft7Validator if dialect == "draft-07" else jsonschema.Draft202012Validator
    own: dict[str, Callable[..., Any]] = {
        "multipleOf": _multiple_of,
        "uniqueItems": _unique_items,
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
        "required": _required,
        "properties": _properties,
        "prefixItems": _prefix_items,
        "propertyNames": _property_names,
        "dependentRequired": _dependent_required,
        "unevaluatedProperties": _unevaluated_properties,
        "unevaluatedItems": _unevaluated_items,
    }
    metered = {keyword: _metered(own.get(keyword, function)) for keyword, function in base.VALIDATORS.items()}
    checker = jsonschema.FormatChecker(formats=())
    for name in formats.CHECKS:
        checker.checks(name)(functools.partial(formats.fits, name))
    extend: Any = jsonschema.validators.extend
    return extend(base, validators=metered), checker


def _metered(function: Callable[..., Any]) -> Callable[..., Any]:
    def metered(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        _budget.steps += 1
        if _budget.steps % STEPS_BETWEEN_LOOKS == 0 and time.thread_time() > _budget.end:
            raise TooManySteps
        return function(validator, value, instance, schema)

    return metered


def _error(message: str) -> Any:
    from jsonschema.exceptions import ValidationError

    return ValidationError(message)


def _multiple_of(validator: Any, step: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if validator.is_type(instance, "number") and not is_multiple(instance, step):
        yield _error("multipleOf")


def _unique_items(validator: Any, wanted: bool, instance: Any, schema: Any) -> Iterator[Any]:
    if wanted and isinstance(instance, list) and not are_unique(instance):
        yield _error("uniqueItems")


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
    if isinstance(instance, str) and not search(pattern, instance):
        yield _error("pattern")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, schema: Any) -> Iterator[Any]:
    if isinstance(instance, dict):
        for pattern, sub in patterns.items():
            for name, item in instance.items():
                if search(pattern, name):
                    yield from validator.descend(item, sub, path=name, schema_path=pattern)


def _additional_properties(validator: Any, rest: Any, instance: Any, schema: Any) -> Iterator[Any]:
    """One error for each name, which is its message."""
    if not isinstance(instance, dict):
        return
    named, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name in instance:
        if name in named or any(search(pattern, name) for pattern in patterns):
            continue
        if isinstance(rest, dict):
            yield from validator.descend(instance[name], rest, path=name)
        elif not rest:
            yield _error(name)


def _properties(validator: Any, named: Any, instance: Any, schema: Any) -> Iterator[Any]:
    """As jsonschema's, except that a property that `false` rules out is named: it is the message."""
    if isinstance(instance, dict):
        for name, sub in named.items():
            if name in instance and sub is False:
                yield _error(name)
            elif name in instance:
                yield from validator.descend(instance[name], sub, path=name, schema_path=name)


def _required(validator: Any, names: Any, instance: Any, schema: Any) -> Iterator[Any]:
    """One error for each missing name, which is its message."""
    if isinstance(instance, dict):
        yield from (_error(name) for name in names if name not in instance)


def _property_names(validator: Any, sub: Any, instance: Any, schema: Any) -> Iterator[Any]:
    """One error for each name that does not fit: it is the message, and why not is the context."""
    for name in instance if isinstance(instance, dict) else ():
        if wrong := list(validator.descend(name, sub)):
            error = _error(name)
            error.context.extend(wrong)
            yield error


def _dependent_required(validator: Any, dependent: Any, instance: Any, schema: Any) -> Iterator[Any]:
    """One error for each missing name, which is its message; the name that asks for it is the cause."""
    for name, wanted in dependent.items() if isinstance(instance, dict) else ():
        for other in wanted if name in instance else ():
            if other not in instance:
                error = _error(other)
                error.cause = name
                yield error


def _prefix_items(validator: Any, subs: Any, instance: Any, schema: Any) -> Iterator[Any]:
    """As jsonschema's, except that an item that `false` rules out is told at its place."""
    for index, (item, sub) in enumerate(zip(instance if isinstance(instance, list) else (), subs, strict=False)):
        yield from _item_errors(validator, sub, item, index)


def _item_errors(validator: Any, sub: Any, item: Any, index: int) -> Iterator[Any]:
    if sub is not False:
        yield from validator.descend(item, sub, path=index, schema_path=index)
        return
    error = _error("item")
    error.instance = item
    error.path.appendleft(index)
    yield error


class _Evolving:
    """A validator as one who knows which schemas take what."""

    def __init__(self, validator: Any) -> None:
        self.validator = validator

    def takes(self, schema: Any, value: Any) -> bool:
        return next(self.validator.descend(value, schema), None) is None

    def referred(self, reference: str) -> tuple[_Evolving, Any]:
        found = self.validator._resolver.lookup(reference)
        evolved = self.validator.evolve(schema=found.contents, _resolver=found.resolver)
        return _Evolving(evolved), found.contents


def _unevaluated_properties(validator: Any, sub: Any, instance: Any, schema: Any) -> Iterator[Any]:
    """As jsonschema's, in time by the names and not by their square; one error for each name."""
    if not isinstance(instance, dict):
        return
    seen = evaluated_names(_Evolving(validator), instance, schema, {})
    for name in instance:
        if name not in seen and sub is False:
            yield _error(name)
        elif name not in seen:
            yield from validator.descend(instance[name], sub, path=name)


def _unevaluated_items(validator: Any, sub: Any, instance: Any, schema: Any) -> Iterator[Any]:
    """As jsonschema's, in time by the items and not by their square; one error for each item."""
    if not isinstance(instance, list):
        return
    seen = evaluated_items(_Evolving(validator), instance, schema, {})
    for index, item in enumerate(instance):
        if index not in seen:
            yield from _item_errors(validator, sub, item, index)
