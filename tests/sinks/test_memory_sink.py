"""Events kept in a list."""

from __future__ import annotations

import pytest

from streamll.core.errors import UnknownFieldError
from streamll.core.events import FieldCorrected, Identity, LMSuperseded, Status, TokenEvent
from streamll.sinks import MemorySink


def token(text, attempt=0, field="answer"):
    identity = Identity(run_id="run", predictor="predict", call_id="call", attempt=attempt)
    return TokenEvent(identity=identity, field=field, token=text)


def test_events_are_kept_at_once_until_cleared():
    sink = MemorySink()
    events = [Status(message="Searching…"), token("Pa"), token("ris")]
    for event in events:
        sink.put(event)
    assert sink.events == events
    assert sink.tokens == events[1:]
    assert sink.of("status", "trace.start") == events[:1]
    assert sink.text("answer") == sink.text("predict.answer") == "Paris"
    assert sink.catch_up(0)
    assert sink.statistics().handled == 3
    sink.stop()
    sink.clear()
    assert sink.events == []


def test_text_is_corrected_and_without_superseded_attempts():
    sink = MemorySink()
    gone = token("Lon")
    sink.put(gone)
    sink.put(LMSuperseded(identity=gone.identity, reason="LMServerError"))
    sink.put(token("Par", attempt=1))
    assert sink.text("answer") == "Par"
    sink.put(FieldCorrected(identity=token("", 1).identity, field="answer", text="Paris"))
    assert sink.text("answer") == "Paris"


def test_a_field_that_was_never_streamed_is_an_error():
    with pytest.raises(UnknownFieldError):
        MemorySink().text("answer")
