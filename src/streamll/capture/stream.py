"""``stream``: run a program and read its events while it runs.

``with`` gives a ``Stream``, ``async with`` an ``AsyncStream``: thin shells over one
``ProgramRun``. Leaving the block before the program has ended stops it and closes the provider's
connection.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from streamll.asking.ask import question_id_of
from streamll.asking.questions import Question
from streamll.capture.hooks.places import install
from streamll.capture.inside_dspy import context_with, settings_here
from streamll.capture.policy import check_config
from streamll.capture.run.enter import catch_up
from streamll.capture.run.fields import FieldSelection
from streamll.capture.run.options import check_fields, check_guards, check_program
from streamll.capture.running import ProgramRun
from streamll.capture.typed.partials import TypedReading
from streamll.configuration import Receiver, checked_guards, checked_sinks
from streamll.core.errors import StreamllError
from streamll.core.events import Event
from streamll.flow.bridge import Mapped
from streamll.flow.config import StreamConfig
from streamll.flow.dual import Openable
from streamll.guards import Guard
from streamll.streams.stream_events import token_of

BATCH_EVENTS = 32
"""Events taken from the channel at once: in bursts, taking them one by one costs twice as much."""

JOIN_TIMEOUT_S = 0.1
"""How long ``close`` waits for the program's thread: unwound, it ends at once; a tool may block."""

CANCEL_TIMEOUT_S = 1.0
"""How long ``aclose`` waits for the program's cancelled task."""


def stream(
    program: Callable[..., Any],
    *,
    fields: str | Iterable[str] | None = "*",
    config: StreamConfig | None = None,
    sinks: Iterable[Receiver] = (),
    keep_text: bool = True,
    read: bool = True,
    questions: bool | None = True,
    guards: Iterable[Guard] = (),
) -> Callable[..., Call]:
    """Make ``program`` readable while it runs.

    ``with streamll.stream(qa, fields=["answer"])(question="…") as events:`` takes the program's
    own inputs and iterates over its events; ``async with`` and ``async for`` likewise. The
    program starts on entering: in a thread of its own, or as a task where the block is ``async``
    and the program is: a module with ``aforward``, a coroutine function, an object with an
    ``acall`` beside its ``__call__``. Its run is named after its class or function, or as the
    object's own ``__name__`` says.

    Args:
        fields: output fields to stream: names, ``"predictor.name"``, or ``"*"`` for all. ``None``
            is for a block that only wants ``result()``: all fields where others listen (sinks,
            ``watch``, an enclosing run), otherwise none, so that no reply is requested as a stream.
        config: bounds, retries and timeouts. It governs the attempts of every LM call made
            inside, in place of the LMs' own ``num_retries``; without one those stand. Before DSPy
            3.4 they always stand, and a config has ``buffer_size``, ``overflow`` and ``timeout``.
        sinks: get the run's events too, besides those of ``configure``.
        keep_text: keep the text, for ``events.text(field)``.
        read: ``False`` runs the program without a reader: its events go to ``sinks`` alone, and
            the block yields none. ``result()`` waits for the program's end.
        questions: ``False`` where nobody can be asked anything: ``streamll.ask`` inside takes its
            default, or raises. By default whoever reads can answer, and so can those behind sinks
            that bring answers back: logs, pages, terminals. ``None``: those alone.
        guards: what no event of the run may show, of ``streamll.guards``, besides those of
            ``configure``. Where one of them stops the run, reading raises ``GuardStopped``.

    Raises:
        UnknownFieldError: a field name, or one of a guard, that no predictor of the program has.
        TypeError: ``program`` cannot be called, or is a class or a generator function.
        ConfigurationError: an option of ``config`` that this DSPy gives no place for; what is no
            config, or no guard.
    """
    check_program(program, "stream")
    if config is not None:
        check_config(config)
    install()
    selection = None if fields is None else FieldSelection(fields)
    if selection is not None:
        check_fields(program, selection)
    own, own_guards = checked_sinks(sinks), checked_guards(guards)
    check_guards(program, own_guards)

    def call(*args: Any, **kwargs: Any) -> Call:
        start = functools.partial(
            ProgramRun, program, selection, config, own, keep_text, args, kwargs,
            read=read, questions=questions, guards=own_guards,
        )  # fmt: skip
        return Call(start, program)

    return _Streaming(call)


