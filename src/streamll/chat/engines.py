"""The engines of one model: one for threads, and one per event loop.

An engine is DSPy's own native client, which capture's tap can listen to. An async engine's
connections belong to the event loop that opened them; engines of closed loops are let go.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from dspy import lm15
from dspy.clients.engines.lm15_engine import AsyncLM15Engine, LM15Engine

CONNECTIONS = 1000
"""Of one engine. How many are used at once is for ``Limits`` to say."""


class Engines:
    def __init__(self, config: lm15.RouterConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._blocking: LM15Engine | None = None
        self._by_loop: dict[asyncio.AbstractEventLoop, AsyncLM15Engine] = {}

    def blocking(self) -> Any:
        with self._lock:
            if self._blocking is None:
                self._blocking = LM15Engine(self._config)
            return self._blocking

    def suspending(self, request: lm15.Request) -> Any:
        """The engine of the event loop that runs here, ready for requests like this one.

        Its provider is made here and not in one of the loop's shared threads: the key is at
        hand, and those threads may all be waiting for a slot that the caller holds.
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            engine = self._by_loop.get(loop)
            if engine is None:
                for other in [other for other in self._by_loop if other.is_closed()]:
                    del self._by_loop[other]
                engine = AsyncLM15Engine(self._config)
                engine._target(request)  # noqa: SLF001 - lm15 makes providers nowhere else
                self._by_loop[loop] = engine
            return engine

    def close(self) -> None:
        """Close the connections of threads."""
        with self._lock:
            engine, self._blocking = self._blocking, None
        if engine is not None:
            engine.close()

    async def aclose(self) -> None:
        """Close those, and the ones of the event loop that runs here."""
        self.close()
        with self._lock:
            engine = self._by_loop.pop(asyncio.get_running_loop(), None)
        if engine is not None:
            await engine.aclose()
