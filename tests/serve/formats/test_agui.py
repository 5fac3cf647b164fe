"""X18: AG-UI 1.0, event by event: what its models say, and what its client makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import ag_ui.core
import msgspec
import pydantic
import pytest
from profiles import THOROUGH

from serve.formats.test_wire_formats import AGUI_EVENT, ASKED, READ_AGUI, resumed, sse, told
from serve.npm import AGUI_0, packages, run_node
from serve.runs import RUNS, Scribe
from streamll.core import events as ev
from streamll.core.events import TERMINAL
from streamll.core.usage import ModelUsage
from streamll.core.wire import decode
from streamll.serve.formats import RenderOptions, make_format
from streamll.serve.formats.agui import PROTOCOL_VERSION

CUTS = [(run, cut) for run in RUNS for cut in range(1, len(RUNS[run]()))]
SOME_CUTS = CUTS if THOROUGH else CUTS[::4]


def objects(run, **options):
    return [json.loads(payload) for payload in told("agui", run, **ASKED, **options)]


def only(sent, kind):
    return [each for each in sent if each["type"] == kind]


def unknown_to(value, place="event"):
    """Keys that the protocol's models do not know, which a consumer has to strip."""
    if isinstance(value, pydantic.BaseModel):
        if not type(value).__name__.endswith("Operation"):  # RFC 6902 leaves those open
            yield from (f"{place}.{key}" for key in value.model_extra)
        for name in type(value).model_fields:
            yield from unknown_to(getattr(value, name), f"{place}.{name}")
    elif isinstance(value, list):
        for each in value:
            yield from unknown_to(each, f"{place}[]")


def check(sent):
    for each in sent:
        parsed = AGUI_EVENT.validate_python(each)
        assert list(unknown_to(parsed)) == [], each
        assert type(each["timestamp"]) is int


ZOD = """
import {EventSchemas} from '@ag-ui/core/schemas'; import fs from 'fs';
const wrong = [];
for (const [name, events] of Object.entries(JSON.parse(fs.readFileSync(0, 'utf8'))))
  for (const event of events) {
    const read = EventSchemas.safeParse(event);
    if (!read.success) wrong.push([name, event, read.error.issues]);
  }
console.log(JSON.stringify(wrong));
"""


def golden(end):
    """The events of the first release's log, as if they were one run that ends with ``end``."""
    text = (Path(__file__).parents[2] / "golden" / "events-v1.jsonl").read_text("utf-8")
    events = [decode(line.encode()) for line in text.split("\n") if line]
    one = {type(event): event for event in events}
    told = [event for event in events if event.event_type not in TERMINAL]
    for event in [*told, one[end]]:
        identity = msgspec.structs.replace(event.identity, candidate=0)
        yield msgspec.structs.replace(event, identity=identity)


def test_every_run_and_every_resumed_one_is_what_the_schema_says():
    sent = {run: objects(run) for run in RUNS}
    sent |= {f"{run}, old": objects(run, predates_versions=True) for run in RUNS}
    for run, cut in CUTS:
        payloads = resumed("agui", run, cut, **ASKED)[1]
        sent[f"{run}/{cut}"] = [json.loads(payload) for payload in payloads]
    for end in (ev.RunEnd, ev.RunError, ev.RunCancelled):
        form = make_format("agui", RenderOptions())
        name = f"golden {end.event_type}"
        sent[name] = [json.loads(each) for event in golden(end) for each in form.feed(event)]
        kinds = {each["type"] for each in sent[name]}
        assert kinds >= {"RUN_STARTED", "TEXT_MESSAGE_CONTENT", "ACTIVITY_SNAPSHOT", "CUSTOM"}
    for run in sent.values():
        check(run)
    assert run_node(ZOD, sent) == []


@pytest.mark.parametrize("run", RUNS)
def test_a_run_declares_the_version_it_speaks(run):
    assert PROTOCOL_VERSION == ag_ui.core.PROTOCOL_VERSION
    for options in ({}, {"predates_versions": True}):
        first = objects(run, **options)[0]
        assert (first["type"], first["protocolVersion"]) == ("RUN_STARTED", "1.0")
        assert first["metadata"] == {"streamll": {"run_id": "r1"}}
    again = json.loads(resumed("agui", run, 1, **ASKED)[1][0])
    assert (again["type"], again["protocolVersion"]) == ("RUN_STARTED", "1.0")


def test_events_have_their_time_in_milliseconds():
    events = RUNS["plain"]()
    form = make_format("agui")
    for event in events:
        for payload in form.feed(event):
            assert json.loads(payload)["timestamp"] == int(event.timestamp * 1000)