class _Streaming:
    """What ``stream`` returns: to be called with the program's inputs, which is easily forgotten."""

    def __init__(self, call: Callable[..., Call]) -> None:
        self.__call = call

    def __call__(self, /, *args: Any, **kwargs: Any) -> Call:
        return self.__call(*args, **kwargs)

    def __iter__(self) -> Iterator[Event]:
        raise TypeError(
            "give the program its inputs: with streamll.stream(program)(question=…) as events:"
        )

    __enter__ = __aenter__ = __aiter__ = __iter__

    def __exit__(self, *error: object) -> None: ...

    __aexit__ = __exit__


class Call(Openable):
    """One call of a streamed program; starts when it is entered.

    It runs under DSPy's settings of the place where it was made: web frameworks, and whoever keeps
    it for later, enter it outside of the ``with dspy.context(…)`` that it was made in.
    """

    def __init__(self, start: Callable[[], ProgramRun], program: Any = None) -> None:
        self.program = program
        self._start = start
        self._settings = settings_here()
        self._stream: Stream | AsyncStream | None = None

    def opened(self, *, on_loop: bool) -> Stream | AsyncStream:
        """Start the program; what ``with`` and ``async with`` do on entering."""
        if self._stream is not None:
            raise StreamllError("this call has been entered already; call the stream once more")
        kind = AsyncStream if on_loop else Stream
        self._stream = context_with(self._settings).run(lambda: kind(self._start()))
        return self._stream

    def __enter__(self) -> Stream:
        return self.opened(on_loop=False)  # type: ignore[return-value]

    def __exit__(self, *error: object) -> None:
        if self._stream is not None:
            self._stream.close()

    async def __aenter__(self) -> AsyncStream:
        return self.opened(on_loop=True)  # type: ignore[return-value]

    async def __aexit__(self, *error: object) -> None:
        if self._stream is not None:
            await self._stream.aclose()

    def __iter__(self) -> Iterator[Event]:
        raise TypeError("enter the stream first: with streamll.stream(program)(…) as events:")

    __aiter__ = __iter__


