"""X11: a run as events of OpenAI's Responses API, read by the ``openai`` package's models and states."""

from __future__ import annotations

import json

import openai
import pytest
from openai._types import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from serve.runs import CALL, OTHER, RUNS, SECOND, Scribe, payloads
from streamll.core import events as ev
from streamll.core.errors import LogAway
from streamll.serve.formats import RenderOptions, make_format
from streamll.serve.log.streams import RunWriter

EVENT = TypeAdapter(ResponseStreamEvent)
KNOWN_TO_SERVERS = {"store", "name"}
"""Fields that OpenAI sends and the package does not list; ``name`` is known to openai 2."""


def refused():
    scribe = Scribe().start().add(ev.Refusal, text="I will").add(ev.Refusal, text=" not.")
    return scribe.add(ev.RunError, ev.Identity(run_id="r1"), error_type="E", message="m").events


def stopped():
    scribe = Scribe().start().text("answer", "as far as", end=False)
    scribe.add(
        ev.TokenEvent, field="answer", token="", offset=9, token_index=1, finish_reason="length"
    )
    return scribe.add(ev.FieldEnd, field="answer", length=9).end().events


def cited_first():
    """A source that comes before the text, one for the text, one of an attempt that is void."""
    source = {"text": "right", "url": "https://example.org/b"}
    scribe = Scribe().start().add(ev.Citation, url="https://example.org/void")
    scribe.text("answer", "wro", end=False).add(
        ev.FieldEnd, field="answer", length=3, complete=False
    )
    scribe.add(ev.LMSuperseded, reason="LMServerError")
    scribe.add(ev.Citation, SECOND, url="https://example.org/a", title="A")
    scribe.text("answer", "the ", "right one", identity=SECOND)
    return scribe.add(ev.Citation, SECOND, **source).end().events


def cited_later():
    """A source of a call that has replied, while another one does."""
    scribe = Scribe().start().text("answer", "one").text("answer", "two", identity=OTHER, end=False)
    scribe.add(ev.Citation, url="https://example.org/one")
    return scribe.add(ev.FieldEnd, OTHER, field="answer", length=3).end().events


def called():
    """A tool call that the program does not run: it is the client's."""
    scribe = Scribe().start().add(ev.ToolCallDelta, index=0, name="search", arguments='{"q": ')
    return scribe.add(ev.ToolCallDelta, index=0, arguments='"x"}').end().events


ALL = {
    **RUNS,
    **{make.__name__: make for make in (refused, stopped, cited_first, cited_later, called)},
}


def told(run, **options):
    return [
        json.loads(p)
        for p in payloads(make_format("responses", RenderOptions(**options)), ALL[run]())
    ]


def unknown_fields(value):
    if isinstance(value, BaseModel):
        known = {name: getattr(value, name, None) for name in type(value).model_fields}
        return set(value.model_extra or ()).union(*map(unknown_fields, known.values()))
    if isinstance(value, (list, tuple)):
        return set().union(*map(unknown_fields, value))
    return set()


SUMMED_UP = {"echo": {"reasoning": {"effort": None, "summary": "auto"}}}


@pytest.mark.parametrize("options", [{}, {"text": "answer", **SUMMED_UP}], ids=["", "answer"])
@pytest.mark.parametrize("run", ALL)
def test_every_event_is_what_the_packages_models_say(run, options):
    for each in told(run, **options):
        event = EVENT.validate_python(each, strict=True)
        assert type(event).__name__ not in {"dict", "ResponseErrorEvent"}
        assert unknown_fields(event) <= KNOWN_TO_SERVERS


def final_of(events, **options):
    """What the package's own state makes of a stream: the response in the end, and its text."""
    state = ResponseStreamState(input_tools=omit, text_format=omit)
    last = None
    for each in events:
        for event in state.handle_event(EVENT.validate_python(each)):
            last = event
    return last.response


