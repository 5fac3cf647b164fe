"""LM calls of DSPy 3.4 and later, which selects an engine for each: wrappers for ``places``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamll.capture.hooks.tracebacks import FramesHidden
from streamll.capture.hooks.wrappers import Function, listener_here, without_our_stream
from streamll.capture.policy import attempts
from streamll.capture.policy.call import SupervisedCall
from streamll.capture.policy.failover import Failover
from streamll.capture.tap.waits import Blocking, Suspending


def executed(original: Function) -> Function:
    def execute(lm: Any, call: Any) -> Any:
        with FramesHidden(), without_our_stream():
            if (failover := _failover_here()) is None:
                return original(lm, call)
            waits = Blocking()
            return waits.run(failover.complete(waits, original, lm, call, asynchronous=False))

    return execute


def aexecuted(original: Function) -> Function:
    async def aexecute(lm: Any, call: Any) -> Any:
        with FramesHidden(), without_our_stream():
            if (failover := _failover_here()) is None:
                return await original(lm, call)
            return await failover.complete(Suspending(), original, lm, call, asynchronous=True)

    return aexecute


def _failover_here() -> Failover | None:
    """For the LM call that is made here, if its config has fallbacks.

    A call that a plugin's ``forward`` makes is part of that plugin's own, which falls over.
    """
    listener = listener_here()
    if listener is None or listener.failover is not None:
        return None
    policy = listener.scope.policy
    if policy is None or not policy.config.fallbacks:
        return None
    listener.failover = Failover(listener, policy.config)
    return listener.failover  # type: ignore[no-any-return]


def tapped_engine(before_litellm: Callable[[], object], original: Function) -> Function:
    """``before_litellm`` is called before each captured call that goes through LiteLLM."""
    from streamll.capture.tap import engine

    def select(lm: Any, call: Any, asynchronous: bool) -> Any:
        backend, request, provider = original(lm, call, asynchronous)
        listener = listener_here()
        if listener is None:
            return backend, request, provider
        if engine.is_litellm(backend):
            before_litellm()
            engine.load_litellm()
        if (policy := listener.scope.policy) is None:
            return engine.tap(backend, request, listener, asynchronous), request, provider
        supervised = SupervisedCall(policy, listener, lm, call.legacy)
        tap = engine.tap(backend, request, supervised, asynchronous)
        return attempts.supervised(tap, supervised, asynchronous), request, provider

    return select


def retryable_unless_final(original: Function) -> Function:
    def retryable(state: Any, error: BaseException, *counts: Any) -> Any:
        return not attempts.is_final(error) and original(state, error, *counts)

    return retryable


def result_recorded(original: Function) -> Function:
    def finalize(lm: Any, call: Any, result: Any) -> Any:
        if (listener := listener_here()) is not None:
            listener.result = result
            if listener.failover is not None and listener.failover.answered is not None:
                lm, call = listener.failover.answered
        return original(lm, call, result)

    return finalize
