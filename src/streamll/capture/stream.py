"""``stream``: run a program and read its events while it runs.

``with`` gives a ``Stream``, ``async with`` an ``AsyncStream``. Both are thin shells over one
``Performance``, which holds the channel, the transcript and the outcome. Leaving the block
before the program has ended stops it and closes the provider's connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from types import TracebackType
from typing import Any

import dspy

from streamll.capture.enter import (
    captured,
    catch_up,
    check_fields,
    inputs_of,
    watched_sinks,
)
from streamll.capture.fields import FieldSelection
from streamll.capture.frames import output_fields
from streamll.capture.govern import timeout_behind
from streamll.capture.governed_call import Governor
from streamll.capture.patch import install
from streamll.capture.run import Run
from streamll.capture.scope import Scope, current_scope
from streamll.capture.silence import grace
from streamll.capture.typed_reading import AsyncTypedReading, TypedReading
from streamll.configuration import Outlet, checked_sinks, configuration
from streamll.core.errors import (
    ChannelClosed,
    ChannelOverflow,
    StreamCancelled,
    StreamllError,
    StreamTimeout,
    TotalTimeout,
    Unwind,
)
from streamll.core.events import Event, TokenEvent
from streamll.core.transcript import Transcript
from streamll.flow.channel import Channel
from streamll.flow.config import StreamConfig
from streamll.flow.timers import Timer, timers

DEFAULTS = StreamConfig()


READ_AHEAD = 32
"""Events taken from the channel at once: in bursts, one by one costs a reader twice as much."""


def stream(
    program: Callable[..., Any],
    *,
    fields: str | Iterable[str] = "*",
    config: StreamConfig | None = None,
    sinks: Iterable[Outlet] = (),
    keep_text: bool = True,
) -> Callable[..., Call]:
    """Make ``program`` readable while it runs.

    ``with streamll.stream(qa, fields=["answer"])(question="…") as events:`` takes the program's
    own inputs and iterates over its events; ``async with`` and ``async for`` likewise. The
    program starts on entering: in a thread of its own, or as a task where it has ``aforward``
    and the block is ``async``.

    Args:
        fields: output fields to stream: names, ``"predictor.name"``, or ``"*"`` for all.
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
    selection = FieldSelection([fields] if isinstance(fields, str) else fields)
    check_fields(program, selection)
    own = checked_sinks(sinks)

    def call(*args: Any, **kwargs: Any) -> Call:
        def perform() -> Performance:
            return Performance(program, selection, config, own, keep_text, args, kwargs)

        return Call(perform, program)

    return call


class Call:
    """One call of a streamed program; starts when it is entered."""

    def __init__(self, performance: Callable[[], Performance], program: Any = None) -> None:
        self.program = program
        self._performance = performance
        self._stream: Stream | None = None
        self._async_stream: AsyncStream | None = None

    def _start(self) -> Performance:
        if self._stream is not None or self._async_stream is not None:
            raise StreamllError("this call has been entered already; call the stream once more")
        return self._performance()

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


