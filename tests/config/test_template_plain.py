"""Plain templates: what they give, Jinja gives too, text for text and error for error."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmpipe.config import templates
from llmpipe.config.template_plain import plain_expression, plain_template
from llmpipe.config.templates import Expression, Template, compile_expression, compile_template
from llmpipe.errors import ConfigError, ItemError, Place

PLACE = Place("p.yaml", 3, 5)
VALUES = (
    st.text()
    | st.integers()
    | st.booleans()
    | st.none()
    | st.floats()
    | st.lists(st.integers() | st.text(max_size=3), max_size=3)
    | st.dictionaries(st.sampled_from(["a", "items", "keys", "b"]), st.integers() | st.text(max_size=3), max_size=3)
)
SCOPES = st.fixed_dictionaries(
    {
        "item": st.dictionaries(st.sampled_from(["a", "items", "keys", "b", "__class__"]), VALUES, max_size=4) | VALUES,
        "key": st.text(max_size=5),
        "vars": st.dictionaries(st.sampled_from(["team", "a"]), VALUES, max_size=2).map(MappingProxyType),
        "steps": st.dictionaries(st.sampled_from(["a", "label"]), VALUES, max_size=2),
    }
)
PATHS = st.sampled_from(
    "item item.a item.items item.items.keys item.a.b item.__class__ vars.team vars.a.b key steps.label steps.a.items"
    " parent.a output item.true item.not vars range true none".split()
)
OTHERS = [
    *("{{- item.a }}", "{{ item.a -}}", "{{ item['a'] }}", "{{ item.a | length }}", "{# x #}", "}}", "{{"),
    *("{% raw %}{{ item.a }}{% endraw %}", "{{{ item.a }}}", "{{ 'a' }}", "{{ item .a }}", "\r\n", "\r"),
]
PIECES = (
    st.text(alphabet="ab {}%#-\n\u00e4\u2028\ud83d", max_size=6)
    | PATHS.map(lambda path: "{{ " + path + " }}")
    | PATHS.map(lambda path: "{{" + path + "}}")
    | PATHS.map(lambda path: "{{\n  " + path + "\t}}")
    | st.sampled_from(OTHERS)
)


def by_jinja(thing: Template | Expression) -> Any:
    """The same template, without its plain form."""
    compiled = thing._compiled
    program, chains = compiled.jinja
    return type(thing)(templates._Compiled(compiled.source, compiled.reads, compiled.where, jinja=(program, chains)))


def outcome(act: Any) -> tuple[Any, ...]:
    try:
        return ("gave", act())
    except ItemError as err:
        return ("raised", err.item_code, str(err))


@settings(max_examples=400)
@given(st.lists(PIECES, max_size=5).map("".join), SCOPES)
def test_a_template_gives_what_jinja_gives(text: str, scope: dict[str, Any]) -> None:
    try:
        template = compile_template(text, place=PLACE)
    except ConfigError:
        assert plain_template(text.replace("\r\n", "\n").replace("\r", "\n")) is None
        return
    other = by_jinja(template)
    for most in (templates.DEFAULT_MAX_BYTES, 5, None):
        ours, theirs = (outcome(partial(t.render, scope, max_bytes=most)) for t in (template, other))
        assert ours == theirs


@given(st.lists(PIECES, max_size=5).map("".join))
def test_a_template_reads_what_jinja_says_it_reads(text: str) -> None:
    try:
        template = compile_template(text, place=PLACE)
    except ConfigError:
        return
    if template._compiled.plain is None:
        return
    _, chains = template._compiled.jinja
    reads = [
        templates._read(c.path, c.position, template.source, template._compiled.where, guarded=c.guarded)
        for c in chains
        if not c.local
    ]
    assert list(template.reads) == reads


@given(PATHS | st.text(alphabet="itemab. \n|", max_size=8), SCOPES)
def test_an_expression_gives_what_jinja_gives(text: str, scope: dict[str, Any]) -> None:
    try:
        expression = compile_expression(text, place=PLACE)
    except ConfigError:
        assert plain_expression(text) is None
        return
    found, other = outcome(lambda: expression.evaluate(scope)), outcome(lambda: by_jinja(expression).evaluate(scope))
    assert repr(found) == repr(other)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("", True),
        ("no place at all", True),
        ("Label this.\n{{ item.body }}\n", True),
        ("{{ item.a }}{{vars.team}} and }} and { and %}", True),
        ("{{ item.a | upper }}", False),
        ("{{ item.a }}{% if item.b %}x{% endif %}", False),
        ("{{ item[0] }}", False),
        ("{{- item.a }}", False),
        ("{{ range }}", False),
        ("{{{ item.a }}}", False),
    ],
)
def test_what_is_plain(text: str, plain: bool) -> None:
    assert (plain_template(text) is not None) is plain


def test_plain_templates_import_no_jinja() -> None:
    code = (
        "import sys\n"
        "from llmpipe.config.templates import compile_expression, compile_template\n"
        "from llmpipe.errors import Place\n"
        "template = compile_template('{{ item.a }} of {{ vars.team }}', place=Place('x'))\n"
        "assert template.render({'item': {'a': 1}, 'vars': {'team': 'us'}}) == '1 of us'\n"
        "assert compile_expression('item.a', place=Place('x')).evaluate({'item': {'a': [1]}}) == [1]\n"
        "print('jinja2' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
