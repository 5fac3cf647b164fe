"""X3, X4: whatever answers DSPy's calls, its text arrives, and the call stays what it was.

Every kind of LM there is: DSPy's native engine on three wires, LiteLLM, engines and plugins of
the user's own, ``DummyLM``. Each makes the same calls plainly and captured.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import dspy
import pytest
from dspy.lm15 import (
    Message,
    Request,
    Response,
    StreamDeltaEvent,
    StreamEndEvent,
    StreamStartEvent,
    TextDelta,
    Usage,
)
from dspy.utils import DummyLM
from programs import Heard

import streamll
from streamll.core.ordering import OrderCheck
from streamll.testing import PracticeServer

pytestmark = [pytest.mark.since_3_4, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

TEXT = "[[ ## answer ## ]]\nParis, of course.\n\n[[ ## completed ## ]]"
PIECES = [TEXT[start : start + 4] for start in range(0, len(TEXT), 4)]
ANSWER = "Paris, of course."
COUNTED = Usage(input_tokens=7, output_tokens=len(PIECES), total_tokens=7 + len(PIECES))


# --- engines of the user's own --------------------------------------------------------------------


class Whole:
    """An engine that only completes."""

    pieces: Sequence[Any] = PIECES

    def complete(self, request: Request) -> Response:
        return Response(
            id="own", model="own", message=Message.assistant(TEXT), finish_reason="stop",
            usage=COUNTED,
        )  # fmt: skip

    def close(self) -> None: ...


class Streaming(Whole):
    """An engine that also streams."""

    def stream(self, request: Request) -> Any:
        yield StreamStartEvent(id="own", model="own")
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield StreamDeltaEvent(delta=TextDelta(text=piece))
        yield StreamEndEvent(finish_reason="stop", usage=COUNTED)


class AsyncWhole:
    async def complete(self, request: Request) -> Response:
        return Whole().complete(request)

    async def aclose(self) -> None: ...


class AsyncStreaming(AsyncWhole):
    async def stream(self, request: Request) -> Any:
        for event in Streaming().stream(request):
            await asyncio.sleep(0)
            yield event


# --- plugins of the user's own --------------------------------------------------------------------


class Legacy(dspy.BaseLM):
    """A plugin of the old kind: ``forward`` and ``aforward``."""

    def forward(self, prompt=None, messages=None, **kwargs):
        message = SimpleNamespace(content=TEXT)
        choice = SimpleNamespace(message=message, finish_reason="stop")
        usage = {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16}
        return SimpleNamespace(choices=[choice], usage=usage, model="legacy")

    async def aforward(self, prompt=None, messages=None, **kwargs):
        return self.forward(prompt, messages, **kwargs)


class Wrapping(dspy.LM):
    """A plugin that adds to ``dspy.LM``: DSPy selects an engine for it, and one beneath."""

    def forward(self, *args, **kwargs):
        return super().forward(*args, **kwargs)

    async def aforward(self, *args, **kwargs):
        return await super().aforward(*args, **kwargs)


def wrapping(server: PracticeServer) -> dspy.LM:
    return Wrapping(
        "openai/practice-model", api_base=server.openai_url, api_key="practice", cache=False
    )


LMS = {
    "chat": lambda server: server.lm(),
    "responses": lambda server: server.lm("responses"),
    "anthropic": lambda server: server.lm("anthropic"),
    "litellm": lambda server: server.lm(engine="litellm"),
    "a streaming engine": lambda server: dspy.LM(
        "own", engine=Streaming(), async_engine=AsyncStreaming(), cache=False
    ),
    "an engine": lambda server: dspy.LM(
        "own", engine=Whole(), async_engine=AsyncWhole(), cache=False
    ),
    "DummyLM": lambda server: DummyLM([{"answer": ANSWER}] * 9),
    "a legacy plugin": lambda server: Legacy("legacy"),
    "a plugin over dspy.LM": wrapping,
}
WHOLE = {"an engine", "DummyLM", "a legacy plugin"}
"""What cannot stream: its text arrives in one piece."""


@pytest.fixture
def server(practice):
    practice.respond(lambda request: TEXT)
    return practice


def performed(call: Any, asynchronous: bool, *args: Any, **kwargs: Any) -> Any:
    return asyncio.run(call.acall(*args, **kwargs)) if asynchronous else call(*args, **kwargs)


def recorded(lm: Any) -> list[Any]:
    """What DSPy's history says of each call."""
    return [
        [e["prompt"], e["outputs"], e["usage"], e["cost"], e["response_model"]] for e in lm.history
    ]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("name", LMS)
