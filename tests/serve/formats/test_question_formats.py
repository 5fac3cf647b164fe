"""Where a question ends a stream, and where it does not: formats alone."""

from __future__ import annotations

import json

import msgspec
import pytest

from serve.runs import OTHER, ROOT, TOOL, Scribe
from streamll.core import events as ev
from streamll.serve.formats import RenderOptions, make_format

SECOND_TOOL = msgspec.structs.replace(TOOL, call_id="t2")


def asks(scribe, call, question_id, **own):
    schema = {"properties": {"allow": {"type": "boolean"}}}
    return scribe.add(
        ev.Question, call, question_id=question_id, text="Allow?", schema=schema, tool="send", **own
    )


def fed(form, events):
    """What a format says, and after which event it wanted to leave."""
    told, left = [], None
    for number, event in enumerate(events):
        told += form.feed(event)
        if left is None and (end := form.leave()):
            return [json.loads(each) for each in told + end if each != b"[DONE]"], number
    return [json.loads(each) for each in told if each != b"[DONE]"], left


@pytest.mark.parametrize("form", ["vercel-6", "vercel-7"])
def test_ai_is_interrupted_when_no_other_call_is_under_way(form):
    scribe = Scribe().start().add(ev.ToolStart, TOOL, name="send")
    scribe.add(ev.ToolStart, SECOND_TOOL, name="send")
    asks(scribe, TOOL, "q1")
    asks(scribe, SECOND_TOOL, "q2")
    made = make_format(form, RenderOptions(interrupts=True))
    told, left = fed(made, scribe.events)
    assert left == len(scribe.events) - 1
    approvals = [each for each in told if each["type"] == "tool-approval-request"]
    assert [each["approvalId"] for each in approvals] == ["r1:q1", "r1:q2"]
    assert told[-1]["messageMetadata"] == {"seq": left}
    assert made.left
    one = make_format(form, RenderOptions(interrupts=True, answered={"q1"}, continues=True))
    for event in scribe.events:
        one.feed(event)
    again = [json.loads(each)["type"] for each in one.resume()]
    assert again == ["start", "start-step"]  # the client has the calls
    assert one.leave() == []  # the first one is under way
    one.feed(ev.Answer(seq=9, timestamp=1.7e9, identity=TOOL, question_id="q1", outcome="answered"))
    one.feed(ev.ToolEnd(seq=10, timestamp=1.7e9, identity=TOOL, name="send", duration=0.1))
    assert b"tool-calls" in one.leave()[-2]  # and the second still asks


@pytest.mark.parametrize(
    "form", ["native", "vercel", "vercel-5", "vercel-7", "agui", "openai", "responses"]
)
def test_where_no_request_can_follow_a_question_ends_nothing(form):
    scribe = Scribe().start().add(ev.ToolStart, TOOL, name="send")
    events = asks(scribe, TOOL, "q1").events
    told, left = fed(make_format(form, RenderOptions()), events)
    assert left is None
    text = json.dumps(told)
    assert ("Allow?" in text) is (form not in ("openai", "responses"))
    assert "tool-approval-request" not in text


def test_ag_ui_is_interrupted_at_once_with_all_that_was_open_closed():
    scribe = Scribe().start().text("answer", "half", identity=OTHER, end=False)
    scribe.add(ev.ToolStart, TOOL, name="send")
    asks(scribe, TOOL, "q1", lapses_at=1.7e9)
    told, left = fed(make_format("agui", RenderOptions(interrupts=True)), scribe.events)
    assert left == len(scribe.events) - 1
    kinds = [each["type"] for each in told]
    assert kinds.count("TEXT_MESSAGE_END") == kinds.count("TEXT_MESSAGE_START") == 1
    assert kinds.count("STEP_STARTED") == kinds.count("STEP_FINISHED")
    [interrupt] = told[-1]["outcome"]["interrupts"]
    assert interrupt["expiresAt"] == "2023-11-14T22:13:20Z"
    assert told[-1]["type"] == "RUN_FINISHED"


@pytest.mark.parametrize("form", ["agui", "vercel-7"])
def test_a_run_that_has_ended_interrupts_nobody(form):
    scribe = Scribe().start().add(ev.ToolStart, TOOL, name="send")
    asks(scribe, TOOL, "q1").add(ev.RunError, ROOT, error_type="RunLost", message="")
    made = make_format(form, RenderOptions(interrupts=True))
    for event in scribe.events:
        made.feed(event)
    assert made.leave() == []
