"""From a run to the bytes of a response, for readers of a log and for readers without one."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec

from streamll.core.errors import StreamllError
from streamll.serve.formats import OutputFormat
from streamll.serve.log.frames import HEARTBEAT, RETRY, FrameWriter, Item, Position, items_of
from streamll.serve.log.run_log import LogAway, RunLog
from streamll.serve.web.responses import with_heartbeats


async def items_of_call(
    call: Any, entered: Callable[[Any], None] | None = None
) -> AsyncGenerator[list[Item], None]:
    """The items of a program that runs for this reader alone: leaving stops it."""
    last = -1
    async with call as events:
        if entered is not None:
            entered(events)
        try:
            async for event in events:
                items = items_of([event], last)
                last = items[-1].last
                yield items
        except (GeneratorExit, StreamllError):
            raise
        except Exception:  # noqa: BLE001 - the reader has had run.error; the log of the app is not ours
            return


async def stream_of_call(
    call: Any, form: OutputFormat, heartbeat_seconds: float
) -> AsyncGenerator[bytes, None]:
    """An event stream of a program that runs for this reader alone."""
    frames = FrameWriter(form)
    items = items_of_call(call)
    beats: list[Item] = []
    async with contextlib.aclosing(with_heartbeats(items, heartbeat_seconds, beats)) as batches:
        async for batch in batches:
            chunk = frames.of(batch) or (HEARTBEAT if batch is beats else b"")
            if chunk:
                yield chunk


async def stream_of_log(
    run_log: RunLog,
    position: Position,
    form: OutputFormat,
    *,
    left: Callable[[], None] | None = None,
) -> AsyncGenerator[bytes, None]:
    """An event stream of a run in the log, behind ``position``. ``left`` is called at its end."""
    frames = FrameWriter(form)
    try:
        yield RETRY if form.ids else HEARTBEAT
        if position.seq >= 0 and form.name != "native":
            async with contextlib.aclosing(read_up_to(run_log, position)) as had:
                async for items in had:
                    frames.skip(items)
            yield frames.resume() or HEARTBEAT
        async with contextlib.aclosing(run_log.read(position)) as batches:
            silent = False
            async for items in batches:
                chunk = frames.of(items) if items else HEARTBEAT if silent else b""
                silent = not items
                if chunk:
                    yield chunk
    except LogAway as error:
        yield frames.broken(position.run_id, error)
    finally:
        if left is not None:
            left()


async def read_up_to(run_log: RunLog, position: Position) -> AsyncGenerator[list[Item], None]:
    """What a reader at ``position`` has had, for formats that depend on what came before."""
    async for events in run_log.history(Position(position.run_id)):
        had = []
        for item in items_of(events):
            if item.first > position.seq:
                break
            had.append(cut_at(item, position) if item.last > position.seq else item)
        yield had
        if len(had) < len(events):
            return


def cut_at(item: Item, position: Position) -> Item:
    """The part of a merged token that a reader at ``position`` has had."""
    event: Any = item.event
    if position.offset is None:
        return item
    text = event.token[: position.offset - event.offset]
    cut = msgspec.structs.replace(event, token=text, count=position.seq - event.seq + 1)
    return Item(cut, position.seq)
