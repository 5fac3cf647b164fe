"""``streamify``: what ``dspy.streamify`` gives, out of a captured run.

A streamified call is a capture like ``stream``. Its events are translated into DSPy's own
``StreamResponse``, ``StatusMessage`` and ``Prediction``; all state belongs to the call. The program
runs beside its reader: as a task of the reader's loop if it is async, else in a worker thread of
its own, so that paused readers cannot take the threads of others.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import anyio.to_thread
import dspy
from dspy.streaming import StatusMessageProvider as DSPyStatusMessageProvider
from dspy.streaming import StreamListener as DSPyStreamListener

from streamll.capture.hooks.places import install
from streamll.capture.inside_dspy import OVERRIDES, overriding
from streamll.capture.reply.chunks import reads_chunks
from streamll.capture.run.enter import Outcome, captured, inputs_of
from streamll.capture.run.options import watched_sinks
from streamll.capture.run.run import Run
from streamll.capture.run.scope import Scope, current_scope
from streamll.capture.run.status import Statuses
from streamll.capture.streamify.listeners import Target, targets
from streamll.capture.streamify.responses import Names, Native, Output, Translation
from streamll.capture.streamify.send_stream import SendStream, native_value
from streamll.capture.streamify.sync_streaming import warn_on_event_loop
from streamll.configuration import configuration
from streamll.core.errors import ChannelClosed, StreamCancelled, Unwind
from streamll.core.events import Identity


class Plan(NamedTuple):
    """What ``streamify`` was told; the same for every call."""

    program: Callable[..., Any]
    targets: tuple[Target, ...]
    statuses: Statuses
    always_predict: bool
    is_async: bool


def streamify(
    program: Callable[..., Any],
    status_message_provider: DSPyStatusMessageProvider | None = None,
    stream_listeners: list[DSPyStreamListener] | None = None,
    include_final_prediction_in_output_stream: bool = True,
    is_async_program: bool = False,
    async_streaming: bool = True,
) -> Callable[..., Any]:
    """Wrap a program so that a call gives a generator of what it says, like ``dspy.streamify``.

    The result may be called any number of times, also at once. It takes the program's inputs and
    yields, as they come: ``StreamResponse`` for each piece of a field that is listened to (a
    provider's raw chunks where there are no listeners), ``StatusMessage``, chunks that the program
    sends itself, ``StreamReset`` where what was said does not count, and last the ``Prediction``.
    The program's own exception is raised where it is read. Leaving the generator stops the program
    and the provider.

    Args:
        status_message_provider: what to say when modules, tools and LM calls begin and end;
            without one, what DSPy says of tools.
        stream_listeners: the fields to stream.
        include_final_prediction_in_output_stream: ``False`` leaves the ``Prediction`` out where
            there are listeners, they heard something, and nothing came out of the cache.
        is_async_program: call ``acall``, in the reader's event loop.
        async_streaming: ``False`` gives an ordinary generator.

    Raises:
        UnknownFieldError: a listener's field is nobody's; a ``ValueError``.
        AmbiguousFieldError: it is several predictors'; a ``ValueError``.
    """
    install()
    plan = Plan(
        program,
        targets(program, stream_listeners or ()),
        Statuses(status_message_provider),
        include_final_prediction_in_output_stream,
        is_async_program or inspect.iscoroutinefunction(program),
    )
    read = _read_async if async_streaming else _read

    def streamified(*args: Any, **kwargs: Any) -> Any:
        if not async_streaming:
            warn_on_event_loop()
        return read(plan, contextvars.copy_context(), args, kwargs)

    return streamified


# --- reading --------------------------------------------------------------------------------------


async def _read_async(
    plan: Plan, context: contextvars.Context, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> AsyncGenerator[Any, None]:
    call = _begin(plan, context, args, kwargs)
    task = context.run(asyncio.create_task, call.play())
    try:
        with contextlib.suppress(ChannelClosed):
            while True:
                for value in call.translate(await call.output.get_async()):
                    yield value
        for value in call.outcome():
            yield value
    finally:
        call.leave()
        if plan.is_async and not task.done():
            await asyncio.wait({task}, timeout=1.0)


def _read(
    plan: Plan, context: contextvars.Context, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Generator[Any, None, None]:
    call = _begin(plan, context, args, kwargs)
    name = f"streamll {call.scope.run.name}"
    run = functools.partial(context.run, asyncio.run, call.play())
    threading.Thread(target=run, name=name, daemon=True).start()
    try:
        with contextlib.suppress(ChannelClosed):
            while True:
                yield from call.translate(call.output.get())
        yield from call.outcome()
    finally:
        call.leave()


def _begin(
    plan: Plan, context: contextvars.Context, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> StreamifiedCall:
    """The call, in the context it was made in.

    DSPy settles everything where a stream is first read. That is too late for a stream made in
    ``with dspy.context(…)`` and read elsewhere, as a web framework does; but where nothing was set
    when the call was made, what is set now holds.
    """
    if OVERRIDES is not None and not context.run(OVERRIDES.get):
        context.run(OVERRIDES.set, OVERRIDES.get())
    return context.run(StreamifiedCall, plan, args, kwargs)


# --- one call -------------------------------------------------------------------------------------


class StreamifiedCall:
    """One call of a streamified program: its scope, its program and its end."""

    def __init__(self, plan: Plan, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._plan = plan
        self._args = args
        self._kwargs = kwargs
        outer = current_scope()
        run = outer.run if outer is not None else Run(plan.program)
        named = _named(run, plan)
        valued = [(name, target.field) for name, target in named if target.values]
        self.translate = Translation(_names(named), raw=not plan.targets, valued=valued)
        self.output = Output(self.translate)
        self.send_stream = SendStream(self.output, plan.targets)
        receivers = () if outer is not None else (*configuration.sinks, *watched_sinks())
        self.scope = self.send_stream.scope = Scope(
            run,
            plan.program,
            parent=outer,
            receivers=(*receivers, self.output),
            statuses=plan.statuses,
            reader_request=Wishes(run, named, self.output, self.send_stream),
        )
        self._value: Any = None
        self._error: BaseException | None = None
        self._ended = self._left = False
        self._stop: Callable[[], object] | None = None

    # --- the program ---

    async def play(self) -> None:
        """Run the program to its end, in this task or in a thread beside it."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        self._stop = functools.partial(loop.call_soon_threadsafe, task.cancel)
        try:
            if not self._left:
                await self._perform()
        except BaseException as error:  # noqa: BLE001 - it is raised where the stream is read
            self._error = error
        finally:
            self.output.close()

    async def _perform(self) -> None:
        if not self._plan.is_async:
            await anyio.to_thread.run_sync(
                self._perform_here, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1)
            )
            return
        program = getattr(self._plan.program, "acall", self._plan.program)
        with self._running() as outcome:
            outcome.value = self._value = await program(*self._args, **self._kwargs)

    def _perform_here(self) -> None:
        with self._running() as outcome:
            outcome.value = self._value = self._plan.program(*self._args, **self._kwargs)

    @contextmanager
    def _running(self) -> Iterator[Outcome]:
        """The program's surroundings.

        DSPy shows ``send_stream`` to the predictors of ``stream_listeners`` alone, and they stream
        by themselves then; so there is one, with no predictor.
        """
        try:
            with (
                captured(self.scope, inputs_of(self._args, self._kwargs)) as outcome,
                overriding("send_stream", self.send_stream),
                overriding("stream_listeners", [_NOBODY]),
            ):
                yield outcome
        finally:
            self.send_stream.end()
            self._ended = True

    # --- the reader ---

    def outcome(self) -> tuple[Any, ...]:
        """What comes last, if anything does; raises the program's exception."""
        if isinstance(self._error, (Unwind, asyncio.CancelledError)):
            raise StreamCancelled("the program was stopped before it ended, so there is no result")
        if self._error is not None:
            raise self._error
        heard = self._plan.targets and self.translate.streamed and not self.translate.cached
        if self._plan.always_predict or not heard or not isinstance(self._value, dspy.Prediction):
            return (self._value,)
        return ()

    def leave(self) -> None:
        """The reader has gone: stop the program unless it has ended. Never waits."""
        self._left = True
        self.output.abandon()
        if self._ended:
            return
        self.scope.cancel()
        if self._stop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and so is the program
                self._stop()


