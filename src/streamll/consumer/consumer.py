"""``EventConsumer``: handlers, or a loop, over the events of a log.

One asynchronous reader; ``run_sync`` and ``start`` run it in this or in a background thread. It reads
from a ``Source``; ``Deduplicator`` gives what is new of it, and ``handlers`` calls the handlers.
Without a group every consumer gets everything once. The members of a group share: each entry is
handled by one of them and acknowledged afterwards, or given to another member if that one dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import operator
import os
import signal
import socket
import threading
import time
import uuid
import weakref
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterator,
    Mapping,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, overload

import msgspec

from streamll.asking.answers import check
from streamll.asking.messages import ANSWER, message
from streamll.brokers import opening, tracing
from streamll.brokers.copying import append
from streamll.brokers.source import Source, SourceOptions
from streamll.consumer import handlers
from streamll.consumer.handlers import Handler, Subscription
from streamll.consumer.iteration import Iteration
from streamll.consumer.lost_runs import LostRuns
from streamll.consumer.self_start import SelfStart
from streamll.consumer.session import (
    STOP_CHECK_S,
    ConsumerState,
    ConsumerStatistics,
    ReadEntry,
    ReadSession,
)
from streamll.core.errors import ConfigurationError, logger
from streamll.core.events import Event
from streamll.core.positions import Position
from streamll.core.urls import without_password
from streamll.flow.retry import Backoff
from streamll.sinks.base import BaseSink

H = TypeVar("H", bound=Handler)
Start = str | tuple[str, int] | tuple[str, int, int | None]

MAX_RETRY_DELAY_S = 30.0
LOST_S = 60.0
"""The default of ``lost_seconds`` for a reader of one run, as of ``streamll serve``."""


class EventConsumer:
    """Reads a log: ``redis://``, ``rediss://``, ``unix://``, ``redis+cluster://``,
    ``redis+sentinel://``, ``amqp://``, ``amqps://``, ``sqlite:///``.

    Args:
        url: the broker.
        target: the stream, exchange or log to read; by default where sinks write by default. On Redis
            ``"run:*"`` is all streams with such names, also those that are still to come (``*`` any text,
            ``?`` any character; what is meant as itself has a backslash before it). Not in a group.
        group: share the log with the other members of this group.
        start: ``"new"``; ``"beginning"``; a ``cursor`` of an earlier consumer; or a position in a
            run, ``(run_id, seq)`` or what ``position(event)`` returned, to get that run's later
            events only. ``(run_id, -1)`` is the whole run. A group that exists continues where it
            is; a new one begins here, and gets what was written before as well.
        concurrency: how many runs' events are handled at the same time; each run's in order.
        retries: how often a failing handler is called again before its event becomes a dead letter.
        retry_delay: seconds before the first retry; doubles with each, up to 30 s.
        dead_letter: where dead letters go; by default ``<target>:dead`` (RabbitMQ:
            ``<target>.dead``).
        max_deliveries: an entry that a group was given more often than this seems to end processes.
            It is handled once more, alone; if that fails too it becomes a dead letter.
        claim_after: seconds after which an entry of a silent member goes to another. Handlers may
            take longer: the member reports that it is busy. (RabbitMQ gives it to another when the
            connection ends.)
        prefetch: events that may wait for their handlers in this process.
        lost_seconds: silence after which a run counts as lost. A process reports its silent runs every
            5 to 10 seconds, so less than 20 is only for programs that never pause.
            Its reader is told after half of that (a ``status`` event without ``seq``), and then
            gets the events that close the run, the last one ``run.error`` with ``error_type``
            ``"RunLost"``. They are in no log. By default 60 for a position in a run (``math.inf``:
            never), and never for a whole log, which goes on. Not in a group.

    Raises:
        ConfigurationError: a URL no broker has, a missing client library, an option out of range, a
            ``group`` on a broker without groups.
    """

    schemes: tuple[str, ...] = ()

    def __init__(
        self,
        url: str,
        target: str | None = None,
        *,
        group: str | None = None,
        start: Start = "new",
        concurrency: int = 16,
        retries: int = 3,
        retry_delay: float = 0.1,
        dead_letter: str | None = None,
        max_deliveries: int = 5,
        claim_after: float = 30.0,
        prefetch: int = 1000,
        lost_seconds: float | None = None,
    ) -> None:
        self.url = url
        self.target = target or opening.default_target(url)
        if self.schemes and not url.startswith(self.schemes):
            raise ConfigurationError(
                f"{type(self).__name__} reads {self.schemes[0]}… URLs, not "
                f"{without_password(url)!r}; EventConsumer reads any"
            )
        if not concurrency >= 1 or not prefetch >= 1:
            raise ConfigurationError("concurrency and prefetch must be at least 1")
        if not claim_after > 0 or max_deliveries < 0:
            raise ConfigurationError("claim_after must be above 0, and max_deliveries not negative")
        self._position = _run_position(start)
        if self._position is not None and group is not None:
            raise ConfigurationError("a group reads a log, not one run: leave out group or start")
        run_id = self._position.run_id if self._position else None
        self._lost_s = _lost_seconds(lost_seconds, run_id, group)
        self._options = SourceOptions(
            target=self.target,
            start="beginning" if run_id is not None else str(start),
            run_id=run_id,
            group=group,
            member=f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}",
            claim_after=claim_after,
        )
        self._dead_letter = dead_letter or opening.dead_letter_target(url, self.target)
        self._max_deliveries = max_deliveries
        self._concurrency = concurrency
        self._prefetch = prefetch
        self._backoff = Backoff(attempts=retries, base=retry_delay, cap=MAX_RETRY_DELAY_S)
        source = opening.open_source(url, self._options)  # raises if URL or start cannot work
        self._place = source.name
        if group is not None and type(source).acknowledge is Source.acknowledge:
            raise ConfigurationError(f"{source.name} has no groups: leave out group={group!r}")
        self._subscriptions: list[Subscription] = []
        self._state = ConsumerState()
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._cursor: str | None = None
        self._answers: BaseSink | None = None
        self._stop_wanted = False
        self._beginning = threading.RLock()
        self._self_start = SelfStart(
            self._place,
            self._beginning,
            lambda: self._state.begun or self._stop_wanted,
            self.start,
            self._run_by_itself,
        )

    # --- handlers -------------------------------------------------------------------------------

    @overload
    def on(
        self, types: str | Sequence[str] = "*", *, where: Mapping[str, Any] | None = None
    ) -> Callable[[H], H]: ...
    @overload
    def on(
        self,
        types: str | Sequence[str],
        handler: H,
        *,
        where: Mapping[str, Any] | None = None,
    ) -> H: ...
    def on(
        self,
        types: str | Sequence[str] = "*",
        handler: Handler | None = None,
        *,
        where: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function, ``async`` or not, for events of these types: ``@consumer.on("tool.*")``.

        ``where={"conversation_id": "c1"}`` selects by values of ``event.data`` (or ``run_id``), given
        as the program has set them or as they are in the log: a ``UUID``, or its text.
        """
        wants = handlers.EventFilter(types, where)

        def add(function: H) -> H:
            if not self._subscriptions:
                weakref.finalize(self, _warn_unless_begun, self._state, self._place)
            self._subscriptions.append(Subscription(function, wants))
            return function

        return add if handler is None else add(handler)

    def subscribe(self, handler: H) -> H:
        """Call a function for every event. A consumer that nobody runs begins by itself a moment later.

        It begins on the event loop that runs here, or else on a background thread, which ends with
        the program: a program that does nothing else calls ``run_sync``.
        """
        added = self.on("*", handler)
        self._self_start.plan()
        return added

    # --- running --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Read and call the handlers until ``stop()``, SIGTERM or Ctrl-C.

        What has been read by then is handled and acknowledged before this returns.

        Raises:
            BrokerError: the broker refused the first connection for good (credentials, TLS).
        """
        await self._begin()
        with stopping_on_signals(self.stop_soon):
            await self._run()

    def run_sync(self) -> None:
        """``run`` for a program without an event loop."""
        asyncio.run(self.run())

    def start(self) -> None:
        """Read and call the handlers on a background thread. Returns at once. Idempotent."""
        with self._beginning:
            own = self._self_start.task
            if (self._thread is not None and self._thread.is_alive()) or (own and not own.done()):
                return
            self._state.begin()
            self._failure = None
            self._thread = threading.Thread(
                target=self._run_in_thread, name="streamll-consumer", daemon=True
            )
            self._thread.start()

    def stop(self, timeout: float = 10.0) -> bool:
        """Stop reading; what has been read is still handled. After ``start()``, wait for that.

        False if ``timeout`` seconds were not enough. Raises the error that ended a consumer started
        with ``start()``.
        """
        with self._beginning:
            self.stop_soon()
            thread = self._thread
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(timeout)
        if thread.is_alive():
            return False
        self._thread = None
        if self._failure is not None:  # kept for those who wait for a connection
            raise self._failure
        return True

    def stop_soon(self) -> None:
        """Request the end without waiting for it; safe in a signal handler."""
        self._state.stopping = self._stop_wanted = True

    def wait_connected(self, timeout: float | None = None) -> bool:
        """Wait until the log is being read: what is emitted after that will be seen.

        False if ``timeout`` seconds were not enough, if the consumer was stopped before, or if one
        that was started in the background has failed, which ``stop()`` raises; ``None``, the default,
        waits without a limit.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while not self._state.connected.wait(
            max(0.0, min(deadline - time.monotonic(), STOP_CHECK_S))
        ):
            over = self._failure is not None or self._state.stopping
            if over or time.monotonic() >= deadline:
                return False
        return True

    def __aiter__(self) -> AsyncIterator[Event]:
        """Every event, one by one. In a group an entry is acknowledged when the next is asked for.

        A consumer that reads one run ends with the run's last event. A cancelled ``anext`` loses
        nothing: after ``asyncio.wait_for(anext(events), 15)`` has timed out, the next one reads on.
        """
        return aiter(Iteration(self._entries()))

    async def _entries(self) -> AsyncGenerator[list[Event], None]:
        await self._begin()
        async with self._session() as session, contextlib.aclosing(session.entries()) as entries:
            async for read in entries:
                yield read.events
                await session.done_with(read)
                self._cursor = read.entry.cursor
                if session.over:
                    return

    # --- questions ------------------------------------------------------------------------------

    def answer(self, question: Event, value: Any, *, by: str | None = None) -> str:
        """Answer a ``question`` of a run, through its log. Never waits; handlers may call it.

        What came of it is the ``answer`` event: its ``answer_id`` is what this returns, unless
        somebody else was first.

        Args:
            question: the event.
            value: the answer as JSON has it, for the question's ``schema``.
            by: who answers, for the ``answer`` event.

        Raises:
            WrongAnswer: it cannot be the answer; ``problems`` says where and why.
            ConfigurationError: this consumer reads several logs by a pattern.
        """
        check(question.data["schema"], value)
        return self._tell(question, by, value=value)

    def decline(self, question: Event, *, by: str | None = None) -> str:
        """Say that there will be no answer: the question is withdrawn. As ``answer`` otherwise."""
        return self._tell(question, by)

    def _tell(self, question: Event, by: object, **said: Any) -> str:
        if self._answers is None:
            if self.url.startswith(("redis", "unix")) and set(self.target) & set("*?"):
                raise ConfigurationError(
                    f"{self.target!r} is many logs; answer with a consumer of the run's own"
                )
            self._answers = opening.open_sink(self.url, target=self.target)
        answer_id = uuid.uuid4().hex
        about = {"run_id": question.run_id, "question_id": question.data["question_id"]}
        said["by"] = None if by is None else str(by)
        self._answers.put(message(ANSWER, **about, answer_id=answer_id, **said))
        return answer_id

    # --- state ----------------------------------------------------------------------------------

    @property
    def cursor(self) -> str | None:
        """How far everything has been handled: ``start=`` of the next consumer."""
        return self._cursor

    def statistics(self) -> ConsumerStatistics:
        """Counts of events so far, the group's lag, and whether the log is being read."""
        connected = self._state.connected.is_set()
        return msgspec.structs.replace(self._state.counts, connected=connected)

    # --- inside ---------------------------------------------------------------------------------

    def _run_in_thread(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:  # noqa: BLE001 - raised by stop()
            self._fail(error)

    def _run_by_itself(self) -> Coroutine[Any, Any, None]:
        self._state.begin()  # now, so that it can be told to stop before its first step
        return self._run_in_task()

    async def _run_in_task(self) -> None:
        try:
            await self._run()
        except Exception as error:  # noqa: BLE001 - nobody awaits it
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        logger.error("consumer of %s ended: %s", without_password(self.url), error)

    async def _begin(self) -> None:
        """Begin to read, or take over from what has begun by itself, and go on from there."""
        own = self._self_start
        with self._beginning:
            self._stop_wanted, self._state.begun = False, True
            thread, task = (self._thread if own.on_thread else None), own.task
            own.on_thread, own.task = False, None
            if thread is not None or task is not None:
                self._state.stopping = True
        if thread is not None:
            await asyncio.to_thread(thread.join)
        if task is not None:
            await asyncio.wait({task})
        self._failure = None
        self._state.begin()
        self._state.stopping = self._stop_wanted

    def _session(self) -> ReadSession:
        options = self._options
        if self._cursor is not None and options.group is None and options.run_id is None:
            options = msgspec.structs.replace(options, start=self._cursor)
        lost_runs = None
        if self._lost_s is not None:
            again = functools.partial(opening.open_source, self.url)
            lost_runs = LostRuns(self._lost_s, self._position, options, again)
        return ReadSession(
            opening.open_source(self.url, options),
            options,
            self._position,
            self._state,
            max_deliveries=self._max_deliveries,
            append_dead_letter=functools.partial(append, self.url, self._dead_letter),
            lost_runs=lost_runs,
        )

    async def _run(self) -> None:
        in_order: deque[ReadEntry] = deque()  # the cursor follows its finished beginning
        executor = ThreadPoolExecutor(self._concurrency, "streamll-handler")

        async def work(read: ReadEntry) -> None:
            with tracing.restored(read.decoded.traceparent):
                settled = await handlers.call_handlers(
                    read.events,
                    self._subscriptions,
                    executor=executor,
                    backoff=self._backoff,
                    counts=self._state.counts,
                    on_failure=session.dead_letter_event,
                    cancelled=lambda: queue.cancelled,
                )
            if not settled:  # not acknowledged: another member gets it
                return
            await session.done_with(read)
            while in_order and in_order[0].done:
                self._cursor = in_order.popleft().entry.cursor

        queue = handlers.PerKeyQueue(work, concurrency=self._concurrency, capacity=self._prefetch)
        async with self._session() as session:
            try:
                async for read in session.entries():
                    in_order.append(read)
                    alone = session.is_suspect(read.entry)
                    if alone:
                        await queue.join()
                    await queue.add(read.decoded.events[0].run_id, read, len(read.events))
                    if alone:
                        await queue.join()
                await queue.join()
            finally:
                queue.cancel()
                executor.shutdown(wait=False)


def _warn_unless_begun(state: ConsumerState, place: str) -> None:
    """When the consumer is gone, or at exit: handlers that have silently been given nothing."""
    if not state.begun:
        logger.warning(
            "the consumer of %s has handlers, but was never started: `await consumer.run()`, "
            "`consumer.run_sync()`, or `consumer.start()` for a background thread",
            place,
        )


def _lost_seconds(given: float | None, run_id: str | None, group: str | None) -> float | None:
    if given is None:
        return None if run_id is None else LOST_S
    if group is not None:
        raise ConfigurationError("a group's members see parts of runs: leave out lost_seconds")
    if not given > 0:
        raise ConfigurationError(f"lost_seconds must be greater than 0, not {given!r}")
    return given


def _run_position(start: Start) -> Position | None:
    """A position in a run; ``None`` for a position in the whole log."""
    if isinstance(start, str):
        return None
    if not isinstance(start, tuple) or len(start) not in (2, 3) or not isinstance(start[0], str):
        raise ConfigurationError(
            f'start is "new", "beginning", a cursor or (run_id, seq), not {start!r}'
        )
    given: Any = start[1]
    try:
        seq = int(given) if isinstance(given, str) else operator.index(given)
    except (TypeError, ValueError):
        seq = -2
    if seq < -1:
        what = f"the seq of start=(run_id, seq) is a whole number from -1, not {given!r}"
        raise ConfigurationError(what)
    return Position(start[0], seq, *start[2:])


@contextlib.contextmanager
def stopping_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` at the first SIGTERM or SIGINT; a second one has its previous effect.

    Does nothing for a signal that the program handles itself, and outside the main thread, where
    Python allows no handlers. ``stop`` must be safe in a signal handler.
    """
    in_main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGTERM, signal.SIGINT) if in_main else ()
    before = {n: handler for n in numbers if _is_default(handler := signal.getsignal(n))}

    def restore() -> None:
        for number, handler in before.items():
            if signal.getsignal(number) is stop_and_restore:
                signal.signal(number, handler)

    def stop_and_restore(*_: object) -> None:
        restore()
        stop()

    for number in before:
        signal.signal(number, stop_and_restore)
    try:
        yield
    finally:
        restore()


def _is_default(handler: Any) -> bool:
    """Python's own handlers, and the one ``asyncio.run`` sets for Ctrl-C."""
    module = getattr(getattr(handler, "func", handler), "__module__", None)
    return handler in (signal.SIG_DFL, signal.default_int_handler) or module == "asyncio.runners"


class RedisStreamConsumer(EventConsumer):
    """``EventConsumer`` for Redis; ``url`` defaults to the one of this machine."""

    schemes = ("redis://", "rediss://", "unix://", "redis+", "rediss+")

    def __init__(self, url: str = "redis://localhost:6379", *args: Any, **options: Any) -> None:
        super().__init__(url, *args, **options)


class RabbitMQConsumer(EventConsumer):
    """``EventConsumer`` for RabbitMQ; ``url`` defaults to the one of this machine."""

    schemes = ("amqp://", "amqps://")

    def __init__(self, url: str = "amqp://localhost", *args: Any, **options: Any) -> None:
        super().__init__(url, *args, **options)
