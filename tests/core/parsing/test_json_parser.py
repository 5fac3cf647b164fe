"""JSON replies, case by case: whole, by character, by three, by token, at random."""

from __future__ import annotations

import json

import pytest
from case_table import REFUSED, Row, check, check_typed
from oracle import FIELDS, JSON

from streamll.core.parsing.base import Closed, Opened, Text
from streamll.core.parsing.json import JSONParser

ROWS = [
    Row("an empty object", "{}", {}),
    Row(
        "as asked for",
        json.dumps({"reasoning": "Two words.", "answer": "Paris"}, indent=2),
        {"reasoning": "Two words.", "answer": "Paris"},
    ),
    Row("an empty field", '{"answer": ""}', {"answer": ""}),
    Row("blanks stay", '{"answer": " \\n a \\t"}', {"answer": " \n a \t"}),
    Row("blanks around the colon", '{ "answer"\n :\t"x" }', {"answer": "x"}),
    Row("a code fence", '```json\n{"answer": "x"}\n```', {"answer": "x"}),
    Row("prose", 'Here: "it" is {"answer": "x"} and done.', {"answer": "x"}),
    Row("in a list, with prose", 'See [1]: {"answer": "{x}"} [2]', {"answer": "{x}"}),
    Row("a heading", '# Answer\n{"answer": "x"}', {"answer": "x"}),
    Row("braces and quotes", '{"answer": "a\\"} {\\", \\"b\\": {"}', {"answer": 'a"} {", "b": {'}),
    Row("a header", '{"answer": "[[ ## answer ## ]]"}', {"answer": "[[ ## answer ## ]]"}),
    Row(
        "keys of the same name inside",
        '{"k": {"answer": "no"}, "l": [{"answer": "\\"}"}], "answer": "x"}',
        {"answer": "x"},
    ),
    Row("an escaped key", '{"\\u0061nswe\\u0072": "x"}', {"answer": "x"}),
    Row("a key that ends so", '{"my answer": "no", "\\"answer": "no", "answer": "x"}', {"answer": "x"}),
    Row(
        "every escape",
        '{"answer": "\\" \\\\ \\/ \\b\\f\\n\\r\\t \\u00e9 \\u3053 \\u0000 \\\\n"}',
        {"answer": '" \\ / \b\f\n\r\t é こ \x00 \\n'},
    ),
    Row("a surrogate pair", '{"answer": "a\\ud83d\\ude00\\uD83D\\uDE00b"}', {"answer": "a😀😀b"}),
    Row(
        "lone surrogates",
        '{"answer": "\\ud83d \\ude00\\ud83d\\n\\ud83d\\u0041\\ud83d\\ud83d\\ude00\\ud83d"}',
        {"answer": "\ud83d \ude00\ud83d\n\ud83dA\ud83d😀\ud83d"},
    ),
    Row("no surrogates", '{"answer": "\\\\ud83d\\\\ude00"}', {"answer": "\\ud83d\\ude00"}),
    Row("written out", '{"answer": "\x7f\u2028é\ud83d\\ude00"}', {"answer": "\x7f\u2028é\ud83d\ude00"}),
    *(
        Row(f"other members: {value}", f'{{"k": {value}, "answer": "x", "z":{value}}}', {"answer": "x"})
        for value in ("1.5e3", "null", "[]", "{}", '"\\\\"', '["]", {"a": [1]}]', '{"\\"": "}"}')
    ),
]  # fmt: skip

MALFORMED = [
    # Exact all the same.
    *(
        Row(f"no string: {raw}", f'{{"answer": {raw}, "k": 1}}', {"answer": text})
        for raw, text in (
            ("null", "None"), ("true", "True"), ("1e3", "1000.0"), ("12", "12"), ("[ ]", "[]"),
            ('["a", {"b": null}]', "['a', {'b': None}]"), ('{"answer": "}"}', "{'answer': '}'}"),
        )
    ),
    Row("unknown escapes", '{"answer": "\\d \\alpha \\u12 z"}', {"answer": "\\d \\alpha \\u12 z"}),
    Row("an escaped apostrophe", "{\"answer\": \"it\\'s\"}", {"answer": "it's"}),
    Row("raw line ends", '{"answer": "a\nb\tc"}', {"answer": "a\nb\tc"}),
    Row("a comma too many", '{"answer": "x", }', {"answer": "x"}),
    Row("a comma too few", '{"reasoning": "x" "answer": "y"}', {"reasoning": "x", "answer": "y"}),
    Row("braces in prose", 'The {x} is\n{"answer": "y"}', {"answer": "y"}),
    Row("cut short", '{"reasoning": "x", "answer": "abc', {"reasoning": "x", "answer": "abc"}),
    # What the caller has to correct.
    Row("a later key wins", '{"answer": "a", "answer": "b"}', {"answer": "a"}, {"answer": "b"}),
    Row("a later object wins", '{"answer": "a"} {"answer": "b"}', {"answer": "a"}, {"answer": "b"}),
    Row("single quotes", "{'answer': 'x'}", {}, {"answer": "x"}),
    Row("quotes inside", '{"answer": "a "b" c"}', {"answer": "a "}, {"answer": 'a "b" c'}),
    Row("cut short in an escape", '{"answer": "ab\\u00', {"answer": "ab"}, {"answer": "ab\\u00"}),
    Row("no object", "Paris", {}, REFUSED),
]  # fmt: skip

RAW = ["null", "-1.5e3", '"a\\n\\"b\\\\"', '""', "[]", '[1, "]", {"a": [ ] }]', '{"answer":"}"}']
AS_WRITTEN = [
    *(Row(raw, f'{{"answer" : {raw} , "k": 1}}', {"answer": raw}) for raw in RAW),
    Row("last", '{"answer":12}', {"answer": "12"}),
    Row("cut short", '{"answer": ["a", "b', {"answer": '["a", "b'}),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_json_reply(row):
    """X1: the released text is the adapter's, however the reply is cut."""
    check(JSON, row)


@pytest.mark.parametrize("row", MALFORMED, ids=lambda row: row.name)
def test_json_reply_that_is_not_well_formed(row):
    """X1: what is released then, and what the caller corrects."""
    check(JSON, row, well_formed=False)


@pytest.mark.parametrize("row", AS_WRITTEN, ids=lambda row: row.name)
def test_a_field_that_is_not_str_is_released_as_written(row):
    check_typed(JSON, row)


def test_a_field_opens_with_its_key_and_closes_with_its_quote():
    """X2: as soon as each is certain."""
    parser = JSONParser(FIELDS)
    assert parser.feed('{"answer" ') == ()
    assert parser.feed(":") == [Opened("answer")]
    assert parser.feed(' "a ') == (Text("answer", "a "),)
    assert parser.feed("\\ud83d") == ()
    assert parser.feed("\\u00") == (Text("answer", "\ud83d"),)
    assert parser.feed('e9"') == [Text("answer", "é"), Closed("answer")]
    assert parser.feed(', "fake": "x"}') == ()
    assert parser.finish() == ()


def test_deep_nesting_does_not_recurse():
    deep = '{"answer": ' + "[" * 100_000 + "]" * 100_000 + "}"
    parser = JSONParser(FIELDS)
    assert parser.feed(deep) == [Opened("answer"), Text("answer", deep[11:-1]), Closed("answer")]
