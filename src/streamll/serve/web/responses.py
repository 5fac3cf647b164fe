"""A response that streams: headers at once, heartbeats, and an end when the client has gone.

The chunks come from an async iterator that the response closes in every case, at the latest
``LEAVE`` after the client left: closing it is what stops the program behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

T = TypeVar("T")
ResponseBody = AsyncIterator[bytes] | Response

STALL_SECONDS = 30.0
"""A client that takes no byte for so long counts as gone."""


class StreamingBody(Response):
    """Sends what ``open(scope)`` yields, unless that answers with another ``Response``.

    What ``open`` awaits comes before the first byte: up to there another status can be sent.
    """

    def __init__(
        self,
        open: Callable[[Scope], ResponseBody | Awaitable[ResponseBody]],  # noqa: A002
        headers: Mapping[str, str],
        *,
        stall_seconds: float = STALL_SECONDS,
        present: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        """``present`` is entered by the task that sends, as long as it does."""
        self._open = open
        self._present = present
        self._stall_seconds = stall_seconds
        self._patience: StallTimer | None = None
        self.status_code = 200
        self.background = None
        self.body = b""
        self.raw_headers = [(k.lower().encode(), v.encode()) for k, v in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        opened = self._open(scope)
        chunks = await opened if inspect.isawaitable(opened) else opened
        if isinstance(chunks, Response):
            await chunks(scope, receive, send)
            return
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        sender = asyncio.ensure_future(self._send(chunks, send))
        listener = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({sender, listener}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            left = listener.done()
            for task in (listener, sender):
                task.cancel()
            await asyncio.wait({sender, listener})
        stalled = self._patience is not None and self._patience.lost
        if not (left or stalled):  # also a reader that was dismissed gets a proper end
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        if not sender.cancelled() and (error := sender.exception()) is not None:
            raise error

    async def _send(self, chunks: AsyncIterator[bytes], send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None
        with self._present(), StallTimer(self._stall_seconds, task) as patience:
            self._patience = patience
            async with contextlib.aclosing(as_generator(chunks)) as body:
                async for chunk in body:
                    patience.begin()
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                    patience.end()


class StallTimer:
    """Cancels a task that sends one thing for too long. Costs one timer now and then, not one
    per thing that is sent.
    """

    def __init__(self, seconds: float, task: asyncio.Task[object]) -> None:
        self.lost = False
        self._seconds = seconds
        self._task = task
        self._loop = asyncio.get_running_loop()
        self._since: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        self._since = self._loop.time()

    def end(self) -> None:
        self._since = None

    def __enter__(self) -> StallTimer:  # noqa: PYI034 - Self needs Python 3.11
        self._look_again()
        return self

    def __exit__(self, *error: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look_again(self) -> None:
        self._timer = self._loop.call_later(self._seconds / 2, self._look)

    def _look(self) -> None:
        if self._since is not None and self._loop.time() - self._since > self._seconds:
            self.lost = True
            self._task.cancel()
        else:
            self._look_again()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def until_left(receive: Receive, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work; stop when the client leaves, and say whether it stayed."""
    worker = asyncio.ensure_future(work)
    listener = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({worker, listener}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        done = worker.done()
        for task in (worker, listener):
            task.cancel()
        await asyncio.wait({worker, listener})
    if done:
        worker.result()
    return done


def as_generator(iterator: AsyncIterator[T]) -> AsyncGenerator[T, None]:
    """What can be closed, from what may not."""
    return iterator if isinstance(iterator, AsyncGenerator) else _generator(iterator)


async def _generator(iterator: AsyncIterator[T]) -> AsyncGenerator[T, None]:
    async for each in iterator:
        yield each


async def with_heartbeats(
    iterator: AsyncIterator[T], seconds: float, heartbeat: T
) -> AsyncGenerator[T, None]:
    """The items, and ``heartbeat`` whenever none has come for so long."""
    following: asyncio.Future[T] | None = None
    try:
        while True:
            if following is None:
                following = asyncio.ensure_future(iterator.__anext__())
            done, _ = await asyncio.wait({following}, timeout=seconds)
            if not done:
                yield heartbeat
                continue
            try:
                item = following.result()
            except StopAsyncIteration:
                return
            following = None
            yield item
    finally:
        if following is not None and not following.done():
            following.cancel()
            await asyncio.wait({following})
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()