class Performance:
    """One run of a program for one reader: what the sync and the async shell share."""

    def __init__(
        self,
        program: Callable[..., Any],
        selection: FieldSelection,
        config: StreamConfig | None,
        sinks: tuple[Outlet, ...],
        keep_text: bool,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self.program = program
        self.args = args
        self.kwargs = kwargs
        self.config = config or DEFAULTS
        self.ahead: deque[Event] = deque()  # taken from the channel, not read yet
        self.channel: Channel[Event] = Channel(
            self.config.buffer_size, self.config.overflow, name="stream"
        )
        outer = current_scope()
        run = outer.run if outer is not None else Run(program)
        self._names = run.names.of_part(program)
        fields = output_fields(program)
        known = [(self._names.get(name, name), names) for name, names in fields.items()]
        self.transcript = Transcript(known) if keep_text else None
        outlets = sinks if outer else (*configuration.sinks, *watched_sinks(), *sinks)
        self.scope = Scope(
            run,
            program,
            parent=outer,
            outlets=(*outlets, _Failing(self) if self.config.overflow == "fail" else self.channel),
            selection=selection,
            governor=Governor(config, self.expire) if config is not None else None,
        )
        self.value: Any = None
        self.succeeded = False
        self.ended = False
        self.timeout: StreamTimeout | None = None
        self._deadline: Timer | None = None
        self._cancel_task: Callable[[], None] | None = None
        self.error: BaseException | None = None
        self.left = False

    @property
    def is_async(self) -> bool:
        if isinstance(self.program, dspy.Module):
            return "aforward" in vars(self.program) or hasattr(type(self.program), "aforward")
        return inspect.iscoroutinefunction(self.program)

    def perform(self) -> None:
        """Run the program here, in this thread."""
        try:
            with captured(self.scope, inputs_of(self.args, self.kwargs)) as outcome:
                value = self.program(*self.args, **self.kwargs)
                if inspect.iscoroutine(value):  # of an async function: it gets a loop of its own
                    value = asyncio.run(value)
                outcome.value = self.value = value
            self.succeeded = True
        except BaseException as error:  # noqa: BLE001 - it is raised where the stream is read
            self.error = error
        finally:
            self._end()

    async def perform_async(self) -> None:
        """Run the program here, in this task."""
        program: Callable[..., Awaitable[Any]] = getattr(self.program, "acall", self.program)
        try:
            with captured(self.scope, inputs_of(self.args, self.kwargs)) as outcome:
                outcome.value = self.value = await program(*self.args, **self.kwargs)
            self.succeeded = True
        except BaseException as error:  # noqa: BLE001
            self.error = error
        finally:
            self._end()

    def _end(self) -> None:
        self.ended = True
        if self._deadline is not None:
            self._deadline.cancel()
        self.channel.close()

    def _start_clock(self) -> None:
        limit = self.config.timeout
        if limit is not None:
            self._deadline = timers.at(time.monotonic() + limit, lambda: self._too_late(limit))

    def _too_late(self, limit: float) -> None:
        partial = self.scope.run.partial()
        received = sum(map(len, partial.values()))
        self.expire(TotalTimeout(limit, received=received, partial=partial))

    def expire(self, timeout: StreamTimeout) -> None:
        """End the program; where it does not (a tool that blocks), end its stream without it."""
        if self.ended:
            return
        self.timeout = timeout
        self.scope.cancel(timeout)
        if self._cancel_task is not None:
            self._cancel_task()
        timers.at(time.monotonic() + grace(timeout.limit), self._end_without_program)

    def _end_without_program(self) -> None:
        if not self.ended:
            if self.scope.parent is None and self.timeout is not None:
                self.scope.run.fail(self.scope, self.timeout)
            self.channel.close()

    def start_task(self) -> asyncio.Task[None]:
        self._start_clock()
        loop, task = asyncio.get_running_loop(), asyncio.create_task(self.perform_async())

        def cancel() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(task.cancel)

        self._cancel_task = cancel
        return task

    def start_thread(self) -> threading.Thread:
        self._start_clock()
        thread = threading.Thread(
            target=contextvars.copy_context().run,
            args=(self.perform,),
            name=f"streamll {self.scope.run.name}",
            daemon=True,
        )
        thread.start()
        return thread

    def saw(self, event: Event) -> Event:
        if self.transcript is not None:
            self.transcript.feed(event)
        return event

    def leave(self) -> None:
        """The reader has gone: stop the program unless it has ended."""
        self.channel.abandon()
        self.ahead.clear()
        if self.ended:
            return
        self.left = True
        self.scope.cancel()
        if self._cancel_task is not None:
            self._cancel_task()

    def raise_error(self) -> None:
        """Raise what ended the program, if it did not end well."""
        if self.succeeded and not self.left:
            return
        unwound = isinstance(self.error, (Unwind, asyncio.CancelledError))
        ours = self.scope.reason or timeout_behind(self.error)
        if ours is not None and not self.left:
            raise ours from (None if unwound else self.error)
        if self.left or unwound:
            raise StreamCancelled(
                "the stream was left before the program ended, so there is no result"
            )
        if isinstance(self.error, (StopIteration, StopAsyncIteration)):
            told = f"the program raised {type(self.error).__name__}"
            raise RuntimeError(told) from self.error  # noqa: TRY004 - which would end an iteration well
        if self.error is not None:
            raise self.error

    def text(self, field: str) -> str:
        if self.transcript is None:
            raise StreamllError("this stream keeps no text (keep_text=False)")
        return self.transcript.text(self.spelt(field))

    def spelt(self, field: str) -> str:
        """``field`` in the run's spelling, in which an inner program's predictors have long names."""
        predictor, dot, name = field.rpartition(".")
        return f"{self._names.get(predictor, predictor)}{dot}{name}"


class _Failing:
    """The channel of a stream with ``overflow="fail"``: a reader that is too slow ends it."""

    def __init__(self, performance: Performance) -> None:
        self._performance = performance

    def put(self, event: Event) -> None:
        try:
            self._performance.channel.put(event)
        except ChannelOverflow as error:
            self._performance.scope.cancel(error)


class Stream(TypedReading):
    """The events of a running program, read from this thread. Made by ``with stream(…)(…)``."""

    _performance: Performance

    def __init__(self, performance: Performance) -> None:
        self._performance = performance
        self._thread = performance.start_thread()

    def __del__(self) -> None:
        self._performance.leave()  # it may have been dropped without having been left

    def __iter__(self) -> Iterator[Event]:
        """Events as they happen. After ``run.error`` the program's own exception is raised."""
        return self

    def __next__(self) -> Event:
        performance = self._performance
        if not performance.ahead:
            try:
                performance.ahead.extend(performance.channel.get_batch(READ_AHEAD))
            except ChannelClosed:
                performance.raise_error()
                raise StopIteration from None
        return performance.saw(performance.ahead.popleft())

    def tokens(self, field: str | None = None) -> Iterator[str]:
        """The text of ``field`` (default: of every field) as it comes.

        Text that a retry supersedes cannot be taken back here; read the events for that.
        """
        spelt = field and self._performance.spelt(field)
        return (text for event in self if (text := token_of(event, spelt)))

    @property
    def value(self) -> Any:
        """What the program has returned; ``None`` until then."""
        return self._performance.value

    def text(self, field: str) -> str:
        """What has been read of ``field``, corrected and without superseded attempts."""
        return self._performance.text(field)

    def result(self) -> Any:
        """Read to the end and return the program's ``Prediction``, or raise its error.

        Raises:
            StreamCancelled: the stream was left before.
        """
        for _ in self:
            pass
        return self._performance.value

    def close(self) -> None:
        """Stop reading; stops the program if it is still running."""
        self._performance.leave()
        self._thread.join(0.1)  # an unwound program ends at once; a blocking tool may not
        catch_up(self._performance.scope.outlets)


class AsyncStream(AsyncTypedReading):
    """The same for an event loop. Made by ``async with stream(…)(…)``."""

    _performance: Performance

    def __init__(self, performance: Performance) -> None:
        self._performance = performance
        performance.channel.read_on(asyncio.get_running_loop())
        self._task: asyncio.Task[None] | None = None
        if performance.is_async:
            self._task = performance.start_task()
        else:
            performance.start_thread()

    def __del__(self) -> None:
        self._performance.leave()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        performance = self._performance
        if not performance.ahead:
            try:
                performance.ahead.extend(await performance.channel.get_batch_async(READ_AHEAD))
            except ChannelClosed:
                performance.raise_error()
                raise StopAsyncIteration from None
        return performance.saw(performance.ahead.popleft())

    async def tokens(self, field: str | None = None) -> AsyncIterator[str]:
        """See ``Stream.tokens``."""
        async for event in self:
            if text := token_of(event, field and self._performance.spelt(field)):
                yield text

    @property
    def value(self) -> Any:
        """See ``Stream.value``."""
        return self._performance.value

    def text(self, field: str) -> str:
        """See ``Stream.text``."""
        return self._performance.text(field)

    async def result(self) -> Any:
        """See ``Stream.result``."""
        async for _ in self:
            pass
        return self._performance.value

    async def aclose(self) -> None:
        """Stop reading; stops the program if it is still running."""
        self._performance.leave()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=1.0)
        if not catch_up(self._performance.scope.outlets, 0):
            await asyncio.to_thread(catch_up, self._performance.scope.outlets)


def token_of(event: Event, field: str | None) -> str:
    """The event's text if it is a token of ``field``; else nothing."""
    if isinstance(event, TokenEvent) and (
        field is None or field in (event.field, f"{event.predictor}.{event.field}")
    ):
        return event.token
    return ""
