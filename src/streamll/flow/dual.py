"""One iterator for ``for`` and ``async for``.

A subclass of ``DualIterator`` says how its source is read, blocking and suspending. Everything
else is written once: turning what was read into items, the end, errors, and closing.

What every subclass gets:

- A cancelled ``anext`` loses nothing, so ``asyncio.wait_for(anext(stream), 0.1)`` may time out
  any number of times. This is why it is a class: cancelling an async generator ends it.
- ``close``, ``aclose`` and ``leave`` may be called while another thread or task is reading; that
  reader then sees the end.
- Leaving a ``for`` or ``async for`` loop closes the stream (``closed_by_loop``). A task that is
  cancelled inside ``async for`` drops the loop's iterator, which has the same effect; where that
  must not depend on garbage collection, use ``async with``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from typing import Any, ClassVar, Generic, TypeVar

from streamll.core.errors import ChannelClosed, StreamllError

T = TypeVar("T")
C = TypeVar("C", bound="Closing")  # typing.Self needs Python 3.11


class Closing(ABC):
    """Leaving a ``with`` or ``async with`` block closes it. Entering starts nothing."""

    @abstractmethod
    def close(self) -> None:
        """Stop, and release what is held. May be called more than once."""

    @abstractmethod
    async def aclose(self) -> None:
        """``close``, from an event loop."""

    def __enter__(self: C) -> C:  # noqa: PYI019
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    async def __aenter__(self: C) -> C:  # noqa: PYI019
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()


class Openable(ABC):
    """A stream of this package, perhaps not started yet: opening it never waits."""

    @abstractmethod
    def opened(self, *, on_loop: bool) -> DualIterator[Any]:
        """The iterator to read it with, here or on this event loop."""


class DualIterator(Closing, Openable, Generic[T]):
    """Read with ``for`` or ``async for``, once. See the module's docstring.

    To implement: ``_read`` and ``_aread``; as needed ``_feed``, ``_end``, ``leave``, ``close``
    and ``aclose``.
    """

    closed_by_loop: ClassVar[bool] = True
    """Whether leaving a loop or an error closes the stream; else its ``with`` block does."""

    read_once: ClassVar[str] = ""
    """What to do to read it again: then another loop over it is an error rather than empty."""

    last_reader: object = None
    """Which of the streams that read this one step by step has read it last."""

    waiting_reader: object = None
    """Which of them waits for more, where none else may read."""

    _items: Iterator[T] = iter(())  # made of what was read last, not delivered yet
    _over = False  # nothing more will be read

    # --- for subclasses -----------------------------------------------------------------------

    def _read(self) -> Any:
        """Wait for something from the source. ``StopIteration`` or ``ChannelClosed`` at its end."""
        raise TypeError(f"{type(self).__name__} is read with `async for`")

    async def _aread(self) -> Any:
        """The same on an event loop. Must lose nothing when it is cancelled."""
        raise TypeError(f"{type(self).__name__} is read with `for`")

    def _feed(self, read: Any) -> Iterable[T]:
        """The items made of what was read. May be lazy: it is iterated as items are asked for."""
        return (read,)

    def _end(self, error: Exception | None) -> Iterable[T]:
        """The last items, after the source has ended or has failed with ``error``."""
        if error is not None:
            raise error
        return ()

    def leave(self) -> None:
        """Stop reading, without waiting for anything. Any thread, also a finalizer, may call it."""
        self._over = True
        self._items = iter(())
        self._release()

    def _release(self) -> None:
        """Let go of what is held besides the source. Called once or more, however reading ends."""

    def close(self) -> None:
        """Stop reading and close the source."""
        self.leave()

    async def aclose(self) -> None:
        """``close`` on an event loop."""
        self.leave()

    def interrupt(self) -> None:
        """Have a read that waits return, perhaps with nothing, without ending this stream."""

    # --- reading ------------------------------------------------------------------------------

    def ready(self) -> Iterator[T]:
        """The items for which no ``step`` is needed."""
        return self._items

    @property
    def is_over(self) -> bool:
        """Whether no ``step`` gives more."""
        return self._over

    def step(self) -> None:
        """Read once."""
        try:
            read = self._read()
        except Exception as error:  # noqa: BLE001 - the subclass decides
            self._finish(error)
        else:
            self._accept(read)

    async def astep(self) -> None:
        try:
            read = await self._aread()
        except Exception as error:  # noqa: BLE001
            self._finish(error)
        else:
            self._accept(read)

    def __next__(self) -> T:
        try:
            while True:
                for item in self._items:
                    return item
                if self._over:
                    break
                self.step()
        except BaseException:
            if self.closed_by_loop:
                self.close()
            raise
        if self.closed_by_loop:
            self.close()
        raise StopIteration

    async def __anext__(self) -> T:
        try:
            while True:
                for item in self._items:
                    return item
                if self._over:
                    break
                try:  # ``astep``, without a coroutine of its own for each item
                    read = await self._aread()
                except Exception as error:  # noqa: BLE001
                    self._finish(error)
                else:
                    if not self._over:
                        self._items = iter(self._feed(read))
        except Exception:  # not a cancellation: the next call reads on
            if self.closed_by_loop:
                await self.aclose()
            raise
        if self.closed_by_loop:
            await self.aclose()
        raise StopAsyncIteration

    def _accept(self, read: Any) -> None:
        if not self._over:
            self._items = iter(self._feed(read))

    def _finish(self, error: Exception) -> None:
        if not self._over:  # else it was left, and how its source ends does not matter
            has_ended = isinstance(error, (StopIteration, StopAsyncIteration, ChannelClosed))
            self._items = iter(self._end(None if has_ended else error))
            self._over = True

    # --- loops --------------------------------------------------------------------------------

    def opened(self, *, on_loop: bool) -> DualIterator[T]:
        if self._over and self.read_once:
            raise StreamllError(f"a {type(self).__name__} is read once; {self.read_once}")
        return self

    def __iter__(self) -> Iterator[T]:
        self.opened(on_loop=False)
        return Loop(self, self.close) if self.closed_by_loop else self

    def __aiter__(self) -> AsyncIterator[T]:
        self.opened(on_loop=True)
        return Loop(self, self.leave) if self.closed_by_loop else self


class Loop(Iterator[T], AsyncIterator[T]):
    """The iterator of one loop. Leaving the loop drops it, and that closes the stream."""

    def __init__(self, stream: DualIterator[T], drop: Callable[[], None]) -> None:
        self._stream = stream
        self._drop = drop
        self.close = stream.close
        self.aclose = stream.aclose

    def __next__(self) -> T:
        return next(self._stream)

    def __anext__(self) -> Coroutine[Any, Any, T]:
        return self._stream.__anext__()

    def __del__(self) -> None:
        self._drop()
