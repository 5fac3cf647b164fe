"""What ``iModel.invoke`` gives: an awaitable, and the call with its outcome."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from enum import Enum
from types import TracebackType
from typing import Any

from streamll.chat.question import Question
from streamll.chat.reply import Reply


class Status(str, Enum):
    """How far a call has come."""

    PENDING = "pending"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Execution:
    """The outcome: ``response`` where it is completed, ``error`` where it failed or was cancelled.

    ``response.data`` is the text; usage, tool calls and the rest are beside it. ``partial`` is
    the text that had come before a failure, if anybody listened: without a sink a whole answer is
    not asked for as a stream. ``duration`` is in seconds.
    """

    def __init__(self) -> None:
        self.status = Status.PENDING
        self.duration: float = 0.0
        self.response: Reply | None = None
        self.error: BaseException | None = None
        self.partial = ""

    def __repr__(self) -> str:
        return f"<Execution {self.status.value}, {self.duration:.2f} s>"


class Calling:
    """One question and what became of it. A failure is kept, not raised, until it is asked for."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.execution = Execution()

    @property
    def text(self) -> str:
        """The reply's text. Raises what the call failed with."""
        if self.execution.error is not None:
            raise self.execution.error
        return self.execution.response.text if self.execution.response is not None else ""

    def completed(self, reply: Reply) -> None:
        self.execution.status = Status.COMPLETED
        self.execution.duration = reply.duration
        self.execution.response = reply

    def failed(self, reply: Reply, error: BaseException, *, cancelled: bool = False) -> None:
        self.execution.status = Status.CANCELLED if cancelled else Status.FAILED
        self.execution.duration = reply.duration
        self.execution.error = error
        self.execution.partial = reply.text

    def __repr__(self) -> str:
        return f"<Calling {self.question.model} {self.execution.status.value}>"


class Invocation(Coroutine[Any, Any, Calling]):
    """``await`` it; or make a task of it. It is no stream: ``invoke_stream`` gives one.

    ``calling`` is what it gives, also while it is under way and after it was cancelled.
    """

    def __init__(self, calling: Calling, start: Callable[[], Awaitable[Calling]]) -> None:
        self.calling = calling
        self._start = start
        self._running: Generator[Any, Any, Calling] | None = None

    def _steps(self) -> Generator[Any, Any, Calling]:
        if self._running is None:
            self._running = self._start().__await__()
        assert self._running is not None
        return self._running

    def __await__(self) -> Generator[Any, Any, Calling]:
        return self._steps()

    def send(self, value: Any) -> Any:
        return self._steps().send(value)

    def throw(
        self,
        kind: Any,
        value: BaseException | object = None,
        traceback: TracebackType | None = None,
    ) -> Any:
        if value is None and traceback is None:
            return self._steps().throw(kind)
        return self._steps().throw(kind, value, traceback)

    def close(self) -> None:
        if self._running is not None:
            self._running.close()

    def __aiter__(self) -> AsyncIterator[Any]:
        raise TypeError(
            "invoke gives one complete answer and cannot be iterated; "
            "use: async for chunk in model.invoke_stream(…)"
        )

    def __iter__(self) -> Any:
        raise TypeError(
            "invoke is awaited; use invoke_sync, or: for chunk in model.invoke_stream(…)"
        )
