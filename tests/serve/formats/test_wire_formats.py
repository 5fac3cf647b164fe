"""X11: one run on four wires, each read by the reader its users have."""

from __future__ import annotations

import json
import re

import ag_ui.core
import httpx
import openai
import pydantic
import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk
from profiles import THOROUGH

from serve.npm import ROOT, run_node
from serve.runs import CALL, OTHER, RUNS, SECOND, Scribe, payloads, side_by_side
from serve.runs import ROOT as ROOT_OF_RUN
from streamll.core import events as ev
from streamll.core.errors import ConfigurationError
from streamll.core.wire import decode
from streamll.serve.formats import FORMATS, RenderOptions, make_format
from streamll.serve.formats.openai import ChatCompletion


def told(name, run, **options):
    return payloads(make_format(name, RenderOptions(**options)), RUNS[run]())


def objects(name, run, **options):
    return [json.loads(p) for p in told(name, run, **options) if p != b"[DONE]"]


def test_an_unknown_format_is_named():
    with pytest.raises(ConfigurationError, match="no format 'soap'; there are native, vercel"):
        make_format("soap")


@pytest.mark.parametrize("run", RUNS)
def test_native_loses_nothing(run):
    assert [decode(payload) for payload in told("native", run)] == RUNS[run]()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("run", RUNS)
def test_nothing_follows_the_end_and_every_payload_is_one_line(name, run):
    events = RUNS[run]()
    form = make_format(name)
    assert all(b"\n" not in payload for payload in payloads(form, events))
    if name != "native":
        assert payloads(form, events[2:]) == []


# --- Vercel: the ``ai`` package's own reader ----------------------------------------------------

SHOWN_PARTS = re.search(
    r"```javascript\nexport (function shownParts.*?)```",
    (ROOT / "docs" / "fastapi.md").read_text("utf-8"),
    re.DOTALL,
)[1]
READ_VERCEL = (
    """
import {parseJsonEventStream, readUIMessageStream, uiMessageChunkSchema} from 'ai';
import fs from 'fs';
const runs = JSON.parse(fs.readFileSync(0, 'utf8')), read = {};
for (const [name, {sse, message}] of Object.entries(runs)) {
  const bytes = new Response(sse).body;
  const errors = [];
  const chunks = parseJsonEventStream({stream: bytes, schema: uiMessageChunkSchema}).pipeThrough(
    new TransformStream({transform(c, out) { c.success ? out.enqueue(c.value) : errors.push('' + c.error); }}));
  let last = null, seen = 0;
  for await (const m of readUIMessageStream({stream: chunks, message: message ?? undefined,
                                             onError: e => errors.push(e.message)})) { last = m; seen++; }
  read[name] = {message: last, errors, seen, shown: last ? shownParts(last) : []};
}
console.log(JSON.stringify(read));
"""
    + SHOWN_PARTS
)


def sse(lines):
    """As the server sends it, heartbeats between the frames."""
    frames = (f": \n\nid: r1:{n}\ndata: {line.decode()}\n\n" for n, line in enumerate(lines))
    return "retry: 1000\n\n" + "".join(frames)


@pytest.fixture(scope="module")
def read_by_vercel():
    return run_node(READ_VERCEL, {run: {"sse": sse(told("vercel", run))} for run in RUNS})


def texts(read, kind="text", of="parts"):
    """What the message holds, or with ``of="shown"`` what a page shows of it."""
    parts = read["shown"] if of == "shown" else read["message"]["parts"]
    return [part["text"] for part in parts if part["type"] == kind]


@pytest.mark.parametrize("run", RUNS)
def test_vercels_reader_understands_every_run(read_by_vercel, run):
    read = read_by_vercel[run]
    assert read["errors"] == (["bad"] if run == "failed" else [])
    assert all(part.get("state") != "streaming" for part in read["message"]["parts"])


def test_vercels_reader_gets_text_reasoning_and_tools(read_by_vercel):
    assert texts(read_by_vercel["plain"]) == ["Machine learning"]
    assert texts(read_by_vercel["reasoned"]) == ['こんにちは\n🎉 "x"']
    assert texts(read_by_vercel["reasoned"], "reasoning") == ["hmm", "Because so"]
    search, lookup = [p for p in read_by_vercel["tools"]["message"]["parts"] if "toolCallId" in p]
    assert (search["type"], search["input"], search["output"]) == ("tool-search", {"q": "x"}, [1])
    assert (lookup["state"], lookup["errorText"]) == ("output-error", "KeyError: 'k'")
    unfinished = [p for p in read_by_vercel["failed"]["message"]["parts"] if "toolCallId" in p]
    assert {p["state"] for p in unfinished} == {"output-error", "input-available"}


