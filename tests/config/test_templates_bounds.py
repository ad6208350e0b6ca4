"""No template takes all the memory or all the time, and none reaches what is not data."""

from __future__ import annotations

import resource
import time
from typing import Any

import pytest

from llmpipe.config.templates import compile_expression, compile_template
from llmpipe.errors import ConfigError, ItemError, Place

PLACE = Place("p.yaml")

BOMBS = [
    "{{ 'a' * 200000000 }}",
    "{{ 200000000 * 'a' }}",
    "{{ [1] * 200000000 }}",
    "{{ ('a' * 10000000) * 100 }}",
    "{{ (((9 ** 9) ** 9) ** 9) ** 9 }}",
    "{{ 10 ** 100000000 }}",
    "{{ '%1000000000d' | format(1) }}",
    "{{ '%*d' | format(1000000000, 1) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%.1000000000f' % 1.5 }}",
    "{{ '{:>1000000000}'.format(1) }}",
    "{{ '{:>{}}'.format(1, 1000000000) }}",
    "{{ 'x'.ljust(10 ** 9) }}",
    "{{ 'x'.center(10 ** 9) }}",
    "{{ 'x'.zfill(10 ** 9) }}",
    "{{ 'x' | center(10 ** 9) }}",
    "{{ 'x' | center(width=10 ** 9) }}",
    "{{ 'x' | indent(10 ** 9, true) }}",
    "{{ ('x\\n' * 1000000) | indent(90000) }}",
    "{{ ('x\\n' * 1000000) | indent('y' * 90000) }}",
    "{{ ('x' * 100000) | replace('', 'y' * 100000) }}",
    "{{ ('x' * 100000).replace('', 'y' * 100000) }}",
    "{{ ('x' * 100000) | wordwrap(1, wrapstring='y' * 100000) }}",
    "{{ [1] | batch(10 ** 9, 'x') | list }}",
    "{{ [1] | slice(10 ** 9) | list }}",
    "{{ range(100000) | map('center', 90000) | join }}",
    "{{ range(100000) | join('y' * 100000) }}",
    "{{ ('y' * 100000).join(['a'] * 100000) }}",
    "{{ {'a': [1] * 1000} | tojson(indent=1000000000) }}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{{ i }}{% endfor %}{% endfor %}",
    "{% for i in range(10 ** 12) %}{% endfor %}",
    "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=3) %}{% for i in range(60) %}{% set ns.x = ns.x * ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}",
    "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}",
    "{% for x in [[], []] recursive %}{{ loop([[[], []], [[], []]]) }}{% endfor %}",
    "{% set x %}{% for i in range(90000) %}{% for i in range(900) %}"
    + "text " * 200
    + "{% endfor %}{% endfor %}{% endset %}",
]


@pytest.mark.parametrize("text", BOMBS)
def test_a_bomb_is_defused(text: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    template = compile_template(text, place=PLACE)
    started = time.thread_time()
    with pytest.raises(ItemError) as caught:
        template.render({})
    assert caught.value.item_code in ("D311", "D313", "D315")
    assert time.thread_time() - started < 15  # a slow machine under load; it takes at most two seconds
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 * 1024


def test_compiling_does_not_compute() -> None:
    started = time.thread_time()
    for text in BOMBS:
        compile_template(text, place=PLACE)
    assert time.thread_time() - started < 5


@pytest.mark.parametrize(("size", "fits"), [(1024, True), (1025, False)])
def test_the_size_of_the_text_is_bounded_in_bytes(size: int, fits: bool) -> None:
    for value in ("x" * size, "ä" * (size // 2) + "x" * (size % 2)):
        template = compile_template("{{ item.x }}", place=PLACE)
        if fits:
            assert template.render({"item": {"x": value}}, max_bytes=1024) == value
        else:
            with pytest.raises(ItemError, match="1,024 bytes") as caught:
                template.render({"item": {"x": value}}, max_bytes=1024)
            assert caught.value.item_code == "D311"


def test_without_a_limit_large_texts_are_made() -> None:
    text = "x" * (4 * 1024 * 1024)
    assert (
        compile_template("{{ item.x }}{{ item.x }}", place=PLACE).render({"item": {"x": text}}, max_bytes=None)
        == text * 2
    )


def test_a_list_of_many_results_can_be_walked() -> None:
    rows = [{"output": {"n": n}} for n in range(300_000)]
    scope = {"steps": {"x": rows}}
    expression = compile_expression("steps.x | map(attribute='output.n') | sum", place=PLACE)
    assert expression.evaluate(scope) == sum(range(300_000))
    text = compile_template(
        "{% for r in steps.x %}{% if r.output.n == 7 %}{{ r.output.n }}{% endif %}{% endfor %}", place=PLACE
    )
    assert text.render(scope) == "7"


class Secret:
    """An object that should never be among the data; if it is, nothing of it can be reached."""

    token = "sk-1"

    def __call__(self) -> str:
        return self.token


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__ }}",
        "{{ ''['__class__'] }}",
        "{{ item.__class__.__mro__ }}",
        "{{ item.__init__.__globals__ }}",
        "{{ range.__self__ }}",
        "{{ cycler.__init__ }}",
        "{{ namespace().__init__ }}",
        "{{ '{0.__class__}'.format(item) }}",
        "{{ '{0[__class__]}'.format(item) }}",
        "{{ '%(__class__)s' % item }}",
        "{{ [item] | map(attribute='__class__') | list }}",
        "{{ [item] | sum(attribute='__class__') }}",
        "{{ [item] | groupby('__class__') }}",
        "{{ secret.token }}",
        "{{ secret['token'] }}",
        "{{ secret }}",
        "{{ secret() }}",
        "{{ secret | string }}",
        "{{ secret | tojson }}",
        "{{ [secret] }}",
        "{{ '%s' | format(secret) }}",
        "{{ '{}'.format(secret) }}",
        "{{ '{!r}'.format(secret) }}",
        "{{ 'a' ~ secret }}",
        "{{ [secret] | join }}",
        "{{ item.update({'a': 1}) }}",
        "{{ item.tags.append(1) }}",
        "{{ item.tags.sort() }}",
        "{{ self }}",
        "{{ loop }}",
        "{{ item.get }}",
        "{{ item.tags | map('attr', 'x') | list }}",
        "{{ item | xmlattr }}",
        "{{ caller() }}",
        "{{ range }}",
        "{{ dict }}",
    ],
)
def test_nothing_but_data_can_be_reached(text: str) -> None:
    scope: dict[str, Any] = {"item": {"tags": [2, 1]}, "secret": Secret()}
    with pytest.raises((ItemError, ConfigError)) as caught:
        compile_template(text, place=PLACE).render(scope)
    assert "sk-1" not in str(caught.value)
    assert scope["item"] == {"tags": [2, 1]}


def test_a_simple_prompt_is_rendered_in_microseconds() -> None:
    template = compile_template("Label this ticket for {{ vars.team }}.\n{{ item.body }}\n", place=PLACE)
    scope = {"vars": {"team": "Ops"}, "item": {"body": "text " * 40}}
    best = float("inf")
    for _ in range(20):
        started = time.thread_time()
        for _ in range(100):
            template.render(scope)
        best = min(best, (time.thread_time() - started) / 100)
    assert best < 40e-6
