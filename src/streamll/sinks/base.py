"""What every sink does: get events in order on a thread of its own, without delaying the program.

Subclass ``BaseSink`` and override ``handle_event`` (or ``handle_batch``, to handle several at
once). Nothing else is needed: the worker starts with the first event, is flushed at exit, and
restarts after a fork. ``super().__init__()`` may be omitted.

If a handler raises, that is logged once (logger ``streamll``), and it gets later events all the
same. If a handler is slow, up to ``buffer_size`` events wait, then ``overflow`` decides. Log lines
name error types and code positions, not messages, which can quote a program's inputs.
"""

from __future__ import annotations

import atexit
import inspect
import logging
import os
import threading
import time
import traceback
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import msgspec

from streamll.core.errors import ConfigurationError
from streamll.core.events import Event
from streamll.flow.buffer import Policy
from streamll.flow.worker import BATCH_ITEMS, GATHER_S, LoopThread, Worker

logger = logging.getLogger("streamll")

EXIT_SECONDS = 10.0
"""How long all sinks together may delay the end of the process."""

Outcome = Awaitable[None] | None


class SinkStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of events since the process (or the fork) began; ``merged`` ones are not lost."""

    received: int = 0
    handled: int = 0
    failed: int = 0
    buffered: int = 0
    merged: int = 0
    dropped: int = 0


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
    __delivery: Delivery | None = None

    def __init__(self, *, buffer_size: int = 10_000, overflow: Policy = "coalesce") -> None:
        if overflow == "block":
            raise ConfigurationError(
                "a sink never makes the program wait, so overflow='block' is for streams; "
                "'coalesce' loses nothing either"
            )
        self.buffer_size = buffer_size
        self.overflow = overflow

    # --- to override ----------------------------------------------------------------------------

    def handle_event(self, event: Event) -> Outcome:
        """Handle one event. Called in order on the sink's own thread.

        May be ``async def``: then it runs on the sink's own event loop, one event at a time.
        """

    def handle_batch(self, events: list[Event]) -> Outcome:
        """Handle several events at once; by default calls ``handle_event`` with each."""
        self._delivery.handle_each(self.handle_event, events)
        return None

    def due_in(self) -> float | None:
        """Seconds until ``handle_batch`` must be called again, even without new events.

        For sinks that keep events for later; ``None`` if nothing is kept.
        """
        return None

    def undelivered(self, error: BaseException, events: list[Event]) -> None:
        """To be called by ``handle_batch``: count ``events`` as failed; logged the first time."""
        self._delivery.failed(error, events)

    # --- what a run and its user call -----------------------------------------------------------

    def put(self, event: Event) -> None:
        """Hand an event over: never waits, never raises."""
        delivery = self.__delivery or self._delivery
        try:
            delivery.put(event)
        except Exception as error:  # noqa: BLE001 - a sink never breaks the program
            delivery.warn("cannot take", error, event)

    def start(self) -> None:
        """Start the worker thread. Not needed: the first event does it. Idempotent."""
        self._delivery.start()

    def stop(self, timeout: float = 10.0) -> bool:
        """Handle everything put so far, end the thread, and log how much failed. Idempotent.

        Waits up to ``timeout`` seconds; returns False if that was not enough. An event that is
        put later starts the worker again.
        """
        return self.__delivery is None or self.__delivery.stop(timeout)

    def catch_up(self, timeout: float) -> bool:
        """Wait until everything put so far has been handled; False after ``timeout`` seconds."""
        return self.__delivery is None or self.__delivery.catch_up(timeout)

    def statistics(self) -> SinkStatistics:
        return SinkStatistics() if self.__delivery is None else self.__delivery.statistics()

    @property
    def _delivery(self) -> Delivery:
        """Created on first use, so that a subclass may omit ``super().__init__()``."""
        if self.__delivery is None:
            with Delivery.making:
                if self.__delivery is None:
                    self.__delivery = Delivery(self)
        return self.__delivery

    def __deepcopy__(self, memo: dict[int, Any]) -> BaseSink:
        """A sink is a destination: a copied program reports to the same one."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if not isinstance(v, Delivery)}


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


