"""A result that is there in synchronous code, and awaited on an event loop: one class for both."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

from streamll.flow.waiting import on_event_loop

L = TypeVar("L", bound="Later")  # typing.Self needs Python 3.11


class Later(Coroutine[Any, Any, Any]):
    """Base of results whose attributes, the subclass's ``__slots__``, may not be set yet.

    ``later`` works at once where no event loop runs. On one, the work is done by ``await`` (or
    ``asyncio.create_task``, for which this is a ``Coroutine``), or, in code that uses the result
    without, by the first use of an attribute; that blocks the loop.
    """

    __slots__ = ("_blocking", "_steps", "_suspending")
    _blocking: Callable[[], Any] | None
    _suspending: Callable[[], Coroutine[Any, Any, Any]]
    _steps: Generator[Any, Any, Any]

    @classmethod
    def later(  # noqa: PYI019
        cls: type[L],
        blocking: Callable[[], Any],
        suspending: Callable[[], Coroutine[Any, Any, Any]],
    ) -> L:
        """A result made by either function; both give a complete one of this class."""
        self = cls.__new__(cls)
        self._blocking, self._suspending, self._steps = blocking, suspending, self.__await__()
        if not on_event_loop():
            self._complete()
        return self

    def _set(self, result: L) -> None:
        for name in type(self).__slots__:
            setattr(self, name, getattr(result, name))

    def _complete(self) -> None:
        blocking, self._blocking = self._blocking, None
        if blocking is not None:
            self._set(blocking())

    def __getattr__(self, name: str) -> Any:
        """Called for attributes that are not set."""
        if name not in type(self).__slots__ or name in Later.__slots__ or self._blocking is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self._complete()
        return getattr(self, name)

    def __await__(self: L) -> Generator[Any, Any, L]:  # noqa: PYI019
        if getattr(self, "_blocking", None) is not None:
            self._blocking = None
            self._set((yield from self._suspending().__await__()))
        return self

    __hash__ = object.__hash__  # asyncio.gather keeps what it is given in a dict

    def send(self, value: Any) -> Any:
        return self._steps.send(value)

    def throw(self, *error: Any) -> Any:
        return self._steps.throw(*error)

    def close(self) -> None:
        self._steps.close()
