"""A reply is read strictly, around exactly one JSON value; nothing is invented, completed or picked."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from llmpipe.errors import NotJson
from llmpipe.json_numbers import one_form
from llmpipe.structured.coerce import coerce
from llmpipe.structured.messages import (
    MAX_MESSAGE,
    prompt_instructions,
    reask_for_check,
    reask_for_json,
    reask_for_violations,
)
from llmpipe.structured.reading import read_json
from llmpipe.structured.schema import compile_schema
from tests.structured.generated import values


@pytest.mark.parametrize(
    ("text", "value", "notes"),
    [
        ('{"a": 1}', {"a": 1}, ()),
        ('\ufeff {"a": 1}\n', {"a": 1}, ()),
        ('"abc"', "abc", ()),
        ('```json\n{"a": 1}\n```', {"a": 1}, ("fences_stripped",)),
        ("```\n[1, 2]\n```\n", [1, 2], ("fences_stripped",)),
        ('```json\n"abc"\n```', "abc", ("fences_stripped",)),
        ('{"code": "```py\\nx\\n```"}', {"code": "```py\nx\n```"}, ()),
        ('```json\n{"code": "```"}\n```', {"code": "```"}, ("fences_stripped",)),
        ('Here you are: {"a": {"b": []}}. Anything else?', {"a": {"b": []}}, ("prose_stripped",)),
        ('Sure!\n```json\n{"a": 1}\n```\nDone.', {"a": 1}, ("fences_stripped", "prose_stripped")),
        ('As said in [1] and [see the note]: {"a": 1} {sic}', {"a": 1}, ("prose_stripped",)),
        ('<think>maybe {"a": 2}?</think>\n{"a": 1}', {"a": 1}, ("think_stripped",)),
        ('<Thinking>\nhm\n</Thinking>```json\n{"a": 1}\n```', {"a": 1}, ("think_stripped", "fences_stripped")),
        ('so it is.\n</think>\n{"a": 1}', {"a": 1}, ("think_stripped",)),
        ('{"s": "<think>x</think>"}', {"s": "<think>x</think>"}, ()),
        ('{"s": "\\ud83d\\ude00"}', {"s": "😀"}, ()),
        ('~~~json\n{"a": "```"}\n~~~', {"a": "```"}, ("fences_stripped",)),
        ('So:\n~~~\n{"a": 1}\n~~~\n', {"a": 1}, ("fences_stripped", "prose_stripped")),
        ('````json\n{"a": 1}\n````', {"a": 1}, ("fences_stripped",)),
        ('{"a": 1} [1]', {"a": 1}, ("prose_stripped",)),
        ('{"a": -0.0, "b": 1E2, "c": 0e-400}', {"a": -0.0, "b": 100.0, "c": 0.0}, ()),
    ],
)
def test_what_is_read(text: str, value: Any, notes: tuple[str, ...]) -> None:
    assert read_json(text) == (value, notes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the answer is empty"),
        ('{"a": 1e-400}', "too small to be told from 0"),
        ('{"a": -1e400}', "too large"),
        ("I cannot do that.", "there is no JSON"),
        ('{"a": 1} {"a": 2}', "2 JSON values"),
        ('{"a": 1}\n{"a": 1}', "2 JSON values"),
        ('```json\n{"a": 1}\n```\nor\n```json\n{"a": 2}\n```', "2 JSON values"),
        ('{"a": [1, 2], "b": {"c": 1}', "breaks off"),
        ('{"a": {"b": 1}', "breaks off"),
        ('Here: {"a": "cut', "breaks off"),
        ('```json\n{"a": [1, 2', "breaks off"),
        ('<think>and so on {"a": 1}', "in the middle of its reasoning"),
        ('{"a": 1}}', "closed that was never opened"),
        ('{"a": 1}, "b": 2}', "closed that was never opened"),
        ('"a": 1, {"b": 2}', "more JSON beside"),
        ('{"a": 1}, "b": 2', "more JSON beside"),
        ("{'a': {\"b\": 1}}", "double quotes"),
        ('{"a": 1,}', "line 1 column"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": -Infinity}', "-Infinity is not JSON"),
        ('{"a": 1e999}', "too large"),
        ('{"a": 1, "a": 2}', 'the name "a" is given twice'),
        ('{"x": {"a": 1, "a": 1}}', 'the name "a" is given twice'),
        ('{"a": "\\ud800"}', "surrogate"),
        ('{"\\udc00": 1}', "surrogate"),
        ('{"a": "line\nbreak"}', "control character"),
        ("[" * 200_000, "nested too deep"),
        ("[" * 200 + "]" * 200, "nested deeper than 128 levels"),
        ('{"a": ' * 200_000, "nested too deep"),
        ("[" + "1," * 100_001 + "1]", "a list holds more than 100000 items"),
        ("9" * 5000, "too large"),
    ],
)
def test_what_is_not_json(text: str, said: str) -> None:
    with pytest.raises(NotJson) as caught:
        read_json(text)
    assert said in caught.value.message
    assert len(caught.value.message) < 300
    assert caught.value.raw == text.strip()[:65536]


@pytest.mark.parametrize(
    ("beside", "is_reference"),
    [
        ("[1]", True), ("[999]", True), ("[1000]", False), ("[0]", False), ("[-1]", False), ("[1, 2, 3]", True),
        ("[1, 2, 3, 4]", False), ("[1, 1000]", False), ("[]", False), ("[true]", False), ("[1.5]", False),
        ("{}", False), ('["a"]', False),
    ],
)  # fmt: skip
def test_a_footnote_beside_the_value_is_no_second_one(beside: str, is_reference: bool) -> None:
    for text in (f'{beside} {{"a": 1}}', f'{{"a": 1}} {beside}'):
        if is_reference:
            assert read_json(text) == ({"a": 1}, ("prose_stripped",))
        else:
            with pytest.raises(NotJson, match="2 JSON values stand in the answer, where one was asked for"):
                read_json(text)
    if is_reference:
        assert read_json(beside) == (json.loads(beside), ())
        with pytest.raises(NotJson, match="no JSON object or list"):
            read_json(f"as in {beside}")


def test_an_answer_may_have_8_mi_characters_and_64_ki_are_kept_of_one_that_is_none() -> None:
    most = 8 * 1024 * 1024
    assert len(read_json('"' + "x" * (most - 2) + '"')[0]) == most - 2
    with pytest.raises(NotJson, match="has 8388609 characters, more than 8388608") as caught:
        read_json('"' + "x" * (most - 1) + '"')
    assert caught.value.raw == '"' + "x" * 65_535
    assert caught.value.billed == "yes"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1,\n"b" 2}', "Expecting ':' delimiter at line 2 column 5"),
        ('{"a": 1, "b', "it breaks off: Unterminated string starting at line 1 column 10"),
        ('{"a": [1', "it breaks off: Expecting ',' delimiter at line 1 column 9"),
        ('x {"a": 1] y', "Expecting ',' delimiter at line 1 column 10"),
        ("no", "there is no JSON object or list in it (Expecting value at line 1 column 1)"),
        ("{" + '"' + "n" * 61 + '": 1, "' + "n" * 61 + '": 2}', f'the name "{"n" * 60}" is given twice in one object'),
        ('{"a": 0.1234567890123456789, }', "a number may have 15 digits"),
        ("", "the answer is empty"),
    ],
)
def test_what_is_wrong_with_an_answer_is_said_at_its_place(text: str, said: str) -> None:
    with pytest.raises(NotJson) as caught:
        read_json(text)
    assert said in str(caught.value)
    assert str(caught.value).startswith("the answer is not JSON: ")
    assert caught.value.details == {"reason": str(caught.value).removeprefix("the answer is not JSON: ")}


@given(values, st.sampled_from(["{}", "```json\n{}\n```", "Here it is:\n{}\nBye.", "<think>x [1] {{</think>{}"]))
def test_a_value_comes_back_as_it_was_written(value: Any, around: str) -> None:
    if not isinstance(value, dict | list) and around != "{}":
        value = [value, "x"]
    if around.startswith("Here") and isinstance(value, list) and value and all(type(v) is int for v in value):
        value = {"v": value}  # a short list of numbers in prose may be a footnote
    text = around.replace("{{", "\x00").replace("{}", json.dumps(value)).replace("\x00", "{{")
    assert json.dumps(read_json(text)[0]) == json.dumps(one_form(value))


@given(st.dictionaries(st.text(max_size=5), values, min_size=1, max_size=4), st.data())
def test_a_cut_value_is_never_completed(value: dict[str, Any], data: st.DataObject) -> None:
    text = json.dumps(value)
    cut = data.draw(st.integers(1, len(text) - 1))
    for repair in (False, True):
        with pytest.raises(NotJson):
            read_json(text[:cut], repair=repair)


@given(st.text(alphabet='{}[]",:ab1 \n`<>/', max_size=60))
def test_any_text_is_json_or_not_json(text: str) -> None:
    try:
        value, _ = read_json(text)
    except NotJson:
        return
    json.dumps(value, allow_nan=False)


def test_hostile_texts_are_read_in_linear_time() -> None:
    started = time.process_time()
    for text in (
        "{" * 300_000,
        "[a]" * 200_000,
        "```" * 200_000,
        "<think>" * 100_000,
        "</think>" * 100_000,
        "{a} " * 200_000,
        "~" * 1_000_000,
        "`~" * 300_000,
        "~~~ " * 200_000,
    ):
        with pytest.raises(NotJson):
            read_json(text)
    assert time.process_time() - started < 10


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1,}', {"a": 1}),
        ("{'a': 'x', 'b': [1, 2,],}", {"a": "x", "b": [1, 2]}),
        ('{a: 1, "b": True}', {"a": 1, "b": True}),
        ('Sure: {"a": 1 "b": 2}', {"a": 1, "b": 2}),
        ('{"a": 1.50, "b": 1e3, "c": +1,}', {"a": 1.5, "b": 1000.0, "c": 1}),
        ('{"a": "he said "hi" to me"}', {"a": 'he said "hi" to me'}),
        ('{"a": "x\ny", "b": "\\u00e9 \\n\\ud83d\\ude00",}', {"a": "x\ny", "b": "é \n😀"}),
        ("{'u': 'http://x/#y', /* why */ 'n': null,} ", {"u": "http://x/#y", "n": None}),
        ("{“a”: “b”}", {"a": "b"}),
        ("{day: 2026-11-22, 'zip': '01234',}", {"day": "2026-11-22", "zip": "01234"}),
        ('```json\n{"a": 1, // note\n "b": 2}\n```', {"a": 1, "b": 2}),
    ],
)
def test_repair_is_opted_into_and_marked(text: str, value: Any) -> None:
    with pytest.raises(NotJson):
        read_json(text)
    assert read_json(text, repair=True) == (value, ("repaired",))


# what json-repair makes something of that is not what stands there
LOSING = [
    '{"a": 1, "a": 2,}',
    '{"a": "x}',
    '{"a": "x", "b":}',
    '{"a": "x", "b"}',
    '{"a": 1 2}',
    '{"a": 5%}',
    '{"a": $5}',
    '{"a": 1e}',
    '{"zip": 01234}',
    '{"a": "b"c}',
    '{"a": [1, 2, ...]}',
    '{"a": ...}',
    '{"a": undefined}',
    '{"a": NaN}',
    "{'a': 'it's'}",
    '{"a": "\\ud800",}',
    '{"a": "x \\n",}',
    '{"a": 0.1234567890123456789,}',
]


@pytest.mark.parametrize(
    "text",
    ['{"a": , "b": 1}', '{"a": 1}{"b": 2}', '{"a": "x', "no JSON at all", '"a": 1', '{"a": 1, "b": [1}', *LOSING],
)
def test_repair_never_makes_anything_up(text: str) -> None:
    with pytest.raises(NotJson):
        read_json(text, repair=True)


COERCED = {
    "properties": {
        "i": {"type": "integer"},
        "n": {"type": ["number", "null"]},
        "b": {"type": "boolean"},
        "s": {"type": "string"},
        "d": {"type": "string", "format": "date"},
        "l": {"items": {"type": "integer"}},
        "o": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
    }
}


def test_coerce_turns_what_is_plain_and_marks_it() -> None:
    value = {"i": "7", "n": "2.50", "b": "Yes", "s": "7", "d": "2026/3/9", "l": ["1", 2, "x"], "o": "3"}
    assert coerce(value, COERCED) == (
        {"i": 7, "n": 2.5, "b": True, "s": "7", "d": "2026-03-09", "l": [1, 2, "x"], "o": 3},
        ("coerced:$.i", "coerced:$.n", "coerced:$.b", "coerced:$.d", "coerced:$.l[0]", "coerced:$.o"),
    )
    assert value["i"] == "7"


@pytest.mark.parametrize("text", ["7 apples", "1,000", "0x10", "007", "1e999", "NaN", "", "７", "1_000"])
def test_coerce_leaves_what_is_not_plainly_a_number(text: str) -> None:
    assert coerce({"i": text}, COERCED) == ({"i": text}, ())


@pytest.mark.parametrize("text", ["2026-02-30", "03/04/2026", "yesterday", "2026-11-22T12:00:00Z"])
def test_coerce_leaves_what_is_not_plainly_a_date(text: str) -> None:
    assert coerce({"d": text}, COERCED) == ({"d": text}, ())


def test_messages_are_bounded_and_name_path_found_and_wanted() -> None:
    schema = compile_schema({"properties": {f"p{i}": {"enum": ["x" * 500]} for i in range(30)}})
    text = reask_for_violations(schema.violations({f"p{i}": "y" * 10_000 for i in range(30)}))
    assert len(text) <= MAX_MESSAGE + 20
    one = reask_for_violations(compile_schema({"properties": {"score": {"maximum": 5}}}).violations({"score": 7}))
    assert "- $.score: 7 is more than the maximum 5" in one
    assert "(wanted: at most 5)" in one
    assert "does not pass a check: too long" in reask_for_check("too long")
    assert len(reask_for_json("x" * 10_000)) < 1000


def test_prompt_instructions_hold_the_word_json_and_the_whole_schema() -> None:
    text = prompt_instructions({"$schema": "s", "type": "object", "description": "é"})
    assert "JSON" in text
    assert text.endswith('{"type":"object","description":"é"}')


def test_repair_takes_no_time_that_grows_with_the_square() -> None:
    started = time.process_time()
    for text in ("{" * 60_000 + "}" * 60_000, "{(" * 50_000 + ")}" * 50_000, '["' + "\\" * 190_000 + '",]'):
        with pytest.raises(NotJson):
            read_json(text, repair=True)
    assert time.process_time() - started < 5


@given(
    values, st.sampled_from([(",", ", ,"), ("}", ",}"), ("]", ",]"), ('"', "'"), ("true", "True"), ("null", "None")])
)
def test_what_was_repaired_says_what_stood_there(value: Any, harm: tuple[str, str]) -> None:
    """Whatever a small harm makes of the text: it is mended to the value, or to none."""
    value = {"v": value}
    text = json.dumps(value).replace(*harm)
    try:
        found, notes = read_json(text, repair=True)
    except NotJson:
        event("not mended")
        return
    event(str(notes))
    if "repaired" in notes and '"' not in harm:
        assert found == value
