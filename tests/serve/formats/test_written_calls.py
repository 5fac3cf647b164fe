"""X11: a tool call that ``dspy.ReAct`` writes into its fields is one tool call on every wire."""

from __future__ import annotations

import json

import dspy
import pytest

import streamll
from serve.runs import payloads
from streamll.serve.formats import RenderOptions, make_format

LOOK = {"next_thought": "Look it up.", "next_tool_name": "search"}
DONE = {"next_thought": "Done.", "next_tool_name": "finish", "next_tool_args": {}}
ANSWER = {"reasoning": "r", "answer": "Because of the air."}


def search(query: str) -> str:
    """Search."""
    return f"about {query}"


def run_of_agent(practice, adapter, *replies):
    dspy.configure(lm=practice.lm(), adapter=adapter())
    practice.script(*replies)
    agent = dspy.ReAct("question -> answer", tools=[search])
    with streamll.stream(agent)(question="Why?") as events:
        return list(events)


def told(name, events):
    lines = payloads(make_format(name, RenderOptions(text="answer")), events)
    return [json.loads(line) for line in lines if line != b"[DONE]"]


@pytest.mark.parametrize("adapter", [dspy.ChatAdapter, dspy.JSONAdapter, dspy.XMLAdapter])
def test_the_call_is_told_once(practice, adapter):
    asked = {**LOOK, "next_tool_args": {"query": "sky"}}
    events = run_of_agent(practice, adapter, asked, DONE, ANSWER)
    vercel = told("vercel", events)
    inputs = [o for o in vercel if o["type"] == "tool-input-available"]
    assert [(o["toolName"], o["input"]) for o in inputs] == [
        ("search", {"query": "sky"}),
        ("finish", {}),
    ]
    named = [o["providerMetadata"]["streamll"]["field"] for o in vercel if "providerMetadata" in o]
    assert named == ["next_thought", "next_thought", "reasoning", "answer"]
    assert not [o for o in vercel if o["type"].startswith("data-")]
    agui = told("agui", events)
    arguments = "".join(o["delta"] for o in agui if o["type"] == "TOOL_CALL_ARGS")
    assert arguments.replace(" ", "") == '{"query":"sky"}{}'
    assert not [o for o in agui if o["type"].startswith("STATE")]
    for form in ("vercel", "agui", "openai"):
        assert b"next_tool" not in b"".join(payloads(make_format(form), events))


def test_arguments_are_those_that_the_program_has_read(practice):
    """DSPy repairs what is not quite JSON."""
    asked = {**LOOK, "next_tool_args": "{'query': 'sky',}"}
    events = run_of_agent(practice, dspy.ChatAdapter, asked, DONE, ANSWER)
    first = next(o for o in told("vercel", events) if o["type"] == "tool-input-available")
    assert first["input"] == {"query": "sky"}
    snapshots = [o["messages"] for o in told("agui", events) if o["type"] == "MESSAGES_SNAPSHOT"]
    [call] = [m["toolCalls"][0] for m in snapshots[-1] if "toolCalls" in m][:1]
    assert json.loads(call["function"]["arguments"]) == {"query": "sky"}


def test_fields_of_that_name_in_another_program_are_fields(practice):
    dspy.configure(lm=practice.lm(), adapter=dspy.ChatAdapter())
    practice.script({"next_tool_name": "hammer"})
    with streamll.stream(dspy.Predict("job -> next_tool_name"))(job="a nail") as events:
        vercel = told("vercel", list(events))
    assert "".join(o["delta"] for o in vercel if "delta" in o) == "hammer"
