"""Templates show data as data, name what is missing, and know what they read and where."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.config.templates import Entries, compile_expression, compile_template
from llmpipe.errors import ConfigError, ItemError, Place, Problem

PLACE = Place("p.yaml", 10, 5)


class Rows(Entries):
    """Results of a step, as the engine hands them out."""

    failed, skipped = 1, 2

    def __init__(self, *outputs: Any) -> None:
        self._rows = [{"item": {"n": n}, "key": str(n), "output": output} for n, output in enumerate(outputs)]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        return self._rows[index]


SCOPE: dict[str, Any] = {
    "item": {"id": 1, "body": "hällo", "none": None, "tags": ["a", "b"], "items": 7, "d": {"x": 1.0, "y": True}},
    "steps": {"label": Rows({"c": "x"}, {"c": "y"}), "one": "text"},
    "vars": MappingProxyType({"team": "Ops"}),
    "key": "k",
}


def render(text: str, scope: Mapping[str, Any] = SCOPE, **rest: Any) -> str:
    return compile_template(text, place=PLACE).render(scope, **rest)


def failure(text: str, scope: Mapping[str, Any] = SCOPE) -> ItemError:
    with pytest.raises(ItemError) as caught:
        render(text, scope)
    return caught.value


def problem(text: str, *, expression: bool = False) -> Problem:
    with pytest.raises(ConfigError) as caught:
        (compile_expression if expression else compile_template)(text, place=PLACE)
    return caught.value.problems[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ item.body }} for {{ vars.team }}", "hällo for Ops"),
        ("{{ item.id }} {{ item.d.x }} {{ item.d.y }} {{ 1 == 2 }}", "1 1 true false"),
        ("{{ item.tags }} {{ item.d }}", '["a", "b"] {"x": 1.0, "y": true}'),
        ("{{ item.items }} {{ item['items'] }}", "7 7"),
        ("{% for k, v in item.d.items() %}{{ k }}={{ v }};{% endfor %}", "x=1;y=true;"),
        ("{{ {'ä': '<b>&'} | tojson }}", '{"ä": "<b>&"}'),
        ("{{ item.d | tojson(indent=1) }}", '{\n "x": 1.0,\n "y": true\n}'),
        ("{{ item.none or '' }}|{{ item.none | default('', true) }}|{{ item.gone | default('-') }}", "||-"),
        ("{{ item.gone is defined }} {{ item.none is none }} {{ steps.other is defined }}", "false true false"),
        ("{{ steps.label | length }} {{ steps.label.failed }} {{ steps.label.skipped }}", "2 1 2"),
        ("{% for row in steps.label %}{{ row.key }}{{ row.output.c }}{{ row.item.n }}{% endfor %}", "0x01y1"),
        ("{{ steps.label | map(attribute='output.c') | join('+') }}", "x+y"),
        ("{{ steps.label | selectattr('output.c', 'equalto', 'y') | map(attribute='key') | list }}", '["1"]'),
        (
            "{{ steps.label[0].output }} {{ steps.label[0:1] }}",
            '{"c": "x"} [{"item": {"n": 0}, "key": "0", "output": {"c": "x"}}]',
        ),
        ("{{ item.tags | map('upper') }} {{ item.tags | join(', ') }}", '["A", "B"] a, b'),
        ("{{ item.body.upper().replace('L', 'l') }} {{ ', '.join(item.tags) }}", "HÄllO a, b"),
        ("{{ '%s is %.2f' | format(item.d.y, 2) }} {{ '%(x)s' % item }}", None),
        ("{{ '%(body)s' % item }}", "hällo"),
        ("{{ '{0.x:.3f} {1}'.format(item.d, item.tags) }}", '1.000 ["a", "b"]'),
        ("{{ item.d.y ~ 1 ~ item.tags }}", 'true1["a", "b"]'),
        ("{{ '5' | int + 1 }} {{ 'x' | int(0) }} {{ '1.5' | float }}", "6 0 1.5"),
        (
            "{% set s = namespace(n=0) %}{% for t in item.tags %}{% set s.n = s.n + loop.index %}{% endfor %}{{ s.n }}",
            "3",
        ),
        ("{% macro m(x, y='!') %}{{ x }}{{ y }}{% endmacro %}{{ m(item.id) }}{{ m('a', y='b') }}", "1!ab"),
        (
            "{% for t in item.tags %}{{ loop.cycle('x', 'y') }}{% for i in range(2) %}{{ i }}{% endfor %}{% endfor %}",
            "x01y01",
        ),
        ("{% filter upper %}{{ item.body }}{% endfilter %}{% with a = 1 %}{{ a }}{% endwith %}", "HÄLLO1"),
        ("{% raw %}{{ item.body }}{% endraw %}{# gone #}", "{{ item.body }}"),
        ("{{ item.body | escape }} {{ '<' | e }}", "hällo &lt;"),
        ("{% if item.tags %}yes{% endif %}{{ 'b' in item.tags }}", "yestrue"),
        ("{{ item.tags | tojson }} {{ [item.none, true] }}", '["a", "b"] [null, true]'),
        ("one\r\ntwo\r\n", "one\ntwo"),
        ("one\n\n", "one\n"),
    ],
)
def test_what_a_template_makes(text: str, expected: str | None) -> None:
    if expected is None:
        assert "x is not defined" in str(failure(text)) or failure(text).item_code == "D313"
    else:
        assert render(text) == expected


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_data_is_never_rendered(text: str) -> None:
    for value in (text, "{{ 7*7 }}" + text, "{% include 'x' %}" + text, text + "\u202e\x00"):
        assert render("{{ item.body }}", {"item": {"body": value}}) == value
        assert json.loads(render("{{ item | tojson }}", {"item": {"body": value}})) == {"body": value}


@pytest.mark.parametrize(
    ("text", "code", "part"),
    [
        (
            "{{ item.bdy }}",
            "D310",
            "item.bdy is not defined; there are: id, body, none, tags, items, d; did you mean 'body'?",
        ),
        ("{{ itm }}", "D310", "itm is not defined; there are: item, steps, vars, key; did you mean 'item'?"),
        ("{{ item.none.x }}", "D310", "item.none.x is not defined; item.none is null"),
        ("{{ item.tags[5] }}", "D310", "item.tags[5] is not defined; item.tags is a list of 2"),
        ("{{ item.gone.x }}", "D310", "item.gone is not defined"),
        ("{{ item.body.upper }}", "D310", "write item.body.upper()"),
        ("{{ item.d.keys }}", "D310", "item.d.keys is not defined; there are: x, y"),
        ("{{ steps.lable.x }}", "D310", "did you mean 'label'?"),
        (
            "{% for row in steps.label %}{{ row.output.z }}{% endfor %}",
            "D310",
            "row.output.z is not defined; there are: c",
        ),
        ("{% if item.gone %}{% endif %}", "D310", "item.gone is not defined"),
        ("{{ item.gone ~ '' }}", "D310", "item.gone is not defined"),
        ("{{ item.gone | upper }}", "D310", "item.gone is not defined"),
        ("{{ item.gone | length }}", "D310", "item.gone is not defined"),
        ("{{ item.gone.strip() }}", "D310", "item.gone is not defined"),
        ("{% for x in item.gone %}{% endfor %}", "D310", "item.gone is not defined"),
        (
            "{{ item.none }}",
            "D312",
            'item.none is null and would be written into a text; if it may be left out, write item.none or ""',
        ),
        ("{{ item.none | upper }}", "D312", "item.none is null"),
        ("{{ 'a' ~ item.none }}", "D312", "item.none is null"),
        ("{{ '%s' | format(item.none) }}", "D312", "item.none is null"),
        ("{{ [item.none] | join }}", "D312", "item.none is null"),
        ("{{ item.none | string }}", "D312", "item.none is null"),
        ("{{ item.none | int }}", "D312", "item.none is null"),
        ("{% for x in item.body %}{% endfor %}", "D313", "`for` needs a list, not a text"),
        ("{{ item.body | int }}", "D313", "'hällo' is not a number"),
        ("{{ item.id + item.body }}", "D313", "unsupported operand"),
        ("{{ item.id.upper() }}", "D313", "a number has no method upper()"),
        ("{{ 1 / 0 }}", "D313", "division by zero"),
        ("{{ item.tags | first | first | int }}", "D313", "is not a number"),
    ],
)
def test_what_goes_wrong_is_said(text: str, code: str, part: str) -> None:
    error = failure(text)
    assert error.item_code == code
    assert part in str(error)
    assert "p.yaml:10:" in str(error)


def test_a_failure_names_the_line_in_the_file() -> None:
    assert str(failure("one\n{{ item.id }}\n  {{ item.id }}{{ item.gone.upper() }}")).endswith("(p.yaml:12:19)")
    assert str(failure("{{ item.id }}{% for x in\n item.gone %}{% endfor %}")).endswith("(p.yaml:11:2)")
    assert str(failure("one\n\n {{ item.none }}")).endswith("(p.yaml:12:5)")


def test_names_from_data_are_shortened_and_cleaned_in_messages() -> None:
    text = str(failure("{{ item.x }}", {"item": {"\x1b[31m" + "a" * 500: 1, **{f"n{n}": 1 for n in range(1000)}}}))
    assert "\x1b" not in text
    assert len(text) < 500
    assert "(1001 in all)" in text


def test_half_a_surrogate_pair_never_gets_into_a_prompt() -> None:
    assert failure("{{ item.x }}", {"item": {"x": "\ud800"}}).item_code == "D313"


def reads(text: str, *, expression: bool = False) -> list[tuple[str, int, int, int, bool]]:
    compiled = (compile_expression if expression else compile_template)(text, place=Place("p", 1, 1))
    return [(".".join(r.path), r.place.line, r.place.column, r.place.width, r.guarded) for r in compiled.reads]


def test_reads_have_their_exact_places() -> None:
    assert reads("The item {{ item.body }}: {{ item }}\n{# item.x #}{%- if steps.a.b %} {{ key }}{% endif %}") == [
        ("item.body", 1, 13, 9, False),
        ("item", 1, 30, 4, False),
        ("steps.a.b", 2, 20, 9, False),
        ("key", 2, 36, 3, False),
    ]
    assert reads("item.x == \"a item.y\" and\n  item['z w'].q or item[0].a", expression=True) == [
        ("item.x", 1, 1, 6, False),
        ("item.z w.q", 2, 3, 4, False),
        ("item", 2, 20, 4, False),
    ]


@given(
    st.lists(
        st.sampled_from(
            [
                "x ",
                "\n",
                "é",
                "{{ item.a }}",
                "{# item.b #}",
                "{%- if item.c -%}\n{% endif %}",
                "{{ 'item.d\n' }}",
                "{% raw %}{{ item.e }}{% endraw %}",
                " {{- item['f'].g|e -}} \n",
            ]
        )
    )
)
def test_places_point_at_what_they_name(parts: list[str]) -> None:
    text = "".join(parts)
    lines = text.split("\n")
    found = reads(text)
    assert len(found) == sum(part.count("item.a") + part.count("item.c") + part.count("['f']") for part in parts)
    assert all(
        lines[line - 1][column - 1 :].startswith(("item.a", "item.c", "item['f']")) for _, line, column, *_ in found
    )


def test_a_multi_line_string_and_stripped_blanks_do_not_shift_places() -> None:
    assert reads("a  \n\n {{- 'x\ny' ~ item.a -}}  \n  {{ item.b }}{% raw %}{{ item.c }}{% endraw %}{{ item.d }}") == [
        ("item.a", 4, 6, 6, False),
        ("item.b", 5, 6, 6, False),
        ("item.d", 5, 51, 6, False),
    ]


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        (
            "{% for row in item.rows if row.ok %}{{ row }}{{ loop.last }}{{ vars.t }}{% else %}{{ row.y }}{% endfor %}",
            "item.rows vars.t row.y",
        ),
        ("{% set a = item.b %}{{ a.c }}{{ a }}", "item.b"),
        ("{{ a }}{% set a = 1 %}{{ a }}", "a"),
        ("{% set a %}{{ item.b }}{% endset %}{{ a }}", "item.b"),
        (
            "{% macro m(a, b=vars.x) %}{{ a }}{{ b }}{{ item.c }}{{ varargs }}{% endmacro %}{{ m(item.d) }}",
            "vars.x item.c item.d",
        ),
        ("{% with a = item.b %}{{ a }}{% endwith %}{{ a }}", "item.b a"),
        ("{% for a, b in item.d.items() %}{{ a }}{{ b }}{% endfor %}", "item.d"),
        ("{{ item.a.upper() }}{{ item['b'].c }}{{ item[key].d }}", "item.a item.b.c item key"),
        ("{{ range(item.n) }}{{ dict(a=item.m) }}", "item.n item.m"),
        ("{% set ns = namespace(x=1) %}{% set ns.x = item.a %}{{ ns.x }}", "item.a"),
        (
            "{{ {'a': item.a, 'b': [item.b]} | tojson }}{{ item.c if item.d else item.e }}",
            "item.a item.b item.c item.d item.e",
        ),
    ],
)
def test_local_names_are_no_reads(text: str, paths: str) -> None:
    assert [path for path, *_ in reads(text)] == paths.split()


def test_guarded_reads_and_whole_uses_are_told() -> None:
    text = (
        "{{ item.a | default('') }}{% if item.b is defined and item.c %}{% endif %}{{ item.d | upper | default('') }}"
    )
    assert [(path, guarded) for path, *_, guarded in reads(text)] == [
        ("item.a", True),
        ("item.b", True),
        ("item.c", False),
        ("item.d", False),
    ]
    template = compile_template("{{ item | tojson }}{{ vars.x }}", place=PLACE)
    assert (template.uses_whole("item"), template.uses_whole("vars")) == (True, False)


@pytest.mark.parametrize(
    ("text", "code", "line", "column", "part"),
    [
        ("{{ item.body ", "C240", 10, 17, "unexpected end of template"),
        ("a\n {{ item.body $ }}", "C240", 11, 15, "'$'"),
        ("a\n  {{ item.body } }}", "C240", 11, 16, "unexpected '}'"),
        ("{% for x in %}{% endfor %}", "C240", 10, 17, ""),
        ("x\n{% if a %}", "C240", None, None, "endif"),
        ("{% include 'x' %}", "C241", 10, 8, "include"),
        ("{% import 'x' as y %}", "C241", 10, 8, "import"),
        ("{% extends 'x' %}", "C241", 10, 8, "extends"),
        ("{% block b %}{% endblock %}", "C241", 10, 8, "block"),
        ("{{ item | uper }}", "C242", 10, 15, "no filter 'uper'"),
        ("{{ item | attr('x') }}", "C242", 10, 15, "attr"),
        ("{{ item | random }}", "C242", 10, 15, "random"),
        ("{{ item is defind }}", "C242", 10, 13, "no test 'defind'"),
        ("{{ item.a.uper() }}", "C243", 10, 14, "no method uper()"),
        ("{{ open('x') }}", "C243", 10, 8, "no function 'open'"),
        ("{{ item['pop']() }}", "C243", 10, 8, "only functions"),
        ("{{ item.pop('x') }}", "C243", 10, 12, "pop"),
        ("{{ lipsum() }}", "C243", 10, 8, "lipsum"),
        ("{{ " + "(" * 3000 + ")" * 3000 + " }}", "C240", None, None, "nested"),
        ("{% for a in b %}" * 25 + "{% endfor %}" * 25, "C240", None, None, "nested"),
    ],
)
def test_problems_have_their_exact_places(text: str, code: str, line: int, column: int, part: str) -> None:
    found = problem(text)
    assert found.code == code
    assert part in found.message
    if line is not None:
        assert (found.place.line, found.place.column) == (line, column)


def test_problems_come_all_at_once_and_with_suggestions() -> None:
    with pytest.raises(ConfigError) as caught:
        compile_template("{{ item | uper }}\n{{ item.a.uper() }}{{ item is defind }}", place=PLACE)
    assert [p.hint for p in caught.value.problems] == [
        "did you mean 'upper'?",
        "did you mean 'upper'?",
        "did you mean 'defined'?",
    ]
    assert problem("{{ item.x }}", expression=True).hint == "an expression stands here: write it without the braces"
    assert "}}" in problem("{{ item.x ").hint


def test_the_caller_may_say_where_a_line_stands() -> None:
    def locate(line: int, column: int) -> Place:
        return Place("q.yaml", 100 + line, 6 + column)

    template = compile_template("a\n{{ item.x }}", place=PLACE, locate=locate)
    assert template.reads[0].place == Place("q.yaml", 102, 10, 6)
    with pytest.raises(ItemError, match=r"q\.yaml:102:"):
        template.render({"item": {}})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("item.id == 1 and item.body | length < 400", True),
        ("steps.label | length", 2),
        ("item.tags | map('upper')", ["A", "B"]),
        ("item.none", None),
        ("steps.other is defined", False),
        ("steps.label | map(attribute='output.c') | list", ["x", "y"]),
        ("item", SCOPE["item"]),
        ("\n  item.id\n  + 1\n", 2),
        ("vars", {"team": "Ops"}),
        ("range(2)", [0, 1]),
        ("'a' ~ item.id", "a1"),
    ],
)
def test_what_an_expression_is_worth(text: str, expected: Any) -> None:
    value = compile_expression(text, place=PLACE).evaluate(SCOPE)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("text", "code"),
    [("item.gone", "D310"), ("gone", "D310"), ("range", "D313"), ("item.x.y", "D310"), ("1 / 0", "D313")],
)
def test_an_expression_without_a_value(text: str, code: str) -> None:
    with pytest.raises(ItemError) as caught:
        compile_expression(text, place=PLACE).evaluate(SCOPE)
    assert caught.value.item_code == code


def test_a_condition_must_be_true_or_false() -> None:
    assert compile_expression("item.d.y", place=PLACE).test(SCOPE) is True
    for text, part in (
        ("item.body", "a text ('hällo')"),
        ("item.none", "null"),
        ("item.id", "a number (1)"),
        ("item.tags", "a list"),
    ):
        with pytest.raises(ItemError, match=r"must be true or false") as caught:
            compile_expression(text, place=PLACE).test(SCOPE)
        assert caught.value.item_code == "D314"
        assert part in str(caught.value)


def test_templates_compare_by_their_source() -> None:
    one, same, other = (compile_template(text, place=PLACE) for text in ("a\r\n", "a\n", "b"))
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != compile_expression("a", place=PLACE)


def test_importing_templates_does_not_import_jinja() -> None:
    code = "import sys, llmpipe.config.templates; sys.exit('jinja2' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, check=False).returncode
        == 0
    )
