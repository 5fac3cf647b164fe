"""``RunView``: texts by field, corrected and without superseded attempts; status and totals."""

from __future__ import annotations

import pytest

from serve.runs import RUNS, Scribe
from streamll.core.errors import AmbiguousFieldError, UnknownFieldError
from streamll.core.events import (
    FieldCorrected,
    FieldPartial,
    Identity,
    LMEnd,
    LMStart,
    LMSuperseded,
    StreamGap,
    TokenEvent,
)
from streamll.core.run_view import RunView


def who(call, predictor="ask", attempt=0):
    return Identity(run_id="r", call_id=call, predictor=predictor, attempt=attempt)


def fed(*events, known=()):
    view = RunView(known)
    for event in events:
        view.feed(event)
    return view


def said(identity, *tokens, field="answer"):
    return [TokenEvent(identity=identity, field=field, token=token) for token in tokens]


def test_calls_of_a_predictor_are_joined_in_the_order_in_which_they_began():
    first, second = who("c1"), who("c2")
    view = fed(*said(first, "a"), *said(second, "x"), *said(first, "b"), *said(second, "y"))
    assert view.text("answer") == view.text("ask.answer") == "abxy"
    assert view.texts() == {("ask", "answer"): "abxy"}


def test_a_correction_replaces_the_text_of_its_own_call_only():
    first, second = who("c1"), who("c2")
    corrected = FieldCorrected(identity=first, field="answer", text="A!")
    view = fed(*said(first, "a"), corrected, *said(second, "b"))
    assert view.text("answer") == "A!b"


def test_the_text_of_a_superseded_attempt_is_gone():
    first, again, other = who("c1"), who("c1", attempt=1), who("c2")
    superseded = LMSuperseded(identity=first, reason="fallback")
    view = fed(*said(other, "o"), *said(first, "lost"), superseded, *said(again, "kept"))
    assert view.whole_text() == view.text("answer") == "okept"


def test_whole_text_is_in_the_order_in_which_fields_began():
    one = who("c1")
    view = fed(*said(one, "think", field="reasoning"), *said(one, "so"))
    assert view.whole_text() == "thinkso"


def test_a_known_field_without_text_is_empty():
    view = fed(known=[("ask", ["answer", "reasoning"])])
    assert view.text("answer") == ""
    with pytest.raises(UnknownFieldError, match=r"'anwser'; there are: ask\.answer, ask\.reason"):
        view.text("anwser")
    with pytest.raises(UnknownFieldError, match="none yet"):
        fed().text("answer")


def test_a_name_that_several_predictors_have_needs_its_predictor():
    view = fed(*said(who("c1"), "a"), known=[("check", ["answer"])])
    with pytest.raises(AmbiguousFieldError, match=r"ask for one of: ask\.answer, check\.answer"):
        view.text("answer")
    assert view.text("ask.answer") == "a"
    assert view.text("check.answer") == ""


def test_a_field_without_a_predictor_is_called_by_its_name():
    assert fed(*said(who("c1", predictor=None), "text", field="text")).text("text") == "text"


# --- the run ------------------------------------------------------------------------------------


def viewed(events, **options):
    view = RunView(**options)
    for event in events:
        view.feed(event)
    return view


def test_a_run_that_has_ended_has_the_totals_of_its_last_event():
    events = RUNS["plain"]()
    view = viewed(events)
    assert (view.run_id, view.program, view.status) == ("r1", events[0].program, "ended")
    assert view.end is view.totals is events[-1]
    assert (view.started_at, view.latest_at) == (events[0].timestamp, events[-1].timestamp)
    assert view.seq == events[-1].seq
    assert not view.open
    assert view.partial_texts() == {}


def test_a_run_under_way_has_what_is_open_and_the_totals_so_far():
    lm = Identity(run_id="r1", call_id="l1", parent_call_id="c1")
    scribe = Scribe().start().add(LMStart, lm, model="m")
    scribe.add(LMEnd, lm, model="m", duration=2.0, prompt_tokens=7, completion_tokens=3, cost=0.5)
    view = viewed(scribe.text("answer", "so ", "far", end=False).events)
    assert view.status == "running"
    assert [event.event_type for event in view.open.values()] == ["module.start", "field.start"]
    assert view.partial_texts() == {"predict.answer": "so far"}
    assert (view.totals.lm_calls, view.totals.prompt_tokens, view.totals.cost) == (1, 7, 0.5)
    assert view.totals.time_to_first_token == view.first_token_at - view.started_at
    assert view.token_count == 2


def test_a_merged_token_counts_for_all_it_replaces():
    token = TokenEvent(identity=who("c1"), seq=4, field="answer", token="abc", count=3)
    view = viewed([token])
    assert (view.seq, view.token_count) == (6, 3)


def test_without_text_only_lengths_are_kept():
    view = viewed(RUNS["plain"](), keep_text=False)
    whole = viewed(RUNS["plain"]())
    assert view.whole_text() == ""
    lengths = [field.length for field in view.fields.values()]
    assert lengths == [len(field.text) for field in whole.fields.values()]


def test_without_ended_calls_only_unfinished_fields_are_kept():
    events = RUNS["plain"]()
    assert not viewed(events, keep_ended=False).fields
    cut = next(n for n, event in enumerate(events) if event.event_type == "module.end")
    assert viewed(events[:cut], keep_ended=False).fields


def test_values_of_typed_fields_are_kept_when_asked_for():
    partials = [
        FieldPartial(identity=who("c1"), field="tags", value=["a"]),
        FieldPartial(identity=who("c1"), field="tags", value=["b"], append=True),
    ]
    (field,) = viewed(partials, keep_values=True).fields.values()
    assert field.value.value == ["a", "b"]
    assert viewed(partials, keep_values=True).texts() == {}
    assert not viewed(partials).fields


def test_attempts_and_losses_are_counted():
    superseded = LMSuperseded(identity=who("c1"), reason="fallback")
    view = viewed([*said(who("c1"), "a"), superseded, StreamGap(count=3, reason="overflow")])
    assert (view.retries, view.lost, view.token_count, view.texts()) == (1, 3, 1, {})
