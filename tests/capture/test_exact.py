"""X1, end to end: over real HTTP, what was streamed is what the program returns.

Whatever the reply: the joined tokens of the last attempt equal the prediction's field, or one
``field.corrected`` after them says what does. In CI Hypothesis makes three
thousand calls here; ``core/parsing/test_parsers_exact.py`` reads ten thousand replies without them.
"""

from __future__ import annotations

import dspy
import pytest
from difficult_replies import anything, chat_reply, json_reply, sizes, xml_reply
from dspy.adapters.baml_adapter import BAMLAdapter
from hypothesis import HealthCheck, given, settings
from oracle import CHAT, FORMATS, JSON, XML, MyBAMLAdapter, Reply
from profiles import thorough

import streamll
from streamll import testing
from streamll.core.ordering import OrderCheck

FIELDS = ("reasoning", "answer")
predict = dspy.Predict(Reply)


@pytest.fixture(scope="module")
def server():
    with testing.PracticeServer() as server:
        yield server


def _encodable(reply: str) -> bool:
    try:
        return bool(reply.encode())
    except UnicodeEncodeError:
        return False


def cut(text, sizes):
    chunks = []
    while text:
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(text[:size])
        text = text[size:]
    return chunks


def check(server, adapter, reply, sizes, well_formed):
    """Stream one reply and compare all that was said with what came out."""
    server.requests.clear()
    server.script(testing.Reply(chunks=cut(reply, sizes)))
    with dspy.context(lm=server.lm(), adapter=adapter):
        with streamll.stream(predict)(question="?") as events:
            seen, order = [], OrderCheck()
            try:
                for event in events:
                    order.check(event)
                    seen.append(event)
            except (dspy.utils.exceptions.AdapterParseError, ValueError, RecursionError):
                assert seen[-1].event_type == "run.error"
                assert not well_formed or seen[-1].error_type != "AdapterParseError"
                return
            prediction = events.result()
            for field in FIELDS:
                value = prediction.get(field)
                assert events.text(field) == (value or "")
                corrected = [
                    e for e in seen if e.event_type == "field.corrected" and e.field == field
                ]
                attempt = max((e.attempt for e in seen if e.event_type == "token"), default=0)
                joined = "".join(
                    e.token
                    for e in seen
                    if e.event_type == "token" and (e.field, e.attempt) == (field, attempt)
                )
                if joined != (value or ""):
                    assert len(corrected) == 1
                    assert corrected[0].text == (value or "")
                    assert corrected[0].value == value
                else:
                    assert corrected == []
                if well_formed and len(server.requests) == 1:
                    assert corrected == []


calls = settings(  # each is a whole call; the parsers alone read ten thousand replies and more
    max_examples=thorough(600), suppress_health_check=list(HealthCheck)
)


@calls
@given(chat_reply.filter(_encodable), sizes)
def test_chat(server, reply, sizes):
    check(server, CHAT.adapters[len(reply) % 2], reply, sizes, CHAT.well_formed(reply))


@calls
@given(json_reply.filter(_encodable), sizes)
@pytest.mark.since_3_4  # older adapters read odd replies differently
def test_json(server, reply, sizes):
    check(server, JSON.adapters[len(reply) % 2], reply, sizes, JSON.well_formed(reply))


@calls
@given(json_reply.filter(_encodable), sizes)
@pytest.mark.since_3_4  # older adapters read odd replies differently
def test_baml(server, reply, sizes):
    adapter = (BAMLAdapter(), MyBAMLAdapter())[len(reply) % 2]
    check(server, adapter, reply, sizes, JSON.well_formed(reply))


@calls
@given(xml_reply().filter(_encodable), sizes)
@pytest.mark.since_3_4  # older adapters read odd replies differently
def test_xml(server, reply, sizes):
    check(server, XML.adapters[len(reply) % 2], reply, sizes, XML.well_formed(reply))


@calls
@given(anything.filter(_encodable), sizes)
def test_a_reply_of_arbitrary_text(server, reply, sizes):
    form = FORMATS[len(reply) % 3]
    check(server, form.adapters[0], reply, sizes, form.well_formed(reply))
