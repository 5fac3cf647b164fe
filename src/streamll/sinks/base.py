"""What every sink does: get events in order on a thread of its own, without delaying the program.

Subclass ``BaseSink`` and override ``handle_event`` (or ``handle_batch``, to handle several at
once). Nothing else is needed: the worker starts with the first event, is flushed at exit, and
restarts after a fork. ``super().__init__()`` may be omitted. A sink that opens something overrides
``start``, which the worker calls before the first event, and ``stop``.

If a handler raises, that is logged once (logger ``streamll``), and it gets later events all the
same. If a handler is slow, up to ``buffer_size`` events wait, then ``overflow`` decides. Log lines
name error types and code positions, not messages, which can quote a program's inputs.
"""

from __future__ import annotations

import atexit
import inspect
import os
import threading
import time
import traceback
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import msgspec

from streamll.core.errors import ChannelOverflow, ConfigurationError, logger
from streamll.core.events import TERMINAL, Event, Identity, StreamGap
from streamll.flow.buffer import BUFFERS, Policy
from streamll.flow.worker import BATCH_ITEMS, GATHER_S, LoopThread, Worker

EXIT_SECONDS = 10.0
"""How long all sinks together may delay the end of the process."""

PRIVATE = "_BaseSink__"
"""What the names of a sink's own attributes begin with."""

Outcome = Awaitable[None] | None


class SinkStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of events since the process (or the fork) began.

    Attributes:
        received: events of the sink's runs.
        handled: events that ``handle_event`` has taken.
        failed: events on which it raised.
        buffered: events that wait.
        merged: tokens that were joined to the one before; they are not lost.
        dropped: events that were lost because the buffer was full.
    """

    received: int = 0
    handled: int = 0
    failed: int = 0
    buffered: int = 0
    merged: int = 0
    dropped: int = 0

    @property
    def left(self) -> int:
        """Events that wait or are being handled."""
        return max(self.received - self.handled - self.failed - self.merged - self.dropped, 0)


class BaseSink:
    """Gets every event of the runs it belongs to, in order.

    Args:
        buffer_size: how many events may wait.
        overflow: what happens beyond that: ``"coalesce"``, ``"drop_oldest"`` or ``"fail"``.

    Raises:
        ConfigurationError: ``overflow="block"``, since a sink never makes the program wait.

    ``local`` sinks are quick enough to wait for: an outermost call gives them up to a second to
    catch up before it returns. Sinks that use a network set it to False. After a batch of at
    most ``batch_size`` events, the worker lets more gather for ``gather_seconds``.
    """

    local: bool = True
    batch_size: int = BATCH_ITEMS
    gather_seconds: float = GATHER_S
    buffer_size: int = 10_000
    overflow: Policy = "coalesce"

    # What a sink keeps for itself has its first value here, so that a subclass may omit
    # ``super().__init__()``, and names of its own class, so that a subclass may use any.
    __making: ClassVar[threading.RLock] = threading.RLock()
    __in_use: ClassVar[weakref.WeakValueDictionary[int, BaseSink]] = weakref.WeakValueDictionary()
    __worker: Worker[Event] | None = None
    __loop: LoopThread | None = None
    __lost: dict[str | None, int]  # policy "fail": refused events, by run
    __ends = 0  # of runs, told although they were refused
    __handled = 0
    __failed = 0
    __reported = 0  # how many failed or dropped events stop() has logged
    __has_warned = False
    __started = False
    __hangs = False
    __is_given_up = False  # at exit: it has been waited for, and what was left was logged

    def __init__(self, *, buffer_size: int = 10_000, overflow: Policy = "coalesce") -> None:
        if overflow == "block":
            raise ConfigurationError(
                "a sink never makes the program wait, so overflow='block' is for streams; "
                "'coalesce' loses nothing either"
            )
        if overflow not in BUFFERS:
            known = ", ".join(name for name in BUFFERS if name != "block")
            raise ConfigurationError(f"a sink's overflow is one of {known}, not {overflow!r}")
        if not buffer_size >= 1:
            raise ConfigurationError(f"a sink's buffer_size is at least 1, not {buffer_size!r}")
        self.buffer_size = buffer_size
        self.overflow = overflow

    # --- to override ----------------------------------------------------------------------------

    def handle_event(self, event: Event) -> Outcome:
        """Handle one event. Called in order on the sink's own thread.

        May be ``async def``: then it runs on the sink's own event loop, one event at a time.
        """

    def handle_batch(self, events: list[Event]) -> Outcome:
        """Handle several events at once; by default calls ``handle_event`` with each."""
        for event in events:
            try:
                self.__wait_for(self.handle_event(event))
            except BaseException as error:  # noqa: BLE001 - the next event must be delivered
                self.undelivered(error, [event])
        return None

    def due_in(self) -> float | None:
        """Seconds until ``handle_batch`` must be called again, even without new events.

        For sinks that keep events for later; ``None`` if nothing is kept.
        """
        return None

    def undelivered(self, error: BaseException, events: list[Event]) -> None:
        """To be called by ``handle_batch``: count ``events`` as failed.

        ``error`` is logged the first time, without its own words.
        """
        if events:
            self.__failed += len(events)
            self.__warn("failed on", error, events[0])

    # --- what a run and its user call -----------------------------------------------------------

    def put(self, event: Event) -> None:
        """Hand an event over: never waits, never raises."""
        worker = self.__worker or self.__make_worker()
        try:
            worker.put(event)
        except ChannelOverflow as error:
            self.__warn("cannot take", error, event)
            self.__refuse(worker, event)
        except Exception as error:  # noqa: BLE001 - a sink never breaks the program
            self.__warn("cannot take", error, event)

    def start(self) -> Outcome:
        """Start the worker thread. Not needed: the first event does it. Idempotent.

        May be overridden, also by ``async def``: the worker calls it before the first event, and
        again before the first one after ``stop``.
        """
        self.__started = True
        self.__make_worker().start()
        return None

    def stop(self, timeout: float = 10.0) -> bool:
        """Handle everything put so far, end the thread, and log how much failed. Idempotent.

        Waits up to ``timeout`` seconds; returns False if that was not enough. An event that is
        put later starts the worker again.
        """
        if self.__worker is None:
            return True
        name = type(self).__name__
        waits = not (self.__hangs or self.__is_given_up)
        done = self.__worker.stop(timeout if waits else 0)
        if done:  # an event that is put while the loop ends gets another one
            loop, self.__loop, self.__started = self.__loop, None, False
            if loop is not None:
                loop.stop(timeout)
        counts = self.statistics()
        if not done and waits:
            self.__hangs = True
            logger.warning("sink %s did not finish in time; %d events are left", name, counts.left)
        if counts.failed + counts.dropped > self.__reported:
            self.__reported = counts.failed + counts.dropped
            losses = (
                counts.failed and f"could not handle {counts.failed} events",
                counts.dropped and f"dropped {counts.dropped} because its buffer was full",
            )
            logger.warning("sink %s %s", name, ", and ".join(text for text in losses if text))
        return done

    def gives_up(self) -> bool:
        """Whether what is left cannot be handled: then nobody waits for it."""
        return False

    def catch_up(self, timeout: float) -> bool:
        """Wait until everything put so far has been handled; False after ``timeout`` seconds."""
        return self.__worker is None or self.__worker.catch_up(timeout)

    def statistics(self) -> SinkStatistics:
        """Counts of events so far."""
        if self.__worker is None:
            return SinkStatistics(failed=self.__failed)
        channel = self.__worker.channel.statistics()
        return SinkStatistics(
            received=channel.received,
            handled=self.__handled,
            failed=self.__failed,
            buffered=channel.buffered,
            merged=channel.merged,
            dropped=channel.dropped - self.__ends,
        )

    # --- its worker -----------------------------------------------------------------------------

    def __make_worker(self) -> Worker[Event]:
        """The worker, created when the first event comes: ``buffer_size`` may be set until then."""
        with BaseSink.__making:
            if self.__worker is None:
                self.__lost = {}
                self.__worker = Worker(
                    self.__deliver,
                    name=f"streamll-{type(self).__name__}",
                    capacity=self.buffer_size,
                    policy=self.overflow,
                    batch=self.batch_size,
                    gather=self.gather_seconds,
                    pending=self.due_in,
                    gives_up=self.gives_up,
                )
                BaseSink.__in_use[id(self)] = self
        return self.__worker

    def __deliver(self, events: list[Event]) -> None:
        self.__hangs = False
        before = self.__failed
        try:
            if not self.__started:
                self.__started = True
                self.__wait_for(self.start())
        except BaseException as error:  # noqa: BLE001 - its events may be handled all the same
            self.__warn("cannot start before", error, events[0])
        try:
            self.__wait_for(self.handle_batch(events))
        except BaseException as error:  # noqa: BLE001 - the next batch must be delivered
            self.undelivered(error, events)
        self.__handled += len(events) - (self.__failed - before)

    def __refuse(self, worker: Worker[Event], event: Event) -> None:
        """Policy ``fail``: of a run only its end is told, behind the number of lost events."""
        run_id = event.identity.run_id
        if event.event_type not in TERMINAL or run_id is None:
            self.__lost[run_id] = self.__lost.get(run_id, 0) + 1
            return
        self.__ends += 1
        lost, who = self.__lost.pop(run_id, 0), Identity(run_id=run_id)
        gap = StreamGap(timestamp=event.timestamp, identity=who, count=lost, reason="overflow")
        worker.admit([gap, event] if lost else [event])

    def __wait_for(self, outcome: Outcome) -> None:
        """Run what an async handler returned on the sink's own loop."""
        if inspect.isawaitable(outcome):
            if self.__loop is None:
                self.__loop = LoopThread(f"streamll-{type(self).__name__}-loop")
            self.__loop.call(outcome)

    def __warn(self, what: str, error: BaseException, event: Event) -> None:
        """Log a failure; only the first one is logged."""
        if self.__has_warned:
            return
        self.__has_warned = True
        frames = traceback.extract_tb(error.__traceback__)
        position = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
        name, kind = type(self).__name__, getattr(event, "event_type", type(event).__name__)
        text = "sink %s %s a %s event: %s%s (only logged once; stop() logs how many)"
        logger.warning(text, name, what, kind, describe(error), position)

    @staticmethod
    def flush_all() -> None:
        """At exit: let all sinks finish within one common limit, then stop each."""
        deadline = time.monotonic() + EXIT_SECONDS
        sinks = list(BaseSink.__in_use.values())
        for sink in sinks:
            if not BaseSink.catch_up(sink, max(deadline - time.monotonic(), 0.1)):
                sink.__is_given_up = True  # noqa: SLF001
                name, left = type(sink).__name__, sink.statistics().left
                logger.warning(
                    "sink %s did not finish before the exit; %d events are lost", name, left
                )
        for sink in sinks:
            try:
                sink.stop()
            except Exception as error:  # noqa: BLE001 - the other sinks must be stopped, too
                kind, failure = type(sink).__name__, type(error).__name__
                logger.warning("sink %s: %s in stop()", kind, failure)

    @staticmethod
    def after_fork() -> None:
        """In a forked child: the parent delivers what it has, the child begins with nothing."""
        BaseSink.__making = threading.RLock()
        for sink in list(BaseSink.__in_use.values()):
            for name in [name for name in vars(sink) if name.startswith(PRIVATE)]:
                delattr(sink, name)

    def __deepcopy__(self, memo: dict[int, Any]) -> BaseSink:
        """A sink is a destination: a copied program reports to the same one."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if not k.startswith(PRIVATE)}


class CallbackSink(BaseSink):
    """Calls ``function(event)`` for every event, in order, on the sink's own thread.

    The function may be ``async def``. Its errors are logged once and never reach the program.
    """

    def __init__(
        self,
        function: Callable[[Event], Outcome],
        *,
        buffer_size: int = 10_000,
        overflow: Policy = "coalesce",
    ) -> None:
        super().__init__(buffer_size=buffer_size, overflow=overflow)
        self.function = function

    def handle_event(self, event: Event) -> Outcome:
        return self.function(event)


def describe(error: BaseException) -> str:
    """The error's type and the operating system's reason, without the error's own message."""
    reason = error.strerror if isinstance(error, OSError) else None
    return f"{type(error).__name__}: {reason}" if reason else type(error).__name__


atexit.register(BaseSink.flush_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=BaseSink.after_fork)
