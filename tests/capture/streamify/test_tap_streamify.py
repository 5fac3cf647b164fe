"""Around and inside ``dspy.streamify`` DSPy streams by itself; the tap hears what passes."""

from __future__ import annotations

import asyncio

import dspy
import pytest
from patience import BOUND
from scenarios import CHAT_REPLY
from tapping import Notes, tapped

from streamll.core.errors import Unwind
from streamll.testing import Fault, Reply

pytestmark = pytest.mark.since_3_4

ROUTES = [
    (wire, engine, asynchronous)
    for wire, engine in [
        ("openai", "lm15"),
        ("responses", "lm15"),
        ("anthropic", "lm15"),
        ("openai", "litellm"),
    ]
    for asynchronous in (False, True)
]
every_route = pytest.mark.parametrize(("wire", "engine", "asynchronous"), ROUTES)


def streamified(lm, asynchronous):
    """All chunks that DSPy's own listener gives, and the prediction."""
    program = dspy.Predict("question -> reasoning, answer")
    listener = dspy.streaming.StreamListener("answer")
    streaming = dspy.streamify(program, stream_listeners=[listener], is_async_program=asynchronous)

    async def main():
        chunks, prediction = [], None
        async for value in streaming(question="?"):
            if isinstance(value, dspy.Prediction):
                prediction = value.toDict()
            elif isinstance(value, dspy.streaming.StreamResponse):
                chunks.append(value.chunk)
        return chunks, prediction

    with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
        return asyncio.run(asyncio.wait_for(main(), 5 * BOUND))  # it may import LiteLLM


def failure_of(lm, asynchronous):
    """What ends it, out of the exception groups that DSPy's task groups put around."""
    try:
        streamified(lm, asynchronous)
    except BaseException as error:
        found = error
        while inner := getattr(found, "exceptions", None):
            found = inner[0]
        return found
    raise AssertionError("it did not fail")


@every_route
def test_streamify_gives_the_same_and_the_tap_hears_it(practice, wire, engine, asynchronous):
    """X3."""
    reply = Reply(CHAT_REPLY, thinking="Hm.", chunk=4)
    practice.script(reply, reply)
    plain = streamified(practice.lm(wire, engine=engine), asynchronous)
    with tapped() as listeners:
        assert streamified(practice.lm(wire, engine=engine), asynchronous) == plain
    assert plain[1] == {"reasoning": "Because.", "answer": "Paris"}
    assert all(request.streaming for request in practice.requests)
    first, second = practice.requests
    assert first.body == second.body
    (notes,) = listeners
    assert notes.text_so_far == CHAT_REPLY
    assert "".join(notes.of("thinking")) == "Hm."
    assert (notes.attempts, len(notes.results), notes.failures) == (1, 1, [])


@every_route
def test_an_error_in_the_stream_passes(practice, wire, engine, asynchronous):
    reply = Reply(CHAT_REPLY, chunk=4, fault=Fault(disconnect_after=6))
    practice.script(reply, reply)

    def failure():
        return failure_of(practice.lm(wire, engine=engine, num_retries=0), asynchronous)

    plain = failure()
    with tapped() as listeners:
        assert type(failure()) is type(plain)
    assert len(listeners[0].failures) == 1
    assert listeners[0].text_so_far


@pytest.mark.parametrize("engine", ["lm15", "litellm"])
def test_a_cancelled_stream_ends(practice, engine):
    class Stopping(Notes):
        def hear(self, delta):
            super().hear(delta)
            self.cancelled = True

    practice.script(Reply(CHAT_REPLY * 5, packets=True, hold_after=5))  # not over before
    with tapped(Stopping):
        error = failure_of(practice.lm(engine=engine), asynchronous=True)
    assert isinstance(error, Unwind)
    practice.requests[0].wait_closed()
    assert practice.requests[0].finished_at is None


def test_a_dummy_passes():
    from dspy.utils.dummies import DummyLM

    with tapped() as listeners:
        lm = DummyLM([{"reasoning": "r", "answer": "a"}])
        _, prediction = streamified(lm, asynchronous=False)
    assert prediction == {"reasoning": "r", "answer": "a"}
    assert "a" in listeners[0].text_so_far
