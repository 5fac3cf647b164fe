"""Runs as events, made by hand: what the wires are tested with."""

from __future__ import annotations

import json
import random

import msgspec

from streamll.core import events as ev
from streamll.core.parsing.values.json import JSONValueReader

ROOT = ev.Identity(run_id="r1")
CALL = ev.Identity(run_id="r1", path=("QA", "predict"), predictor="predict", call_id="c1")
SECOND = ev.Identity(
    run_id="r1", path=("QA", "predict"), predictor="predict", call_id="c1", attempt=1
)
TOOL = ev.Identity(run_id="r1", path=("QA", "search"), call_id="t1")


OTHER = ev.Identity(run_id="r1", path=("QA", "check"), predictor="check", call_id="c2", turn=1)


class Scribe:
    """Writes a run's events: numbers them and keeps count of tokens and characters."""

    def __init__(self, pace=1.0):
        self.pace = pace
        self.events = []
        self.places = {}

    def add(self, kind, identity=CALL, /, **own):
        event = kind(
            seq=len(self.events),
            timestamp=1.7e9 + len(self.events) * self.pace,
            identity=identity,
            **own,
        )
        self.events.append(event)
        return self

    def text(self, field, *tokens, identity=CALL, end=True):
        self.add(ev.FieldStart, identity, field=field)
        offset = 0
        for index, token in enumerate(tokens):
            self.add(
                ev.TokenEvent, identity, field=field, token=token, token_index=index, offset=offset
            )
            offset += len(token)
        if end:
            self.add(ev.FieldEnd, identity, field=field, length=offset)
        return self

    def value(self, field, text, *, pieces=None, identity=CALL, end=True):
        """A typed field as JSON is written, piece by piece: its changes, then its raw text."""
        self.add(ev.FieldStart, identity, field=field)
        reader, offset = JSONValueReader(), 0
        pieces = pieces or [text[at : at + 4] for at in range(0, len(text), 4)]
        for index, piece in enumerate(pieces):
            for change in reader.feed(piece):
                self.add(ev.FieldPartial, identity, field=field, **change._asdict())
            self.add(
                ev.TokenEvent, identity, field=field, token=piece, token_index=index, offset=offset
            )
            offset += len(piece)
        if end:
            self.add(ev.FieldEnd, identity, field=field, length=offset)
            value = json.loads(text)
            self.add(ev.FieldPartial, identity, field=field, value=value, state="complete")
        return self

    def start(self):
        return self.add(ev.RunStart, ROOT, program="QA").add(ev.ModuleStart, name="predict")

    def end(self):
        return self.add(ev.ModuleEnd, name="predict", duration=1.0).add(
            ev.RunEnd, ROOT, prompt_tokens=7, completion_tokens=3, lm_calls=1
        )


def plain():
    return Scribe().start().text("answer", "Mach", "ine", " learning").end().events


def reasoned():
    return (
        Scribe().start()
        .add(ev.Thinking, text="hm", index=0).add(ev.Thinking, text="m", index=1)
        .text("reasoning", "Because", " so").text("answer", "こんにちは", '\n🎉 "x"').end().events
    )  # fmt: skip


def superseded():
    return (
        Scribe().start().text("answer", "wro", "ng")
        .add(ev.LMSuperseded, reason="AdapterParseError")
        .text("answer", "ri", "ght", identity=SECOND).end().events
    )  # fmt: skip


def superseded_in_the_middle():
    scribe = Scribe().start().text("answer", "ri", end=False)
    scribe.add(ev.FieldEnd, field="answer", length=2).add(ev.LMSuperseded, reason="LMServerError")
    return scribe.text("answer", "ri", "ght", identity=SECOND).end().events


def corrected():
    return (
        Scribe().start().text("answer", "nul", "l")
        .add(ev.FieldCorrected, field="answer", text="None", value="None").end().events
    )  # fmt: skip


def tools():
    return (
        Scribe().start()
        .add(ev.ToolCallDelta, index=0, name="search", arguments='{"q":')
        .add(ev.ToolCallDelta, index=0, arguments='"x"}')
        .add(ev.ToolStart, TOOL, name="search").add(ev.ToolEnd, TOOL, name="search", duration=0.1, result=[1])
        .add(ev.ToolStart, ev.Identity(run_id="r1", call_id="t2"), name="lookup", arguments={"k": 1})
        .add(ev.ToolError, ev.Identity(run_id="r1", call_id="t2"), name="lookup", duration=0.1,
             error_type="KeyError", message="'k'")
        .text("answer", "found").end().events
    )  # fmt: skip


