"""Between threads and event loops: one bridge over a bounded channel, and sources to read.

``Background`` runs a function in a thread, a coroutine in a task, or a coroutine in a thread with
an event loop of its own. Any thread may cancel it without waiting.

``Producer`` is a ``Background`` that reads a source and puts its items into a bounded ``Channel``;
when the channel is full, it waits, and so does the source. ``Bridge`` is the reader's end: a
``DualIterator`` whose source runs elsewhere::

    for item in Bridge(async_generator()): ...        # its loop runs in a thread of its own
    async for item in Bridge(blocking_iterator()): ...  # it runs in a thread of its own

Who produces by itself (a callback, a worker) needs no ``Producer``: ``Channel.put`` from any
thread, then ``wait_for_space(timeout)``, and ``await channel.get_batch_async(limit)`` on the loop
are a bounded hand-over in that direction.

``opened`` and ``aopened`` make a ``DualIterator`` of any source: where it already is one or can be
read in place, without a bridge. ``Derived`` is a stream made of another stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from typing import Any, TypeVar

from streamll.core.errors import ChannelClosed, StreamCancelled, StreamllError
from streamll.flow.channel import Channel
from streamll.flow.dual import DualIterator, Openable
from streamll.flow.waiting import on_event_loop, running_loop

T = TypeVar("T")
D = TypeVar("D", bound="Derived[Any]")  # typing.Self needs Python 3.11

CAPACITY = 16
"""Items that may wait between a producer and its reader."""

END = object()

NO_LOOP = (
    "this needs an event loop of its own, and another one runs in its thread: gevent's greenlets, "
    "which stand in for threads, can have one at a time"
)

STOP_TIMEOUT_S = 2.0
"""How long ``aclose`` waits for a cancelled task."""


class Background:
    """A thread or a task of its own, in ``context``: by default, a copy of the current one."""

    def __init__(self, name: str, context: contextvars.Context | None = None) -> None:
        self.name = name
        self.cancelled = False
        self._context = (
            contextvars.copy_context() if context is None else context
        )  # one may be empty
        self._thread: threading.Thread | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_told = False  # the task has been cancelled

    @property
    def has_begun(self) -> bool:
        return self._thread is not None or self._task is not None

    def start_thread(self, function: Callable[[], object]) -> None:
        """Run ``function`` in a daemon thread. ``cancel`` can only set ``cancelled`` for it."""
        self._thread = threading.Thread(
            target=self._context.run, args=(function,), name=self.name, daemon=True
        )
        self._thread.start()

    def start_task(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = self._context.run(self._loop.create_task, function())

    def start_loop(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run ``function`` on an event loop of its own, in a daemon thread."""

        async def main() -> None:
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
            if not self.cancelled:
                await function()

        def run() -> None:
            if on_event_loop():
                self.run_without_loop()
                return
            with contextlib.suppress(asyncio.CancelledError):
                asyncio.run(main())

        self.start_thread(run)

    def run_without_loop(self) -> None:
        """What ``start_loop`` runs where a loop runs already: threads that are greenlets share one."""
        raise StreamllError(NO_LOOP)

    def cancel(self) -> None:
        """Set ``cancelled`` and cancel the task. Never waits; any thread may call it, also again.

        A task is cancelled once: the second time would interrupt what it does to end.
        """
        self.cancelled = True
        task, loop = self._task, self._loop
        if task is not None and loop is not None and not self._is_told:
            self._is_told = True
            with contextlib.suppress(RuntimeError):  # the loop is closed, and the task with it
                loop.call_soon_threadsafe(task.cancel)

    def join(self, timeout: float | None) -> None:
        """Wait for the thread, if there is one, and if this is not it."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    async def wait(self, timeout: float) -> None:
        """Wait for the task, if it is another one of the running loop."""
        on_this_loop = self._loop is asyncio.get_running_loop()
        if self._task is not None and on_this_loop and self._task is not asyncio.current_task():
            await asyncio.wait({self._task}, timeout=timeout)


class Producer(Background):
    """Reads a source and puts its items into ``channel``, which it closes at the end.

    ``error`` is what the source raised. ``notify`` is called after each item and at the end.
    """

    def __init__(
        self,
        source: Any,
        *,
        capacity: int = CAPACITY,
        name: str = "source",
        notify: Callable[[Producer], None] = lambda _: None,
    ) -> None:
        super().__init__(f"streamll {name}")
        self.source = source
        self.channel: Channel[Any] = Channel(capacity, name=name)
        self.error: BaseException | None = None
        self._notify = notify
        self._reading: DualIterator[Any] | None = None

    def start(self, *, on_loop: bool) -> None:
        """Begin, unless it has begun, where the source does not disturb its reader.

        ``on_loop``: the reader is on the running event loop. An async source is then read there, by
        a task; every other source in a thread.
        """
        if self.has_begun:
            return
        if on_loop and is_async(self.source):
            self.start_task(self._aproduce)
        elif is_sync(self.source):
            self.start_thread(self._produce)
        else:
            self.start_loop(self._aproduce)

    def leave(self) -> None:
        """Nobody reads any more: stop. Never waits."""
        self.channel.abandon()
        self.cancel()
        if self._reading is not None and self._task is None:
            self._reading.leave()  # its thread may be waiting in it

    def run_without_loop(self) -> None:
        with self._producing():
            super().run_without_loop()

    def _produce(self) -> None:
        with self._producing(), opened(self.source) as reading:
            self._reading = reading
            while not self.cancelled and (item := next(reading, END)) is not END:
                self._put(item)
                self.channel.wait_for_space()

    async def _aproduce(self) -> None:
        with self._producing():
            async with _entered(self.source) as reading:
                async for item in reading:
                    self._put(item)
                    await self.channel.wait_for_space_async()

    @contextlib.contextmanager
    def _producing(self) -> Iterator[None]:
        try:
            yield
        except asyncio.CancelledError:
            self.error = StreamCancelled("the event loop that read the source has ended")
        except BaseException as error:  # noqa: BLE001 - it is raised where the items are read
            self.error = error
        finally:
            self.channel.close()
            self._notify(self)

    def _put(self, item: Any) -> None:
        self.channel.put(item)
        self._notify(self)


class Bridge(DualIterator[Any]):
    """Items of a source that is read in a thread or task of its own, up to ``capacity`` ahead.

    The source starts with the first read, in the context the bridge was made in. Its exception is
    raised to the reader. Dropping the bridge stops it.
    """

    def __init__(self, source: Any, *, capacity: int = CAPACITY, name: str = "source") -> None:
        self._producer = Producer(source, capacity=capacity, name=name)
        self._capacity = capacity

    def _read(self) -> list[Any]:
        self._producer.start(on_loop=False)
        return self._producer.channel.get_batch(self._capacity)

    async def _aread(self) -> list[Any]:
        self._producer.start(on_loop=True)
        return await self._producer.channel.get_batch_async(self._capacity)

    def _feed(self, read: list[Any]) -> Iterable[Any]:
        return read

    def _end(self, error: Exception | None) -> Iterable[Any]:
        cause = error or self._producer.error
        if cause is not None:
            raise cause
        return ()

    def leave(self) -> None:
        super().leave()
        self._producer.leave()

    async def aclose(self) -> None:
        self.leave()
        await self._producer.wait(STOP_TIMEOUT_S)

    def __del__(self) -> None:
        self._producer.leave()


# --- sources --------------------------------------------------------------------------------------


def is_async(source: Any) -> bool:
    return hasattr(source, "__aiter__") or hasattr(source, "__aenter__")


def is_sync(source: Any) -> bool:
    return hasattr(source, "__iter__") or hasattr(source, "__enter__")


def checked(source: Any) -> Any:
    """The source; ``TypeError`` for what cannot be read, ``StreamllError`` for what has been."""
    if isinstance(source, DualIterator) and source.is_over and not source.read_once:
        raise StreamllError(f"this {type(source).__name__} has been read to its end already")
    if isinstance(source, (str, bytes)) or not (is_async(source) or is_sync(source)):
        raise TypeError(
            f"a stream is something to iterate over, such as streamll.stream(program)(…), "
            f"not {type(source).__name__}"
        )
    return source


def checked_each(sources: Iterable[Any]) -> list[Any]:
    """Several sources; ``StreamllError`` for an iterator that is there twice: each would get a part."""
    found = [checked(source) for source in sources]
    iterators = [id(s) for s in found if hasattr(s, "__next__") or hasattr(s, "__anext__")]
    if len(set(iterators)) < len(iterators):
        raise StreamllError("the same stream is given twice; it gives each item once")
    return found


def opened(source: Any) -> DualIterator[Any]:
    """Any source, to be read with ``for`` and closed with ``close`` or ``with``."""
    if isinstance(source, Openable):
        return source.opened(on_loop=False)
    return _Here(source) if is_sync(source) else Bridge(source)


def aopened(source: Any) -> DualIterator[Any]:
    """Any source, to be read with ``async for`` and closed with ``aclose`` or ``async with``.

    A source that is not of this package gets a task of its own: cancelling a read must not end it.
    """
    if isinstance(source, Openable):
        return source.opened(on_loop=True)
    return Bridge(source)


class _Here(DualIterator[Any]):
    """A blocking source read in its reader's own thread; entered first, if it can be."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._iterator: Iterator[Any] | None = None
        self._stack = contextlib.ExitStack()

    @property
    def value(self) -> Any:
        return getattr(self._source, "value", None)

    def _read(self) -> Any:
        if self._iterator is None:
            source = self._source
            if hasattr(source, "__enter__") and not hasattr(source, "__next__"):
                self._source = source = self._stack.enter_context(source)
            elif close := getattr(source, "close", None):
                self._stack.callback(close)
            self._iterator = iter(source)
            if self._iterator is not source and (close := getattr(self._iterator, "close", None)):
                self._stack.callback(close)
        return next(self._iterator)

    def leave(self) -> None:
        """From another thread: a source that can be closed while it is read, is."""
        super().leave()
        close = getattr(self._iterator, "close", None) or getattr(self._source, "close", None)
        if close is not None:
            with contextlib.suppress(ValueError):  # a generator that is running
                close()

    def close(self) -> None:
        super().leave()
        with contextlib.suppress(ValueError):
            self._stack.close()


