"""YAML as it is read: scalars of YAML 1.2, exact places, and every trap named."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmpipe.config.nodes import Node, SourceText
from llmpipe.config.source import iter_list, parse
from llmpipe.config.text_files import MAX_BYTES, decode, read_text
from llmpipe.errors import ConfigError, Problem
from tests.config.project import place_of, unmark


def tree(text: str) -> Node:
    node, problems = parse(SourceText(text, file="f"))
    assert node is not None
    assert not problems
    return node


def found(text: str) -> list[Problem]:
    return parse(SourceText(text, file="f"))[1]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(
            (word, word)
            for word in ("no", "yes", "on", "off", "y", "n", "NO", "1:30", "22:30:00", "010", "1_000", "0b1")
        ),
        *((word, word) for word in ("2024-01-01", "2024-01-01T10:00:00Z", ".inf", "-.inf", ".nan", "1e", "+", "0x")),
        *((word, True) for word in ("true", "True", "TRUE")),
        *((word, False) for word in ("false", "False", "FALSE")),
        *((word, None) for word in ("", "~", "null", "Null", "NULL")),
        ("1", 1),
        ("-17", -17),
        ("+3", 3),
        ("0", 0),
        ("0o17", 15),
        ("0x1F", 31),
        ("1e3", 1000.0),
        ("1e-3", 0.001),
        ("1.50", 1.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("'1'", "1"),
        ('"true"', "true"),
        ("|\n  12\n", "12\n"),
    ],
)
def test_plain_scalars_mean_what_they_look_like(text: str, value: object) -> None:
    node = tree(f"a: {text}\n").value["a"]
    assert node.value == value
    assert type(node.value) is type(value)


@pytest.mark.parametrize(
    ("text", "code", "hint"),
    [
        ("a: 1\nb: 2\n«a»: 3\n", "Y104", "remove one"),
        ("x:\n  - a: 1\n    «a»: 1\n", "Y104", "remove one"),
        ("«1»: x\n", "Y105", "quote this"),
        ("«true»: x\n", "Y105", "quote this"),
        ("«~»: x\n", "Y105", "quote this"),
        ("? «[»a]\n: x\n", "Y105", "quote this"),
        ("prompt: «{{ item.x }}»\n", "Y109", "quote this"),
        ("prompt: «{{ item.x }} and more»\n", "Y109", "quote this"),
        ("- «{% if x %}»\n", "Y109", "quote this"),
        ("prompt: «{{ a }}: {{ b }}»\n", "Y109", "quote this"),
        ('if: «"a" in item.tags»\n', "Y109", "quote this"),
        ("check:\n  - «'x' in output»\n", "Y109", "quote this"),
        ("prompt: «Label: this ticket»\n", "Y109", "quote this"),
        ("prompt: «*bold* words»\n", "Y109", "quote this"),
        ("prompt: «@you»\n", "Y109", "quote this"),
        ("prompt: «`code`»\n", "Y109", "quote this"),
        ("a: «!!python/object:os.system x»\n", "Y108", "quote this if it is text"),
        ("a: «*nothing»\n", "Y106", "quote this if it is text"),
        ("a: &a [«*a»]\n", "Y106", ""),
        ("«<<»: {a: 1}\n", "Y106", ""),
        ("a: 1\n«---»\nb: 1\n", "Y110", ""),
        ("a: «1e999»\n", "Y111", "quote this"),
        ("«\t»a: 1\n", "Y103", "use spaces"),
        ('a: «"»never\nb: 1\n', "Y103", ""),
        ("a: {b: vars.days«[»0]}\n", "Y103", ""),
        ("steps:\n  - id: one\n    prompt: hi\n   «model: m»\n", "Y103", "indent it by 2 or 4 spaces, not 3"),
        ("models:\n  m: {a: b}\n «n: {a: b}»\n", "Y103", "indent it by 0 or 2 spaces, not 1"),
        ("steps:\n- id: one\n  prompt: hi\n «- id: two»\n   prompt: x\n", "Y103", "indent it by 0 or 2 spaces, not 1"),
        ("steps:\n  - id: one\n\n    # more\n      «prompt: hi»\n", "Y103", "indent it by 4 spaces, not 6"),
    ],
)
def test_a_trap_is_named_at_its_place(text: str, code: str, hint: str) -> None:
    text, places = unmark(text)
    problem = found(text)[0]
    assert (problem.code, problem.hint) == (code, hint)
    assert place_of(problem) == places[0]


SHORT = "{category: enum[bug, idea], score: integer 1..5, tags: list[string], note?: string}"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (
            SHORT,
            {"category": "enum[bug, idea]", "score": "integer 1..5", "tags": "list[string]", "note?": "string"},
        ),
        ("{a: enum[\"x, y\", 'z', 3] | null}", {"a": "enum[\"x, y\", 'z', 3] | null"}),
        ("{a: list[enum[x, y]] 1..3 - the best}", {"a": "list[enum[x, y]] 1..3 - the best"}),
        ("{a: map[list[integer]], b: [{c: enum[d, e]}]}", {"a": "map[list[integer]]", "b": [{"c": "enum[d, e]"}]}),
        ("{a: enum[x,\n      y], b: string}", {"a": "enum[x, y]", "b": "string"}),
        ('{a: enum["a: b", "c # d", "e]"]}', {"a": 'enum["a: b", "c # d", "e]"]'}),
        ("{a: string /^[A-Z]{2}$/, b: enum[c]}", {"a": "string /^[A-Z]{2}$/", "b": "enum[c]"}),
        ("{a: string 1..9 /[a, b]/}", {"a": "string 1..9 /[a, b]/"}),
        ("[list[a], b]", ["list[a]", "b"]),
    ],
)
def test_types_may_stand_unquoted_in_a_flow_mapping(text: str, value: object) -> None:
    before, after = '# enum[never, closed\nfirst: "say \\"list[a]\\" {{ map[0] }}"\n', "last: 'list[\"x, y]'\n"
    plain = tree(f"{before}schema: {text}\n{after}").plain()
    assert plain == {"first": 'say "list[a]" {{ map[0] }}', "schema": value, "last": 'list["x, y]'}


def test_places_stay_where_types_stand_unquoted() -> None:
    (problem,) = found(f"a: {SHORT}\nb: enum[x]\nc: [1, 2]\nc: 3\n")
    assert (problem.code, problem.place.line, problem.place.column) == ("Y104", 4, 1)
    node = tree(f"schema: {SHORT}\n").value["schema"].value["tags"]
    assert (node.place.column, node.place.width) == (
        f"schema: {SHORT}".index("list[") + 1,
        len("list[string]"),
    )
    assert found(f"a: {SHORT}\nb: {{c: d[1]}}\n")[0].place.line == 2


def test_many_brackets_cost_little() -> None:
    started = time.process_time()
    for text in ("{a: " + "list[" * 30_000, "{a: " + "enum[a, b] " * 30_000 + "[", "a: [\n" + "list[" * 100_000):
        assert found(text)
    assert time.process_time() - started < 10


def test_a_repeated_key_names_both_lines() -> None:
    (problem,) = found("a: 1\nb: 2\na: 3\n")
    assert problem.place.line == 3
    assert "line 1" in problem.note


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_file_is_told(text: str) -> None:
    assert [p.code for p in found(text)] in ([], ["Y110"])
    assert parse(SourceText("", file="f"))[1][0].code == "Y110"


def test_an_alias_bomb_costs_nothing() -> None:
    levels = ["l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 12)]
    started = time.process_time()
    assert [p.code for p in found("\n".join(levels))] == ["Y107"]
    assert time.process_time() - started < 5


@pytest.mark.parametrize("text", ["[" * 5000, "a: " + "{b: " * 5000, "- " * 5000, "? " * 3000, "&a " * 10 + "[" * 200])
def test_depth_is_bounded(text: str) -> None:
    started = time.process_time()
    assert found(text)
    assert time.process_time() - started < 5


def test_an_alias_stands_for_its_value() -> None:
    assert tree("a: &x {k: [1, 2]}\nb: *x\n").plain() == {"a": {"k": [1, 2]}, "b": {"k": [1, 2]}}


def test_files_are_bounded_and_utf8(tmp_path: Path) -> None:
    def code(data: bytes) -> tuple[str, int, int]:
        path = tmp_path / "f"
        path.write_bytes(data)
        with pytest.raises(ConfigError) as caught:
            read_text(path, file="f")
        (problem,) = caught.value.problems
        return problem.code, problem.place.line, problem.place.column

    assert code(b"x" * (MAX_BYTES + 1)) == ("Y102", 1, 1)
    assert code("a: 1\nbé: ".encode() + b"\xff\n") == ("Y101", 2, 5)
    with pytest.raises(ConfigError, match="Y112"):
        read_text(tmp_path, file="folder")
    assert decode(b"\xef\xbb\xbfa: 1", file="f").text == "a: 1"


TEXTS = {
    "literal": "p: |\n  one {{ a }}\n\n    two {{ b }}\n",
    "literal with indent": "p: |2-\n    one {{ a }}\n  two {{ b }}\n",
    "folded": "p: >-\n  one {{ a }}\n  two {{ b }}\n",
    "plain": "p: one {{ a }}\n  two {{ b }}\n",
    "single": "p: 'it''s one {{ a }}\n  two {{ b }}'\n",
    "double": 'p: "\\"one\\" \\u00e9\\t{{ a }}\\n two {{ b }}"\n',
    "double folded": 'p: "one {{ a }} \\\n  two {{ b }}"\n',
    "crlf": "p: |\r\n  one {{ a }}\r\n  two {{ b }}\r\n",
    "unicode": "p: |\n  é one 日本 {{ a }}\n  two {{ b }}\n",
    "flow": "{x: 1, p: 'one {{ a }} two {{ b }}'}\n",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_a_character_of_a_value_is_found_in_the_file(text: str) -> None:
    node = tree(text).value["p"]
    rows = text.replace("\r\n", "\n").split("\n")
    for word in ("one", "{{ a", "a }}", "two", "{{ b", "b }}"):
        offset = node.value.index(word)
        place = node.locate_offset(offset)
        assert rows[place.line - 1][place.column - 1 :].startswith(word)
        line = node.value.count("\n", 0, offset) + 1
        column = offset - (node.value.rfind("\n", 0, offset) + 1) + 1
        assert node.locate(line, column) == place


@given(st.binary(max_size=300))
def test_no_bytes_surprise_the_reader(data: bytes) -> None:
    node, problems = attempt(data)
    assert node is not None or problems
    if node is not None:
        list(node.walk())


def attempt(data: bytes) -> tuple[Node | None, list[Problem]]:
    try:
        return parse(decode(data, file="f"))
    except ConfigError as error:
        return None, list(error.problems)


@given(st.text(alphabet="ab:-[]{}&*!|>'\"#%@ \n\t?,~0.\\{{}}", max_size=80))
def test_no_punctuation_surprises_the_reader(text: str) -> None:
    node, problems = parse(SourceText(text, file="f"))
    assert node is not None or problems
    for problem in problems:
        assert problem.place.line >= 1
        assert problem.place.column >= 1
        assert problem.place.width >= 1


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.text(alphabet=st.characters(codec="utf-8"), max_size=8)
)
KEYS = st.text(alphabet="abcdef", min_size=1, max_size=4)
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=4) | st.dictionaries(KEYS, v, max_size=4), max_leaves=12)


@given(VALUES)
def test_json_is_read_as_json(value: object) -> None:
    """JSON is YAML, except for characters that YAML wants escaped and the pairs that JSON escapes others with."""
    text = json.dumps(value, ensure_ascii=False)
    if not all(c.isprintable() for c in text):
        return
    assert tree(f"[{text}]").plain() == [value]


def test_a_list_is_read_element_by_element() -> None:
    class Counting(io.BytesIO):
        served = 0

        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            self.served += len(data)
            return data

    stream = Counting(b"".join(b"- {id: %d, text: no}\n" % n for n in range(100_000)))
    rows = iter_list(stream, file="rows.yaml")
    assert [next(rows) for _ in range(3)] == [(n + 1, {"id": n, "text": "no"}) for n in range(3)]
    assert stream.served < 200_000
    assert sum(1 for _ in rows) == 99_997


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"a: 1\n", "Y110"),
        (b"text\n", "Y110"),
        (b"- a: 1\n- a: 1\n  a: 2\n", "Y104"),
        (b"- &x a\n- *y\n", "Y106"),
        (b"- &x [*x]\n", "Y106"),
        (b"&all\n- *all\n", "Y106"),
        (b"- " + b"x" * 70_000 + b"\n- " + b"[" * 200 + b"\n", "Y107"),
        (b"- &x [" + b"a," * 40_000 + b"]\n" + b"- [*x,*x,*x,*x,*x,*x,*x,*x,*x,*x,*x,*x]\n", "Y107"),
        (b"".join(b"- &x%d [%s]\n" % (n, b"a," * 40_000) for n in range(12)), "Y107"),
        (b"- [\n", "Y103"),
        (b"- 1: a\n", "Y105"),
        (b"- \xff\n", "Y101"),
    ],
)
def test_a_list_with_a_fault_is_refused(data: bytes, code: str) -> None:
    with pytest.raises(ConfigError) as caught:
        list(iter_list(io.BytesIO(data), file="rows.yaml"))
    assert caught.value.problems[-1].code == code
    assert caught.value.problems[-1].place.file == "rows.yaml"


TRAPPED = """\
a: {{ one }}
b:
  - {x: {{ two }}, y: 1}
  - {x: {{ three }}}
