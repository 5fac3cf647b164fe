"""LM calls of DSPy 3.1 to 3.3, which has no engines: wrappers for ``places``.

``dspy.LM`` has LiteLLM make every request, by a function of ``dspy.clients.lm`` for each kind of it,
below DSPy's cache. These functions are where the tap is: one call of them is one LM call, for all its
candidates. LiteLLM makes the LM's retries, inside of it (``tap.below_litellm`` tells of each).

An LM with a ``forward`` of its own is heard when DSPy has read its reply, so its text is whole. What
DSPy 3.4 keeps in a ``CallResult`` is a ``Reply`` here.
"""

# ruff: noqa: SLF001 - DSPy's own reading of a reply is a method of its LMs

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from streamll.capture.deltas import ProviderChunk
from streamll.capture.hooks.tracebacks import FramesHidden
from streamll.capture.hooks.wrappers import Function, listener_here, without_our_stream
from streamll.capture.inside_dspy import ADAPTER_CALLS
from streamll.capture.tap.attempt import AttemptScope
from streamll.capture.tap.below_litellm import tapped
from streamll.capture.tap.listener import Guarded
from streamll.capture.tap.waits import Blocking, Suspending, Waits
from streamll.capture.tap.whole import deltas_of_outputs


class Reply(NamedTuple):
    """An LM's reply: LiteLLM's object, and what the program gets of it."""

    raw: Any
    outputs: list[Any]
    usage: Any
    cost: float | None
    cache_hit: bool


def _reply(raw: Any, outputs: list[Any]) -> Reply:
    hidden = getattr(raw, "_hidden_params", None) or {}
    cached = bool(getattr(raw, "cache_hit", False))
    return Reply(raw, outputs, getattr(raw, "usage", None), hidden.get("response_cost"), cached)


def _outputs(lm: Any, raw: Any) -> list[Any]:
    """What the program will get; nothing where that fails, as it will for the program."""
    with contextlib.suppress(Exception):
        if lm.model_type == "responses":
            return list(lm._process_response(raw))
        return list(lm._process_completion(raw, lm.kwargs))
    return []


def tapped_request(before_litellm: Callable[[], object], original: Function) -> Function:
    """``before_litellm`` is called before each captured call."""

    async def answer(waits: Waits, listener: Any, model: str, ask: Callable[[], Any]) -> Any:
        before_litellm()
        lm, guarded = listener.frame.instance, Guarded(listener)
        scope = AttemptScope(guarded)
        with without_our_stream(), scope, scope.interruptible:
            if not guarded.streaming:
                reply = _reply(raw := await waits.call(ask), [])
            else:
                with tapped(guarded, lm, model) as below:
                    raw = await waits.call(ask)
                reply = _reply(raw, _outputs(lm, raw))
                if not below.streamed:
                    guarded.hear(deltas_of_outputs(reply.outputs))
        guarded.done(reply)
        return raw

    if inspect.iscoroutinefunction(original):

        async def arequest(request: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            ask = functools.partial(original, request, *args, **kwargs)
            with FramesHidden():
                if (listener := listener_here()) is None:
                    return await ask()
                return await answer(Suspending(), listener, request["model"], ask)

        return arequest

    def request(request: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        ask = functools.partial(original, request, *args, **kwargs)
        with FramesHidden():
            if (listener := listener_here()) is None:
                return ask()
            return Blocking.run(answer(Blocking(), listener, request["model"], ask))

    return request


def reply_recorded(original: Function) -> Function:
    """Of ``BaseLM._process_lm_response``, which every reply of an LM passes."""

    def process(lm: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        with FramesHidden():
            outputs = original(lm, response, *args, **kwargs)
        _record(_reply(response, outputs))
        return outputs

    return process


def typed_reply_recorded(original: Function) -> Function:
    """Of ``BaseLM._finalize_lm_response``, for the ``LMResponse`` of DSPy 3.3."""

    def finalize(lm: Any, request: Any, response: Any) -> Any:
        outputs, cached = response.to_legacy_outputs(), bool(response.cache_hit)
        raw = response.provider_response
        _record(Reply(raw, outputs, response.usage_as_dict(), response.cost, cached))
        return original(lm, request, response)

    return finalize


def _record(reply: Reply) -> None:
    if (listener := listener_here()) is None:
        return
    listener.result = reply
    if listener.begun or reply.cache_hit:
        return
    guarded = Guarded(listener)  # the LM has asked nobody that is tapped
    guarded.begin()
    if guarded.streaming:
        guarded.hear((ProviderChunk(None), *deltas_of_outputs(reply.outputs)))
    guarded.done(reply)


@contextlib.contextmanager
def _adapter_call() -> Iterator[None]:
    token = ADAPTER_CALLS.set((*ADAPTER_CALLS.get(), object()))
    try:
        yield
    finally:
        ADAPTER_CALLS.reset(token)


def adapter_call(original: Function) -> Function:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        with FramesHidden(), _adapter_call():
            return original(self, *args, **kwargs)

    return call


def adapter_acall(original: Function) -> Function:
    async def acall(self: Any, *args: Any, **kwargs: Any) -> Any:
        with FramesHidden(), _adapter_call():
            return await original(self, *args, **kwargs)

    return acall