@pytest.mark.parametrize("run", ALL)
def test_the_packages_state_follows_every_run(run):
    events = told(run, text="answer")
    response = final_of(events)
    assert [e["sequence_number"] for e in events] == list(range(len(events)))
    assert [e["type"] for e in events[:2]] == ["response.created", "response.in_progress"]
    assert (
        events[-1]["response"]["output"] == [i.to_dict() | {} for i in response.output] or response
    )
    expected = {
        "failed": "failed",
        "refused": "failed",
        "cancelled": "cancelled",
        "stopped": "incomplete",
    }
    assert response.status == expected.get(run, "completed")
    for index, item in enumerate(events[-1]["response"]["output"]):
        about = [e for e in events[:-1] if e.get("output_index") == index]
        assert about[0]["type"] == "response.output_item.added"
        assert about[-1]["type"] == "response.output_item.done"
        assert {e.get("item_id", item["id"]) for e in about} == {item["id"]}
        assert about[-1]["item"]["type"] == item["type"]
        kinds = [e["type"] for e in about]
        assert all(
            kinds.count(k) == 1
            for k in kinds
            if k.endswith((".done", ".added")) and "annotation" not in k
        )


@pytest.mark.parametrize("run", ALL)
def test_items_that_count_are_told_as_they_are_in_the_end(run):
    """A client that only adds up deltas, or only takes what is done, has the same as who waits."""
    events = told(run)
    response = events[-1]["response"]
    added = {}
    for event in events:
        if event["type"].endswith("_text.delta") or event["type"] == "response.refusal.delta":
            key = event["output_index"]
            added[key] = added.get(key, "") + event["delta"]
    for index, item in enumerate(response["output"]):
        [done] = [
            e["item"]
            for e in events
            if e["type"].endswith("item.done") and e["output_index"] == index
        ]
        if (
            item["type"] in {"message", "reasoning"}
            and item["content"]
            and run not in {"corrected", "typed_repaired"}
        ):
            item["content"][0].pop("annotations", None)  # one may come behind the text's end
            done["content"][0].pop("annotations", None)
            assert done == item
            assert added[index] == item["content"][0].get("text", item["content"][0].get("refusal"))


def texts(response, kind="message"):
    return [
        i["content"][0].get("text")
        for i in response["output"]
        if i["type"] == kind and i["content"]
    ]


@pytest.mark.parametrize(
    ("run", "text"),
    [("plain", "Machine learning"), ("superseded", "right"), ("superseded_in_the_middle", "right"),
     ("superseded_thinking", "right"), ("superseded_thoughts", "right"), ("corrected", "None"),
     ("cited_first", "the right one"), ("tools", "found"), ("stopped", "as far as"), ("failed", "so far"),
     ("cancelled", "so far")],
)  # fmt: skip
def test_the_text_in_the_end_is_what_the_program_returned(run, text):
    """X4"""
    events = told(run, text="answer")
    assert Response.model_validate(events[-1]["response"]).output_text == text
    assert texts(events[-1]["response"]) == [text]


def test_reasoning_is_told_as_such():
    response = told("reasoned", text="answer")[-1]["response"]
    assert texts(response, "reasoning") == ["hmm", "Because so"]
    response = told("superseded_thoughts", text="answer")[-1]["response"]
    assert texts(response, "reasoning") == []
    gone = [i for i in response["output"] if not i["content"]]
    assert {i["status"] for i in gone} == {"incomplete"}
    assert len(gone) == 3


def test_a_tool_that_the_program_ran_is_not_the_clients_to_run():
    """An agent's loop runs every ``function_call`` and asks again: for ever, if it was run here."""
    response = told("tools")[-1]["response"]
    search, lookup = [i for i in response["output"] if i["type"] == "mcp_call"]
    assert (search["name"], search["arguments"], search["output"]) == ("search", '{"q":"x"}', "[1]")
    assert (lookup["status"], lookup["error"]["content"]) == ("failed", "KeyError: 'k'")
    assert all(i["type"] != "function_call" for i in response["output"])
    [call] = told("called")[-1]["response"]["output"]
    assert (call["type"], call["name"], json.loads(call["arguments"])) == (
        "function_call",
        "search",
        {"q": "x"},
    )
    [call] = [
        i for i in told("superseded_tools")[-1]["response"]["output"] if i["type"] != "message"
    ]
    assert (call["arguments"], call["output"]) == ('{"q": "right"}', "it")
    assert all(i["type"] != "function_call" for i in told("failed")[-1]["response"]["output"])


