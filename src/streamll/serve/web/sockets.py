"""Streaming over a WebSocket: one message per payload, ``{"type": "cancel"}`` from the client."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager

from starlette.websockets import WebSocket, WebSocketDisconnect

from streamll.core.errors import LogAway
from streamll.serve.web.responses import STALL_S, Raced, TimedSend, race

NORMAL, POLICY_VIOLATION, SERVICE_RESTART, TRY_AGAIN_LATER = 1000, 1008, 1012, 1013
"""Close codes of the WebSocket Close Code Number Registry (RFC 6455)."""


async def send_messages(
    websocket: WebSocket,
    batches: AsyncGenerator[list[bytes], None],
    cancel: Callable[[], None],
    *,
    stall_s: float = STALL_S,
    hold: AbstractContextManager[None] | None = None,
) -> None:
    """Send messages until they end, the client leaves, or it accepts nothing any more. Closes.

    Args:
        cancel: called when the client asks to stop the run; its end comes among the messages.
        hold: see ``StreamingBody``.
    """
    timed = TimedSend(websocket.send, stall_s)

    async def send() -> None:
        with hold or contextlib.nullcontext():
            async with contextlib.aclosing(batches):
                async for batch in batches:
                    for payload in batch:
                        await timed.send({"type": "websocket.send", "text": payload.decode()})

    sent = await race(send(), _listen(websocket, cancel), timed.watch())
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):
        await websocket.close(_close_code(sent))
    with contextlib.suppress(LogAway, WebSocketDisconnect):
        sent.raise_error()


def _close_code(sent: Raced) -> int:
    if not sent.work.cancelled():
        return NORMAL if sent.work.exception() is None else TRY_AGAIN_LATER
    return TRY_AGAIN_LATER if sent.lost else SERVICE_RESTART


async def _listen(websocket: WebSocket, cancel: Callable[[], None]) -> None:
    """Wait for the client to leave; call ``cancel`` when it asks for that."""
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            if json.loads(message.get("text") or "null").get("type") == "cancel":
                cancel()