def test_text_arrives_from_every_kind_of_lm(name, asynchronous, server):
    """X3: the prediction, its usage and the history are those of a call that nobody hears."""
    predict, heard = dspy.Predict("question -> answer"), Heard()
    with dspy.context(lm=LMS[name](server), track_usage=True):
        plain = performed(predict, asynchronous, question="Where?")
        told = recorded(dspy.settings.lm)
    asked = len(server.requests)
    with dspy.context(lm=LMS[name](server), track_usage=True):
        streamll.instrument(predict, stream_fields=["answer"], sinks=[heard])
        prediction = performed(predict, asynchronous, question="Where?")
        assert recorded(dspy.settings.lm) == told

    assert prediction.toDict() == plain.toDict() == {"answer": ANSWER}
    assert prediction.get_lm_usage() == plain.get_lm_usage()
    assert len(server.requests) == 2 * asked
    check(heard, prediction.get_lm_usage(), whole=name in WHOLE)


def check(heard: Heard, used: Any, *, whole: bool) -> None:
    OrderCheck().check_all(heard.events)
    assert heard.text("answer", attempt=0, candidate=0) == ANSWER
    pieces = [token.token for token in heard.of("token") if token.token]
    assert len(pieces) == 1 if whole else len(pieces) > 1
    assert not {"lm.superseded", "field.corrected"} & set(heard.types)
    [call], end = heard.of("lm.end"), heard.events[-1]
    assert end.event_type == "run.end"
    assert (call.finish_reason, call.streamed) == ("stop", not whole)
    counted = [sum(u.get(kind) or 0 for u in (used or {}).values()) or None for kind in COUNTERS]
    assert [end.prompt_tokens, end.completion_tokens] == counted
    assert [call.prompt_tokens, call.completion_tokens] == counted
    assert (end.lm_calls, end.cost) == (1, call.cost)


COUNTERS = ("prompt_tokens", "completion_tokens")


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("name", LMS)
def test_a_bare_call_delivers_its_text(name, asynchronous, server):
    """X3: an LM called without a predictor streams its reply as the field ``text``."""
    heard = Heard()
    plain = performed(LMS[name](server), asynchronous, "Where?")
    with streamll.watch(sinks=[heard]):
        outputs = performed(LMS[name](server), asynchronous, "Where?")
    assert outputs == plain
    [output] = outputs
    assert heard.text("text") == (output["text"] if isinstance(output, dict) else output)
    OrderCheck().check_all(heard.events)


TYPED = ["chat", "responses", "anthropic", "litellm", "a streaming engine", "an engine"]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("name", TYPED)
def test_a_typed_request_gets_its_response(name, asynchronous, server):
    """X3: a ``dspy.lm15.Request`` gets the same ``Response``, and its text is heard."""
    heard, lm = Heard(), LMS[name](server)
    request = Request(model=lm.model, messages=(Message.user("Where?"),))
    plain = performed(lm, asynchronous, request)
    with streamll.watch(sinks=[heard]):
        response = performed(lm, asynchronous, request)
    assert isinstance(response, Response)
    assert response == plain
    assert heard.text("text") == response.message.text == TEXT
    [end] = heard.of("run.end")
    used = [response.usage.input_tokens, response.usage.output_tokens]
    assert [end.prompt_tokens, end.completion_tokens] == used


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("name", ["a streaming engine", "an engine"])
def test_an_engine_fails_as_it_fails_without_capture(name, asynchronous, server, monkeypatch):
    """X3: a user's engine that loses its connection, in the middle of a stream or of a reply."""

    def lose(*_: Any) -> Any:
        raise ConnectionError("lost")

    async def alose(*_: Any) -> Any:
        raise ConnectionError("lost")

    monkeypatch.setattr(Whole, "complete", lose)
    monkeypatch.setattr(AsyncWhole, "complete", alose)
    monkeypatch.setattr(Whole, "pieces", [*PIECES[:6], ConnectionError("lost")])
    errors, heard = [], Heard()
    for sinks in ([], [heard]):
        predict = dspy.Predict("question -> answer")
        if sinks:
            streamll.instrument(predict, stream_fields="*", sinks=sinks)
        with dspy.context(lm=LMS[name](server)), pytest.raises(dspy.LMError) as raised:
            performed(predict, asynchronous, question="Where?")
        errors.append((type(raised.value), str(raised.value), repr(raised.value.__cause__)))
    assert errors[0] == errors[1]
    assert heard.events[-1].event_type == "run.error"
    assert heard.events[-1].error_type == errors[0][0].__name__
