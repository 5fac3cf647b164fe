"""``stream``: run a program and read its events while it runs.

``with`` gives a ``Stream``, ``async with`` an ``AsyncStream``. Both are thin shells over one
``ProgramRun``. Leaving the block before the program has ended stops it and closes the
provider's connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from types import TracebackType
from typing import Any

from streamll.capture.hooks.patch import install
from streamll.capture.run.enter import catch_up, check_fields
from streamll.capture.run.fields import FieldSelection
from streamll.capture.running import ProgramRun
from streamll.capture.typed.reading import AsyncTypedReading, TypedReading
from streamll.configuration import Receiver, checked_sinks
from streamll.core.errors import ChannelClosed, StreamllError
from streamll.core.events import Event, TokenEvent
from streamll.flow.config import StreamConfig

READ_AHEAD = 32
"""Events taken from the channel at once: in bursts, one by one costs a reader twice as much."""


def stream(
    program: Callable[..., Any],
    *,
    fields: str | Iterable[str] | None = "*",
    config: StreamConfig | None = None,
    sinks: Iterable[Receiver] = (),
    keep_text: bool = True,
) -> Callable[..., Call]:
    """Make ``program`` readable while it runs.

    ``with streamll.stream(qa, fields=["answer"])(question="…") as events:`` takes the program's
    own inputs and iterates over its events; ``async with`` and ``async for`` likewise. The
    program starts on entering: in a thread of its own, or as a task where it has ``aforward``
    and the block is ``async``.

    Args:
        fields: output fields to stream: names, ``"predictor.name"``, or ``"*"`` for all. ``None``
            is for a block that only wants ``result()``: all fields where others listen (sinks,
            ``watch``, an enclosing run), otherwise none, so that no reply is requested as a stream.
        config: bounds, retries and timeouts. It governs the attempts of every LM call made
            inside, in place of the LMs' own ``num_retries``; without one those stand.
        sinks: hear the run too, besides those of ``configure``.
        keep_text: remember the text, for ``events.text(field)``.

    Raises:
        UnknownFieldError: a field name that no predictor of the program has.
        TypeError: ``program`` cannot be called.
    """
    if not callable(program):
        raise TypeError(f"stream takes a dspy.Module or a function, not {type(program).__name__}")
    install()
    selection = None
    if fields is not None:
        selection = FieldSelection([fields] if isinstance(fields, str) else fields)
        check_fields(program, selection)
    own = checked_sinks(sinks)

    def call(*args: Any, **kwargs: Any) -> Call:
        def perform() -> ProgramRun:
            return ProgramRun(program, selection, config, own, keep_text, args, kwargs)

        return Call(perform, program)

    return call


class Call:
    """One call of a streamed program; starts when it is entered."""

    def __init__(self, program_run: Callable[[], ProgramRun], program: Any = None) -> None:
        self.program = program
        self._program_run = program_run
        self._stream: Stream | None = None
        self._async_stream: AsyncStream | None = None

    def _start(self) -> ProgramRun:
        if self._stream is not None or self._async_stream is not None:
            raise StreamllError("this call has been entered already; call the stream once more")
        return self._program_run()

    def __enter__(self) -> Stream:
        self._stream = Stream(self._start())
        return self._stream

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._stream is not None:
            self._stream.close()

    async def __aenter__(self) -> AsyncStream:
        self._async_stream = AsyncStream(self._start())
        return self._async_stream

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._async_stream is not None:
            await self._async_stream.aclose()

    def __iter__(self) -> Iterator[Event]:
        raise TypeError("enter the stream first: with streamll.stream(program)(…) as events:")

    __aiter__ = __iter__


class Stream(TypedReading):
    """The events of a running program, read from this thread. Made by ``with stream(…)(…)``."""

    _program_run: ProgramRun

    def __init__(self, program_run: ProgramRun) -> None:
        self._program_run = program_run
        self._thread = program_run.start_thread()

    def __del__(self) -> None:
        self._program_run.leave()  # it may have been dropped without having been left

    def __iter__(self) -> Iterator[Event]:
        """Events as they happen. After ``run.error`` the program's own exception is raised."""
        return self

    def __next__(self) -> Event:
        program_run = self._program_run
        if not program_run.ahead:
            try:
                program_run.ahead.extend(program_run.channel.get_batch(READ_AHEAD))
            except ChannelClosed:
                program_run.raise_error()
                raise StopIteration from None
        return program_run.saw(program_run.ahead.popleft())

    def tokens(self, field: str | None = None) -> Iterator[str]:
        """The text of ``field`` (default: of every field) as it comes.

        Text that a retry supersedes cannot be taken back here; read the events for that.
        """
        qualified_name = field and self._program_run.qualified_name(field)
        return (text for event in self if (text := token_of(event, qualified_name)))

    @property
    def value(self) -> Any:
        """What the program has returned; ``None`` until then."""
        return self._program_run.value

    def text(self, field: str) -> str:
        """What has been read of ``field``, corrected and without superseded attempts."""
        return self._program_run.text(field)

    def result(self) -> Any:
        """Read to the end and return the program's ``Prediction``, or raise its error.

        Raises:
            StreamCancelled: the stream was left before.
        """
        for _ in self:
            pass
        return self._program_run.value

    def close(self) -> None:
        """Stop reading; stops the program if it is still running."""
        self._program_run.leave()
        self._thread.join(0.1)  # an unwound program ends at once; a blocking tool may not
        catch_up(self._program_run.scope.receivers)


class AsyncStream(AsyncTypedReading):
    """The same for an event loop. Made by ``async with stream(…)(…)``."""

    _program_run: ProgramRun

    def __init__(self, program_run: ProgramRun) -> None:
        self._program_run = program_run
        program_run.channel.read_on(asyncio.get_running_loop())
        self._task: asyncio.Task[None] | None = None
        if program_run.is_async:
            self._task = program_run.start_task()
        else:
            program_run.start_thread()

    def __del__(self) -> None:
        self._program_run.leave()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        program_run = self._program_run
        if not program_run.ahead:
            try:
                program_run.ahead.extend(await program_run.channel.get_batch_async(READ_AHEAD))
            except ChannelClosed:
                program_run.raise_error()
                raise StopAsyncIteration from None
        return program_run.saw(program_run.ahead.popleft())

    async def tokens(self, field: str | None = None) -> AsyncIterator[str]:
        """See ``Stream.tokens``."""
        async for event in self:
            if text := token_of(event, field and self._program_run.qualified_name(field)):
                yield text

    @property
    def value(self) -> Any:
        """See ``Stream.value``."""
        return self._program_run.value

    def text(self, field: str) -> str:
        """See ``Stream.text``."""
        return self._program_run.text(field)

    async def result(self) -> Any:
        """See ``Stream.result``."""
        async for _ in self:
            pass
        return self._program_run.value

    async def aclose(self) -> None:
        """Stop reading; stops the program if it is still running."""
        self._program_run.leave()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=1.0)
        if not catch_up(self._program_run.scope.receivers, 0):
            await asyncio.to_thread(catch_up, self._program_run.scope.receivers)


def token_of(event: Event, field: str | None) -> str:
    """The event's text if it is a token of ``field``; else nothing."""
    if isinstance(event, TokenEvent) and (
        field is None or field in (event.field, f"{event.predictor}.{event.field}")
    ):
        return event.token
    return ""
