"""X5, A2 end to end: typed fields of every adapter over real HTTP, in any chunks.

Whatever the type and the value: every partial is valid, nothing is taken back, and the last one
is the program's own value.
"""

from __future__ import annotations

import copy
import json
import re

import dspy
import pytest
from dspy.adapters.baml_adapter import BAMLAdapter
from dspy.adapters.xml_adapter import XMLAdapter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from profiles import THOROUGH
from pydantic import TypeAdapter
from test_json_values import check_forward, places
from typed_value_examples import cut, reordered, typed_values

import streamll
from streamll import testing
from streamll.capture.typed.field import is_prose
from streamll.capture.typed.partial_form import partial_form
from streamll.core.ordering import OrderCheck
from streamll.core.partials import PartialValue

NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class OwnJSONAdapter(dspy.JSONAdapter):
    """Adapters of one's own are what they inherit from."""


@pytest.fixture(scope="module")
def server():
    with testing.PracticeServer() as server:
        yield server


def signature_of(annotation):
    return (
        dspy.Signature({"question": (str, dspy.InputField())})
        .append("value", dspy.OutputField(), annotation)
        .append("after", dspy.OutputField(), str)
    )


def as_chat(value):
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"[[ ## value ## ]]\n{text}\n\n[[ ## after ## ]]\nend\n\n[[ ## completed ## ]]"


def as_json(value):
    return json.dumps({"value": value, "after": "end"}, ensure_ascii=False)


def as_xml(value):
    return XMLAdapter._value_to_xml(value, "value") + "\n<after>end</after>"


ADAPTERS = {
    "chat": (dspy.ChatAdapter(), as_chat),
    "json": (dspy.JSONAdapter(), as_json),
    "own json": (OwnJSONAdapter(), as_json),
    "baml": (BAMLAdapter(), as_json),
    "xml": (XMLAdapter(), as_xml),
}


def stream_value(server, adapter, annotation, reply):
    """The run's events, what a reader has after each partial, and the prediction."""
    server.requests.clear()
    server.script(reply)
    value, seen, events = PartialValue(), [], []
    predict = dspy.Predict(signature_of(annotation))
    with dspy.context(lm=server.lm(), adapter=adapter):
        with streamll.stream(predict)(question="?") as stream:
            try:
                for event in stream:
                    events.append(event)
                    if event.event_type == "lm.superseded":
                        value, seen = PartialValue(), []
                    if event.event_type == "field.partial" and event.field == "value":
                        value.apply(event)
                        assert not value.is_broken
                        now = copy.deepcopy(value.value)
                        seen.append((now, {at: value.state(*at) for at in places(now)}))
                OrderCheck().check_all(events)
            except AssertionError:
                raise
            except Exception:
                assert events[-1].event_type == "run.error"
                if not server.requests:  # BAML refuses recursive models before it asks
                    server.lm()("the reply that nobody asked for")
                return events, seen, None
            return events, seen, stream.result()


@pytest.mark.parametrize("name", ADAPTERS)
@settings(
    suppress_health_check=list(HealthCheck), max_examples=80 if THOROUGH else 12, deadline=None
)
@given(data=st.data())
def test_any_type_any_value_any_chunks(server, name, data):
    adapter, written = ADAPTERS[name]
    annotation, value = data.draw(typed_values())
    value = data.draw(reordered(value))
    text = written(value)
    if name == "xml" and NOT_XML.search(text):
        return
    events, seen, prediction = stream_value(
        server, adapter, annotation, testing.Reply(chunks=data.draw(cut(text)))
    )
    if prediction is None:
        return
    form = TypeAdapter(partial_form(annotation))
    *streamed, last = seen if not is_prose(annotation) else [*seen, (prediction.value, {})]
    for partial, _ in streamed:
        form.validate_python(partial)
    check_forward(streamed)
    assert last[0] == prediction.value
    retried = any(event.event_type == "lm.superseded" for event in events)
    if not retried and name != "chat":  # whose line ends are repaired
        assert not [event for event in events if event.event_type == "field.corrected"]


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_list_of_models_fills_while_the_model_talks(server, name):
    from typed_value_examples import Person

    people = [
        {"name": "Ada", "age": 36, "address": {"street": "A & B", "zipCode": "1"}},
        {"name": "Alan", "age": 41, "address": {"street": "C", "zipCode": "2"}, "tags": ["x"]},
    ]
    adapter, written = ADAPTERS[name]
    text = written([{**p, "address": dict(p["address"])} for p in people])
    _, seen, prediction = stream_value(server, adapter, list[Person], testing.Reply(text, chunk=3))
    values = [value for value, _ in seen]
    assert any(len(value) == 1 and value[0].get("name") == "Ada" for value in values[:-1])
    assert any(value and value[-1].get("name") in ("A", "Al", "Ala") for value in values[:-1])
    assert values[-1] == prediction.value == [Person(**person) for person in people]