def test_a_page_shows_what_the_program_returned(read_by_vercel):
    """X4: the message only grows, and says which of its parts count."""
    assert texts(read_by_vercel["superseded"]) == ["wrong", "right"]
    for run, text in {
        "superseded": "right",
        "superseded_in_the_middle": "right",
        "superseded_thinking": "right",
        "superseded_thoughts": "right",
        "corrected": "None",
        "plain": "Machine learning",
    }.items():
        assert texts(read_by_vercel[run], of="shown") == [text]
    for run in ("superseded_thinking", "superseded_thoughts"):
        assert texts(read_by_vercel[run], "reasoning", of="shown") == []
    calls = [p for p in read_by_vercel["superseded_tools"]["shown"] if "toolCallId" in p]
    assert [(c["state"], c["input"], c["output"]) for c in calls] == [
        ("output-available", {"q": "right"}, "it")
    ]


def test_vercels_reader_gets_values_sources_and_custom_events(read_by_vercel):
    parts = {part["type"]: part for part in read_by_vercel["everything"]["message"]["parts"]}
    assert parts["data-items"]["data"]["value"] == ["a", "b"]
    assert parts["data-items"]["data"]["state"] == "complete"
    assert parts["source-url"]["url"] == "https://example.org/a"
    assert parts["data-docs-found-"]["data"] == {"count": 2}
    assert parts["data-gap"]["data"] == {"count": 3, "reason": "overflow"}
    assert parts["data-citation"]["data"] == {"text": "t", "title": None}
    assert parts["data-refusal"]["data"] == {"text": "no"}
    assert (parts["file"]["url"], parts["file"]["mediaType"]) == (
        "https://example.org/i.png",
        "image/png",
    )
    assert parts["tool-python"]["output"] == 2
    assert "data-status" not in parts  # transient: shown, not kept


def test_vercel_ends_open_parts_before_error_and_abort():
    assert [o["type"] for o in objects("vercel", "cancelled")][-2:] == ["text-end", "abort"]
    assert [o["type"] for o in objects("vercel", "failed")][-1] == "error"
    assert told("vercel", "failed")[-1] == b"[DONE]"


def resumed(name, run, cut, **options):
    """What a reader gets that has had the first ``cut`` events: before, and after."""
    events = RUNS[run]()
    first, second = (make_format(name, RenderOptions(**options)) for _ in range(2))
    before = payloads(first, events[:cut])
    payloads(second, events[:cut])
    return before, [*second.resume(), *payloads(second, events[cut:])]


def cuts(run):
    """Behind how many events it is cut: behind each, or once between any two kinds that follow each other."""
    kinds = [event.event_type for event in RUNS[run]()]
    places = {
        cut if THOROUGH else (kinds[cut - 1], kinds[cut]): cut for cut in range(1, len(kinds))
    }
    return list(places.values())


# --- AG-UI: its models and its client -----------------------------------------------------------

AGUI_EVENT = pydantic.TypeAdapter(ag_ui.core.Event)

READ_AGUI = """
import {HttpAgent} from '@ag-ui/client';
import fs from 'fs';
const runs = JSON.parse(fs.readFileSync(0, 'utf8')), read = {};
const said = [];
console.warn = (...all) => { said.push(all.join(' ')); };
for (const [name, given] of Object.entries(runs)) {
  const {sse, messages, state} = typeof given === 'string' ? {sse: given} : given;
  const agent = new HttpAgent({url: 'http://agent.invalid/agui', threadId: 'th',
    initialMessages: messages ?? [{id: 'u1', role: 'user', content: 'hello'}], initialState: state ?? {},
    fetch: async () => new Response(sse, {headers: {'content-type': 'text/event-stream'}})});
  const errors = [], customs = [];
  let end = {};
  try {
    await agent.runAgent({runId: 'r1'}, {
      onRunErrorEvent: ({event}) => { errors.push(event.message); },
      onRunFinishedEvent: ({event}) => { end = event; },
      onCustomEvent: ({event}) => { customs.push(event.name); }});
  } catch (e) { errors.push('thrown: ' + e.message); }
  read[name] = {messages: agent.messages, state: agent.state, errors, customs, end, warnings: said.splice(0)};
}
console.log(JSON.stringify(read));
"""
HELLO = {"id": "u1", "role": "user", "content": "hello"}
ASKED = {"thread_id": "th", "run_id": "r1", "messages": [HELLO]}


