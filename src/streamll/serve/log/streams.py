"""A run as the chunks of a response: read from the log, or from the program itself."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec

from streamll.core.compact import CompactWriter
from streamll.core.errors import RunUnavailable, StreamCancelled, StreamllError
from streamll.core.events import TERMINAL, Event, Identity, RunError, StreamllEvent
from streamll.core.positions import AFTER_EVERYTHING, Position
from streamll.core.wire import encode
from streamll.serve.formats import OutputFormat
from streamll.serve.log.frames import HEARTBEAT, RETRY, Item, frame, items_of, named_frames
from streamll.serve.log.run_log import RunLog
from streamll.streams.smoothing import Unit, smooth


class RunWriter:
    """Renders a run for one reader, in one format: as frames of an event stream (SSE), or as the
    messages of a WebSocket. ``smoothed``: the pieces in which text comes, if not as it is.
    """

    def __init__(self, form: OutputFormat, *, frames: bool, smoothed: Unit | None = None) -> None:
        self.form = form
        self.smoothed = smoothed
        self.is_native = form.name == "native"
        self.frames = frames
        self._compact = CompactWriter() if form.options.compact else None

    def write(self, items: Iterable[Item]) -> list[bytes]:
        if not self.is_native:
            return [each for item in items for each in self._render(item.event, item.id)]
        if self._compact is not None:
            return [self._compactly(item, self._compact) for item in items]
        return [item.frame for item in items] if self.frames else [item.payload for item in items]

    def _compactly(self, item: Item, writer: CompactWriter) -> bytes:
        position = None
        payload = writer.short(item.event)
        if payload is None:
            payload, position = writer.full(item.event, item.payload), item.id
        return frame([payload], position) if self.frames else payload

    def leave(self) -> list[bytes]:
        """What ends the stream here, if the format wants that, though the run goes on."""
        return self.packed(self.form.leave())

    def broken(self, run_id: str, error: StreamllError) -> list[bytes]:
        """How the format reports that its stream ends before the run does.

        Native readers get an event of type ``stream.error``, which has no ``seq`` and is in no log;
        to the others the run has failed.
        """
        what: dict[str, Any] = {"error_type": type(error).__name__, "message": str(error)}
        base: dict[str, Any] = {"identity": Identity(run_id=run_id), "timestamp": time.time()}
        if not self.is_native:
            return self._render(RunError(**what, **base))
        return self.packed([encode(StreamllEvent(event_type="stream.error", data=what, **base))])

    def _render(self, event: Event, position: str | None = None) -> list[bytes]:
        return self.packed(self.form.feed(event), position if self.form.ids else None)

    def packed(self, payloads: list[bytes], position: str | None = None) -> list[bytes]:
        if not (self.frames and payloads):
            return payloads
        return [named_frames(payloads) if self.form.named_frames else frame(payloads, position)]


async def stream_of_events(events: Any, writer: RunWriter) -> AsyncGenerator[list[bytes], None]:
    """The events of an ``AsyncStream``, rendered.

    What the program raises is not: the reader has ``run.error``. A cancelled program that does not
    end, because a tool blocks, has no last event; then the format's own error is.
    """
    reached, last = Position(events.run_id), ""
    source = events if writer.smoothed is None else smooth(events, writer.smoothed)
    try:
        async for event in source:
            items, last = items_of([event], reached), event.event_type
            reached = items[-1].position
            if rendered := writer.write(items):
                yield rendered
    except Exception as error:
        if last in TERMINAL or not isinstance(error, StreamllError):
            return
        if not isinstance(error, StreamCancelled):
            raise
        if broken := writer.broken(events.run_id, error):
            yield broken


async def sse_of_call(
    opened: Callable[[], AbstractAsyncContextManager[Any]], writer: RunWriter
) -> AsyncGenerator[bytes, None]:
    """A program that runs for this reader alone, as an event stream: closing it stops that.

    ``opened()`` starts it, and gives its ``AsyncStream``.
    """
    async with opened() as events, contextlib.aclosing(stream_of_events(events, writer)) as chunks:
        async for chunk in chunks:
            yield b"".join(chunk)


async def stream_of_log(
    run_log: RunLog, position: Position, writer: RunWriter
) -> AsyncGenerator[list[bytes], None]:
    """A run of the log after ``position``, rendered.

    Raises:
        LogAway, ServerStopping: see ``RunLog.read``; the format's own error is yielded before.
    """
    try:
        if position.seq >= 0 and not writer.is_native:
            reached = await _replay(run_log, position, writer.form)
            position = reached if position.seq >= AFTER_EVERYTHING else position
            if resumed := writer.packed(writer.form.resume()):
                yield resumed
            if left := writer.leave():
                yield left
                return
        async with contextlib.aclosing(run_log.read(position)) as batches:
            async for items in batches:
                if rendered := writer.write(items):
                    yield rendered
                if left := writer.leave():
                    yield left
                    return
    except RunUnavailable as error:
        if broken := writer.broken(position.run_id, error):
            yield broken
        raise


async def sse_of_log(
    run_log: RunLog, position: Position, writer: RunWriter
) -> AsyncGenerator[bytes, None]:
    """The same as an event stream."""
    yield RETRY if writer.form.ids else HEARTBEAT
    async with contextlib.aclosing(stream_of_log(run_log, position, writer)) as chunks:
        with contextlib.suppress(RunUnavailable):
            async for chunk in chunks:
                yield b"".join(chunk)


async def _replay(run_log: RunLog, position: Position, form: OutputFormat) -> Position:
    """Feed a format what a reader at ``position`` has had, of a merged token the part it has had.

    To one ``AFTER_EVERYTHING`` all is replayed that the log has now, but not the run's end. Returns
    how far that goes.
    """
    reached = Position(position.run_id)
    async with contextlib.aclosing(run_log.history(Position(position.run_id))) as batches:
        async for items in batches:
            for item in items:
                event: Any = item.event
                at_end = position.seq >= AFTER_EVERYTHING and event.event_type in TERMINAL
                if item.first > position.seq or at_end:
                    return reached
                if item.position.seq > position.seq and position.offset is not None:
                    text, had = event.token[: position.offset - event.offset], position.seq
                    event = msgspec.structs.replace(event, token=text, count=had - event.seq + 1)
                form.feed(event)
                reached = item.position
    return reached