@contextlib.asynccontextmanager
async def _entered(source: Any) -> AsyncIterator[AsyncIterator[Any]]:
    """An async source, to be read by this task alone; entered first, if it can be."""
    if isinstance(source, Openable):
        source = source.opened(on_loop=True)
    async with contextlib.AsyncExitStack() as stack:
        if hasattr(source, "__aenter__") and not hasattr(source, "__anext__"):
            source = await stack.enter_async_context(source)
        elif close := getattr(source, "aclose", None):
            stack.push_async_callback(close)
        iterator = source.__aiter__()
        if iterator is not source and (close := getattr(iterator, "aclose", None)):
            stack.push_async_callback(close)
        yield iterator


def _opened_for_any_loop(source: Any) -> DualIterator[Any]:
    """Any source, to be read by ``await anext(…)`` on one event loop after the other."""
    return source.opened(on_loop=False) if isinstance(source, Openable) else aopened(source)


class Derived(DualIterator[T]):
    """A stream made of another stream: ``_feed`` maps each of its items to any number of items.

    The source is opened with the first read and closed with this stream. Where that is a mere
    ``await anext(stream)``, in no ``async for`` or ``async with`` of this event loop, the loop may
    be another one for the next item: then no task of this one reads the source, but a thread.
    """

    _loop: object = None  # that of the ``async for`` or ``async with``

    def __init__(self, source: Any) -> None:
        self._source = source
        self._reading: DualIterator[Any] | None = None

    def _open(self, open_: Callable[[Any], DualIterator[Any]]) -> DualIterator[Any]:
        reading = self._reading = open_(self._source)
        if self._over:  # another thread has closed it meanwhile
            reading.leave()
        return reading

    def _read(self) -> Any:
        return next(self._reading or self._open(opened))

    async def _aread(self) -> Any:
        reading = self._reading or self._open(aopened if self._stays() else _opened_for_any_loop)
        return await reading.__anext__()

    def opened(self, *, on_loop: bool) -> DualIterator[T]:
        self._loop = running_loop() if on_loop else None
        return super().opened(on_loop=on_loop)

    async def __aenter__(self: D) -> D:  # noqa: PYI019
        self._loop = running_loop()
        return self

    def _stays(self) -> bool:
        """Whether the event loop that reads now is known to read to the end."""
        return self._loop is running_loop()

    @property
    def value(self) -> Any:
        """What the program behind the source has returned; ``None`` until then."""
        return getattr(self._reading, "value", None)

    def leave(self) -> None:
        DualIterator.leave(self)
        if self._reading is not None:
            self._reading.leave()

    def close(self) -> None:
        self.leave()
        if self._reading is not None:
            self._reading.close()

    async def aclose(self) -> None:
        self.leave()
        if self._reading is not None:
            await self._reading.aclose()


