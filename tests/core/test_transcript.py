"""What counts of all that was streamed: by field, corrected, without superseded attempts."""

from __future__ import annotations

import pytest

from streamll.core.errors import AmbiguousFieldError, UnknownFieldError
from streamll.core.events import FieldCorrected, Identity, LMSuperseded, TokenEvent
from streamll.core.transcript import Transcript


def who(call, predictor="ask", attempt=0):
    return Identity(run_id="r", call_id=call, predictor=predictor, attempt=attempt)


def fed(*events, known=()):
    transcript = Transcript(known)
    for event in events:
        transcript.feed(event)
    return transcript


def said(identity, *tokens, field="answer"):
    return [TokenEvent(identity=identity, field=field, token=token) for token in tokens]


def test_calls_of_a_predictor_are_joined_in_the_order_in_which_they_began():
    first, second = who("c1"), who("c2")
    transcript = fed(*said(first, "a"), *said(second, "x"), *said(first, "b"), *said(second, "y"))
    assert transcript.text("answer") == transcript.text("ask.answer") == "abxy"
    assert transcript.texts() == {("ask", "answer"): "abxy"}


def test_a_correction_takes_the_place_of_its_call_alone():
    first, second = who("c1"), who("c2")
    corrected = FieldCorrected(identity=first, field="answer", text="A!")
    transcript = fed(*said(first, "a"), corrected, *said(second, "b"))
    assert transcript.text("answer") == "A!b"


def test_the_text_of_a_superseded_attempt_is_gone():
    first, again, other = who("c1"), who("c1", attempt=1), who("c2")
    superseded = LMSuperseded(identity=first, reason="fallback")
    transcript = fed(*said(other, "o"), *said(first, "lost"), superseded, *said(again, "kept"))
    assert transcript.whole() == transcript.text("answer") == "okept"


def test_whole_is_everything_in_the_order_in_which_it_began():
    one = who("c1")
    transcript = fed(*said(one, "think", field="reasoning"), *said(one, "so"))
    assert transcript.whole() == "thinkso"


def test_a_field_that_is_known_and_silent_is_empty():
    transcript = fed(known=[("ask", ["answer", "reasoning"])])
    assert transcript.text("answer") == ""
    with pytest.raises(UnknownFieldError, match=r"'anwser'; there are: ask\.answer, ask\.reason"):
        transcript.text("anwser")
    with pytest.raises(UnknownFieldError, match="none yet"):
        fed().text("answer")


def test_a_name_that_several_predictors_have_needs_its_predictor():
    transcript = fed(*said(who("c1"), "a"), known=[("check", ["answer"])])
    with pytest.raises(AmbiguousFieldError, match=r"ask for one of: ask\.answer, check\.answer"):
        transcript.text("answer")
    assert transcript.text("ask.answer") == "a"
    assert transcript.text("check.answer") == ""


def test_a_field_without_a_predictor_is_called_by_its_name():
    assert fed(*said(who("c1", predictor=None), "text", field="text")).text("text") == "text"
