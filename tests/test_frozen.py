"""`@frozen` makes what `@dataclass(frozen=True, slots=True)` makes: the same body under both, held side by side."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.frozen import frozen

Decorator = Callable[[type], Any]


def made_by(decorate: Decorator) -> Any:
    @decorate
    class Thing:
        """A thing."""

        kinds: ClassVar[int] = 7
        a: int
        b: str = "b"
        c: Mapping[str, int] = field(default_factory=dict)
        d: float | None = field(default=None, repr=False, compare=False)
        e: bytes = field(default=b"", kw_only=True)

        @property
        def double(self) -> int:
            return 2 * self.a

        @classmethod
        def of(cls, a: int) -> Thing:
            return cls(a)

    return Thing


def standard(cls: type) -> Any:
    return dataclass(frozen=True, slots=True)(cls)


Ours, Theirs = made_by(frozen), made_by(standard)
VALUES = st.fixed_dictionaries(
    {"a": st.integers()},
    optional={
        "b": st.text(),
        "c": st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
        "d": st.none() | st.floats(allow_nan=False),
        "e": st.binary(max_size=3),
    },
)


@given(VALUES, VALUES)
def test_values_are_shown_compared_and_changed_alike(one: dict[str, Any], other: dict[str, Any]) -> None:
    ours, theirs = Ours(**one), Theirs(**one)
    assert repr(ours) == repr(theirs)
    assert asdict(ours) == asdict(theirs)
    assert (ours == Ours(**other)) is (theirs == Theirs(**other))
    assert asdict(replace(ours, **other)) == asdict(replace(theirs, **other))
    for twin in (copy.copy(ours), copy.deepcopy(ours)):
        assert twin == ours
        assert twin.d == ours.d
    assert ours != theirs


def test_fields_and_signature_are_alike() -> None:
    def facts(cls: Any) -> list[tuple[Any, ...]]:
        return [(f.name, f.type, f.default, f.repr, f.compare, f.init, f.kw_only) for f in fields(cls)]

    assert facts(Ours) == facts(Theirs)
    assert Ours.__match_args__ == Theirs.__match_args__ == ("a", "b", "c", "d")
    assert set(Ours.__slots__) == set(Theirs.__slots__)
    assert str(inspect.signature(Ours)) == str(inspect.signature(Theirs))
    assert Ours.__doc__ == "A thing."
    assert Ours.__qualname__ == Theirs.__qualname__
    assert is_dataclass(Ours)
    assert Ours.kinds == 7
    assert (Ours.of(3).double, Ours(1).c) == (6, {})


def test_a_value_does_not_change() -> None:
    thing = Ours(1)
    for change in (lambda: setattr(thing, "a", 2), lambda: setattr(thing, "z", 2), lambda: delattr(thing, "a")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            change()
    assert thing.a == 1
    assert not hasattr(thing, "__dict__")


@pytest.mark.parametrize("wrong", [(), (1, 2, 3, 4, 5)])
def test_what_is_not_given_or_given_twice_is_a_type_error(wrong: tuple[int, ...]) -> None:
    with pytest.raises(TypeError, match=r"__init__\(\)"):
        Ours(*wrong)
    with pytest.raises(TypeError, match=r"__init__\(\)"):
        Ours(1, a=2)


def test_a_default_that_may_change_is_refused() -> None:
    with pytest.raises(ValueError, match="default_factory"):

        @frozen
        class Wrong:
            a: list[int] = []  # noqa: RUF012 - that is what is refused


@frozen
class Point:
    x: int
    y: int = 0

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError("left of everything")


@frozen
class Placed(Point):
    z: int = 1


class Extended(Point):
    """A class of somebody else's, with a dict of its own."""


def test_values_are_hashed_pickled_and_matched() -> None:
    assert len({Point(1), Point(1, 0), Point(2)}) == 2
    assert pickle.loads(pickle.dumps(Point(1, 2))) == Point(1, 2)
    match Point(1, 2):
        case Point(1, y):
            assert y == 2
    with pytest.raises(ValueError, match="left"):
        Point(-1)
    with pytest.raises(ValueError, match="left"):
        replace(Point(1), x=-1)


def test_a_class_may_be_built_upon() -> None:
    placed = Placed(1, 2, 3)
    assert repr(placed) == "Placed(x=1, y=2, z=3)"
    assert placed != Point(1, 2)
    assert Placed.__slots__ == ("z",)  # type: ignore[attr-defined]
    extended = Extended(1)
    extended.more = 5  # type: ignore[attr-defined]
    assert (extended.x, extended.more) == (1, 5)  # type: ignore[attr-defined]
    with pytest.raises(dataclasses.FrozenInstanceError):
        extended.x = 2  # type: ignore[misc]


@frozen
class Empty:
    """No fields at all."""


def test_a_class_without_fields() -> None:
    assert Empty() == Empty()
    assert hash(Empty()) == hash(Empty())
    assert repr(Empty()) == "Empty()"