class _EventStream(TypedReading):
    """What both streams are: the events of a run, read from its channel in batches.

    Events come as they happen. After ``run.error`` the program's own exception is raised.
    """

    closed_by_loop = False
    _program_run: ProgramRun

    def __init__(self, program_run: ProgramRun) -> None:
        self._program_run = program_run
        channel = program_run.channel  # all bound once: no function of here is on a token's way
        self._aread = functools.partial(channel.get_batch_async, BATCH_EVENTS)  # type: ignore[method-assign]
        view = program_run.view
        self._feed = iter if view is None else functools.partial(map, view.feed)  # type: ignore[method-assign,assignment]

    def __del__(self) -> None:
        self._program_run.leave()  # it may have been dropped without having been left

    def _end(self, error: Exception | None) -> tuple[()]:
        self._program_run.raise_error()
        if error is not None:
            raise error
        return ()

    @property
    def run_id(self) -> str:
        """The id of the run, which its events have as well."""
        return self._program_run.scope.run.run_id

    @property
    def is_guarded(self) -> bool:
        """Whether guards are at work in the run."""
        return self._program_run.scope.run.guarding is not None

    def cancel(self) -> None:
        """Stop the program and go on reading: its last events come, up to ``run.cancelled``.

        Then reading raises ``StreamCancelled``. Any thread may call this; it never waits.
        """
        self._program_run.cancel()

    def answer(self, question: str | Event, value: Any, *, by: str | None = None) -> None:
        """Answer a question of the program. Any thread may call this; it never waits.

        Args:
            question: the ``question`` event, or its ``question_id``.
            value: the answer as JSON has it, for the question's ``schema``.
            by: who answers, for the ``answer`` event.

        Raises:
            WrongAnswer: it cannot be the answer; ``problems`` says where and why. The question stays
                open.
            QuestionClosed: the question has ended, mostly since somebody else was first.
            NoSuchQuestion: the program has not asked it.
        """
        self._question(question).answer(value, by)

    def decline(self, question: str | Event, *, by: str | None = None) -> None:
        """Withdraw a question: there will be no answer. The program gets its default or
        ``QuestionWithdrawn``. Raises ``QuestionClosed`` and ``NoSuchQuestion`` as ``answer`` does.
        """
        self._question(question).decline(by)

    def _question(self, question: str | Event) -> Question:
        return self._program_run.scope.run.questions.find(question_id_of(question))

    def interrupt(self) -> None:
        self._program_run.channel.interrupt()

    def leave(self) -> None:
        """Stop the program if it is still running, without waiting for that."""
        self._items = iter(())
        self._program_run.leave()

    def tokens(self, field: str | None = None) -> Mapped[str]:
        """The text of ``field`` (default: of every field) in pieces, as it comes.

        Text that a retry supersedes cannot be taken back here; read the events for that.

        Raises:
            UnknownFieldError: no predictor has such a field.
            AmbiguousFieldError: several predictors have it in the module that ``field`` names.
            StreamllError: where it is read: another reading has had its text.
        """
        run = self._program_run
        asked = None if field in (None, "*") else run.qualified_name(run.declared(field))
        return Mapped(self, lambda event: filter(None, (token_of(event, asked),)))

    @property
    def value(self) -> Any:
        """What the program has returned; ``None`` until then."""
        return self._program_run.value

    def text(self, field: str) -> str:
        """What has been read of ``field``, corrected and without superseded attempts.

        Raises:
            UnknownFieldError: no predictor has such a field.
            AmbiguousFieldError: several predictors have it; the message lists them.
        """
        return self._program_run.text(field)


class Stream(_EventStream):
    """The events of a running program, read from this thread. Made by ``with stream(…)(…)``."""

    def __init__(self, program_run: ProgramRun) -> None:
        super().__init__(program_run)
        read = program_run.channel.get_batch
        self._read = functools.partial(read, BATCH_EVENTS)  # type: ignore[method-assign]
        program_run.start()

    def result(self) -> Any:
        """Read to the end and return the program's ``Prediction``, or raise its error.

        Raises:
            StreamCancelled: the stream was left before.
            GuardStopped: a guard has stopped the program.
        """
        for _ in self:
            pass
        self._program_run.raise_error()
        return self._program_run.value

    def close(self) -> None:
        """Stop reading; stops the program if it is still running."""
        self.leave()
        self._program_run.join(JOIN_TIMEOUT_S)
        catch_up(self._program_run.scope.receivers)

    async def aclose(self) -> None:
        """``close``, where something reads it on an event loop."""
        self.leave()
        await asyncio.to_thread(self.close)


class AsyncStream(_EventStream):
    """The events of a running program, on an event loop. Made by ``async with stream(…)(…)``."""

    def __init__(self, program_run: ProgramRun) -> None:
        super().__init__(program_run)
        program_run.channel.read_on(asyncio.get_running_loop())
        program_run.start(on_loop=True)

    async def result(self) -> Any:
        """Read to the end and return the program's ``Prediction``, or raise its error.

        Raises:
            StreamCancelled: the stream was left before.
            GuardStopped: a guard has stopped the program.
        """
        async for _ in self:
            pass
        self._program_run.raise_error()
        return self._program_run.value

    async def aclose(self) -> None:
        """Stop reading; stops the program if it is still running."""
        self.leave()
        await self._program_run.wait(CANCEL_TIMEOUT_S)
        if not catch_up(self._program_run.scope.receivers, 0):
            await asyncio.to_thread(catch_up, self._program_run.scope.receivers)
