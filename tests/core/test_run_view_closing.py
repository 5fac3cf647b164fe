"""X4, X10: wherever a run breaks off, the closing events make it a legal run."""

from __future__ import annotations

import msgspec
import pytest

from serve.runs import CALL, RUNS, Scribe
from streamll.core import events as ev
from streamll.core.ordering import OrderCheck
from streamll.core.run_view import RunView, closing_events


def ended(events):
    view = RunView(keep_ended=False)
    for event in events:
        view.feed(event)
    return closing_events(view, "r1", 1.8e9, "RunLost", "gone")


def legal(name):
    """A run of ``runs`` that keeps the order: some there are made for what wires do with less."""
    events = [e for e in RUNS[name]() if e.event_type != "stream.gap"]
    events = [msgspec.structs.replace(e, seq=seq) for seq, e in enumerate(events)]
    OrderCheck().check_all(events)
    return events


@pytest.mark.parametrize("name", ["plain", "reasoned", "superseded", "corrected"])
def test_a_run_that_breaks_off_anywhere_is_closed_in_legal_order(name):
    events = legal(name)
    for cut in range(1, len(events)):
        whole = [*events[:cut], *ended(events[:cut])]
        OrderCheck().check_all(whole)
        assert [e.seq for e in whole] == list(range(len(whole)))
        assert whole[-1].event_type == "run.error"
        assert whole[-1].run_id == "r1"


def test_everything_that_can_be_open_is_closed_innermost_first():
    tool = ev.Identity(run_id="r1", call_id="t1", parent_call_id="c1")
    lm = ev.Identity(run_id="r1", call_id="l1", parent_call_id="c1")
    interpreter = ev.Identity(run_id="r1", call_id="i1")
    scribe = (
        Scribe().start()
        .add(ev.TraceStart, ev.Identity(run_id="r1"), name="stage", trace_id="x1")
        .add(ev.ToolStart, interpreter, name="python", kind="interpreter")
        .add(ev.ToolStart, tool, name="search")
        .add(ev.LMStart, lm, model="m")
        .text("answer", "so ", "far", end=False)
    )  # fmt: skip
    *closing, last = ended(scribe.events)
    assert [e.event_type for e in closing] == [
        "field.end", "lm.end", "tool.error", "tool.error", "trace.end", "module.error",
    ]  # fmt: skip
    assert (closing[0].length, closing[0].complete) == (6, False)
    assert [closing[2].kind, closing[3].kind] == ["tool", "interpreter"]
    assert closing[1].error_type == closing[2].error_type == "RunLost"
    assert last.partial == {"predict.answer": "so far"}
    OrderCheck().check_all([*scribe.events, *closing, last])


def test_the_totals_are_those_known_until_then():
    scribe = Scribe().start().add(ev.LMStart, ev.Identity(run_id="r1", call_id="l1"), model="m")
    scribe.add(
        ev.LMEnd, ev.Identity(run_id="r1", call_id="l1"),
        model="m", duration=1.0, prompt_tokens=7, completion_tokens=3, cost=0.5,
    )  # fmt: skip
    last = ended(scribe.text("answer", "a", "b", end=False).events)[-1]
    assert (last.lm_calls, last.prompt_tokens, last.completion_tokens, last.cost) == (1, 7, 3, 0.5)
    assert last.duration > 0
    assert last.time_to_first_token == scribe.events[5].timestamp - scribe.events[0].timestamp


def test_a_call_that_was_under_way_makes_the_tokens_unknown():
    lm = ev.Identity(run_id="r1", call_id="l1")
    scribe = Scribe().start().add(ev.LMStart, lm, model="m")
    scribe.add(ev.LMEnd, lm, model="m", duration=1.0, prompt_tokens=7, completion_tokens=3)
    scribe.add(ev.LMStart, ev.Identity(run_id="r1", call_id="l2"), model="m")
    last = ended(scribe.events)[-1]
    assert (last.lm_calls, last.prompt_tokens, last.completion_tokens) == (2, None, None)
    [usage] = last.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.unreported) == (7, 3, 1)


def test_partial_text_excludes_superseded_attempts_and_ended_calls():
    events = RUNS["superseded"]()
    assert ended(events[:7])[-1].partial == {}
    assert ended(events[:-1])[-1].partial == {}


def test_partial_text_is_that_of_the_first_candidate():
    second = msgspec.structs.replace(CALL, candidate=1)
    scribe = Scribe().start().text("answer", "one", end=False)
    last = ended(scribe.text("answer", "two", identity=second, end=False).events)[-1]
    assert last.partial == {"predict.answer": "one"}
