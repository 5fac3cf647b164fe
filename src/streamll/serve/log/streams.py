"""A run as the bytes or messages of a response: read from the log, or from the program itself."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Any, TypeVar

import msgspec

from streamll.core.errors import LogAway, StreamCancelled, StreamllError
from streamll.serve.log.frames import (
    HEARTBEAT,
    RETRY,
    FrameWriter,
    Item,
    ItemWriter,
    Position,
    items_of,
)
from streamll.serve.log.run_log import RunLog

T = TypeVar("T")


async def stream_of_events(events: Any, writer: ItemWriter[T]) -> AsyncGenerator[T, None]:
    """The events of an ``AsyncStream``, rendered.

    What the program raises is not: the reader has ``run.error``.
    """
    last = -1
    try:
        async for event in events:
            items = items_of([event], last)
            last = items[-1].last
            if rendered := writer.write(items):
                yield rendered
    except StreamCancelled:
        return
    except StreamllError:
        raise
    except Exception:  # noqa: BLE001
        return


async def sse_of_call(call: Any, writer: FrameWriter) -> AsyncGenerator[bytes, None]:
    """A program that runs for this reader alone, as an event stream: closing it stops that."""
    async with call as events, contextlib.aclosing(stream_of_events(events, writer)) as chunks:
        async for chunk in chunks:
            yield chunk


async def stream_of_log(
    run_log: RunLog, position: Position, writer: ItemWriter[T]
) -> AsyncGenerator[T, None]:
    """A run of the log after ``position``, rendered.

    Raises:
        LogAway: the log was away for too long; the format's own error is yielded before.
    """
    try:
        if position.seq >= 0 and not writer.is_native:
            async with contextlib.aclosing(read_up_to(run_log, position)) as batches:
                async for items in batches:
                    writer.skip(items)
            if resumed := writer.resume():
                yield resumed
        async with contextlib.aclosing(run_log.read(position)) as batches:
            async for items in batches:
                if rendered := writer.write(items):
                    yield rendered
    except LogAway as error:
        if broken := writer.broken(position.run_id, error):
            yield broken
        raise


async def sse_of_log(
    run_log: RunLog, position: Position, writer: FrameWriter
) -> AsyncGenerator[bytes, None]:
    """The same as an event stream."""
    yield RETRY if writer.form.ids else HEARTBEAT
    async with contextlib.aclosing(stream_of_log(run_log, position, writer)) as chunks:
        with contextlib.suppress(LogAway):
            async for chunk in chunks:
                yield chunk


async def read_up_to(run_log: RunLog, position: Position) -> AsyncGenerator[list[Item], None]:
    """What a reader at ``position`` has had, for formats that depend on it."""
    async for items in run_log.history(Position(position.run_id)):
        had = []
        for item in items:
            if item.first > position.seq:
                break
            had.append(cut_at(item, position) if item.last > position.seq else item)
        yield had
        if len(had) < len(items):
            return


def cut_at(item: Item, position: Position) -> Item:
    """The part of a merged token that a reader at ``position`` has had."""
    event: Any = item.event
    if position.offset is None:
        return item
    text = event.token[: position.offset - event.offset]
    cut = msgspec.structs.replace(event, token=text, count=position.seq - event.seq + 1)
    return Item(cut, position.seq)
