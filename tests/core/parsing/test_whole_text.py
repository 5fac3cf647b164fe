"""Fields of replies whose format is not known here."""

from __future__ import annotations

from streamll.core.parsing import Closed, Opened, Text, WholeText


def test_nothing_is_released_before_the_end():
    parser = WholeText({"answer": True})
    assert parser.feed("[[ ## answer ## ]]\nx") == ()
    assert parser.finish() == []


def test_given_text_is_released_once_and_in_one_piece():
    parser = WholeText({"reasoning": True, "answer": True, "other": False})
    parser.give({"answer": "x", "fake": "y", "reasoning": ""})
    assert parser.finish() == [
        Opened("answer"),
        Text("answer", "x"),
        Closed("answer"),
        Opened("reasoning"),
        Closed("reasoning"),
    ]
    assert parser.finish() == []
