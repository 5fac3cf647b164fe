"""X5, C1: ``streamify`` gives typed values on its responses to those who ask; FINDINGS 3.4."""

from __future__ import annotations

import copy

import dspy
import pytest
from dspy.adapters.baml_adapter import BAMLAdapter
from dspy.adapters.xml_adapter import XMLAdapter
from pydantic import BaseModel

import streamll
from streamll.testing import Reply


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