def test_sources_are_annotations_of_the_text_they_are_for():
    events = told("cited_first")
    [_, item] = events[-1]["response"]["output"]
    first, second = item["content"][0]["annotations"]
    assert (first["title"], first["start_index"]) == ("A", 0)
    assert "the right one"[second["start_index"] : second["end_index"]] == "right"
    void, early = [e for e in events if e["type"].endswith("annotation.added")]
    assert void["annotation"]["url"].endswith("void")
    assert (early["annotation"], early["item_id"]) == (first, item["id"])

    one, two = told("cited_later")[-1]["response"]["output"]
    assert [len(item["content"][0]["annotations"]) for item in (one, two)] == [1, 0]


@pytest.mark.parametrize("run", ALL)
def test_only_text_of_the_reply_has_sources(run):
    events = told(run)
    items = events[-1]["response"]["output"]
    for event in events:
        if event["type"].endswith("annotation.added") and items[event["output_index"]]["content"]:
            assert items[event["output_index"]]["content"][0]["type"] == "output_text"


def test_usage_and_errors_are_in_the_last_event():
    assert told("plain")[-1]["response"]["usage"]["total_tokens"] == 10
    failed = told("failed")[-1]
    assert failed["type"] == "response.failed"
    assert (failed["response"]["error"]["message"], failed["response"]["error"]["type"]) == (
        "bad",
        "ValueError",
    )
    cancelled = told("cancelled")[-1]
    assert (cancelled["type"], cancelled["response"]["status"]) == (
        "response.incomplete",
        "cancelled",
    )
    stopped = told("stopped")[-1]
    assert stopped["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    [refusal] = told("refused")[-1]["response"]["output"]
    assert refusal["content"] == [{"type": "refusal", "refusal": "I will not."}]


def test_lost_text_is_never_called_complete():
    events = [
        e for e in RUNS["plain"]() if not (isinstance(e, ev.TokenEvent) and e.token_index == 1)
    ]
    form = make_format("responses")
    last = json.loads(payloads(form, events)[-1])
    assert (last["type"], last["response"]["error"]["message"]) == (
        "response.failed",
        "text was lost on the way",
    )


# --- resuming -------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", ALL)
def test_a_reader_that_comes_back_gets_the_rest_and_nothing_twice(run):
    """X10: from the log, with the number of the last event it had."""
    whole = told(run, text="answer")
    for had in range(-1, len(whole)):
        assert told(run, text="answer", starting_after=had) == whole[had + 1 :]


def test_what_is_in_no_log_takes_no_number():
    """A reader that is sent away while text comes goes on where it was."""
    events = RUNS["plain"]()
    form = make_format("responses")
    had = [json.loads(p) for p in payloads(form, events[:5])]
    notice = ev.Status(message="the run is silent", timestamp=1.0, identity=CALL)
    assert form.feed(notice) == []
    [error] = RunWriter(form, frames=False).broken("r1", LogAway())
    error = EVENT.validate_python(json.loads(error), strict=True)
    assert (error.type, error.code, error.message) == ("error", "LogAway", "the log cannot be read")
    assert error.sequence_number == had[-1]["sequence_number"]
    assert form.feed(events[5]) == []
    rest = told("plain", starting_after=error.sequence_number)
    assert [*had, *rest] == told("plain")


def test_frames_have_the_names_that_other_clients_listen_to():
    writer = RunWriter(make_format("responses"), frames=True)
    [first] = writer.packed(payloads(writer.form, RUNS["plain"]()[:1]))
    lines = first.decode().split("\n")
    assert lines[0] == "event: response.created"
    assert lines[3] == "event: response.in_progress"
    assert not any(line.startswith("id:") for line in lines)
    assert openai.__version__