PLAN = '[{"title": "Résumé ✓", "severity": "low", "line": 3}, {"title": "a/b ~ c", "tags": ["x", "y"]}]'


def typed():
    return (
        Scribe(0.01).start().value("plan", PLAN)
        .value("score", "7").text("answer", "done").end().events
    )  # fmt: skip


NAMES = '{"__proto__": {"admin": ["yes, he", "no"]}, "constructor": {"prototype": {"b": 1}}, "prototype": [2]}'


def typed_names():
    """Keys that would reach the prototypes of a page's objects."""
    return Scribe(0.01).start().value("plan", NAMES).value("rows", f"[{NAMES}]").end().events


def typed_superseded():
    scribe = Scribe(0.01).start().add(ev.Thinking, text="hm").value("plan", PLAN[:30], end=False)
    scribe.add(ev.FieldEnd, field="plan", length=30, complete=False)
    scribe.add(ev.LMSuperseded, reason="LMServerError")
    return scribe.value("plan", '["right"]', identity=SECOND).end().events


def typed_overlapping():
    """Two calls that write a field of the same name, one in the middle of the other."""
    scribe = Scribe(0.01).start().value("plan", '["first", ', end=False)
    scribe.value("plan", '["second"]', identity=OTHER)
    for change in (
        {"value": "half", "pointer": (1,), "state": "partial"},
        {"value": " of it", "pointer": (1,), "append": True, "state": "complete"},
        {"value": [], "append": True, "state": "complete"},
    ):
        scribe.add(ev.FieldPartial, CALL, field="plan", **change)
    return scribe.end().events


def typed_at_last():
    """A field that turns out to be a list when some of its text was told; and one from a cache."""
    scribe = Scribe(0.01).start().add(ev.FieldStart, field="plan")
    scribe.add(ev.TokenEvent, field="plan", token="```json")
    scribe.add(ev.FieldPartial, field="plan", value=["a"])
    scribe.add(ev.TokenEvent, field="plan", token='\n["a"]\n```', token_index=1, offset=7)
    scribe.add(ev.FieldEnd, field="plan", length=17)
    scribe.text("steps", '["b"]').add(ev.FieldPartial, field="steps", value=["b"], state="complete")
    scribe.text("code", "print(1)")
    scribe.add(ev.FieldPartial, field="code", value={"code": "print(1)"}, state="complete")
    return scribe.end().events


def typed_repaired():
    """What the program made of a reply is not what was shown of it."""
    scribe = Scribe(0.01).start().add(ev.FieldStart, field="plan")
    scribe.add(ev.FieldPartial, field="plan", value=[]).add(
        ev.TokenEvent, field="plan", token="['a']"
    )
    scribe.add(ev.FieldEnd, field="plan", length=5)
    return scribe.add(ev.FieldCorrected, field="plan", text='["a"]', value=["a"]).end().events


def superseded_thinking():
    scribe = Scribe().start().add(ev.Thinking, text="wrong thought").text("reasoning", "wrong")
    scribe.add(ev.LMSuperseded, reason="LMServerError")
    return scribe.text("answer", "right", identity=SECOND).end().events


def superseded_thoughts():
    """An attempt that thinks, writes, thinks again and breaks off."""
    scribe = (
        Scribe().start().add(ev.Thinking, text="first thought").text("answer", "wro", end=False)
    )
    scribe.add(ev.Thinking, text="second thought").add(ev.LMSuperseded, reason="LMServerError")
    return scribe.text("answer", "right", identity=SECOND).end().events


def superseded_tools():
    """A native tool call that breaks off, and is made again."""
    scribe = Scribe().start().add(ev.ToolCallDelta, index=0, name="search", arguments='{"q": "wr')
    scribe.add(ev.LMSuperseded, reason="LMServerError")
    scribe.add(ev.ToolCallDelta, SECOND, index=0, name="search", arguments='{"q": ')
    scribe.add(ev.ToolCallDelta, SECOND, index=0, arguments='"right"}')
    scribe.add(ev.ToolStart, TOOL, name="search").add(
        ev.ToolEnd, TOOL, name="search", duration=0.1, result="it"
    )
    return scribe.text("answer", "found", identity=SECOND).end().events