class Mapped(DualIterator[T]):
    """``function`` of each item gives those of this stream. Does not close its source.

    ``ended`` is called after the last one, and may raise what was wrong with the reading.
    It reads the source step by step, so that closing this stream ends a read of it that waits.
    """

    closed_by_loop = False
    _has_begun = False

    def __init__(
        self,
        source: DualIterator[Any],
        function: Callable[[Any], Iterable[T]],
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        self._source = source
        self._function = function
        self._ended = ended
        self._reader = object()  # known to the source: ``self`` would keep a dropped one in a cycle

    def _take_turn(self) -> None:
        """Raise where another stream has read what this one should have given, or would read it."""
        source = self._source
        was_read = source.last_reader is not self._reader if self._has_begun else source.is_over
        if was_read or source.waiting_reader not in (None, self._reader):
            raise StreamllError(
                "what this reads has been read elsewhere: a stream gives each event once; to read "
                "several fields, loop over the events themselves"
            )
        self._has_begun, source.last_reader = True, self._reader

    def _read(self) -> Iterable[T]:
        self._take_turn()
        for item in self._source.ready():
            return self._function(item)
        if self._source.is_over:
            raise ChannelClosed("the source has ended")
        self._source.waiting_reader = self._reader
        try:
            self._source.step()
        finally:
            self._source.waiting_reader = None
        return ()

    async def _aread(self) -> Iterable[T]:
        self._take_turn()
        for item in self._source.ready():
            return self._function(item)
        if self._source.is_over:
            raise ChannelClosed("the source has ended")
        self._source.waiting_reader = self._reader
        try:
            await self._source.astep()
        finally:
            self._source.waiting_reader = None
        return ()

    def _feed(self, read: Iterable[T]) -> Iterable[T]:
        return read

    def _end(self, error: Exception | None) -> Iterable[T]:
        if error is None:
            self._ended()
        return super()._end(error)

    def _release(self) -> None:
        self._source.interrupt()
