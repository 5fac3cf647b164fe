"""Text, native tool calls and thinking in any order: legal events, and fields that are complete."""

from __future__ import annotations

import dspy
import pytest
from case import sse
from chat_cases import DONE, FIN_CALLS, PRICE, STOCK, USE, call, calls, chunk
from frames_server import FramesServer, Play, Sent

import streamll
from streamll.core.ordering import OrderCheck

pytestmark = pytest.mark.since_3_4

NATIVE = dspy.ChatAdapter(use_native_function_calling=True)


class Asked(dspy.Signature):
    """Use the tools."""

    question: str = dspy.InputField()
    tools: list[dspy.Tool] = dspy.InputField()
    answer: str = dspy.OutputField()
    note: str = dspy.OutputField()
    calls: dspy.ToolCalls = dspy.OutputField()


def price(of: str) -> str:
    """The price of it."""
    return of


def stock(of: str) -> str:
    """How many there are."""
    return of


ANSWER = ["[[ ## answer ## ]]\n", "Nine ", "lives"]
NOTE = ["\n\n[[ ## note ## ]]\n", "And ", "more", "\n\n[[ ## completed ## ]]"]
TEXTS = [chunk({"content": piece}) for piece in (*ANSWER, *NOTE)]
CALLS = [calls(call("price", PRICE[:6], "a", index=0)),
         calls({"index": 0, "function": {"arguments": PRICE[6:]}}),
         calls(call("stock", STOCK, "b", index=1))]  # fmt: skip
ORDERS = {
    "calls after the text": [*TEXTS, *CALLS],
    "calls before the text": [*CALLS, *TEXTS],
    "calls in the middle of a field": [*TEXTS[:2], *CALLS, *TEXTS[2:]],
    "calls between two fields": [*TEXTS[:3], *CALLS, *TEXTS[3:]],
    "a call in the middle of each field": [
        *TEXTS[:2],
        *CALLS[:2],
        *TEXTS[2:5],
        CALLS[2],
        *TEXTS[5:],
    ],
    "text in the middle of a call": [*TEXTS[:2], CALLS[0], *TEXTS[2:6], *CALLS[1:], TEXTS[6]],
}


@pytest.fixture(scope="module")
def server():
    with FramesServer() as running:
        yield running


@pytest.mark.parametrize("engine", ["lm15", "litellm"])
@pytest.mark.parametrize("name", ORDERS)
def test_text_and_tool_calls_in_any_order(name, engine, server):
    """X1: nothing breaks the order of events, and every partial value is completed."""
    frames = sse(*ORDERS[name], FIN_CALLS, USE, DONE)
    url = server.play(Play(Sent(frames), Sent([b"{}"])))
    lm = dspy.LM("openai/gpt-4o", api_base=f"{url}/v1", api_key="none", cache=False, engine=engine)
    with dspy.context(lm=lm, adapter=NATIVE):
        program = dspy.Predict(Asked)
        with streamll.stream(program)(
            question="?", tools=[dspy.Tool(price), dspy.Tool(stock)]
        ) as events:
            seen = list(events)
            prediction = events.result()
    OrderCheck().check_all(seen)
    said = {"answer": "", "note": ""}
    for event in seen:
        if event.event_type == "token" and event.field in said:
            said[event.field] += event.token
    assert said == {"answer": prediction.answer, "note": prediction.note}
    assert said == {"answer": "Nine lives", "note": "And more"}
    assert [(each.name, each.args) for each in prediction.calls.tool_calls] == [
        ("price", {"of": "cat"}),
        ("stock", {"of": "dog"}),
    ]
    partials = [event for event in seen if event.event_type == "field.partial"]
    assert partials[-1].state == "complete"
    ended = [event for event in seen if event.event_type == "field.end"]
    assert all(event.complete for event in ended)
    assert sorted(event.field for event in ended) == ["answer", "calls", "note"]
    assert not [event for event in seen if event.event_type == "field.corrected"]
