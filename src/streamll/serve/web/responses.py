"""A response that streams: headers at once, heartbeats, and an end when the client has gone.

The chunks come from an async generator that the response closes in every case as soon as the
client has left: closing it stops the program behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from streamll.serve.log.frames import HEARTBEAT

ResponseBody = AsyncGenerator[bytes, None] | Response

STALL_S = 30.0
"""A client that accepts no byte for so long counts as gone."""

HEARTBEAT_S = 15.0


class StreamingBody(Response):
    """Sends what ``open_body(scope)`` returns: chunks, or another ``Response`` instead.

    Args:
        hold: entered by the task that sends, for as long as it does.
    """

    def __init__(
        self,
        open_body: Callable[[Scope], Awaitable[ResponseBody]],
        headers: Mapping[str, str],
        *,
        stall_s: float = STALL_S,
        heartbeat_s: float = HEARTBEAT_S,
        hold: AbstractContextManager[None] | None = None,
    ) -> None:
        self._open_body = open_body
        self._hold = hold or contextlib.nullcontext()
        self._stall_s = stall_s
        self._heartbeat_s = heartbeat_s
        self.status_code = 200
        self.background = None
        self.body = b""
        self.raw_headers = [(k.lower().encode(), v.encode()) for k, v in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        chunks = await self._open_body(scope)
        if isinstance(chunks, Response):
            await chunks(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        timer = StallTimer(
            send, self._stall_s, heartbeat=_chunk(HEARTBEAT), heartbeat_s=self._heartbeat_s
        )
        sent = await race(self._send(chunks, timer), disconnected(receive))
        if not (sent.lost or timer.stalled):  # a reader that was dismissed gets a proper end, too
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        sent.raise_error()

    async def _send(self, chunks: AsyncGenerator[bytes, None], timer: StallTimer) -> None:
        with self._hold:
            async with timer, contextlib.aclosing(chunks):
                async for chunk in chunks:
                    await timer.send(_chunk(chunk))


def _chunk(body: bytes) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": True}


class StallTimer:
    """Sends for one task, and cancels it when a message is not accepted in ``stall_s``.

    When nothing was sent for ``heartbeat_s``, it sends ``heartbeat``, if there is one. It costs a
    timer per connection, not one per message.
    """

    def __init__(
        self,
        send: Send,
        stall_s: float,
        *,
        heartbeat: Message | None = None,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self.stalled = False
        self._send = send
        self._stall_s = stall_s
        self._heartbeat = heartbeat
        self._period_s = min(stall_s / 2, heartbeat_s) if heartbeat else stall_s / 2
        self._heartbeat_s = heartbeat_s
        self._loop = asyncio.get_running_loop()
        self._sending_since: float | None = None
        self._sent_at = self._loop.time()
        self._beating: asyncio.Task[None] | None = None
        self._task: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def send(self, message: Message) -> None:
        if self._beating is not None:
            await asyncio.wait({self._beating})
        await self._send_timed(message)

    async def _send_timed(self, message: Message) -> None:
        self._sending_since = self._loop.time()
        await self._send(message)
        self._sent_at, self._sending_since = self._sending_since, None

    async def __aenter__(self) -> None:
        self._task = asyncio.current_task()
        self._timer = self._loop.call_later(self._period_s, self._look)

    async def __aexit__(self, *error: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait({self._beating})

    def _look(self) -> None:
        now, since = self._loop.time(), self._sending_since
        delay = self._period_s
        if since is not None:
            if now - since > self._stall_s and self._task is not None:
                self.stalled = True
                self._task.cancel()
                return
        elif self._heartbeat is not None:
            due = self._sent_at + self._heartbeat_s
            if now >= due:
                self._beating = self._loop.create_task(self._beat(self._heartbeat))
            else:
                delay = min(delay, due - now)
        self._timer = self._loop.call_later(delay, self._look)

    async def _beat(self, heartbeat: Message) -> None:
        with contextlib.suppress(OSError, RuntimeError):  # the client has left
            await self._send_timed(heartbeat)
        self._beating = None


class Raced(NamedTuple):
    """How ``race`` ended. ``lost``: what it raced against came first."""

    work: asyncio.Task[None]
    lost: bool

    def raise_error(self) -> None:
        if not self.work.cancelled():
            self.work.result()


async def race(work: Coroutine[Any, Any, None], against: Coroutine[Any, Any, None]) -> Raced:
    """Do the work, but only until ``against`` is done; both have ended on return."""
    worker, other = asyncio.ensure_future(work), asyncio.ensure_future(against)
    try:
        await asyncio.wait({worker, other}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        lost = other.done()
        for task in (other, worker):
            task.cancel()
        await asyncio.wait({worker, other})
    return Raced(worker, lost)


async def disconnected(receive: Receive) -> None:
    """Wait until the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