def agent():
    """``dspy.ReAct``: a turn with a tool, one whose first attempt breaks off, and the answer."""
    scribe = (
        Scribe().add(ev.RunStart, ROOT, program="ReAct").add(ev.ModuleStart, ROOT, name="agent")
    )
    first, second = (_turn("react", f"c{number}") for number in (1, 2))
    scribe.add(ev.ModuleStart, first, name="react").add(ev.LMStart, _inner(first), model="m")
    scribe.text("next_thought", "Look", " up.", identity=first)
    scribe.value("next_tool_name", '"search"', pieces=['"search"'], identity=first)
    scribe.value("next_tool_args", '{"q": "sky"}', identity=first)
    scribe.add(ev.LMEnd, _inner(first), model="m", duration=0.5)
    scribe.add(ev.ModuleEnd, first, name="react", duration=0.5)
    scribe.add(ev.ToolStart, TOOL, name="search").add(
        ev.ToolEnd, TOOL, name="search", duration=0.1, result="blue"
    )
    scribe.add(ev.ModuleStart, second, name="react").add(ev.LMStart, _inner(second), model="m")
    scribe.text("next_thought", "Do", "ubt.", identity=second)
    scribe.value("next_tool_name", '"search"', pieces=['"search"'], identity=second)
    scribe.value("next_tool_args", '{"q": "wr', pieces=['{"q": "wr'], identity=second, end=False)
    scribe.add(ev.FieldEnd, second, field="next_tool_args", length=9, complete=False)
    scribe.add(ev.LMSuperseded, second, reason="LMServerError")
    again = msgspec.structs.replace(second, attempt=1)
    scribe.text("next_thought", "Done.", identity=again)
    scribe.value("next_tool_name", '"finish"', pieces=['"finish"'], identity=again)
    scribe.value("next_tool_args", "{}", identity=again)
    scribe.add(ev.ModuleEnd, second, name="react", duration=0.5)
    last = ev.Identity(run_id="r1", path=("ReAct", "finish"), call_id="t2")
    scribe.add(ev.ToolStart, last, name="finish").add(ev.ToolEnd, last, name="finish", duration=0.1)
    extract = _turn("extract.predict", "c3")
    scribe.add(ev.ModuleStart, extract, name="extract").add(ev.LMStart, _inner(extract), model="m2")
    scribe.text("reasoning", "r", identity=extract).text(
        "answer", "It is ", "blue.", identity=extract
    )
    scribe.add(ev.ModuleEnd, extract, name="extract", duration=0.5)
    scribe.add(ev.ModuleEnd, ROOT, name="agent", duration=2.0)
    return scribe.add(ev.RunEnd, ROOT, prompt_tokens=7, completion_tokens=3, lm_calls=3).events


def _turn(predictor, call_id):
    return ev.Identity(run_id="r1", path=("ReAct", predictor), predictor=predictor, call_id=call_id)


def _inner(call):
    return msgspec.structs.replace(call, call_id=f"{call.call_id}-lm", parent_call_id=call.call_id)


def candidates():
    """``n=2``: the second completion is none of the program's fields."""
    second = ev.Identity(run_id="r1", predictor="predict", call_id="c1", candidate=1)
    scribe = Scribe().start().add(ev.FieldPartial, field="plan", value=["a"], state="complete")
    scribe.add(ev.FieldPartial, second, field="plan", value=["b"], state="complete")
    scribe.add(ev.Thinking, second, text="b").text("answer", "yes").text(
        "answer", "no", identity=second
    )
    return scribe.end().events


def side_by_side(seed):
    """Up to three calls that overlap in any way; some try again, some are corrected."""
    rng, scribe = random.Random(seed), Scribe().start()
    calls = {name: _written(rng, name) for name in "abc"[: rng.randrange(1, 4)]}
    while calls:
        name = rng.choice([*calls])
        for _ in range(rng.randrange(1, 4)):
            if (step := next(calls[name], None)) is None:
                del calls[name]
                break
            scribe.add(step[0], step[1], **step[2])
    return scribe.end().events


def _written(rng, name):
    last = rng.randrange(3)
    for attempt in range(last + 1):
        call = ev.Identity(run_id="r1", predictor="predict", call_id=name, attempt=attempt)
        yield ev.Thinking, call, {"text": f"{name}{attempt} thinks"}
        left = rng.randrange(1, 6) if attempt < last else 6  # tokens until it breaks off
        for field in ("reasoning", "answer"):
            yield ev.FieldStart, call, {"field": field}
            text, count = "", min(left, rng.randrange(1, 4))
            for number in range(count):
                token = rng.choice([f"{name}{attempt} ", "é🎉 ", "\n\n", "same "])
                place = {"token_index": number, "offset": len(text)}
                yield ev.TokenEvent, call, {"field": field, "token": token, **place}
                text += token
            left -= count
            if not left:
                break
            yield ev.FieldEnd, call, {"field": field, "length": len(text)}
        if attempt < last:
            yield ev.LMSuperseded, call, {"reason": "E"}
    if rng.random() < 0.4:
        field = rng.choice(["reasoning", "answer"])
        yield ev.FieldCorrected, call, {"field": field, "text": f"{name} is right"}


