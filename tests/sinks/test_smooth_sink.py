"""SmoothSink: small pieces for the sink behind it, the same text, contiguous numbers."""

from __future__ import annotations

import math
import pickle

import dspy
import pytest

import streamll
from streamll.core.errors import ConfigurationError
from streamll.core.events import Identity, RunEnd
from streamll.core.ordering import OrderCheck
from streamll.sinks import MemorySink, SmoothSink
from streamll.testing import Fault, Reply

ANSWER = "One two three four five six seven."


@pytest.fixture
def lm(practice, patient_sinks):
    lm = practice.lm(num_retries=2)
    dspy.configure(lm=lm, adapter=dspy.ChatAdapter())
    return lm


def instrumented(inner: MemorySink, **options) -> dspy.Module:
    sink = SmoothSink(inner, interval=0.0, **options)
    return streamll.instrument(
        dspy.Predict("question -> answer"), stream_fields=["answer"], sinks=[sink]
    )


def coarse(**options) -> Reply:
    pieces = ["[[ ## answer ## ]]\n", ANSWER[:20], ANSWER[20:], "\n\n[[ ## completed ## ]]"]
    return Reply(chunks=pieces, packets=True, **options)


def test_the_sink_behind_gets_words_and_the_same_text(lm, practice):
    inner = MemorySink()
    practice.script(coarse(), coarse())
    program = instrumented(inner)
    assert program(question="?").answer == program(question="?").answer == ANSWER
    runs = {event.run_id for event in inner.events}
    assert len(runs) == 2
    for run_id in runs:
        events = [event for event in inner.events if event.run_id == run_id]
        tokens = [event for event in events if event.event_type == "token" and event.token]
        assert [token.token.strip() for token in tokens] == ANSWER.split()
        assert "".join(token.token for token in tokens) == ANSWER
        OrderCheck().check_all(events)


def test_a_retry_in_between_keeps_the_order(lm, practice):
    inner = MemorySink()
    practice.script(coarse(fault=Fault(disconnect_after=2)), coarse())
    assert instrumented(inner, unit="grapheme")(question="?").answer == ANSWER
    assert inner.text("answer") == ANSWER
    assert inner.of("lm.superseded")
    OrderCheck().check_all(inner.events)


def test_stopping_hands_everything_over_and_a_copy_starts_afresh(lm, practice):
    inner = MemorySink()
    sink = SmoothSink(inner, interval=0.01)
    practice.script(coarse())
    with streamll.stream(dspy.Predict("question -> answer"), sinks=[sink])(question="?") as events:
        events.result()
    assert sink.stop()
    assert inner.of("run.end")
    inner.clear()
    again = pickle.loads(pickle.dumps(sink))
    again.put(RunEnd(identity=Identity(run_id="r"), duration=1.0))
    assert again.stop()
    assert again.sink.of("run.end")


def test_impossible_options_are_refused():
    with pytest.raises(ConfigurationError, match='"word" or "grapheme"'):
        SmoothSink(MemorySink(), "sentence")
    with pytest.raises(ConfigurationError, match="0 or more"):
        SmoothSink(MemorySink(), interval=-1)
    with pytest.raises(ConfigurationError, match="0 or more"):
        SmoothSink(MemorySink(), interval=math.nan)
    for nothing in (MemorySink, None):
        with pytest.raises(ConfigurationError, match="takes a sink, such as"):
            SmoothSink(nothing)
