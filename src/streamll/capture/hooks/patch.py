"""The hooks in DSPy: what this package replaces, put on and taken off here.

Installed on first use, restored by ``uninstall``. What is replaced, and why there:

* ``Module.__call__``/``acall`` and ``BaseLM.__call__``/``acall``: where a captured call begins;
* ``execution._select_engine``: the engine of one LM call, which the tap then stands in for;
* ``execution._retryable``: where a ``StreamConfig`` governs the attempts, DSPy adds none;
* ``execution.finalize``: the one place that holds usage, cost and cache hit of an LM call;
* ``Settings.get``: answers ``callbacks`` with ours added, so that a program that sets
  ``dspy.context(callbacks=…)`` (``dspy.streamify`` does) is still heard;
* ``Evaluate.__call__``: token capture stays off inside;
* ``ParallelExecutor.execute``: its threads get DSPy's settings but no context variables.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import dspy

from streamll.capture.hooks.callbacks import CALLBACK
from streamll.capture.hooks.tracebacks import hide_frames
from streamll.capture.inside_dspy import (
    ACTIVE_CALL_ID,
    PARALLEL_EXECUTOR,
    engine_selection,
    overriding,
    setting,
)
from streamll.capture.instrument import CallLocalFields
from streamll.capture.policy import attempts
from streamll.capture.run.enter import acall_captured, call_captured
from streamll.capture.run.scope import QUIET_KEY, SCOPE_KEY, current_scope, is_quiet
from streamll.capture.tap import engine
from streamll.configuration import logger
from streamll.context import get_context, scoped_context, set_run_finder

_lock = threading.Lock()
_ABSENT = object()
_hooks: dict[tuple[Any, str], tuple[Any, Any]] = {}  # where → what was there before, and ours


def install() -> None:
    """Put the hooks on; does nothing where they are."""
    with _lock:
        if _installed():
            return
        _wrap(dspy.Module, "__call__", _captured_call)
        _wrap(dspy.Module, "acall", _captured_acall)
        _wrap(dspy.BaseLM, "__call__", _unstreamed_call)
        _wrap(dspy.BaseLM, "acall", _unstreamed_acall)
        _wrap(type(dspy.settings), "get", _get_with_callback)
        _wrap(dspy.Evaluate, "__call__", _quiet)
        _wrap(PARALLEL_EXECUTOR, "execute", _with_context)
        _replace(dspy.Module, "_streamll_stream_fields", CallLocalFields())
        execution = engine_selection()
        reason = engine.unsupported() if execution is not None else "it selects no engines"
        if reason is None:
            _wrap(execution, "_select_engine", _tapped)
            _wrap(execution, "finalize", _with_result)
            _wrap(execution, "_retryable", _unless_final)
            engine.install()
        else:
            logger.warning(
                "this DSPy (%s) cannot be streamed: %s; text arrives whole, when a call ends",
                dspy.__version__,
                reason,
            )
        set_run_finder(current_scope)


def uninstall() -> None:
    """Take the hooks off again; runs under way go on without further events.

    One that somebody else has wrapped since stays inside that wrapper, and does what it did.
    """
    with _lock:
        for (owner, name), (original, ours) in list(_hooks.items()):
            found = vars(owner).get(name, _ABSENT)
            if found is not ours and found is not original:
                continue
            if found is ours and original is _ABSENT:
                delattr(owner, name)
            elif found is ours:
                setattr(owner, name, original)
            del _hooks[owner, name]
        engine.uninstall()


def _installed() -> bool:
    """Whether all hooks are on; after ``uninstall`` it is only those inside wrappers of others."""
    return (dspy.Module, "_streamll_stream_fields") in _hooks


def _replace(owner: Any, name: str, value: Any) -> None:
    _hooks[owner, name] = (vars(owner).get(name, _ABSENT), value)
    setattr(owner, name, value)


def _wrap(owner: Any, name: str, hook: Callable[..., Any]) -> None:
    if (owner, name) in _hooks:
        return
    original = getattr(owner, name, None)
    if original is None:
        logger.warning("this DSPy has no %s of its old name; capture does without", name)
        return
    _replace(owner, name, functools.wraps(original)(hook(original)))


def _captured_call(original: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return call_captured(original, self, args, kwargs)
        except BaseException as error:
            hide_frames(error)
            raise

    return call


def _captured_acall(original: Callable[..., Any]) -> Callable[..., Any]:
    async def acall(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return await acall_captured(original, self, args, kwargs)
        except BaseException as error:
            hide_frames(error)
            raise

    return acall


def _unstreamed_call(original: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        with without_our_stream():
            return call_captured(original, self, args, kwargs)

    return call


def _unstreamed_acall(original: Callable[..., Any]) -> Callable[..., Any]:
    async def acall(self: Any, *args: Any, **kwargs: Any) -> Any:
        with without_our_stream():
            return await acall_captured(original, self, args, kwargs)

    return acall


def without_our_stream() -> AbstractContextManager[None]:
    """Inside, DSPy does not stream by itself for the sake of our ``send_stream``."""
    scope = current_scope()
    ours = scope.send_stream if scope is not None else None
    if ours is None or setting("send_stream") is not ours:
        return nullcontext()
    return overriding("send_stream", None)


def _get_with_callback(original: Callable[..., Any]) -> Callable[..., Any]:
    def get(self: Any, key: str, default: Any = None) -> Any:
        value = original(self, key, default)
        if key == "callbacks" and setting(SCOPE_KEY) is not None:
            return value if CALLBACK in value else [*value, CALLBACK]
        return value

    return get


def _tapped(original: Callable[..., Any]) -> Callable[..., Any]:
    def select(lm: Any, call: Any, asynchronous: bool) -> Any:
        backend, request, provider = original(lm, call, asynchronous)
        listener = _listener()
        if listener is None:
            return backend, request, provider
        if (governor := listener.scope.governor) is None:
            return engine.tap(backend, request, listener, asynchronous), request, provider
        governed_call = governor.call(listener, lm, call.legacy)
        tap = engine.tap(backend, request, governed_call, asynchronous)
        return attempts.governed(tap, governed_call, asynchronous), request, provider

    return select


def _listener() -> Any:
    """The LM call that is being made here."""
    scope = current_scope()
    frame = scope.run.frames.get(ACTIVE_CALL_ID.get() or "") if scope is not None else None
    if frame is None or frame.kind != "lm":
        return None
    return next(iter(frame.lm_calls), None)  # none if its start could not be heard


def _unless_final(original: Callable[..., Any]) -> Callable[..., Any]:
    def retryable(state: Any, error: BaseException, *counts: Any) -> Any:
        return not attempts.is_final(error) and original(state, error, *counts)

    return retryable


def _with_result(original: Callable[..., Any]) -> Callable[..., Any]:
    def finalize(lm: Any, call: Any, result: Any) -> Any:
        if (listener := _listener()) is not None:
            listener.result = result
        return original(lm, call, result)

    return finalize


def _quiet(original: Callable[..., Any]) -> Callable[..., Any]:
    def evaluate(self: Any, *args: Any, **kwargs: Any) -> Any:
        with overriding(QUIET_KEY, True):  # noqa: FBT003
            return original(self, *args, **kwargs)

    return evaluate


def _with_context(original: Callable[..., Any]) -> Callable[..., Any]:
    def execute(self: Any, function: Callable[[Any], Any], data: Any) -> Any:
        context = get_context()

        @functools.wraps(function)
        def under_context(item: Any) -> Any:
            with scoped_context(context):
                return function(item)

        with overriding(QUIET_KEY, is_quiet()):  # for its threads, which get no context variables
            return original(self, under_context, data)

    return execute
