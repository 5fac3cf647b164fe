"""Frames that repeat an earlier one are recognised, and only they."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamll.capture.wire.ordinary import OrdinaryFrame

MODEL = {"id": "1", "choices": [{"index": 0, "delta": {"content": "Hi"}}], "created": 1}


def frame(text, **changes) -> bytes:
    choices = [{"index": 0, "delta": {"content": text}}]
    return json.dumps({**MODEL, "choices": choices, **changes}).encode()


@pytest.fixture
def ordinary():
    known = OrdinaryFrame("content")
    assert known.learn(frame("Hi"))
    return known


@given(st.text())
def test_any_text_is_found(text):
    known = OrdinaryFrame("content")
    known.learn(frame("Hi"))
    assert known.text_of(frame(text)) == text
    raw = json.dumps(json.loads(frame(text)), ensure_ascii=False).encode("utf-8", "replace")
    assert known.text_of(raw) is not None


def test_a_frame_that_differs_elsewhere_has_to_be_read(ordinary):
    assert ordinary.text_of(frame("Hi", id="2")) is None
    assert ordinary.text_of(frame("Hi", created=2)) is None
    assert ordinary.text_of(frame("Hi") + b" ") is None
    assert ordinary.text_of(b"[DONE]") is None
    assert ordinary.text_of(b"") is None


def test_more_than_one_string_in_the_gap_is_no_text(ordinary):
    """`Hi", "role": "x` fits between the known halves, but is not one string."""
    wire = frame("SLOT").replace(b"SLOT", b'Hi", "role": "x')
    assert json.loads(wire)["choices"][0]["delta"] == {"content": "Hi", "role": "x"}
    assert ordinary.text_of(wire) is None


def test_a_frame_shorter_than_its_halves_is_no_text(ordinary):
    whole = frame("")
    for cut in range(1, len(whole)):
        assert ordinary.text_of(whole[:cut] + whole[cut + 1 :]) is None


def test_nothing_is_known_before_the_first_lesson():
    assert OrdinaryFrame("content").text_of(frame("Hi")) is None
    assert OrdinaryFrame("content").text_of(b"\n\n") is None


def test_a_key_that_occurs_twice_teaches_nothing():
    known = OrdinaryFrame("content")
    assert not known.learn(frame("Hi", note={"content": "no"}))
    assert known.text_of(frame("Hi", note={"content": "no"})) is None


def test_after_a_few_lessons_it_stops_learning():
    """A provider that numbers its frames costs no more than a comparison each."""
    known = OrdinaryFrame("content")
    assert [known.learn(frame("Hi", id=str(number))) for number in range(5)].count(True) == 3
