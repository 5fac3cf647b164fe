"""Reading an async stream without an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from typing import Any

from streamll.configuration import logger
from streamll.core.errors import ChannelClosed
from streamll.flow.channel import Channel
from streamll.flow.waiting import on_event_loop

AHEAD = 16
"""Items that are fetched before they are asked for."""


def apply_sync_streaming(async_generator: AsyncGenerator[Any, None]) -> Generator[Any, None, None]:
    """An ordinary generator of what an async one yields; leaving it closes the async one.

    The async generator runs in a thread with an event loop of its own.
    """
    warn_on_event_loop()
    return _pumped(async_generator, contextvars.copy_context())


def _pumped(source: AsyncIterator[Any], context: contextvars.Context) -> Generator[Any, None, None]:
    pump = _Pump(source)
    run = functools.partial(context.run, asyncio.run, pump.run())
    threading.Thread(target=run, name="streamll pump", daemon=True).start()
    try:
        with contextlib.suppress(ChannelClosed):
            while True:
                yield pump.channel.get()
        if pump.error is not None:
            raise pump.error
    finally:
        pump.stop()


class _Pump:
    """Carries items from an event loop to a thread."""

    def __init__(self, source: AsyncIterator[Any]) -> None:
        self.channel: Channel[Any] = Channel(AHEAD, "block", name="sync streaming")
        self.error: BaseException | None = None
        self._source = source
        self._cancel: Callable[[], object] | None = None
        self._stopped = False

    async def run(self) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        self._cancel = functools.partial(loop.call_soon_threadsafe, task.cancel)
        try:
            if not self._stopped:
                await self._carry()
        except BaseException as error:  # noqa: BLE001 - it is raised where the stream is read
            self.error = error
        finally:
            self.channel.close()

    async def _carry(self) -> None:
        try:
            async for item in self._source:
                self.channel.put(item)
                await self.channel.wait_for_space_async()
        finally:
            close = getattr(self._source, "aclose", None)
            if close is not None:
                await close()

    def stop(self) -> None:
        """Nobody reads any more. Never waits."""
        self._stopped = True
        self.channel.abandon()
        if self._cancel is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it has ended
                self._cancel()


_warned = threading.Event()


def warn_on_event_loop() -> None:
    """Say once that a synchronous stream stops the event loop it is read on; not in IPython."""
    if not on_event_loop() or _warned.is_set() or _in_ipython():
        return
    _warned.set()
    logger.warning(
        "a synchronous stream is read on an event loop, which does nothing else while it waits; "
        "the async form is streamify(program, async_streaming=True) with `async for` (said once)"
    )


def _in_ipython() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None