_NOBODY = DSPyStreamListener("")


# --- who is listened to ---------------------------------------------------------------------------

Named = list[tuple[str | None, Target]]
"""Each target with the run's name of its predictor; ``None`` means any predictor."""


def _named(run: Run, plan: Plan) -> Named:
    if isinstance(plan.program, dspy.Module):
        run.names.of(plan.program)  # a program inside a larger one: its parts are called after it
    return [
        (
            None if target.predictor is None else run.names.claim(target.predictor, target.name),
            target,
        )
        for target in plan.targets
    ]


def _names(named: Named) -> Names:
    names: dict[tuple[str | None, str], tuple[str | None, ...]] = {}
    for name, target in named:
        key = (name, target.field)
        names[key] = (*names.get(key, ()), target.name)
    return names


class Wishes:
    """What the reader of a streamified call wants, whatever the program declares for itself."""

    def __init__(self, run: Run, named: Named, output: Output, send_stream: SendStream) -> None:
        self.send_stream = send_stream
        self._run = run
        self._output = output
        self._raw = not named
        self._fields = {(name, target.field) for name, target in named}
        self._native = [pair for pair in named if reads_chunks(pair[1].annotation)]

    def wanted(self, predictor: Any, fields: Iterable[str]) -> frozenset[str]:
        """Which ``fields`` of ``predictor`` to stream."""
        names = (None, self._run.names.predictor(predictor))
        return frozenset(f for f in fields if any((name, f) in self._fields for name in names))

    def wants_chunks(self, predictor: Any) -> bool:
        """Whether to be told of this predictor's chunks as such."""
        return self._raw or bool(self._natives(predictor))

    def chunk(self, predictor: Any, identity: Identity, chunk: Any) -> None:
        """A chunk of an LM call made for ``predictor``."""
        if self._raw:
            self._output.say(chunk)
            return
        for target in self._natives(predictor):
            value = native_value(target.annotation, chunk)
            if value is not None:
                said = Native(identity=identity, field=target.field, value=value)
                self._output.say(said)

    def _natives(self, predictor: Any) -> list[Target]:
        if not self._native:
            return []
        own = self._run.names.predictor(predictor)
        return [target for name, target in self._native if name == own]
