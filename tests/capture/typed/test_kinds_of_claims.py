"""A value that equals the program's, but is of another kind, is not the program's value."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import pathlib
import uuid
from typing import Any

import dspy
import pydantic
import pytest

from streamll.capture.typed.claims import holds
from streamll.capture.typed.field import NOTHING, typed_field


@pytest.mark.parametrize(
    ("shown", "value"),
    [(1, True), (0, False), (1, 1.0), (1.0, 1), ([1], [True]), ({"a": 1}, {"a": 1.0})],
)
def test_equal_values_of_other_kinds_are_told_apart(shown, value):
    assert not holds(shown, value)
    assert holds(value, value)


KEYS = [
    ("2024-01-02T10:00:00Z", dt.datetime(2024, 1, 2, 10, tzinfo=dt.timezone.utc)),
    ("10:00", dt.time(10)),
    ("PT1H", dt.timedelta(hours=1)),
    ("1", 1.0),
    ("1.50", decimal.Decimal("1.5")),
    ("true", True),
    ("./a//b", pathlib.Path("a/b")),
    ("12345678123456781234567812345678", uuid.UUID("12345678123456781234567812345678")),
    ("http://a.example", pydantic.HttpUrl("http://a.example/")),
]


@pytest.mark.parametrize(("shown", "key"), KEYS)
def test_keys_are_those_that_their_type_reads(shown, key):
    value = {key: [1, 2]}
    assert holds({shown: [1]}, value)
    assert holds({shown: [1, 2]}, value, whole=True)
    assert not holds({shown: [2]}, value)
    assert not holds({"3": [1, 2]}, value)
    assert not holds({shown: [1, 2], f" {shown}": [1, 2]}, value, whole=True)
    assert not holds({shown: [1, 2]}, {**value, type(key): []}, whole=True)


def test_a_dictionary_that_makes_what_it_lacks_is_left_as_it_is():
    value = collections.defaultdict(list, {1.0: [1]})
    assert not holds({"2": [1]}, value)
    assert dict(value) == {1.0: [1]}


@pytest.mark.parametrize("size", [1, 100])
@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (list[str] | None, "null", None),
        (list[str] | None, "None", None),
        (list[str] | None, '[null, "a"]', NOTHING),
        (list[str] | None, "Nothing, null", NOTHING),
        (list[str] | None, "nullify", NOTHING),
        (list[str], "null", NOTHING),
        (list[str] | str, "<b>bold</b> and more", "<b>bold</b> and more"),
        (Any, "<b>bold</b> and more", "<b>bold</b> and more"),
    ],
)
def test_a_word_or_a_text_in_place_of_a_list_is_shown_when_it_has_ended(
    annotation, text, value, size
):
    field = typed_field(dspy.ChatAdapter(), annotation)
    changes = [field.feed(text[at : at + size]) for at in range(0, len(text), size)]
    shown = [change.value for change in field.finish()]
    assert shown == ([] if value is NOTHING else [value])
    if value is not NOTHING:
        assert not any(changes)
        assert field.agrees(value)
        assert not field.agrees([])


def test_a_number_that_became_another_one_disagrees():
    field = typed_field(dspy.ChatAdapter(), int)
    field.feed("4")
    field.feed("2")
    assert [change.value for change in field.finish()] == [42]
    assert field.agrees(42)
    assert not field.agrees(43)
