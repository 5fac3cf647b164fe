"""What an ``iModel`` gives: the text as it comes (``InvokeStream``), or one call (``Calling``)."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Coroutine, Generator, Iterable, Iterator
from enum import Enum
from operator import attrgetter
from typing import Any

import msgspec

from streamll.chat.question import Question
from streamll.chat.reply import CitedSource, ModelReply, ModelToolCall
from streamll.core.errors import ReplySuperseded, StreamCancelled
from streamll.core.events import Event, LMSuperseded, TokenEvent
from streamll.flow.bridge import Derived


class Chunk(str):
    """A piece of text; ``data`` is the same text, for the notebook's ``chunk.data``."""

    __slots__ = ()

    @property
    def data(self) -> str:
        """The same text."""
        return str(self)


class ChunkStream(Derived[Chunk]):
    """Text of a model. A reader that waits while somebody else closes it gets ``StreamCancelled``.

    A cancelled ``anext`` loses nothing: the next one reads on. A cancelled ``async for`` stops it.
    """

    def _finish(self, error: Exception) -> None:
        if self._over and isinstance(error, StreamCancelled):
            raise error
        super()._finish(error)


def _of_reply(name: str) -> Any:
    """A read-only attribute that is one of the reply's."""
    return property(attrgetter(f"_reply.{name}"))


class InvokeStream(ChunkStream):
    """One reply as text: ``async for`` or ``for``, once. The request is sent when that begins.

    Ending the loop early, leaving a ``with`` block around it, or dropping the stream stops the
    provider. ``text`` is what has been read, also after an error; ``thinking``, ``tool_calls``,
    ``usage``, ``finish_reason`` and the times are set as soon as they are known.
    """

    def __init__(self, call: Any) -> None:
        super().__init__(call)
        self._reply: ModelReply = call.program.reply
        self._chunks: list[Chunk] = []
        self._awaited = ""  # text of a superseded attempt that this one has to begin with
        self._restarted = ""  # why

    def _feed(self, event: Event) -> list[Chunk]:
        if isinstance(event, TokenEvent):
            token = self._beyond_awaited(event.token) if self._awaited else event.token
            if token:
                self._chunks.append(Chunk(token))
                return self._chunks[-1:]
        elif isinstance(event, LMSuperseded):
            self._awaited, self._restarted = self.text, event.reason
        return []

    def _beyond_awaited(self, token: str) -> str:
        """What of an attempt's token has not been read from the attempt before."""
        same = min(len(token), len(self._awaited))
        if token[:same] != self._awaited[:same]:
            raise self._superseded()
        self._awaited = self._awaited[same:]
        return token[same:]

    def _end(self, error: Exception | None) -> Iterable[Chunk]:
        if error is None and self._awaited:
            error = self._superseded()
        return super()._end(error)

    def _superseded(self) -> ReplySuperseded:
        return ReplySuperseded(
            f"the reply was restarted ({self._restarted}) after {len(self.text)} characters of it, "
            "and the new one does not begin with these"
        )

    def __repr__(self) -> str:
        state = "ended" if self._over else "open" if self._reply.attempts else "not begun"
        return f"<InvokeStream {state}, {len(self._chunks)} chunks>"

    @property
    def text(self) -> str:
        """The text that has been read."""
        return "".join(self._chunks)

    @property
    def read(self) -> list[Chunk]:
        """The pieces that have been read."""
        return list(self._chunks)

    @property
    def chunks(self) -> int:
        """How many pieces have been read."""
        return len(self._chunks)

    thinking: str = _of_reply("thinking")
    refusal: str = _of_reply("refusal")
    tool_calls: list[ModelToolCall] = _of_reply("tool_calls")
    citations: list[CitedSource] = _of_reply("citations")
    usage: Any = _of_reply("usage")
    """Tokens as the provider counted them (``input_tokens``, ``output_tokens``, …)."""
    finish_reason: str | None = _of_reply("finish_reason")
    time_to_first_token: float | None = _of_reply("time_to_first_token")
    duration: float = _of_reply("duration")
    model: str | None = _of_reply("model")
    """The model that answered, as the provider calls it."""
    response: Any = _of_reply("response")
    """lm15's ``Response``, when the reply is complete."""


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
        """``run`` in this thread; Ctrl-C is raised as well."""
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

    def __str__(self) -> str:
        """The reply's text, of a failed call what came of it and the error."""
        error = self.execution.error
        return self.reply.text + (f"[{type(error).__name__}: {error}]" if error is not None else "")

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

    def __repr__(self) -> str:
        return f"<Invocation of {self.calling.question.model}: await it for the Calling>"

    def __aiter__(self) -> AsyncIterator[Any]:
        raise TypeError(
            "invoke gives one complete answer and cannot be iterated; "
            "use: async for chunk in model.invoke_stream(…)"
        )

    def __iter__(self) -> Any:
        raise TypeError(
            "invoke is awaited; use invoke_sync, or: for chunk in model.invoke_stream(…)"
        )
