"""The wrappers for the sites in ``places``: each takes an original and returns its replacement."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from streamll.capture.hooks.callbacks import CALLBACK
from streamll.capture.hooks.tracebacks import hide_frames
from streamll.capture.inside_dspy import ACTIVE_CALL_ID, overriding, setting
from streamll.capture.policy import attempts
from streamll.capture.run.enter import acall_captured, call_captured
from streamll.capture.run.scope import QUIET_KEY, SCOPE_KEY, current_scope, is_quiet
from streamll.context import get_context, scoped_context

Function = Callable[..., Any]


def captured_call(original: Function) -> Function:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return call_captured(original, self, args, kwargs)
        except BaseException as error:
            hide_frames(error)
            raise

    return call


def captured_acall(original: Function) -> Function:
    async def acall(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return await acall_captured(original, self, args, kwargs)
        except BaseException as error:
            hide_frames(error)
            raise

    return acall


def lm_call(original: Function) -> Function:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        with without_our_stream():
            return call_captured(original, self, args, kwargs)

    return call


def lm_acall(original: Function) -> Function:
    async def acall(self: Any, *args: Any, **kwargs: Any) -> Any:
        with without_our_stream():
            return await acall_captured(original, self, args, kwargs)

    return acall


def without_our_stream() -> AbstractContextManager[None]:
    """Inside, DSPy does not see our ``send_stream``, for which it would stream by itself."""
    scope = current_scope()
    ours = scope.send_stream if scope is not None else None
    if ours is None or setting("send_stream") is not ours:
        return nullcontext()
    return overriding("send_stream", None)


class DSPyOfCallbacks:
    """The module ``dspy`` as ``dspy.utils.callback`` sees it, which asks ``dspy.settings.get``."""

    def __init__(self, dspy: Any) -> None:
        self._dspy = dspy
        self.settings = _SettingsOfCallbacks(dspy)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dspy, name)


class _SettingsOfCallbacks:
    def __init__(self, dspy: Any) -> None:
        self._dspy = dspy

    def get(self, key: str, default: Any = None) -> Any:
        value = self._dspy.settings.get(key, default)
        if key == "callbacks" and setting(SCOPE_KEY) is not None and CALLBACK not in value:
            return [*value, CALLBACK]
        return value

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dspy.settings, name)


def tapped_engine(before_litellm: Callable[[], object], original: Function) -> Function:
    """``before_litellm`` is called before each captured call that goes through LiteLLM."""
    from streamll.capture.tap import engine
    from streamll.capture.tap.below_litellm import is_litellm

    def select(lm: Any, call: Any, asynchronous: bool) -> Any:
        backend, request, provider = original(lm, call, asynchronous)
        listener = _listener()
        if listener is None:
            return backend, request, provider
        if is_litellm(backend):
            before_litellm()
        if (policy := listener.scope.policy) is None:
            return engine.tap(backend, request, listener, asynchronous), request, provider
        supervised = policy.supervise(listener, lm, call.legacy)
        tap = engine.tap(backend, request, supervised, asynchronous)
        return attempts.supervised(tap, supervised, asynchronous), request, provider

    return select


def _listener() -> Any:
    """The ``LMCall`` that is being made here."""
    scope = current_scope()
    frame = scope.run.frames.get(ACTIVE_CALL_ID.get() or "") if scope is not None else None
    if frame is None or frame.kind != "lm":
        return None
    return next(iter(frame.lm_calls), None)  # none if the callback failed at its start


def retryable_unless_final(original: Function) -> Function:
    def retryable(state: Any, error: BaseException, *counts: Any) -> Any:
        return not attempts.is_final(error) and original(state, error, *counts)

    return retryable


def result_recorded(original: Function) -> Function:
    def finalize(lm: Any, call: Any, result: Any) -> Any:
        if (listener := _listener()) is not None:
            listener.result = result
        return original(lm, call, result)

    return finalize


def quiet(original: Function) -> Function:
    def evaluate(self: Any, *args: Any, **kwargs: Any) -> Any:
        with overriding(QUIET_KEY, True):  # noqa: FBT003
            return original(self, *args, **kwargs)

    return evaluate


def context_carried(original: Function) -> Function:
    def execute(self: Any, function: Callable[[Any], Any], data: Any) -> Any:
        context = get_context()

        @functools.wraps(function)
        def under_context(item: Any) -> Any:
            with scoped_context(context):
                return function(item)

        with overriding(QUIET_KEY, is_quiet()):  # for its threads, which get no context variables
            return original(self, under_context, data)

    return execute
