"""A response that streams: headers at once, heartbeats, and an end when the client has gone.

The chunks come from an async iterator that the response closes in every case, at the latest
``LEAVE`` after the client left: closing it is what stops the program behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

T = TypeVar("T")

STALL_SECONDS = 30.0
"""A client that takes no byte for so long counts as gone."""


class StreamingBody(Response):
    """Sends what ``open(scope)`` yields, unless that answers with another ``Response``."""

    def __init__(
        self,
        open: Callable[[Scope], AsyncIterator[bytes] | Response],  # noqa: A002
        headers: Mapping[str, str],
        *,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self._open = open
        self._stall_seconds = stall_seconds
        self._stalled = False
        self.status_code = 200
        self.background = None
        self.body = b""
        self.raw_headers = [(k.lower().encode(), v.encode()) for k, v in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        chunks = self._open(scope)
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
        if not (left or self._stalled):  # also a reader that was dismissed gets a proper end
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        if not sender.cancelled() and (error := sender.exception()) is not None:
            raise error

    async def _send(self, chunks: AsyncIterator[bytes], send: Send) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def stall() -> None:
            self._stalled = True
            task.cancel()

        async with contextlib.aclosing(as_generator(chunks)) as body:
            async for chunk in body:
                timer = loop.call_later(self._stall_seconds, stall)
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                timer.cancel()


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


async def as_generator(iterator: AsyncIterator[T]) -> AsyncGenerator[T, None]:
    """What can be closed, from what may not."""
    try:
        async for each in iterator:
            yield each
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()


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
