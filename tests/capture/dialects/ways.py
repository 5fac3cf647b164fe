"""The ways in which a call reaches a provider, each played with and without capture."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import dspy
import litellm  # noqa: F401 - which takes seconds: they are not the first call's
from case import LOST, Case, Failed
from dspy import lm15
from dspy.utils.exceptions import LMError, is_retryable_lm_error
from frames_server import FramesServer, Play, Sent, cut, encoded
from observing import written_out
from programs import Heard

import streamll
from streamll.configuration import configuration
from streamll.services import StreamConfig, iModel

WAYS = tuple(
    f"{engine} {calls}" for engine in ("native", "litellm", "imodel") for calls in ("sync", "async")
)
LIMIT_S = 60
MADE_UP_CALL = re.compile(r"call_[0-9a-f]{28}(__|$)")
"""How LiteLLM identifies a call that Gemini sends without an id."""
QUESTION = "How many lives has a cat?"
PROVIDERS = {"chat": "openai", "responses": "openai", "anthropic": "anthropic", "gemini": "gemini"}
BASES = {  # what each engine expects in the address
    ("native", "anthropic"): "/v1",
    ("litellm", "anthropic"): "",
    ("imodel", "anthropic"): "",
    ("native", "gemini"): "/v1beta",
    ("litellm", "gemini"): "/v1beta",
    ("imodel", "gemini"): "",
}
ONCE = StreamConfig(max_retries=0, breaker=None, timeout=LIMIT_S)


@dataclass
class Outcome:
    """What a call gave, and what was heard of it."""

    result: Any = None
    response: Any = None
    usage: Any = None
    error: list[Any] | None = None
    message: str = ""
    text: dict[str, str] = field(default_factory=dict)
    thinking: str | None = None
    tool_calls: list[tuple[str, Any]] = field(default_factory=list)
    finish_reason: str | None = None
    events: list[Any] = field(default_factory=list)
    play: Play | None = None

    def of(self, kind: str) -> list[Any]:
        return [event for event in self.events if event.event_type == kind]


def play(server: FramesServer, case: Case, way: str, how: str, *, captured: bool) -> Outcome:
    """Play a case in one way. ``how`` its stream is cut: one of ``frames_server.CUTS``."""
    engine, calls = way.split()
    pieces, trailers = cut(case.frames, how), case.trailers
    stream = Sent(pieces, case.end, case.status, case.content_type, case.headers, trailers)
    replies = Play(stream, plain_of(case))
    if coding := case.headers.get("content-encoding"):
        for sent in (replies.stream, replies.plain):
            sent.pieces = encoded(sent.pieces, coding)
    url = server.play(replies)
    outcome = Outcome(play=replies)
    heard = Heard()
    if engine == "imodel":
        _ask_imodel(case, url, calls, outcome, heard if captured else None)
    else:
        lm = lm_for(case, url, engine)
        with _watching(heard if captured else None):
            _ask_lm(case, lm, calls, outcome)
    outcome.events = heard.events
    return outcome


def plain_of(case: Case) -> Sent:
    if case.plain is LOST:
        return Sent([b'{"id": '], "cut", content_type="application/json")
    if isinstance(case.plain, Failed):
        status, body = case.plain.status, case.plain.body
        return Sent([written(body)], "close", status, "application/json", case.headers)
    return Sent([written(case.plain)], content_type="application/json", headers=case.headers)


def written(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()


@contextlib.contextmanager
def _watching(heard: Heard | None) -> Iterator[None]:
    if heard is None:
        yield
        return
    before, configuration.include = configuration.include, frozenset({"tools"})
    try:
        with streamll.watch(sinks=[heard]):
            yield
    finally:
        configuration.include = before


def lm_for(case: Case, url: str, engine: str) -> dspy.LM:
    provider = case.provider or PROVIDERS[case.wire]
    options: dict[str, Any] = {
        "api_base": url + BASES.get((engine, case.wire), "/v1"),
        "api_key": "none",
        "cache": False,
        "num_retries": 0,
        "engine": "lm15" if engine == "native" else "litellm",
    }
    if engine == "litellm":
        options["max_retries"] = 0  # of the SDK beneath it
    if case.wire == "responses":
        options["model_type"] = "responses"
    return dspy.LM(f"{provider}/m", **options)


def _ask_lm(case: Case, lm: dspy.LM, calls: str, outcome: Outcome) -> None:
    call, given = lm, (QUESTION,)
    options = dict(case.options)
    if case.ask is not None:
        call, given, options = dspy.Predict(case.ask), (), {"question": QUESTION}
    try:
        with dspy.context(lm=lm, adapter=dspy.ChatAdapter(), track_usage=True):
            if calls == "async":
                result = asyncio.run(asyncio.wait_for(call.acall(*given, **options), LIMIT_S))
            else:
                result = call(*given, **options)
    except Exception as error:
        _failed(outcome, error)
    else:
        predicted = isinstance(result, dspy.Prediction)
        outcome.result = result.toDict() if predicted else made_up_left_out(written_out(result))
    for entry in lm.history:
        outcome.response = made_up_left_out(written_out(entry["response"]))
        outcome.usage = written_out(entry["usage"])


def _ask_imodel(case: Case, url: str, calls: str, outcome: Outcome, heard: Heard | None) -> None:
    endpoint = {"chat": "chat", "responses": "responses"}.get(case.wire)
    model = iModel(
        case.provider or PROVIDERS[case.wire],
        "m",
        endpoint,
        base_url=url + BASES.get(("imodel", case.wire), "/v1"),
        api_key="none",
        config=ONCE,
        sinks=[heard] if heard else (),
    )
    before, configuration.include = configuration.include, frozenset({"tools"})
    try:
        reply = _replied(model, case, calls, events=heard is not None)
    except Exception as error:
        _failed(outcome, error)
    else:
        outcome.result = {"text": reply.text, "thinking": reply.thinking, "refusal": reply.refusal}
        outcome.result["tool_calls"] = [(each.name, each.arguments) for each in reply.tool_calls]
        outcome.finish_reason = reply.finish_reason
        outcome.response = made_up_left_out(written_out(reply.response))
        outcome.usage = str(reply.usage)
    finally:
        configuration.include = before
        if calls == "sync":
            model.close()


def _replied(model: iModel, case: Case, calls: str, *, events: bool) -> Any:
    async def asked() -> Any:
        try:
            if not events:
                calling = await model.invoke(QUESTION, **case.options)
                return calling.text is not None and calling.execution.response
            async with model.events(QUESTION, **case.options) as stream:
                async for _ in stream:
                    pass
                return await stream.result()
        finally:
            await model.aclose()

    if calls == "async":
        return asyncio.run(asyncio.wait_for(asked(), LIMIT_S))
    if not events:
        calling = model.invoke_sync(QUESTION, **case.options)
        return calling.text is not None and calling.execution.response
    with model.events(QUESTION, **case.options) as stream:
        for _ in stream:
            pass
        return stream.result()


def _failed(outcome: Outcome, error: Exception) -> None:
    """The error as what a program can decide by: its classes, status, code, and retry decision."""
    retried = isinstance(error, LMError) and is_retryable_lm_error(error)
    outcome.error = [
        [kind.__name__ for kind in type(error).__mro__],
        getattr(error, "status", None),
        getattr(error, "provider_code", None),
        getattr(error, "retry_after", None),
        retried or isinstance(error, (lm15.TransportError, lm15.ServerError, lm15.RateLimitError)),
    ]
    outcome.message = str(error)


def made_up_left_out(value: Any) -> Any:
    """Without the ids and times that LiteLLM makes up where a reply has none."""
    if isinstance(value, (list, tuple)):
        return [made_up_left_out(item) for item in value]
    if not isinstance(value, dict):
        return value
    value = {key: made_up_left_out(item) for key, item in value.items()}
    for key in ("created", "created_at"):
        if isinstance(value.get(key), (int, float)) and abs(value[key] - time.time()) < 3600:
            value[key] = "now"
    if isinstance(value.get("expires_at"), int) and value["expires_at"] > time.time():
        value["expires_at"] = "later"
    if MADE_UP_CALL.match(str(value.get("id"))):
        value["id"] = "made up"
    return value