@pytest.mark.parametrize(
    "reply",
    [
        '{"value": [{\'name\': "Ada"}], "after": "end"}',
        '{"value": [{"name": "Ada",}, {"name": "Bob" "x": 1}], "after": "end"}',
        '{"value": [{"name": "Ada"}, {"name": "Bo',
        '{"value": [{"name": "Ada", "name": "Bob"}], "after": "end"}',
        '```json\n{"value": [{"name": "Ada"}], "after": "end"}\n```',
        '{"value": [{name: "Ada"}], "after": "end"}',
    ],
)
@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_broken_json_that_dspy_repairs_is_corrected(server, reply, chunk):
    """X5: partials never raise; where they were not what DSPy reads, the correction comes."""
    annotation = list[dict[str, str | int]]
    events, seen, prediction = stream_value(
        server, dspy.JSONAdapter(), annotation, testing.Reply(reply, chunk=chunk)
    )
    if prediction is None:
        return
    assert seen[-1][0] == prediction.value
    corrected = [event for event in events if event.event_type == "field.corrected"]
    last_streamed = [value for value, _ in seen[:-1]][-1:] or [None]
    if last_streamed[0] != prediction.value:
        assert [event.value for event in corrected if event.field == "value"] == [prediction.value]


@pytest.mark.parametrize("name", ["chat", "json", "xml"])
def test_numbers_and_words_of_a_field_come_once_and_whole(server, name):
    from typing import Literal

    adapter, written = ADAPTERS[name]
    for annotation, value in ((int, 1234), (bool, True), (Literal["yes", "no"], "yes")):
        given = value if name != "chat" or annotation is not bool else "True"
        events, seen, prediction = stream_value(
            server, adapter, annotation, testing.Reply(written(given), chunk=1)
        )
        assert [partial for partial, _ in seen] == [value, value]
        assert prediction.value == value
        before = [e.event_type for e in events].index("field.partial")
        assert "lm.end" not in [e.event_type for e in events[:before]]


@pytest.mark.parametrize("name", ["chat", "json", "xml"])
def test_a_text_that_may_be_nothing_grows(server, name):
    adapter, written = ADAPTERS[name]
    _, seen, prediction = stream_value(
        server, adapter, str | None, testing.Reply(written("some words here"), chunk=4)
    )
    assert len({value for value, _ in seen}) > 2
    assert seen[-1][0] == prediction.value == "some words here"


def test_a_superseded_attempt_takes_its_partials_with_it(server):
    """X4: what a retry writes anew begins anew."""
    reply = {"value": [{"a": 1}], "after": "end"}
    server.script(
        testing.Reply('{"value": [{"a": 7}, {"b": 8', chunk=3, fault=testing.Fault(error_after=6)),
        testing.Reply(reply, chunk=3),
    )
    predict = dspy.Predict(signature_of(list[dict[str, int]]))
    with dspy.context(lm=server.lm(num_retries=1), adapter=dspy.JSONAdapter()):
        with streamll.stream(predict)(question="?") as events:
            values = [(p.event.attempt, copy.deepcopy(p.value)) for p in events.partials("value")]
            assert values[-1][1] == events.result().value == [{"a": 1}]
    second = [value for attempt, value in values if attempt == values[-1][0]]
    assert second[0] == []


def test_a_code_fence_around_the_json_is_no_repair(server):
    text = '```json\n[{"a": 1}, {"a": 2}]\n```'
    events, seen, prediction = stream_value(
        server, dspy.ChatAdapter(), list[dict[str, int]], testing.Reply(as_chat(text), chunk=3)
    )
    assert [{"a": 1}, {}] in [value for value, _ in seen]
    assert seen[-1][0] == prediction.value == [{"a": 1}, {"a": 2}]
    assert not [event for event in events if event.event_type == "field.corrected"]
