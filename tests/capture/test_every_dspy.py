"""What holds on every DSPy from 3.1 on, and what only 3.4 has and says so."""

from __future__ import annotations

from types import SimpleNamespace

import dspy
import pytest
from dspy.utils.dummies import DummyLM
from dspy_lines import HAS_ENGINES, without_waiting

import streamll
from streamll.core.errors import ConfigurationError
from streamll.core.ordering import OrderCheck
from streamll.testing import Fault, Reply

REPLY = {"reasoning": "it is so", "answer": "blue as the sea"}


@pytest.fixture
def retries(monkeypatch):
    """The errors after which a request was made again, without a wait."""
    noted = []
    without_waiting(monkeypatch, lambda error, *_: noted.append(error))
    return noted


def seen(program, **inputs):
    with streamll.stream(program)(**inputs) as events:
        found = list(events)
        value = events.result()
    OrderCheck().check_all(found)
    return found, value


def text(events, field):
    return "".join(
        event.token for event in events if event.event_type == "token" and event.field == field
    )


def of(events, kind):
    return [event for event in events if event.event_type == kind]


def test_each_failure_of_a_request_is_told_and_takes_its_text_back(practice, retries):
    """X4: before DSPy 3.4 LiteLLM makes the retries, so they have to be seen from below."""
    practice.script(Reply(REPLY, fault=Fault(disconnect_after=12)), Fault(status=500), REPLY)
    with dspy.context(lm=practice.lm(num_retries=3), adapter=dspy.ChatAdapter()):
        events, prediction = seen(dspy.Predict("question -> reasoning, answer"), question="Why?")
    assert len(of(events, "lm.superseded")) == 2
    assert {event.attempt for event in of(events, "token")} == {0, 2}
    last = [event for event in events if event.seq > of(events, "lm.superseded")[-1].seq]
    assert text(last, "answer") == prediction.answer == REPLY["answer"]
    assert not of(events, "field.corrected")


def test_a_fallback_to_another_adapter_is_told(practice):
    """X4."""
    practice.script("[[ ## reasoning ## ]]\nonly half", REPLY)
    with dspy.context(lm=practice.lm(), adapter=dspy.ChatAdapter()):
        events, prediction = seen(dspy.Predict("question -> reasoning, answer"), question="Why?")
    assert [event.reason for event in of(events, "lm.superseded")] == ["fallback"]
    assert prediction.answer == REPLY["answer"]


def test_who_leaves_is_not_asked_again_for(practice):
    """X7: to LiteLLM an interrupted read looks like a lost connection, which it would repeat."""
    practice.script(Reply(REPLY, fault=Fault(stall_after=12)))
    with dspy.context(lm=practice.lm(num_retries=3), adapter=dspy.ChatAdapter()):
        with streamll.stream(dspy.Predict("question -> reasoning, answer"))(question="?") as events:
            next(event for event in events if event.event_type == "token")
        (request,) = practice.requests
        practice.wait_for(lambda: request.over, what="the end of the request")
        with streamll.stream(dspy.Predict("question -> answer"))(question="?") as events:
            events.result()
    assert len(practice.requests) == 2


def test_usage_and_cache_are_told(practice):
    """C8: a cached reply is one token for each field, and costs nothing."""
    practice.respond(lambda request: REPLY)
    with dspy.context(lm=practice.lm(cache=True), adapter=dspy.ChatAdapter()):
        first, _ = seen(dspy.Predict("question -> reasoning, answer"), question="Why?")
        again, _ = seen(dspy.Predict("question -> reasoning, answer"), question="Why?")
    (ended,), (cached,) = of(first, "lm.end"), of(again, "lm.end")
    assert (ended.cached, cached.cached) == (False, True)
    assert ended.prompt_tokens > 0 < ended.completion_tokens
    assert ended.finish_reason == "stop"
    assert cached.cost is None
    assert [event.token for event in of(again, "token")] == [*REPLY.values()]
    assert len(practice.requests) == 1


class Parrot(dspy.BaseLM):
    """An LM of one's own, which asks nobody."""

    def forward(self, prompt=None, messages=None, **options):
        said = "[[ ## answer ## ]]\nblue\n\n[[ ## completed ## ]]"
        message = SimpleNamespace(content=said, tool_calls=None)
        choice = SimpleNamespace(message=message, finish_reason="stop")
        usage = {"prompt_tokens": 3, "completion_tokens": 5}
        return SimpleNamespace(choices=[choice], usage=usage, model="parrot")


@pytest.mark.parametrize(
    "lm",
    [lambda: Parrot("parrot"), lambda: DummyLM([{"answer": "blue"}])],
    ids=["a forward of its own", "DummyLM"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_text_of_other_lms_comes_whole(lm):
    """X3."""
    with dspy.context(lm=lm(), adapter=dspy.ChatAdapter()):
        events, prediction = seen(dspy.Predict("question -> answer"), question="Why?")
    assert [event.token for event in of(events, "token") if event.token] == ["blue"]
    assert prediction.answer == "blue"
    assert len(of(events, "lm.start")) == len(of(events, "lm.end")) == 1


def test_what_only_3_4_has_says_so_by_name():
    """Bounds of the stream as a whole work on every DSPy, its LM calls' attempts only on 3.4."""
    predict = dspy.Predict("question -> answer")
    streamll.stream(predict, config=streamll.StreamConfig(buffer_size=3, timeout=60))
    attempts = streamll.StreamConfig(max_retries=1, idle_timeout=5)
    if HAS_ENGINES:
        streamll.stream(predict, config=attempts)
        assert streamll.iModel
        return
    with pytest.raises(ConfigurationError, match=r"max_retries=…, idle_timeout=….* needs DSPy 3.4"):
        streamll.stream(predict, config=attempts)
    with pytest.raises(ImportError, match=r"iModel.* need DSPy 3.4"):
        _ = streamll.iModel