def everything():
    partial = {"field": "items"}
    return (
        Scribe().start()
        .add(ev.Status, message="Searching…")
        .add(ev.TraceStart, name="retrieval", trace_id="x1").add(ev.TraceEnd, name="retrieval", trace_id="x1", duration=0.1)
        .add(ev.StreamllEvent, event_type="docs found!", data={"count": 2})
        .add(ev.Citation, text="t", title="T", url="https://example.org/a").add(ev.Citation, text="t")
        .add(ev.FieldStart, field="items")
        .add(ev.FieldPartial, value=["a"], **partial)
        .add(ev.FieldPartial, value=["a", "b"], state="complete", **partial)
        .add(ev.FieldEnd, field="items", length=0)
        .add(ev.StreamGap, ROOT, count=3, reason="overflow")
        .add(ev.LMStart, model="m").add(ev.LMEnd, model="m", duration=1.0)
        .add(ev.LMWaiting, reason="retry").add(ev.Refusal, text="no")
        .add(ev.ReplyPart, kind="image", url="https://example.org/i.png")
        .add(ev.ToolStart, TOOL, name="python", kind="interpreter", arguments={"code": "1+1"})
        .add(ev.ToolEnd, TOOL, name="python", kind="interpreter", duration=0.1, result=2)
        .text("answer", "done").end().events
    )  # fmt: skip


def waited():
    """A request that breaks off in the middle, waits, and is made again."""
    scribe = Scribe().start().text("answer", "wro", end=False)
    scribe.add(ev.LMWaiting, reason="retry", delay=1.5)
    scribe.add(ev.FieldEnd, field="answer", length=3, complete=False)
    scribe.add(ev.LMSuperseded, reason="LMServerError").add(
        ev.LMWaiting, SECOND, reason="connection"
    )
    return scribe.text("answer", "right", identity=SECOND).end().events


def two_tools():
    """One reply with text and two native calls, of which the program runs one, which fails."""
    scribe = Scribe().start().text("answer", "let me look")
    scribe.add(ev.ToolCallDelta, index=0, name="search", arguments='{"q": 1}')
    scribe.add(ev.ToolCallDelta, index=1, name="ask_user", arguments='{"what": "which?"}')
    scribe.add(ev.ToolStart, TOOL, name="search")
    scribe.add(
        ev.ToolError, TOOL, name="search", duration=0.1, error_type="KeyError", message="'k'"
    )
    return scribe.end().events


def cited_again():
    """An attempt that cites a source and refuses, and one that cites another and answers."""
    scribe = Scribe().start().text("answer", "wro", end=False)
    scribe.add(ev.Citation, text="t", title="Void", url="https://example.org/void")
    scribe.add(ev.Citation, text="void").add(ev.Refusal, text="no")
    scribe.add(ev.FieldEnd, field="answer", length=3, complete=False)
    scribe.add(ev.LMSuperseded, reason="AdapterParseError")
    scribe.text("answer", "right", identity=SECOND)
    return scribe.add(ev.Citation, SECOND, text="t", url="https://example.org/a").end().events


def failed():
    scribe = (
        Scribe()
        .start()
        .add(ev.ToolStart, TOOL, name="search")
        .text("answer", "so f", "ar", end=False)
    )
    scribe.add(ev.ToolCallDelta, index=1, name="never", arguments='{"a"')
    return scribe.add(ev.RunError, ROOT, error_type="ValueError", message="bad").events


def cancelled():
    scribe = Scribe().start().add(ev.Thinking, text="hm").text("answer", "so far", end=False)
    return scribe.add(ev.RunCancelled, ROOT).events


RUNS = {
    make.__name__: make
    for make in (plain, reasoned, superseded, superseded_in_the_middle, superseded_thinking, superseded_thoughts, superseded_tools, corrected, tools, everything,
                 typed, typed_names, typed_superseded, typed_overlapping, typed_at_last, typed_repaired, agent, candidates, waited, two_tools, cited_again, failed, cancelled)
}  # fmt: skip


def payloads(form, events):
    return [payload for event in events for payload in form.feed(event)]
