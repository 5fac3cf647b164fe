"""X11: Vercel's wire, read by each major version of the ``ai`` package."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from profiles import THOROUGH, thorough

from serve.formats.test_wire_formats import SHOWN_PARTS, sse
from serve.npm import OLDEST_AI, ai_packages, run_node
from serve.runs import CALL, OTHER, ROOT, RUNS, SECOND, TOOL, Scribe, payloads, side_by_side
from streamll.core import events as ev
from streamll.serve.formats import RenderOptions, make_format
from streamll.serve.formats.vercel import usage_of

USE_CHAT = (Path(__file__).parents[1] / "use_chat.mjs").read_text("utf-8")
READERS = [
    ("5.0.0", "vercel"),
    ("5", "vercel"),
    ("5", "vercel-5"),
    ("6", "vercel"),
    ("6", "vercel-6"),
    ("7", "vercel"),
    ("7", "vercel-7"),
]
"""Packages, and what is sent to them."""
if THOROUGH:
    READERS += [(package, f"vercel-{package[0]}") for package in OLDEST_AI]
ASK = """
const answers = {};
for (const [name, sse] of Object.entries(read())) {
  let posts = 0, finished = {};
  const chat = new Chat({
    transport: new DefaultChatTransport({fetch: async () => {
      if (++posts > 3) throw new Error('it asks for ever');
      return new Response(sse, {headers: {'content-type': 'text/event-stream'}});
    }}),
    sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls,
    onFinish: (event) => { finished = event; },
    onToolCall: () => { throw new Error('a tool of the page'); },
  });
  await chat.sendMessage({text: 'q'});
  const message = lastOf(chat), error = chat.error?.message;
  answers[name] = {message, posts, error, finishReason: finished.finishReason,
                   shown: message ? shownParts(message) : []};
}
console.log(JSON.stringify(answers));
"""


def in_the_middle():
    """Two calls side by side, of which one tries again when the other has shown something."""
    scribe = Scribe().start().text("answer", "wro", end=False)
    scribe.text("note", "kept", identity=OTHER).value("plan", '["kept"]', identity=OTHER)
    scribe.add(ev.StreamllEvent, OTHER, event_type="found", data={"count": 2})
    scribe.add(ev.ToolStart, TOOL, name="search")
    scribe.add(ev.FieldEnd, CALL, field="answer", length=3, complete=False)
    scribe.add(ev.LMSuperseded, CALL, reason="LMServerError")
    scribe.add(ev.ToolEnd, TOOL, name="search", duration=0.1, result="it")
    return scribe.text("answer", "right", identity=SECOND).end().events


def tool_at_the_end():
    scribe = Scribe().start().text("answer", "see")
    scribe.add(ev.ToolStart, TOOL, name="search", arguments={"q": "x"})
    return scribe.add(ev.ToolEnd, TOOL, name="search", duration=0.1, result="it").end().events


def cancelled_after_a_tool():
    return [*tool_at_the_end()[:-1], _last(tool_at_the_end(), ev.RunCancelled)]


def _last(events, kind):
    return kind(seq=events[-1].seq, timestamp=events[-1].timestamp, identity=ROOT)


def untaken():
    """A call that the model makes and the program does not run, and then another turn."""
    scribe = Scribe().start().add(ev.ToolCallDelta, index=0, name="ask", arguments='{"q": 1}')
    scribe.add(ev.ModuleEnd, name="predict", duration=1.0)
    scribe.add(ev.ModuleStart, OTHER, name="check").text("answer", "done", identity=OTHER)
    return scribe.add(ev.RunEnd, ROOT).events


STORIES = {
    **RUNS,
    **{make.__name__: make for make in (in_the_middle, tool_at_the_end, cancelled_after_a_tool, untaken)},
}  # fmt: skip


def lines(form, story):
    return payloads(make_format(form, RenderOptions(text="answer")), STORIES[story]())


def chunks(form, story):
    return [json.loads(line) for line in lines(form, story) if line != b"[DONE]"]


@pytest.fixture(scope="module")
def answers():
    """What each reader has in the end of each story."""
    read = {}
    for package in dict(READERS):
        forms = [form for one, form in READERS if one == package]
        given = {f"{form} {story}": sse(lines(form, story)) for form in forms for story in STORIES}
        for name, answer in run_node(
            USE_CHAT + SHOWN_PARTS + ASK, given, place=ai_packages(package)
        ).items():
            form, _, story = name.partition(" ")
            read[package, form, story] = answer
    return read


def essence(parts):
    """What a page shows, whichever way the package spells it."""
    kept = []
    for part in parts:
        kind = part["type"]
        if kind in ("text", "reasoning"):
            kept.append([kind, part["text"]])
        elif "toolCallId" in part:
            name = part.get("toolName", kind.removeprefix("tool-"))
            outcome = part.get("output"), part.get("errorText")
            kept.append(["tool", name, part["state"], part.get("input"), *outcome])
        elif kind.startswith("data-"):
            data = part["data"]
            if "state" not in data:
                kept.append([kind, data])
            elif data["value"] is not None:
                kept.append([kind, data["value"]])
        elif kind != "step-start":
            kept.append([kind, part.get("url"), part.get("title")])
    return sorted(kept, key=repr)


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize(("package", "form"), READERS)
def test_every_version_shows_the_same_and_asks_once(answers, package, form, story):
    """Its own schema has each chunk; its own helper does not have it post again."""
    answer = answers[package, form, story]
    assert answer.get("error") == ("bad" if story == "failed" else None)
    assert answer["posts"] == 1
    expected = answers["6", "vercel", story]
    assert essence(answer["shown"]) == essence(expected["shown"])
    assert expected["shown"]
    assert all(part.get("state") != "streaming" for part in answer["message"]["parts"])


@pytest.mark.parametrize("story", STORIES)
def test_what_counts_not_is_out_of_the_message_of_version_7(answers, story):
    """No page needs to look for what was superseded or corrected."""
    parts = answers["7", "vercel-7", story]["message"]["parts"]
    kinds = {part["type"] for part in parts}
    assert not kinds & {"data-superseded", "data-corrected"}
    assert essence(parts) == essence(answers["7", "vercel-7", story]["shown"])


def test_version_7_shows_the_same_where_calls_that_overlap_have_several_steps():
    """What is withdrawn or corrected may have begun in a step that is not the client's any more."""
    shown = {}
    for package, form in (("6", "vercel"), ("7", "vercel-7")):
        given = {}
        for seed in range(thorough(100)):
            made = make_format(form, RenderOptions(text="answer"))
            given[str(seed)] = sse(payloads(made, side_by_side(seed)))
        read = run_node(USE_CHAT + SHOWN_PARTS + ASK, given, place=ai_packages(package))
        shown[package] = {seed: essence(answer["shown"]) for seed, answer in read.items()}
    assert shown["7"] == shown["6"]


