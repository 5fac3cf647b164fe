"""X5, C1: ``streamify`` gives typed values on its responses to those who ask; FINDINGS 3.4."""

from __future__ import annotations

import copy

import dspy
import pytest
from dspy.adapters.baml_adapter import BAMLAdapter
from dspy.adapters.xml_adapter import XMLAdapter
from pydantic import BaseModel

import streamll
from streamll.testing import Reply, ToolCall


class City(BaseModel):
    name: str
    people: int


class Cities(dspy.Signature):
    """List cities."""

    question: str = dspy.InputField()
    cities: list[City] = dspy.OutputField()
    answer: str = dspy.OutputField()


class OwnAdapter(dspy.JSONAdapter):
    """DSPy's listener knows adapters by the name of their class."""


REPLY = Reply(
    {"cities": [{"name": "Paris", "people": 2}, {"name": "Rome", "people": 3}], "answer": "Two."},
    chunk=4,
)


@pytest.mark.parametrize(
    "adapter", [dspy.ChatAdapter(), dspy.JSONAdapter(), OwnAdapter(), BAMLAdapter(), XMLAdapter()]
)
def test_responses_have_the_value_so_far(practice, adapter):
    practice.script(REPLY)
    listeners = [
        streamll.StreamListener("cities", values=True),
        streamll.StreamListener("answer"),
    ]
    streamed = streamll.streamify(
        dspy.Predict(Cities), stream_listeners=listeners, async_streaming=False
    )
    values, answer = [], ""
    with dspy.context(lm=practice.lm(), adapter=adapter):
        for item in streamed(question="?"):
            if isinstance(item, dspy.Prediction):
                prediction = item
            elif item.signature_field_name == "cities":
                values.append(copy.deepcopy(item.value))
            else:
                assert item.value is None
                answer += item.chunk
    assert [{"name": "Paris", "people": 2}] in [value and value[:1] for value in values]
    beginnings = ("R", "Ro", "Rom")
    assert any(value and value[-1].get("name") in beginnings for value in values)
    assert values[-1] == [city.model_dump() for city in prediction.cities]
    assert answer == prediction.answer == "Two."


def test_who_does_not_ask_gets_none(practice):
    practice.script(REPLY)
    streamed = streamll.streamify(
        dspy.Predict(Cities),
        stream_listeners=[streamll.StreamListener("cities")],
        async_streaming=False,
    )
    with dspy.context(lm=practice.lm(), adapter=dspy.JSONAdapter()):
        items = list(streamed(question="?"))
    assert all(item.value is None for item in items[:-1])


def test_native_tool_calls_can_be_listened_to(practice):
    class Calling(dspy.Signature):
        """Call."""

        question: str = dspy.InputField()
        tools: list[dspy.Tool] = dspy.InputField()
        calls: dspy.ToolCalls = dspy.OutputField()

    def search(query: str) -> str:
        """Search."""
        return query

    practice.script(Reply("", tool_calls=[ToolCall("search", {"query": "Paris"})], chunk=4))
    streamed = streamll.streamify(
        dspy.Predict(Calling),
        stream_listeners=[streamll.StreamListener("calls", values=True)],
        async_streaming=False,
    )
    lm = practice.lm(model="gpt-4o-mini")
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter(use_native_function_calling=True)):
        values = []
        for item in streamed(question="?", tools=[dspy.Tool(search)]):
            if isinstance(item, dspy.Prediction):
                prediction = item
            else:
                assert item.chunk == ""
                values.append(copy.deepcopy(item.value))
    queries = [
        call["args"]["query"]
        for value in values
        for call in value.get("tool_calls", ())
        if call.get("args")
    ]
    assert queries[-1] == "Paris"
    assert len(set(queries)) > 1
    assert prediction.calls.tool_calls[0].args == {"query": "Paris"}


def test_two_step_can_be_listened_to(practice):
    practice.script("Paris, with 2 people.", REPLY)
    lm = practice.lm()
    streamed = streamll.streamify(
        dspy.Predict(Cities),
        stream_listeners=[streamll.StreamListener("cities", values=True)],
        async_streaming=False,
    )
    with dspy.context(lm=lm, adapter=dspy.TwoStepAdapter(lm)):
        *responses, prediction = streamed(question="?")
    assert responses[-1].value == [city.model_dump() for city in prediction.cities]
    assert len(responses) > 3