def test_messages_say_which_field_of_which_predictor_they_are():
    sent = objects("reasoned")
    starts = [*only(sent, "REASONING_MESSAGE_START"), *only(sent, "TEXT_MESSAGE_START")]
    assert [each["metadata"]["streamll"] for each in starts] == [
        {"field": "thinking", "predictor": "predict"},
        {"field": "reasoning", "predictor": "predict"},
        {"field": "answer", "predictor": "predict"},
    ]


def test_sources_and_refusals_of_a_superseded_attempt_are_named():
    told = [(each["name"], each["value"]) for each in only(objects("cited_again"), "CUSTOM")]
    kinds = [name for name, _ in told]
    assert kinds == ["citation", "citation", "refusal", "superseded", "citation"]
    assert told[3][1]["ids"] == [value["id"] for _, value in told[:3]]
    assert told[4][1]["id"] not in told[3][1]["ids"]
    assert told[4][1]["url"] == "https://example.org/a"


# --- how a run ends -------------------------------------------------------------------------------


def test_a_run_that_ends_has_its_result():
    [end] = only(objects("plain"), "RUN_FINISHED")
    assert end["outcome"] == {"type": "success"}
    assert end["result"] == {"answer": "Machine learning"}
    assert only(objects("reasoned", text="answer"), "RUN_FINISHED")[0]["result"] == {
        "answer": 'こんにちは\n🎉 "x"'
    }
    assert only(objects("typed"), "RUN_FINISHED")[0]["result"]["score"] == 7
    assert only(objects("superseded"), "RUN_FINISHED")[0]["result"] == {"answer": "right"}


def test_outputs_that_were_asked_for_are_the_result():
    scribe = Scribe().start().text("answer", "said")
    scribe.add(ev.RunEnd, ev.Identity(run_id="r1"), outputs={"answer": "returned", "score": 1})
    form = make_format("agui")
    *_, last = [payload for event in scribe.events for payload in form.feed(event)]
    assert json.loads(last)["result"] == {"answer": "returned", "score": 1}


def test_a_cancelled_run_is_neither_success_nor_failure():
    *_, end = objects("cancelled")
    assert (end["type"], end["outcome"]) == ("RUN_FINISHED", {"type": "cancelled"})
    assert "result" not in end


def test_to_a_client_from_before_that_outcome_a_cancelled_run_is_no_success():
    *_, end = objects("cancelled", predates_versions=True)
    assert (end["type"], end["code"]) == ("RUN_ERROR", "cancelled")


def test_calls_that_the_page_is_to_answer_are_named():
    sent = objects("two_tools")
    searched, asked = (each["toolCallId"] for each in only(sent, "TOOL_CALL_START"))
    assert only(sent, "RUN_FINISHED")[0]["outcome"] == {
        "type": "success",
        "pendingToolCallIds": [asked],
    }
    assert [each["toolCallId"] for each in only(sent, "TOOL_CALL_RESULT")] == [searched]


@pytest.mark.parametrize("end", [ev.RunEnd, ev.RunCancelled, ev.RunError])
def test_usage_is_one_entry_for_each_model_and_nothing_that_is_not_known(end):
    used = (
        ModelUsage(
            model="openai/gpt-x", prompt_tokens=10, completion_tokens=0, cache_read_tokens=4,
            cache_write_tokens=2, reasoning_tokens=0,
        ),
        ModelUsage(model="gemini/pro/latest", prompt_tokens=7),
        ModelUsage(model="local", completion_tokens=3, prompt_tokens=2),
        ModelUsage(model="openai/cut", prompt_tokens=9, completion_tokens=9, unreported=1),
        ModelUsage(model="openai/silent"),
    )  # fmt: skip
    failed = {"error_type": "E", "message": "m"} if end is ev.RunError else {}
    events = Scribe().start().add(end, ev.Identity(run_id="r1"), usage=used, **failed).events
    form = make_format("agui", RenderOptions(**ASKED))
    *_, last = [json.loads(payload) for event in events for payload in form.feed(event)]
    check([last])
    assert last["usage"] == [
        {"provider": "openai", "model": "gpt-x", "inputTokens": 10, "outputTokens": 0, "totalTokens": 10,
         "reasoningTokens": 0, "cachedInputTokens": 4, "cacheWriteInputTokens": 2},
        {"provider": "google", "model": "pro/latest", "inputTokens": 7},
        {"model": "local", "inputTokens": 2, "outputTokens": 3, "totalTokens": 5},
    ]  # fmt: skip
    assert "usage" not in objects("cancelled")[-1]


