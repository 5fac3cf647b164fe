"""The places where answering a question waits: twice, blocking and suspending.

Everything else is written once, as coroutines. A coroutine over ``Blocking`` never suspends, so
``capture.tap.waits.run_blocking`` runs it in a plain call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from streamll.capture.policy.attempts import InThread, OnLoop, governed
from streamll.capture.policy.call import SupervisedCall
from streamll.capture.tap.engine import tap
from streamll.capture.tap.waits import run_blocking
from streamll.chat import hooks
from streamll.chat.engines import Engines
from streamll.chat.limits import Limits


class Waits(Protocol):
    async def complete(
        self, engines: Engines, limits: Limits, call: SupervisedCall, request: Any
    ) -> Any:
        """The reply to one request, in as many attempts as ``call`` allows, each within limits."""

    async def hook(self, hook: Callable[..., Any] | None, *arguments: Any) -> None: ...

    async def cost(self, response: Any, provider: str, model: str) -> float | None:
        """US dollars as DSPy estimates them; its first look at prices may go over the network."""


class Blocking:
    async def complete(
        self, engines: Engines, limits: Limits, call: SupervisedCall, request: Any
    ) -> Any:
        heard: Any = call
        engine = tap(engines.blocking(), request, heard, asynchronous=False)
        attempts = governed(_Limited(engine, limits, call), call, asynchronous=False)
        return attempts.complete(request)

    async def hook(self, hook: Callable[..., Any] | None, *arguments: Any) -> None:
        hooks.call_blocking(hook, *arguments)

    async def cost(self, response: Any, provider: str, model: str) -> float | None:
        return _cost(response, provider, model)


class Suspending:
    async def complete(
        self, engines: Engines, limits: Limits, call: SupervisedCall, request: Any
    ) -> Any:
        heard: Any = call
        engine = tap(engines.suspending(request), request, heard, asynchronous=True)
        attempts = governed(_AsyncLimited(engine, limits, call), call, asynchronous=True)
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


class _Within:
    """An engine whose requests wait for their turn."""

    def __init__(self, engine: Any, limits: Limits, call: SupervisedCall) -> None:
        self._engine = engine
        self._limits = limits
        self._call = call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def delay(self) -> float:
        """Seconds until this request's place in line; said to whoever listens."""
        rate = self._limits.rate
        delay = rate.reserve() if rate is not None else 0.0
        if delay:
            self._call.waiting("limit", delay)
        return delay


class _Limited(_Within):
    def complete(self, request: Any) -> Any:
        slots = self._limits.slots
        if slots is None:
            return self._in_time(request)
        slots.take(self._limits.cap)
        try:
            return self._in_time(request)
        finally:
            slots.give()

    def _in_time(self, request: Any) -> Any:
        if delay := self.delay():
            run_blocking(InThread().pause(self._call, delay))
        self._call.check()
        return self._engine.complete(request)


class _AsyncLimited(_Within):
    async def complete(self, request: Any) -> Any:
        slots = self._limits.slots
        if slots is None:
            return await self._in_time(request)
        await slots.take_async(self._limits.cap)
        try:
            return await self._in_time(request)
        finally:
            slots.give()

    async def _in_time(self, request: Any) -> Any:
        if delay := self.delay():
            await OnLoop().pause(self._call, delay)
        self._call.check()
        return await self._engine.complete(request)