@pytest.fixture(scope="module")
def read_by_agui():
    return run_node(READ_AGUI, {run: sse(told("agui", run, **ASKED)) for run in RUNS})


@pytest.mark.parametrize("run", RUNS)
def test_agui_events_are_what_its_models_say(run):
    sent = objects("agui", run, **ASKED)
    for each in sent:
        AGUI_EVENT.validate_python(each)
        if each["type"] not in {"CUSTOM", "STATE_DELTA"}:
            assert None not in each.values()
    kinds = [each["type"] for each in sent]
    assert kinds[0] == "RUN_STARTED"
    assert kinds[-1] == ("RUN_ERROR" if run == "failed" else "RUN_FINISHED")
    assert sum(kind in {"RUN_ERROR", "RUN_FINISHED"} for kind in kinds) == 1
    for opens in ("TEXT_MESSAGE", "REASONING_MESSAGE", "TOOL_CALL"):
        assert kinds.count(f"{opens}_START") == kinds.count(f"{opens}_END")


def replies(read):
    return [m["content"] for m in read["messages"] if m["role"] == "assistant" and m.get("content")]


def thoughts(read):
    return " ".join(m["content"] for m in read["messages"] if m["role"] == "reasoning")


def test_aguis_client_shows_what_the_program_returned(read_by_agui):
    assert replies(read_by_agui["plain"]) == ["Machine learning"]
    assert replies(read_by_agui["reasoned"]) == ['こんにちは\n🎉 "x"']
    assert replies(read_by_agui["superseded"]) == ["right"]
    assert replies(read_by_agui["superseded_in_the_middle"]) == ["right"]
    assert replies(read_by_agui["typed"]) == ["7", "done"]
    assert replies(read_by_agui["typed_at_last"]) == ["print(1)"]
    assert replies(read_by_agui["typed_superseded"]) == []
    assert thoughts(read_by_agui["superseded_thinking"]) == ""
    assert thoughts(read_by_agui["superseded_thoughts"]) == ""
    assert thoughts(read_by_agui["reasoned"]) == "hmm Because so"
    assert replies(read_by_agui["corrected"]) == ["None"]
    assert read_by_agui["superseded"]["messages"][0]["content"] == "hello"


def test_aguis_client_gets_tools_state_and_custom_events(read_by_agui):
    results = [m["content"] for m in read_by_agui["tools"]["messages"] if m["role"] == "tool"]
    assert results == ["[1]", "KeyError: 'k'"]
    assert read_by_agui["everything"]["state"]["fields"] == {"items": ["a", "b"]}
    customs = {"status", "docs found!", "citation", "gap", "refusal", "reply-part"}
    assert customs <= set(read_by_agui["everything"]["customs"])
    calls = [
        m["toolCalls"] for m in read_by_agui["superseded_tools"]["messages"] if "toolCalls" in m
    ]
    assert [[c["function"]["arguments"] for c in call] for call in calls] == [['{"q": "right"}']]


@pytest.mark.parametrize("run", RUNS)
def test_aguis_client_never_complains(read_by_agui, run):
    assert read_by_agui[run]["errors"] == (["bad"] if run == "failed" else [])
    assert read_by_agui[run]["warnings"] == []


# --- OpenAI: the SDK's own parser ---------------------------------------------------------------


def read_by_openai(lines):
    """The text, finish reason and usage as the ``openai`` package reads them; or its error."""
    body = "".join(f": \n\ndata: {line.decode()}\n\n" for line in lines)
    answer = httpx.MockTransport(
        lambda _: httpx.Response(200, headers={"content-type": "text/event-stream"}, text=body)
    )
    client = openai.OpenAI(
        api_key="k", base_url="http://x.invalid", http_client=httpx.Client(transport=answer)
    )
    text, reason, usage = "", None, None
    for chunk in client.chat.completions.create(model="m", messages=[], stream=True):
        if chunk.usage is not None:
            usage = chunk.usage.total_tokens
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reason = choice.finish_reason or reason
    return text, reason, usage


