"""X1, X3: the guard joins cut characters and keeps a listener's exceptions to itself."""

from __future__ import annotations

import logging

import pytest
from tapping import Notes

from streamll.capture.deltas import RefusalDelta, ThinkingDelta, ToolCallFragment
from streamll.capture.tap.listener import Guarded
from streamll.core.errors import Unwind

pytestmark = pytest.mark.since_3_4

HIGH, LOW, WHOLE = "\ud83d", "\ude00", "\U0001f600"


def heard(*deltas, settled=False):
    notes = Notes()
    guarded = Guarded(notes)
    for delta in deltas:
        guarded.hear([delta])
    if settled:
        guarded.done(None)
    return notes.heard


def test_a_surrogate_pair_cut_in_two_arrives_whole():
    assert heard(f"a{HIGH}", f"{LOW}b") == [("text", "a"), ("text", f"{WHOLE}b")]
    assert heard(HIGH, LOW) == [("text", WHOLE)]


def test_text_and_thinking_hold_their_own_halves():
    deltas = [HIGH, ThinkingDelta(HIGH), RefusalDelta("no"), ThinkingDelta(LOW), LOW]
    assert heard(*deltas) == [("refusal", "no"), ("thinking", WHOLE), ("text", WHOLE)]


def test_a_refusal_and_the_arguments_of_each_call_hold_their_own_halves():
    deltas = [
        RefusalDelta(f"n{HIGH}"), ToolCallFragment(0, "a", "f", HIGH),
        ToolCallFragment(1, "b", "g", f'"{HIGH}'), ToolCallFragment(1, None, None, f'{LOW}"'),
        ToolCallFragment(0, None, None, LOW), RefusalDelta(f"{LOW}o"),
    ]  # fmt: skip
    assert heard(*deltas) == [
        ("refusal", "n"), ("tool_call", 0, "a", "f", ""), ("tool_call", 1, "b", "g", '"'),
        ("tool_call", 1, None, None, f'{WHOLE}"'), ("tool_call", 0, None, None, WHOLE),
        ("refusal", f"{WHOLE}o"),
    ]  # fmt: skip
    alone = [RefusalDelta(HIGH), ToolCallFragment(0, None, None, HIGH)]
    assert heard(*alone) == []
    assert heard(*alone, settled=True) == [
        ("refusal", HIGH), ("tool_call", 0, None, None, HIGH),
    ]  # fmt: skip


def test_half_a_pair_that_stays_alone_comes_at_the_end():
    assert heard(f"a{HIGH}") == [("text", "a")]
    assert heard(f"a{HIGH}", settled=True) == [("text", "a"), ("text", HIGH)]
    assert heard(HIGH, "b") == [("text", f"{HIGH}b")]


def test_a_new_attempt_starts_without_the_half_of_the_one_before():
    notes = Notes()
    guarded = Guarded(notes)
    guarded.hear([HIGH])
    guarded.begin()
    guarded.hear([LOW])
    assert notes.texts == [LOW]


class RaisingOnce(Notes):
    def hear(self, delta):
        if delta == "bad":
            raise ZeroDivisionError("secret text")
        super().hear(delta)


def test_a_delta_that_fails_does_not_stop_the_ones_behind_it(caplog):
    notes = RaisingOnce()
    guarded = Guarded(notes)
    with caplog.at_level(logging.ERROR, "streamll.capture"):
        guarded.hear(["good", "bad", ToolCallFragment(0, "a", "f", ""), "bad", "better"])
    assert notes.texts == ["good", "better"]
    assert notes.of("tool_call") == [(0, "a", "f", "")]
    assert [record.getMessage() for record in caplog.records] == [
        "A listener of an LM call raised ZeroDivisionError; the program goes on."
    ], "once per call"


def test_unwind_passes_the_guard():
    notes = Notes()
    notes.cancelled = True
    with pytest.raises(Unwind):
        Guarded(notes).hear(())
    assert not notes.heard


def test_what_hear_returns_is_whether_to_pause():
    notes = Notes()
    guarded = Guarded(notes)
    assert guarded.hear(["a"]) is False
    notes.full = True
    assert guarded.hear(()) is True
