"""``websocket_stream``: a program over a WebSocket, in a route of your own.

::

    @app.websocket("/ask")
    async def ask(websocket: WebSocket, q: str):
        await streamll.websocket_stream(websocket, qa, question=q)

One message per payload. A message ``{"type": "cancel"}`` from the client stops the program; so
does leaving, unless there is a log. With a log a client comes back with ``?after=`` and the last
position it has, which is ``run_id:seq``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

import streamll
from streamll.serve.formats import OutputFormat, RenderOptions, make_format
from streamll.serve.log.frames import Item, Position, broken, read_position
from streamll.serve.log.run_log import LogAway
from streamll.serve.log.streams import read_up_to
from streamll.serve.programs import Served, reply_of
from streamll.serve.runner import NoSuchRun
from streamll.serve.web.cancelling import OwnRun, Unread
from streamll.serve.web.responses import STALL_SECONDS, StallTimer

NORMAL, BAD, RESTART, LATER = 1000, 1008, 1012, 1013


async def websocket_stream(
    websocket: WebSocket,
    program: Callable[..., Any],
    /,
    *,
    format: str = "native",  # noqa: A002
    fields: str | Iterable[str] = "*",
    reply: str | None = None,
    log: str | None = None,
    context: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
    **program_inputs: Any,
) -> None:
    """Accept ``websocket``, run ``program`` with its inputs, stream it, close. See ``sse_response``.

    Browsers let any page open a WebSocket to you: check ``Origin`` before, or use ``create_app``.
    """
    from streamll.serve.routes.embedded import HEARTBEAT_SECONDS, runner_for

    given = {**(inputs or {}), **program_inputs}
    form = make_format(format, RenderOptions(text=reply or reply_of(program)))
    wanted = fields if isinstance(fields, str) else tuple(fields)
    unread = Unread()
    call = streamll.stream(program, fields=wanted, sinks=[unread], keep_text=False)
    after = websocket.query_params.get("after")
    if log is None:
        await websocket.accept()
        run = OwnRun(call(**given), unread)
        await send_items(websocket, form, run.items(), run.cancel)
        return
    runner = await runner_for(log, HEARTBEAT_SECONDS)
    try:
        position = read_position(after) if after else None
    except ValueError:
        await websocket.close(BAD)
        return
    await websocket.accept()
    try:
        if position is None:
            served = Served(name="program", program=program, fields=wanted)
            position = Position(await runner.start(served, given, context=context))
        elif not await runner.has_more(position):
            await websocket.close()
            return
    except NoSuchRun as error:
        await websocket.close(BAD, str(error))
        return
    except LogAway as error:
        await websocket.close(LATER, str(error))
        return
    run_id = position.run_id
    if position.seq >= 0:
        had = read_up_to(runner.run_log, position)
        if not await catch_up(websocket, form, had, run_id):
            return
    items = runner.run_log.read(position)
    await send_items(websocket, form, items, lambda: runner.cancel(run_id), run_id=run_id)


async def catch_up(
    websocket: WebSocket, form: OutputFormat, had: AsyncGenerator[list[Item], None], run_id: str
) -> bool:
    """Bring a format to where its reader is, and send what it needs to go on there.

    False: it cannot, since the log is away; the socket is closed.
    """
    if form.name == "native":
        await had.aclose()
        return True
    try:
        async for items in had:
            for item in items:
                form.feed(item.event)
    except LogAway as error:
        await _send_all(websocket, broken(form, run_id, error))
        await websocket.close(LATER, str(error))
        return False
    await _send_all(websocket, form.resume())
    return True


async def _send_all(websocket: WebSocket, payloads: Iterable[bytes]) -> None:
    for payload in payloads:
        await websocket.send_text(payload.decode())


async def send_items(
    websocket: WebSocket,
    form: OutputFormat,
    batches: AsyncGenerator[list[Item], None],
    cancel: Callable[[], None],
    *,
    run_id: str = "",
    stall_seconds: float = STALL_SECONDS,
) -> None:
    """Send items until they end, the client leaves, or takes nothing any more.

    ``cancel`` stops the run when the client asks for that; its end comes among the items.
    """
    sender = asyncio.ensure_future(_send(websocket, form, batches, stall_seconds))
    listener = asyncio.ensure_future(_listen(websocket, cancel))
    try:
        await asyncio.wait({sender, listener}, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:  # sent away: the server is to stop, and the task with this
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await websocket.close(RESTART)
        return
    finally:
        for task in (sender, listener):
            task.cancel()
        await asyncio.wait({sender, listener})
    error = None if sender.cancelled() else sender.exception()
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):
        if isinstance(error, LogAway):
            await _send_all(websocket, broken(form, run_id, error))
        await websocket.close(LATER if error is not None or sender.cancelled() else NORMAL)
    if isinstance(error, streamll.StreamllError) and not isinstance(error, LogAway):
        raise error


async def _send(
    websocket: WebSocket,
    form: OutputFormat,
    batches: AsyncGenerator[list[Item], None],
    stall_seconds: float,
) -> None:
    task = asyncio.current_task()
    assert task is not None
    native = form.name == "native"
    with StallTimer(stall_seconds, task) as timer:
        async with contextlib.aclosing(batches):
            async for items in batches:
                for item in items:
                    for payload in [item.payload] if native else form.feed(item.event):
                        timer.begin()
                        await websocket.send_text(payload.decode())
                        timer.end()


async def _listen(websocket: WebSocket, cancel: Callable[[], None]) -> None:
    """Wait for the client to leave, and hear it cancel."""
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            if json.loads(message.get("text") or "null").get("type") == "cancel":
                cancel()