def test_the_openai_package_reads_the_reply():
    assert read_by_openai(told("openai", "plain")) == ("Machine learning", "stop", None)
    assert read_by_openai(told("openai", "reasoned", text="answer", include_usage=True)) == (
        'こんにちは\n🎉 "x"',
        "stop",
        10,
    )
    assert read_by_openai(told("openai", "tools")) == ("found", "stop", None)
    assert read_by_openai(told("openai", "everything")) == ("done", "stop", None)
    assert all(told("openai", run)[-1] == b"[DONE]" for run in RUNS)


def test_an_openai_chunk_has_what_clients_rely_on():
    chunks = objects("openai", "plain", include_usage=True, model="qa")
    assert {(c["id"], c["object"], c["created"], c["model"]) for c in chunks} == {
        ("chatcmpl-r1", "chat.completion.chunk", 1_700_000_000, "qa")
    }
    first = {"role": "assistant", "content": "", "refusal": None}
    assert chunks[0]["choices"][0]["delta"] == first
    assert [c["usage"] for c in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert [c["choices"][0]["finish_reason"] for c in chunks[:-1]] == [None] * (len(chunks) - 2) + [
        "stop"
    ]
    assert chunks[-1]["choices"] == []


def test_openai_goes_on_behind_what_attempts_have_in_common():
    """X4: text cannot be taken back on this wire, so wrong text is never continued."""
    assert read_by_openai(told("openai", "superseded_in_the_middle"))[0] == "right"
    for run, why in (
        ("superseded", "superseded"),
        ("corrected", "corrected"),
        ("typed_superseded", "superseded"),
        ("typed_repaired", "corrected"),
    ):
        with pytest.raises(openai.APIError, match=f"sent so far was {why}"):
            read_by_openai(told("openai", run))


def completed(events, **options):
    """The answer to a request without ``stream``."""
    completion = ChatCompletion(RenderOptions(**options))
    for event in events:
        completion.feed(event)
    return openai.types.chat.ChatCompletion.model_validate(completion.answer())


def streamed(events, name, **options):
    """What a stream says in the end in ``delta.<name>``, and the code of its error."""
    told = payloads(make_format("openai", RenderOptions(**options)), events)[:-1]
    *chunks, last = [json.loads(each) for each in told]
    deltas = [c["choices"][0]["delta"] for c in chunks if c["choices"]]
    return "".join(d.get(name) or "" for d in deltas), last.get("error", {}).get("code")


def test_openai_sends_calls_that_overlap_one_after_the_other():
    scribe = Scribe().start().add(ev.Thinking, text="h").add(ev.Thinking, OTHER, text="b")
    scribe.add(ev.Thinking, text="m").add(ev.Thinking, OTHER, text="ut")
    scribe.text("answer", "one ", end=False).text("answer", "uno ", identity=OTHER, end=False)
    for call, token, offset in ((CALL, "two ", 4), (OTHER, "dos", 4), (CALL, "three", 8)):
        scribe.add(ev.TokenEvent, call, field="answer", token=token, offset=offset)
    for call in (CALL, OTHER):
        scribe.add(ev.FieldEnd, call, field="answer", length=9)
    events = scribe.end().events
    assert streamed(events, "content") == ("one two three\n\nuno dos", None)
    assert streamed(events, "reasoning_content", include_reasoning=True) == ("hm\n\nbut", None)


def test_openai_never_ends_well_with_another_text_than_the_reply():
    ended = []
    for seed in range(300):
        events = side_by_side(seed)
        text, error = streamed(events, "content", text="answer")
        ended.append(error)
        reply = completed(events, text="answer").choices[0].message.content
        assert error or text == reply, seed
    assert {*ended} == {None, "superseded", "corrected"}


@pytest.mark.parametrize("code", ["corrected", "superseded"])
def test_openai_does_not_end_well_when_an_earlier_field_was_wrong(code):
    scribe = Scribe().start().text("answer", "wrong").text("answer", "fine", identity=OTHER)
    if code == "corrected":
        scribe.add(ev.FieldCorrected, field="answer", text="right")
    else:
        scribe.add(ev.LMSuperseded, reason="E").text("answer", "right", identity=SECOND)
    assert streamed(scribe.end().events, "content") == ("wrong\n\nfine", code)


def test_openai_goes_on_when_a_field_is_corrected_of_which_nothing_was_sent():
    scribe = Scribe().start().text("answer", "rig", end=False).add(ev.LMSuperseded, reason="E")
    scribe.text("answer", "r", identity=SECOND, end=False).text("answer", "uno", identity=OTHER)
    scribe.add(ev.FieldCorrected, OTHER, field="answer", text="dos")
    scribe.add(ev.TokenEvent, SECOND, field="answer", token="ight", offset=1)
    assert streamed(scribe.end().events, "content") == ("right\n\ndos", None)


@pytest.mark.parametrize(("run", "message"), [("failed", "bad"), ("cancelled", "was cancelled")])
def test_openai_errors_reach_the_sdk(run, message):
    with pytest.raises(openai.APIError, match=message):
        read_by_openai(told("openai", run))


def test_openai_reports_lost_text():
    events = [
        e for e in RUNS["plain"]() if not (isinstance(e, ev.TokenEvent) and e.token_index == 1)
    ]
    with pytest.raises(openai.APIError, match="text was lost"):
        read_by_openai(payloads(make_format("openai"), events))


def test_a_whole_completion_is_the_final_text():
    for run, text in (
        ("superseded", "right"),
        ("corrected", "None"),
        ("plain", "Machine learning"),
    ):
        parsed = completed(RUNS[run](), model="qa")
        assert (parsed.choices[0].message.content, parsed.usage.total_tokens) == (text, 10)


@pytest.mark.parametrize("text", [None, "answer", "predict.answer"])
@pytest.mark.parametrize(
    ("answer", "shown"), [("Hello!", "Hello!"), (["a", 1], '["a", 1]'), (7, "7"), (None, "")]
)
def test_a_whole_completion_has_a_reply_that_no_model_wrote(text, answer, shown):
    returned = Scribe().start().add(ev.ModuleEnd, name="predict", duration=1.0)
    returned.add(ev.RunEnd, ROOT_OF_RUN, outputs={"tags": ["x"], "answer": answer})
    whole = ChatCompletion(RenderOptions(text=text))
    for event in returned.events:
        whole.feed(event)
    assert whole.answer()["choices"][0]["message"]["content"] == shown


def test_what_a_model_wrote_stays_the_reply_whatever_the_program_returned():
    """As the streams have shown it."""
    run = Scribe().start().text("answer", "raw").add(ev.ModuleEnd, name="predict", duration=1.0)
    run.add(ev.RunEnd, ROOT_OF_RUN, outputs={"answer": "RAW"})
    whole = ChatCompletion(RenderOptions(text="answer"))
    for event in run.events:
        whole.feed(event)
    assert whole.answer()["choices"][0]["message"]["content"] == "raw"


def put_together(events):
    """The message that the package's own stream helper makes of the chunks."""
    state = ChatCompletionStreamState()
    for line in payloads(make_format("openai"), events)[:-1]:
        state.handle_chunk(ChatCompletionChunk.model_validate_json(line))
    return state.get_final_completion().choices[0].message


def at_once(events):
    return completed(events).choices[0].message


@pytest.mark.parametrize("read", [put_together, at_once])
def test_a_chat_has_refusals_and_sources_of_what_counts(read):
    void, first, other = (ev.Citation(text="right", url=f"https://example.org/{n}") for n in "abc")
    scribe = Scribe().start().add(ev.Refusal, text="I will not.")
    scribe.add(ev.Citation, text=void.text, url=void.url).add(ev.LMSuperseded, reason="E")
    for kept in (first, other):
        scribe.add(ev.Citation, SECOND, text=kept.text, url=kept.url)
    message = read(scribe.text("answer", "all right", identity=SECOND).end().events)
    assert (message.content, message.refusal) == ("all right", None)
    notes = [note.url_citation for note in message.annotations]
    assert [note.url for note in notes] == [first.url, other.url]
    assert {note.start_index for note in notes} == {4}


@pytest.mark.parametrize("read", [put_together, at_once])
def test_a_chat_has_the_whole_refusal(read):
    scribe = Scribe().start().add(ev.Refusal, text="I will").add(ev.Refusal, text=" not.")
    assert read(scribe.end().events).refusal == "I will not."


# --- merged tokens --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "native"])
def test_a_token_merged_with_earlier_ones_adds_only_the_rest(name):
    """X10: inside a coalesced token."""
    events = RUNS["plain"]()
    first = events.index(next(e for e in events if isinstance(e, ev.TokenEvent)))
    merged = ev.TokenEvent(
        seq=first, identity=events[first].identity, timestamp=1.0, field="answer",
        token="Machine learning", count=3,
    )  # fmt: skip
    form = make_format(name)
    payloads(form, events[: first + 1])
    [rest] = form.feed(merged)
    assert "ine learning" in rest.decode()
    assert "Mach" not in rest.decode()