def test_each_turn_is_a_step(answers):
    for package, form in READERS:
        parts = answers[package, form, "agent"]["shown"]
        steps, tools = [], []
        for part in parts:
            if part["type"] == "step-start":
                steps.append([])
            else:
                steps[-1].append(part["type"].partition("-")[0])
            if "toolCallId" in part:
                tools.append(part.get("toolName", part["type"].removeprefix("tool-")))
        assert tools == ["search", "finish"]
        assert [step[-1] for step in steps] == [steps[0][-1], steps[0][-1], "text"]
        assert steps[0][0] == steps[1][0] == steps[2][0] == "reasoning"


def test_calls_that_overlap_share_a_step():
    kinds = [chunk["type"] for chunk in chunks("vercel", "typed_overlapping")]
    assert kinds.count("start-step") == kinds.count("finish-step") == 1
    assert [c["type"] for c in chunks("vercel-6", "in_the_middle")].count("start-step") == 1


def test_a_call_is_complete_before_the_next_step():
    told = chunks("vercel-7", "untaken")
    kinds = [chunk["type"] for chunk in told]
    assert kinds.index("tool-input-available") < kinds.index("finish-step")


def test_the_message_says_what_it_has_cost(answers):
    for package, form in READERS:
        answer = answers[package, form, "agent"]
        metadata = answer["message"]["metadata"]
        assert metadata["runId"] == "r1"
        assert metadata["program"] == "ReAct"
        assert metadata["createdAt"] == 1_700_000_000_000
        assert metadata["model"] == "m2"
        assert metadata["usage"]["inputTokens"] == 7
        assert metadata["usage"]["outputTokens"] == 3
        assert metadata["finishReason"] == "stop"
        assert "duration" in metadata
        assert answer.get("finishReason") == (None if form == "vercel" else "stop")
        failed = answers[package, form, "failed"]["message"]["metadata"]
        assert failed["finishReason"] == "error"
        assert "duration" in answers[package, form, "cancelled"]["message"]["metadata"]