# --- what the client makes of it --------------------------------------------------------------------


@pytest.fixture(scope="module")
def read():
    return run_node(READ_AGUI, {run: sse(told("agui", run, **ASKED)) for run in RUNS})


def test_the_client_is_told_how_a_run_ended(read):
    assert read["cancelled"]["end"]["outcome"] == {"type": "cancelled"}
    assert read["cancelled"]["errors"] == []
    assert read["plain"]["end"]["result"] == {"answer": "Machine learning"}
    assert read["failed"]["errors"] == ["bad"]


def test_a_replys_calls_are_in_the_message_of_its_text(read):
    _, said, result = read["two_tools"]["messages"]
    assert (said["role"], said["content"]) == ("assistant", "let me look")
    assert [call["function"]["name"] for call in said["toolCalls"]] == ["search", "ask_user"]
    assert {call["metadata"]["streamll"]["predictor"] for call in said["toolCalls"]} == {"predict"}
    assert result["toolCallId"] == said["toolCalls"][0]["id"]


def test_a_reply_of_calls_alone_is_one_message():
    scribe = Scribe().start()
    for index in range(2):
        scribe.add(ev.ToolCallDelta, index=index, name=f"tool{index}", arguments="{}")
    form = make_format("agui", RenderOptions(**ASKED))
    payloads = [p for event in scribe.end().events for p in form.feed(event)]
    got = run_node(READ_AGUI, {"run": sse(payloads)})["run"]
    _, message = got["messages"]
    assert [call["function"]["name"] for call in message["toolCalls"]] == ["tool0", "tool1"]


def test_a_tools_error_is_an_error(read):
    for run in ("tools", "two_tools"):
        results = [m for m in read[run]["messages"] if m["role"] == "tool"]
        assert results[-1]["error"] == results[-1]["content"] == "KeyError: 'k'"
    assert "error" not in next(m for m in read["tools"]["messages"] if m["role"] == "tool")


def test_a_wait_for_a_retry_is_an_activity_that_ends(read):
    events = only(objects("waited"), "ACTIVITY_SNAPSHOT")
    told = [(e["content"]["reason"], e["content"]["state"]) for e in events]
    assert told == [
        ("retry", "waiting"), ("retry", "over"), ("connection", "waiting"), ("connection", "over"),
    ]  # fmt: skip
    assert events[0]["content"]["delay"] == 1.5
    [activity] = [m for m in read["waited"]["messages"] if m["role"] == "activity"]
    assert activity["activityType"] == "waiting"
    assert activity["content"] == {"reason": "connection", "predictor": "predict", "state": "over"}


def final(read):
    """What a page has in the end, in the order in which it shows it."""
    messages = [m for m in read["messages"] if m.get("content") or m.get("toolCalls")]
    return messages, read["state"], read["errors"], read["warnings"]


def test_a_client_that_keeps_what_it_had_ends_with_the_same_after_every_cut(read):
    """It comes back with its messages, of which some are this run's, and its state."""
    halves = {f"{run}/{cut}": resumed("agui", run, cut, **ASKED)[0] for run, cut in SOME_CUTS}
    had = run_node(READ_AGUI, {name: sse(half) for name, half in halves.items()})
    given = {}
    for name, page in had.items():
        run, cut = name.split("/")
        kept = [message for message in page["messages"] if message["role"] != "activity"]
        options = {**ASKED, "messages": kept, "state": page["state"]}
        after = resumed("agui", run, int(cut), **options)[1]
        given[name] = {"sse": sse(after), "messages": page["messages"], "state": page["state"]}
    for name, got in run_node(READ_AGUI, given).items():
        messages, *rest = final(got)
        right, *right_rest = final(read[name.partition("/")[0]])
        assert rest == right_rest, name
        assert sorted(messages, key=json.dumps) == sorted(right, key=json.dumps), name


def test_the_last_client_before_1_0_reads_every_run(read):
    """It declares no version. What it does not know it leaves out or keeps; nothing breaks it."""
    place = packages(AGUI_0, "npm-agui-0")
    payloads = {run: told("agui", run, **ASKED, predates_versions=True) for run in RUNS}
    old = run_node(READ_AGUI, {run: sse(payloads[run]) for run in RUNS}, place=place)
    for run, got in old.items():
        expected = {"failed": ["bad"], "cancelled": ["the run was cancelled"]}.get(run, [])
        assert got["errors"] == expected, run
        assert final(got)[:2] == final(read[run])[:2], run