class Delivery(Worker[Event]):
    """One sink's worker, and what happens when its handler fails."""

    making: ClassVar[threading.RLock] = threading.RLock()
    alive: ClassVar[weakref.WeakSet[Delivery]] = weakref.WeakSet()

    def __init__(self, sink: BaseSink) -> None:
        self.sink = sink
        self.kind = type(sink).__name__
        super().__init__(
            self._deliver,
            name=f"streamll-{self.kind}",
            capacity=sink.buffer_size,
            policy=sink.overflow,
            batch=sink.batch_size,
            gather=sink.gather_seconds,
            pending=sink.due_in,
        )
        Delivery.alive.add(self)

    def reset(self) -> None:
        """Begin with nothing: at first, and in a forked child."""
        super().reset()
        self._loop: LoopThread | None = None
        self._handled = self._failed = 0
        self._reported = 0  # how many failed or dropped events stop() has logged
        self._has_warned = False
        self.hangs = False

    def stop(self, timeout: float) -> bool:
        done = super().stop(0 if self.hangs else timeout)
        if done and self._loop is not None:
            self._loop.stop(timeout)
            self._loop = None
        counts = self.sink.statistics()
        if not done and not self.hangs:
            self.hangs = True
            left = counts.buffered
            logger.warning("sink %s did not finish in time; %d events are left", self.kind, left)
        if counts.failed + counts.dropped > self._reported:
            self._reported = counts.failed + counts.dropped
            logger.warning(
                "sink %s could not handle %d events, and dropped %d because its buffer was full",
                self.kind,
                counts.failed,
                counts.dropped,
            )
        return done

    def statistics(self) -> SinkStatistics:
        channel = self.channel.statistics()
        return SinkStatistics(
            received=channel.received,
            handled=self._handled,
            failed=self._failed,
            buffered=channel.buffered,
            merged=channel.merged,
            dropped=channel.dropped,
        )

    def handle_each(self, handle_event: Callable[[Event], Outcome], events: list[Event]) -> None:
        """Handle events one by one; a failing one does not affect the others."""
        for event in events:
            try:
                self._wait_for(handle_event(event))
            except BaseException as error:  # noqa: BLE001 - the next event must be delivered
                self.failed(error, [event])

    def failed(self, error: BaseException, events: list[Event]) -> None:
        """Count ``events`` as not handled; log the first failure."""
        if events:
            self._failed += len(events)
            self.warn("failed on", error, events[0])

    def warn(self, what: str, error: BaseException, event: Event) -> None:
        """Log a failure; only the first one is logged."""
        if self._has_warned:
            return
        self._has_warned = True
        frames = traceback.extract_tb(error.__traceback__)
        position = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
        logger.warning(
            "sink %s %s a %s event: %s%s (only logged once; stop() logs how many)",
            self.kind,
            what,
            event.event_type,
            describe(error),
            position,
        )

    def _deliver(self, events: list[Event]) -> None:
        self.hangs = False
        before = self._failed
        try:
            self._wait_for(self.sink.handle_batch(events))
        except BaseException as error:  # noqa: BLE001 - the next batch must be delivered
            self.failed(error, events)
        self._handled += len(events) - (self._failed - before)

    def _wait_for(self, outcome: Outcome) -> None:
        """Run what an async handler returned on the sink's own loop."""
        if inspect.isawaitable(outcome):
            if self._loop is None:
                self._loop = LoopThread(f"{self.name}-loop")
            self._loop.call(outcome)

    @classmethod
    def flush_all(cls) -> None:
        """At exit: let all sinks finish within one common limit, then stop each."""
        deadline = time.monotonic() + EXIT_SECONDS
        deliveries = list(cls.alive)
        for delivery in deliveries:
            if not delivery.catch_up(max(deadline - time.monotonic(), 0.1)):
                delivery.hangs = True
                logger.warning("sink %s did not finish before the exit", delivery.kind)
        for delivery in deliveries:
            try:
                delivery.sink.stop()
            except Exception as error:  # noqa: BLE001 - the other sinks must be stopped, too
                logger.warning("sink %s: %s in stop()", delivery.kind, type(error).__name__)

    @classmethod
    def after_fork(cls) -> None:
        """In a forked child: the parent delivers what it has, the child begins with nothing."""
        cls.making = threading.RLock()
        for delivery in list(cls.alive):
            delivery.reset()


def describe(error: BaseException) -> str:
    """The error's type and the operating system's reason, without the error's own message."""
    reason = error.strerror if isinstance(error, OSError) else None
    return f"{type(error).__name__}: {reason}" if reason else type(error).__name__


atexit.register(Delivery.flush_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=Delivery.after_fork)
