"""What ``iModel.invoke`` gives: an awaitable, and the call with its outcome."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Coroutine, Generator, Iterator
from enum import Enum
from typing import Any

import msgspec

from streamll.chat.question import Question
from streamll.chat.reply import ModelReply


class CallStatus(str, Enum):
    """How far a call has come."""

    PENDING = "pending"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Execution(msgspec.Struct):
    """The outcome: ``response`` of a completed call, ``error`` of a failed or cancelled one.

    ``response.data`` is the text; usage, tool calls and the rest are beside it. ``partial`` is
    the text received before a failure, if the reply was streamed: ``invoke`` requests a stream
    only where a sink listens. ``duration`` is in seconds.
    """

    status: CallStatus = CallStatus.PENDING
    duration: float = 0.0
    response: ModelReply | None = None
    error: BaseException | None = None
    partial: str = ""

    def __repr__(self) -> str:
        return f"<Execution {self.status.value}, {self.duration:.2f} s>"


class Calling:
    """One question and its outcome. A failure is kept, not raised, until ``text`` is read."""

    def __init__(self, call: Any) -> None:
        self.question: Question = call.program.question
        self.execution = Execution()
        self.reply: ModelReply = call.program.reply
        self._call = call  # what ``streamll.stream(…)()`` gives

    @property
    def text(self) -> str:
        """The reply's text. Raises what the call failed with."""
        if self.execution.error is not None:
            raise self.execution.error
        return self.execution.response.text if self.execution.response is not None else ""

    async def run(self) -> Calling:
        """Ask. A failure is kept; being cancelled is raised as well."""
        with self._outcome():
            async with self._call as events:
                await events.result()
        return self

    def run_sync(self) -> Calling:
        """The same in this thread; Ctrl-C is raised as well."""
        with self._outcome(), self._call as events:
            events.result()
        return self

    @contextlib.contextmanager
    def _outcome(self) -> Iterator[None]:
        """The outcome of the block is the outcome of the call."""
        execution, reply = self.execution, self.reply
        try:
            yield
        except BaseException as error:
            failed = isinstance(error, Exception)
            execution.status = CallStatus.FAILED if failed else CallStatus.CANCELLED
            execution.error = error
            execution.partial = reply.text
            if not failed:
                raise
        else:
            execution.status = CallStatus.COMPLETED
            execution.response = reply
        finally:
            execution.duration = reply.duration

    def __repr__(self) -> str:
        return f"<Calling {self.question.model} {self.execution.status.value}>"


class Invocation(Coroutine[Any, Any, Calling]):
    """What ``invoke`` returns: ``await`` it, or make a task of it. It cannot be iterated.

    ``calling`` is what it gives, also while it is under way and after it was cancelled.
    """

    def __init__(self, calling: Calling) -> None:
        self.calling = calling
        self._running: Generator[Any, Any, Calling] | None = None

    def __await__(self) -> Generator[Any, Any, Calling]:
        if self._running is None:
            self._running = self.calling.run().__await__()
        return self._running

    def send(self, value: Any) -> Any:
        return self.__await__().send(value)

    def throw(self, *raised: Any) -> Any:
        return self.__await__().throw(*raised)

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