@pytest.mark.parametrize(
    ("reason", "told"), [("length", "length"), ("content_filter", "content-filter"), ("x", "stop")]
)
def test_the_reason_is_one_that_the_package_knows(reason, told):
    events = RUNS["plain"]()
    last = next(e for e in reversed(events) if isinstance(e, ev.TokenEvent))
    at = events.index(last)
    events[at] = msgspec.structs.replace(last, finish_reason=reason)
    [finish] = [
        json.loads(line)
        for line in payloads(make_format("vercel-6"), events)
        if b'"finish"' in line
    ]
    assert finish["finishReason"] == finish["messageMetadata"]["finishReason"] == told


def test_usage_is_told_as_far_as_it_is_known():
    known = ev.RunEnd(
        prompt_tokens=7, completion_tokens=3, cache_read_tokens=5, cache_write_tokens=0, reasoning_tokens=2
    )  # fmt: skip
    assert usage_of(known) == {
        "inputTokens": 7,
        "outputTokens": 3,
        "totalTokens": 10,
        "cachedInputTokens": 5,
        "reasoningTokens": 2,
        "inputTokenDetails": {"cacheReadTokens": 5, "cacheWriteTokens": 0},
        "outputTokenDetails": {"reasoningTokens": 2},
    }
    assert usage_of(ev.RunEnd(completion_tokens=3)) == {"outputTokens": 3}
    assert usage_of(ev.RunEnd()) == {}


def test_tools_are_dynamic_where_the_page_declares_none(answers):
    def kinds(package, form):
        parts = answers[package, form, "agent"]["message"]["parts"]
        return {part["type"] for part in parts if "toolCallId" in part}

    assert kinds("5.0.0", "vercel") == kinds("7", "vercel") == {"tool-search", "tool-finish"}
    for version in ("5", "6", "7"):
        assert kinds(version, f"vercel-{version}") == {"dynamic-tool"}


def test_sources_and_files_are_parts(answers):
    for package, form in READERS:
        parts = {part["type"]: part for part in answers[package, form, "everything"]["shown"]}
        assert parts["source-url"]["url"] == "https://example.org/a"
        assert parts["source-url"]["providerMetadata"]["streamll"]["text"] == "t"
        assert (parts["file"]["url"], parts["file"]["mediaType"]) == (
            "https://example.org/i.png",
            "image/png",
        )


@pytest.mark.parametrize(("package", "form"), READERS)
def test_sources_and_refusals_of_a_superseded_attempt_are_not_shown(answers, package, form):
    answer = answers[package, form, "cited_again"]
    parts = answer["message"]["parts"] if form == "vercel-7" else answer["shown"]
    kept = [part for part in parts if part["type"] != "step-start"]
    assert [part["type"] for part in kept] == ["text", "source-url"]
    assert (kept[0]["text"], kept[1]["url"]) == ("right", "https://example.org/a")


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (ev.Citation(text="t", title="T"), "source-document"),
        (ev.Citation(text="t", title="T", url="javascript:alert(1)"), "source-document"),
        (ev.Citation(text="t", url="http://[bad"), "source-document"),
        (ev.Citation(text="t"), "data-citation"),
        (ev.ReplyPart(kind="image", url="data:image/png;base64,AA=="), "file"),
        (ev.ReplyPart(kind="image", url="javascript:alert(1)"), "data-reply-part"),
        (ev.ReplyPart(kind="image", size=3), "data-reply-part"),
    ],
)  # fmt: skip
def test_only_addresses_that_a_page_may_load_are_links_and_files(event, kind):
    form = make_format("vercel")
    payloads(form, RUNS["plain"]()[:2])
    [told] = [json.loads(line) for line in form.feed(event)]
    assert told["type"] == kind
    assert "javascript:" not in str(told.get("url"))


def test_reset_step_says_again_what_stays():
    told = chunks("vercel-7", "in_the_middle")
    kinds = [chunk["type"] for chunk in told]
    after = told[kinds.index("reset-step") + 1 :]
    assert "".join(c["delta"] for c in after if c["type"] == "reasoning-delta") == "kept"
    assert [c["data"]["value"] for c in after if c["type"] == "data-plan"] == [["kept"]]
    assert [c["type"] for c in after if "toolCallId" in c][-1] == "tool-output-available"
    assert "".join(c["delta"] for c in after if c["type"] == "text-delta") == "right"
    assert b"reset-step" not in b"".join(lines("vercel-6", "in_the_middle"))
