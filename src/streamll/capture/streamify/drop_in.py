"""``streamify``: the interface of ``dspy.streamify`` over a captured run.

A streamified call is captured like one of ``stream``. Its events are translated into DSPy's own
``StreamResponse``, ``StatusMessage`` and ``Prediction``; all state belongs to the call. An
asynchronous program runs as a task on the reader's event loop, a synchronous one in a worker thread
of its own, so that paused readers cannot exhaust a shared pool.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import sys
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import anyio.to_thread
import dspy
from dspy.streaming import StatusMessageProvider as DSPyStatusMessageProvider
from dspy.streaming import StreamListener as DSPyStreamListener

from streamll.capture.hooks.places import install
from streamll.capture.inside_dspy import OVERRIDES, overriding
from streamll.capture.run.enter import captured, inputs_of, settled, settled_async
from streamll.capture.run.options import check_program, guards_of_run, receivers_of_run
from streamll.capture.run.run import Run
from streamll.capture.run.scope import Scope, current_scope
from streamll.capture.run.status import Statuses
from streamll.capture.streamify.listeners import (
    Target,
    TargetIndex,
    check_without_chunks,
    targets,
)
from streamll.capture.streamify.responses import EventTranslator, NativeValue, ReaderQueue
from streamll.capture.streamify.send_stream import SendStream, native_value
from streamll.configuration import configuration
from streamll.core.errors import (
    ConfigurationError,
    StreamCancelled,
    StreamllError,
    Unwind,
    logger,
    warn_once,
)
from streamll.core.events import Identity
from streamll.flow.bridge import CAPACITY, NO_LOOP, Background, Bridge
from streamll.flow.waiting import is_async_function, on_event_loop

_NO_PREDICTOR = DSPyStreamListener("")


class StreamifyOptions(NamedTuple):
    """The arguments of ``streamify``, resolved once for all calls."""

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
    """Wrap a program so that a call returns an iterator of its output, like ``dspy.streamify``.

    The result may be called any number of times, also concurrently. It takes the program's inputs
    and yields, as they arrive: a ``StreamResponse`` for each piece of a field with a listener (the
    provider's raw chunks if there are no listeners), ``StatusMessage``, chunks that the program
    sends itself, ``StreamReset`` where text streamed before no longer counts, and finally the
    ``Prediction``. The program's own exception is raised where they are read. Closing or dropping
    the iterator stops the program and the provider; a cancelled ``anext`` does not.

    Args:
        status_message_provider: the messages for starts and ends of modules, tools and LM calls;
            by default DSPy's own for tools.
        stream_listeners: the fields to stream.
        include_final_prediction_in_output_stream: ``False`` leaves the ``Prediction`` out if there
            are listeners, something was streamed to them, and nothing came from the cache.
        is_async_program: call ``acall``, on the reader's event loop.
        async_streaming: ``False`` returns an ordinary generator.

    The guards of ``configure`` and ``instrument`` apply: what is yielded is made of guarded text. Where
    there is a ``redact``, it is made of the events that this has let out, and raw chunks are left out.

    Raises:
        UnknownFieldError: no predictor has a listener's field; a ``ValueError``.
        AmbiguousFieldError: several predictors have it; a ``ValueError``.
        TypeError: ``program`` cannot be called, or is a class or a generator function.
        ConfigurationError: a status provider that is none, or whose hooks are coroutine functions; when
            it is called where there are guards: without listeners, or with one for a field that is
            read from raw chunks (``Citations``), since guards cannot mask these.
    """
    check_program(program, "streamify")
    install()
    options = StreamifyOptions(
        program,
        targets(program, stream_listeners or ()),
        Statuses(status_message_provider),
        include_final_prediction_in_output_stream,
        is_async_program or is_async_function(program),
    )

    def streamified(*args: Any, **kwargs: Any) -> Any:
        stream = Streamified(StreamifiedCall(options, args, kwargs))
        if async_streaming:
            return stream
        warn_on_event_loop()
        return _generator(stream)

    return streamified


class StreamifiedCall(Background):
    """One call of a streamified program: its scope, its program and its end.

    It runs in the context in which it was made. DSPy takes its settings from where a stream is
    first read. That is too late for a stream that is made in ``with dspy.context(…)`` and read
    elsewhere, as web frameworks do. Only if nothing was set when the call was made, the settings of
    the reader apply.
    """

    def __init__(
        self, options: StreamifyOptions, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        super().__init__("streamll")
        self.scope: Scope  # from the start on
        self._options = options
        self._args = args
        self._kwargs = kwargs
        self._error: BaseException | None = None
        self._in_thread = False
        self._ended = False
        outer = current_scope()
        known = configuration.guards if outer is None else outer.guards
        if known or guards_of_run(options.program):
            check_without_chunks(options.targets, "guards")
        elif configuration.redact is not None:
            try:
                check_without_chunks(options.targets, "redact")
            except ConfigurationError as error:
                warn_once(f"{error}; here these are left out")

    def start(self, *, on_loop: bool) -> None:
        """Begin, unless it has begun; ``on_loop``: as a task of the running loop."""
        if self.has_begun:
            return
        context = self._context
        if OVERRIDES is not None and not context.run(OVERRIDES.get):
            context.run(OVERRIDES.set, OVERRIDES.get())
        self.scope = context.run(self._make_scope)
        self.name = f"streamll {self.scope.run.name}"
        (self.start_task if on_loop else self.start_loop)(self.run)

    def _make_scope(self) -> Scope:
        options, outer = self._options, current_scope()
        run = outer.run if outer is not None else Run(options.program)
        self._index = TargetIndex(run, options.program, options.targets)
        self.translate = EventTranslator(self._index)
        self.channel = ReaderQueue(self.translate)
        self.send_stream = SendStream(self.channel, options.targets)
        receivers = () if outer is not None else receivers_of_run(options.program)
        self.send_stream.scope = Scope(
            run,
            options.program,
            parent=outer,
            receivers=(*receivers, self.channel),
            guards=() if outer is not None else guards_of_run(options.program),
            statuses=options.statuses,
            reader_requests=(self,),
        )
        return self.send_stream.scope

    # --- the program ---

    async def run(self) -> None:
        """Run the program to its end, in this task or in a thread beside it.

        The thread outlives this task: the stream may be read by one loop after another.
        """
        try:
            if self._options.is_async:
                program = getattr(self._options.program, "acall", self._options.program)
                with self._ending():
                    async with settled_async(self.scope):
                        with self._captured():
                            await self.scope.returned_async(
                                await program(*self._args, **self._kwargs)
                            )
            else:
                await anyio.to_thread.run_sync(
                    self._run_sync, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1)
                )
        except BaseException as error:  # noqa: BLE001 - it is raised where the stream is read
            if not self._in_thread:
                self._error = error
                self.scope.cancel()
                self.channel.close()

    def run_without_loop(self) -> None:
        """A synchronous program needs one only to send chunks of its own."""
        if self._options.is_async:
            self._error = StreamllError(NO_LOOP)
            self.channel.close()
            return
        try:
            self._run_sync()
        except BaseException as error:  # noqa: BLE001 - as above
            self._error = error
        finally:
            self.channel.close()

    def _run_sync(self) -> None:
        self._in_thread = True
        with self._ending(), settled(self.scope), self._captured():
            value = self._options.program(*self._args, **self._kwargs)
            if inspect.iscoroutine(value):  # of a function that is not known to be async
                value = asyncio.run(value)
            self.scope.returned(value)

    @contextmanager
    def _captured(self) -> Iterator[None]:
        """The program's settings and scope.

        DSPy shows ``send_stream`` only to the predictors of ``stream_listeners``, which then stream
        by themselves; so there is one listener, which has no predictor.
        """
        with (
            captured(self.scope, inputs_of(self._args, self._kwargs)),
            overriding("send_stream", self.send_stream),
            overriding("stream_listeners", [_NO_PREDICTOR]),
        ):
            try:
                yield
            finally:  # while the run has not ended, which a guard may stop by what is left
                self.send_stream.end()

    @contextmanager
    def _ending(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:  # noqa: BLE001 - as above
            self._error = error
        finally:
            self._ended = True
            self.channel.close()

    # --- the reader ---

    def outcome(self) -> tuple[Any, ...]:
        """The last item, if there is one; raises the program's exception."""
        if (stopped := self.scope.stopped) is not None:
            raise stopped
        if isinstance(self._error, (Unwind, asyncio.CancelledError)):
            raise StreamCancelled("the program was stopped before it ended, so there is no result")
        if self._error is not None:
            raise self._error
        streamed = self.translate.streamed and not self.translate.cached and self._options.targets
        is_left_out = streamed and not self._options.always_predict
        value = self.scope.value
        return () if is_left_out and isinstance(value, dspy.Prediction) else (value,)

    def leave(self) -> None:
        """The reader has gone: stop the program unless it has ended. Never waits."""
        if self.has_begun:
            self.channel.abandon()
            if not self._ended:
                self.scope.cancel()
                self.cancel()

    # --- what the listeners want, whatever the program declares for itself (``ReaderRequest``) ---

    def wanted(self, predictor: Any, fields: Iterable[str]) -> frozenset[str]:
        name = self._index.name_of(predictor)
        return frozenset(field for field in fields if self._index.find(name, field))

    def wants_chunks(self, predictor: Any) -> bool:
        return self._index.is_empty or bool(self._index.native(predictor))

    def chunk(self, predictor: Any, identity: Identity, chunk: Any) -> None:
        if self._index.is_empty:
            self.channel.put_item(chunk)
            return
        for target in self._index.native(predictor):
            value = native_value(target.annotation, chunk)
            if value is not None:
                native = NativeValue(identity=identity, field=target.field, value=value)
                self.channel.put_item(native)


# --- reading --------------------------------------------------------------------------------------


class Streamified(Bridge):
    """What a call returns, to be read with ``async for``. The program starts with the first read.

    As with a generator, a loop that was left can be resumed, and the end or an error closes it.
    Other than a generator it survives a cancelled ``anext``.
    """

    _producer: StreamifiedCall  # type: ignore[assignment]

    def __init__(self, call: StreamifiedCall) -> None:
        self._producer = call
        self._capacity = CAPACITY

    def _feed(self, read: list[Any]) -> Iterator[Any]:
        return itertools.chain.from_iterable(map(self._producer.translate, read))

    def _end(self, error: Exception | None) -> Iterable[Any]:
        return self._producer.outcome()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self


def _generator(bridge: Bridge) -> Generator[Any, None, None]:
    yield from bridge


def apply_sync_streaming(async_generator: AsyncIterator[Any]) -> Generator[Any, None, None]:
    """An ordinary generator of what ``async_generator`` yields; leaving it closes that one.

    The async generator runs on an event loop in a thread of its own, in the context of this call.
    """
    warn_on_event_loop()
    return _generator(Bridge(async_generator, name="sync streaming"))


_warned = threading.Event()


def warn_on_event_loop() -> None:
    """Warn once that a synchronous stream blocks the event loop it is read on; not in IPython."""
    if not on_event_loop() or _warned.is_set() or _in_ipython():
        return
    _warned.set()
    logger.warning(
        "a synchronous stream is read on an event loop, which it blocks while it waits; "
        "the async form is streamify(program, async_streaming=True) with `async for` (logged once)"
    )


def _in_ipython() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None
