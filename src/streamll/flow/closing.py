"""``with`` and ``async with`` for what has ``close`` and ``aclose``.

Entering starts nothing, and exceptions inside pass through.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TypeVar

C = TypeVar("C", bound="Closing")  # typing.Self needs Python 3.11


class Closing(ABC):
    """Base of classes with ``close`` and ``aclose``, which leaving a block calls."""

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    async def aclose(self) -> None: ...

    def __enter__(self: C) -> C:  # noqa: PYI019
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self: C) -> C:  # noqa: PYI019
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
