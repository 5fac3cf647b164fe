"""Streams over HTTP and WebSockets: headers at once, heartbeats, an end when the client has gone.

The chunks come from an async generator that is closed in every case as soon as the client has left:
closing it stops the program behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from streamll.core.errors import RunUnavailable
from streamll.flow.ending import end
from streamll.serve.log.frames import HEARTBEAT
from streamll.serve.web.limits import Limits

ResponseBody = AsyncGenerator[bytes, None] | Response
Answering = Callable[[Mapping[str, Any]], Awaitable[bytes]]

NORMAL, POLICY_VIOLATION, SERVICE_RESTART, TRY_AGAIN_LATER = 1000, 1008, 1012, 1013
"""Close codes of the WebSocket Close Code Number Registry (RFC 6455)."""


STOPPING_S = 5.0
"""How long a stream may take to end once its server has given up waiting for it."""


class StreamingBody(Response):
    """Sends what ``open_body(scope)`` returns: chunks, or another ``Response`` instead.

    Args:
        hold: entered by the task that sends, for as long as it does.
        stop: makes the chunks end soon; see ``race``.
    """

    def __init__(
        self,
        open_body: Callable[[Scope], Awaitable[ResponseBody]],
        headers: Mapping[str, str],
        limits: Limits,
        hold: AbstractContextManager[None] | None = None,
        stop: Callable[[], None] | None = None,
    ) -> None:
        self._open_body = open_body
        self._stop = stop
        self._hold = hold or contextlib.nullcontext()
        self._limits = limits
        self.status_code = 200
        self.background = None
        self.init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        chunks = await self._open_body(scope)
        if isinstance(chunks, Response):
            await chunks(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        timed = TimedSend(send, self._limits, heartbeat=_chunk(HEARTBEAT))
        sending = self._send(chunks, timed)
        sent = await race(sending, disconnected(receive), timed.watch(), stop=self._stop)
        if not sent.lost:  # a reader that was dismissed gets a proper end, too
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        sent.raise_error()

    async def _send(self, chunks: AsyncGenerator[bytes, None], timed: TimedSend) -> None:
        with self._hold:
            async with contextlib.aclosing(chunks):
                async for chunk in chunks:
                    await timed.send(_chunk(chunk))


def _chunk(body: bytes) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": True}


class TimedSend:
    """Sends messages one after the other. ``watch`` ends when one is not accepted in time.

    After a silence it sends ``heartbeat``, if there is one. It costs a timer per connection, not
    one per message.
    """

    def __init__(self, send: Send, limits: Limits, heartbeat: Message | None = None) -> None:
        self._send = send
        self._stall_s = limits.stall_seconds
        self._heartbeat = heartbeat
        self._heartbeat_s = math.inf if heartbeat is None else limits.heartbeat_seconds
        self._turn = asyncio.Lock()
        self._time = asyncio.get_running_loop().time
        self._sending_since: float | None = None
        self._sent_at = self._time()

    async def send(self, message: Message) -> None:
        async with self._turn:  # a heartbeat may be on its way
            self._sending_since = self._time()
            await self._send(message)
            self._sent_at, self._sending_since = self._sending_since, None

    async def watch(self) -> None:
        """Send heartbeats; end when a message is not accepted in time, or cannot be sent."""
        period_s = delay = min(self._stall_s / 2, self._heartbeat_s)
        while True:
            await asyncio.sleep(delay)
            now, since, delay = self._time(), self._sending_since, period_s
            if since is not None:
                delay = min(period_s, since + self._stall_s - now)
                if delay <= 0:
                    return
            elif now < (due := self._sent_at + self._heartbeat_s):
                delay = min(period_s, due - now)
            elif self._heartbeat is not None:
                try:
                    await asyncio.wait_for(self.send(self._heartbeat), self._stall_s)
                except (asyncio.TimeoutError, OSError, RuntimeError):
                    return


class Raced(NamedTuple):
    """How ``race`` ended. ``lost``: something that it raced against came first. ``cancelled``: this
    task was cancelled meanwhile.
    """

    work: asyncio.Task[None]
    lost: bool
    cancelled: bool

    def raise_error(self) -> None:
        if self.cancelled:
            raise asyncio.CancelledError
        if not self.work.cancelled():
            self.work.result()


async def race(
    work: Coroutine[Any, Any, None],
    *against: Coroutine[Any, Any, None],
    stop: Callable[[], None] | None = None,
) -> Raced:
    """Do the work, but only until one of ``against`` is done; all have ended on return.

    A server that stops and gives up waiting for its readers cancels them (hypercorn's workers, which
    no signal reaches). Then ``stop`` is called, and the work has ``STOPPING_S`` to end by itself.
    """
    worker, *others = tasks = [asyncio.ensure_future(each) for each in (work, *against)]
    cancelled = False
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        if stop is None:
            raise
        cancelled = True
        stop()
        await asyncio.wait(tasks, timeout=STOPPING_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        lost = any(other.done() for other in others)
        await end(*tasks)  # before Python 3.12 ``watch`` may lose one cancellation
    return Raced(worker, lost, cancelled)


async def disconnected(receive: Receive) -> None:
    """Wait until the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_messages(
    websocket: WebSocket,
    batches: AsyncGenerator[list[bytes], None],
    cancel: Callable[[], None],
    limits: Limits,
    hold: AbstractContextManager[None] | None = None,
    stop: Callable[[], None] | None = None,
    answer: Answering | None = None,
) -> None:
    """Send messages until they end, the client leaves, or it accepts nothing any more. Closes.

    Args:
        cancel: called when the client asks to stop the run; its end comes among the messages.
        hold, stop: see ``StreamingBody``.
        answer: takes a client's message that answers a question, and gives what it is told.
    """
    timed = TimedSend(websocket.send, limits)

    async def send() -> None:
        with hold or contextlib.nullcontext():
            async with contextlib.aclosing(batches):
                async for batch in batches:
                    for payload in batch:
                        await timed.send({"type": "websocket.send", "text": payload.decode()})

    async def listen() -> None:
        async for message in _messages(websocket):
            kind = message.get("type")
            if kind == "cancel":
                cancel()
            elif answer is not None and kind in ("answer", "decline"):
                told = await answer(message)
                await timed.send({"type": "websocket.send", "text": told.decode()})

    sent = await race(send(), listen(), timed.watch(), stop=stop)
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):
        await websocket.close(_close_code(sent))
    with contextlib.suppress(RunUnavailable, WebSocketDisconnect):
        sent.raise_error()


def _close_code(sent: Raced) -> int:
    if not sent.work.cancelled():
        return NORMAL if sent.work.exception() is None else TRY_AGAIN_LATER
    return TRY_AGAIN_LATER if sent.lost else SERVICE_RESTART


async def _messages(websocket: WebSocket) -> AsyncGenerator[dict[str, Any], None]:
    """The JSON objects that a client sends until it leaves; nothing else it sends means anything."""
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return
        with contextlib.suppress(ValueError, RecursionError):
            said = json.loads(message.get("text") or "null")
            if isinstance(said, dict):
                yield said
