"""Anything that can be iterated over, opened the same way: ours, a generator, a client's stream.

What must be entered first (``streamll.stream(program)(…)``) is entered; what can be closed is
closed, also when its reader leaves early. In an ``async`` reader, a source that can only be
iterated over in a thread gets one.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from streamll.core.errors import ChannelClosed
from streamll.core.events import Event, TokenEvent
from streamll.flow.channel import Channel
from streamll.streams.stream_events import Token


def text_of(item: Any) -> str | None:
    """The text an item carries: a string, a token event, a ``Token``; ``None`` for others."""
    if isinstance(item, str):
        return item
    if isinstance(item, TokenEvent):
        return item.token
    if isinstance(item, Token):
        return item.text
    return None


def event_of(item: Any) -> Event | None:
    """The event an item is, or is a name for."""
    if isinstance(item, Event):
        return item
    event = getattr(item, "event", None)
    return event if isinstance(event, Event) else None


def is_async(source: Any) -> bool:
    return hasattr(source, "__aiter__") or hasattr(source, "__aenter__")


def is_sync(source: Any) -> bool:
    return hasattr(source, "__iter__") or hasattr(source, "__enter__")


def checked(source: Any) -> Any:
    """The source, or a TypeError for what nothing can be read from."""
    if isinstance(source, (str, bytes)) or not (is_async(source) or is_sync(source)):
        raise TypeError(
            f"a stream is something to iterate over, such as streamll.stream(program)(…), "
            f"not {type(source).__name__}"
        )
    return source


@contextmanager
def opened(source: Any, keep: Callable[[Any], None] = lambda _: None) -> Iterator[Iterator[Any]]:
    """Iterate over a source in this thread. ``keep`` gets what can be closed from elsewhere."""
    if not is_sync(source):
        with _on_a_loop(source, keep) as items:
            yield items
        return
    with contextlib.ExitStack() as stack:
        if hasattr(source, "__enter__") and not hasattr(source, "__next__"):
            source = stack.enter_context(source)
        elif (close := getattr(source, "close", None)) is not None:
            stack.callback(close)
        keep(source)
        items = iter(source)
        if items is not source and (close := getattr(items, "close", None)) is not None:
            stack.callback(close)
        yield items


@asynccontextmanager
async def aopened(source: Any) -> AsyncIterator[AsyncIterator[Any]]:
    """The same on an event loop."""
    if not is_async(source):
        async with _in_a_thread(source) as items:
            yield items
        return
    async with contextlib.AsyncExitStack() as stack:
        if hasattr(source, "__aenter__") and not hasattr(source, "__anext__"):
            source = await stack.enter_async_context(source)
        elif (close := getattr(source, "aclose", None)) is not None:
            stack.push_async_callback(close)
        items = source.__aiter__()
        if items is not source and (close := getattr(items, "aclose", None)) is not None:
            stack.push_async_callback(close)
        yield items


# --- from one world into the other ----------------------------------------------------------------

HAND_OVER = 16
"""Items that may wait between a source's thread and its reader."""


class _Handed:
    """Items handed over from a thread, and what went wrong there."""

    def __init__(self) -> None:
        self.channel: Channel[Any] = Channel(HAND_OVER, name="source")
        self.error: BaseException | None = None
        self.left = False

    def run(self, read: Callable[[], None]) -> None:
        try:
            read()
        except Exception as error:  # noqa: BLE001 - raised where the items are read
            self.error = error
        finally:
            self.channel.close()

    def start(self, read: Callable[[], None]) -> None:
        context = contextvars.copy_context()
        threading.Thread(
            target=context.run, args=(self.run, read), name="streamll source", daemon=True
        ).start()


@asynccontextmanager
async def _in_a_thread(source: Any) -> AsyncIterator[AsyncIterator[Any]]:
    handed, kept = _Handed(), list[Any]()

    def read() -> None:
        with opened(source, kept.append) as items:
            for item in items:
                handed.channel.put(item)
                handed.channel.wait_for_space()
                if handed.left:
                    return

    async def items() -> AsyncIterator[Any]:
        while True:
            try:
                yield await handed.channel.get_async()
            except ChannelClosed:
                break
        if handed.error is not None:
            raise handed.error

    handed.start(read)
    try:
        yield items()
    finally:
        handed.left = True
        handed.channel.abandon()
        for source_ in kept:
            close_from_elsewhere(source_)


@contextmanager
def _on_a_loop(source: Any, keep: Callable[[Any], None]) -> Iterator[Iterator[Any]]:
    handed = _Handed()
    leave: list[Callable[[], object]] = []

    async def read() -> None:
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        assert task is not None
        leave.append(functools.partial(loop.call_soon_threadsafe, task.cancel))
        async with aopened(source) as items:
            async for item in items:
                handed.channel.put(item)
                await handed.channel.wait_for_space_async()

    def on_a_loop() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(read())

    def items() -> Iterator[Any]:
        with contextlib.suppress(ChannelClosed):
            while True:
                yield handed.channel.get()
        if handed.error is not None:
            raise handed.error

    def end() -> None:
        handed.channel.abandon()
        for stop in leave:
            with contextlib.suppress(RuntimeError):  # its loop has ended
                stop()

    handed.start(on_a_loop)
    keep(_Closable(end))
    try:
        yield items()
    finally:
        end()


class _Closable:
    def __init__(self, close: Callable[[], None]) -> None:
        self.close = close


def close_from_elsewhere(source: Any) -> None:
    """Close a source that another thread may be reading. A running generator cannot be."""
    close = getattr(source, "close", None)
    if close is not None:
        with contextlib.suppress(ValueError):
            close()
