"""The places where answering a question waits: twice, blocking and suspending.

Everything else is written once, as coroutines. A coroutine over ``Blocking`` never suspends, so
``capture.tap.waits.run_blocking`` runs it in a plain call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from streamll.capture.policy.attempts import governed
from streamll.capture.policy.call import SupervisedCall
from streamll.capture.tap.engine import tap
from streamll.chat import hooks
from streamll.chat.engines import Engines


class Waits(Protocol):
    async def complete(self, engines: Engines, call: SupervisedCall, request: Any) -> Any:
        """The reply to one request, in as many attempts as ``call`` allows, ."""

    async def hook(self, hook: Callable[..., Any] | None, *arguments: Any) -> None: ...

    async def cost(self, response: Any, provider: str, model: str) -> float | None:
        """US dollars as DSPy estimates them; its first look at prices may go over the network."""


class Blocking:
    async def complete(self, engines: Engines, call: SupervisedCall, request: Any) -> Any:
        heard: Any = call
        engine = tap(engines.blocking(), request, heard, asynchronous=False)
        attempts = governed(engine, call, asynchronous=False)
        return attempts.complete(request)

    async def hook(self, hook: Callable[..., Any] | None, *arguments: Any) -> None:
        hooks.call_blocking(hook, *arguments)

    async def cost(self, response: Any, provider: str, model: str) -> float | None:
        return _cost(response, provider, model)


class Suspending:
    async def complete(self, engines: Engines, call: SupervisedCall, request: Any) -> Any:
        heard: Any = call
        engine = tap(engines.suspending(request), request, heard, asynchronous=True)
        attempts = governed(engine, call, asynchronous=True)
        return await attempts.complete(request)

    async def hook(self, hook: Callable[..., Any] | None, *arguments: Any) -> None:
        awaitable = hooks.call(hook, *arguments)
        if awaitable is not None:
            await awaitable

    async def cost(self, response: Any, provider: str, model: str) -> float | None:
        return await asyncio.to_thread(_cost, response, provider, model)


def _cost(response: Any, provider: str, model: str) -> float | None:
    from dspy.clients.costs import estimate_cost

    cost: float | None = estimate_cost(response, provider=provider, requested_model=model)[0]
    return cost