c: "d" in e
d: @f
e: f: g
f: *unknown
g: !tag h
i: {{ two }} words {% if x %} # said
j: 1
j: 2
"""


def test_what_is_wrong_below_a_value_that_wants_quotes_is_told_too() -> None:
    node, problems = parse(SourceText(TRAPPED, file="f"))
    places = [(p.code, p.place.line, p.place.column) for p in problems]
    assert places == [
        ("Y109", 1, 4), ("Y109", 3, 9), ("Y109", 4, 9), ("Y109", 5, 4), ("Y109", 6, 4), ("Y109", 7, 4),
        ("Y106", 8, 4), ("Y108", 9, 4), ("Y109", 10, 4), ("Y104", 12, 1),
    ]  # fmt: skip
    assert node is not None
    assert (node.value["a"].value, node.value["c"].value) == ("{{ one }}", '"d" in e')
    assert [row.plain() for row in node.value["b"].value] == [{"x": "{{ two }}", "y": 1}, {"x": "{{ three }}"}]


def test_a_text_that_is_no_yaml_behind_a_trap_tells_both() -> None:
    assert [p.code for p in found("a: {{ x }}\nb: [1\nc: 2\n")] == ["Y109", "Y103"]


@given(st.text(alphabet="ab:{}[]%@*&!\"' \n-#", max_size=60))
def test_whatever_stands_in_a_file_its_problems_have_places_in_it(text: str) -> None:
    node, problems = parse(SourceText(text, file="f"))
    assert problems or node is not None
    lines = text.split("\n")
    assert all(1 <= p.place.line <= len(lines) and p.place.column <= len(lines[p.place.line - 1]) + 1 for p in problems)


@pytest.mark.parametrize("sign", ["\x85", "\u2028", "\u2029"])
def test_what_ended_a_line_in_yaml_1_1_is_text(sign: str) -> None:
    block = f"# a {sign} comment\na: |\n  one{sign}two\n  three\n"
    text = f"{block}b: x{sign}y\nc: \"x{sign}y\"\nd: ['{sign}', e]\nf: 1\nf: 2\n"
    node, problems = parse(SourceText(text, file="f"))
    assert node is not None
    values = {"a": f"one{sign}two\nthree\n", "b": f"x{sign}y", "c": f"x{sign}y", "d": [sign, "e"], "f": 1}
    assert node.plain() == values
    assert [(p.code, p.place.line) for p in problems] == [("Y104", 9)]
    assert list(iter_list(io.BytesIO(f"- x{sign}y\n- |\n  a{sign}b\n".encode()), file="f")) == [
        (1, f"x{sign}y"),
        (2, f"a{sign}b\n"),
    ]


@pytest.mark.parametrize(
    "written",
    ['&a "«b»"', "&a «b»", "!  «b»", '! "«b»"', "&a\n  «b»", "&a # said\n   «b»", "&a |\n  «b»", '"\\\r\n  «b»"'],
)
def test_a_place_in_a_text_is_right_behind_anchors_tags_and_joined_lines(written: str) -> None:
    text, places = unmark(f"x: {written}\n")
    value = tree(text).value["x"]
    place = value.locate_offset(value.value.index("b"))
    assert (place.line, place.column, place.width) == places[0]


def test_a_number_behind_an_exclamation_mark_is_text() -> None:
    assert tree("a: ! 12\nb: ! |\n  12\n").plain() == {"a": "12", "b": "12\n"}


def test_aliases_name_values_of_earlier_rows() -> None:
    rows = b"- &one {id: 1, tags: &t [a, b]}\n- {id: 2, tags: *t, like: *one}\n- &t c\n- [*t, *one]\n"
    one = {"id": 1, "tags": ["a", "b"]}
    assert [value for _, value in iter_list(io.BytesIO(rows), file="f")] == [
        one, {"id": 2, "tags": ["a", "b"], "like": one}, "c", ["c", one],
    ]  # fmt: skip
    many = b"".join(b"- &again {id: %d, text: some words}\n" % n for n in range(200_000))
    assert sum(1 for _ in iter_list(io.BytesIO(many), file="f")) == 200_000


@pytest.mark.parametrize("row", [b'"%s"', b"%s", b"[%s]", b"|\n    %s\n"])
def test_a_row_that_does_not_end_is_not_read_to_its_end(row: bytes) -> None:
    class Endless(io.BytesIO):
        served = 0

        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            self.served += len(data)
            return data

    stream = Endless(b"- a\n- " + row % (b"x" * 3_000_000))
    with pytest.raises(ConfigError) as caught:
        list(iter_list(stream, file="f", max_bytes=1_000_000))
    assert (caught.value.problems[-1].code, caught.value.problems[-1].message) == ("Y107", "a row is longer than 0 MiB")
    assert stream.served < 1_200_000


def test_long_texts_under_aliases_are_counted_too() -> None:
    text = "a: &a " + "x" * 300_000 + "\nb: [" + "*a," * 50_000 + "]\n"
    assert [p.code for p in found(text)] == ["Y107"]
    assert tree("a: &a " + "x" * 300_000 + "\nb: [" + "*a," * 20 + "]\n").kind == "map"


def test_a_list_of_another_encoding_is_told_at_its_line() -> None:
    with pytest.raises(ConfigError) as caught:
        list(iter_list(io.BytesIO(b"- a\n" * 20_000 + b"- caf\xe9\n"), file="rows.yaml"))
    assert caught.value.problems[-1].place.line == 20_001
