"""How a sink gets its events: worker, failures, counts, the end of the process, forks.

Log lines name error types and places, not messages, which can quote what a program was asked.
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
from typing import ClassVar, Protocol

import msgspec

from streamll.core.events import Event
from streamll.flow.buffer import Policy
from streamll.flow.worker import LoopThread, Worker

logger = logging.getLogger("streamll")

EXIT_SECONDS = 10.0
"""How long the end of a process waits for all sinks together."""

Outcome = Awaitable[None] | None


class SinkStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of events since the process (or the fork) began; ``merged`` ones lost nothing."""

    received: int = 0
    handled: int = 0
    failed: int = 0
    buffered: int = 0
    merged: int = 0
    dropped: int = 0


class Handler(Protocol):
    """The sink, as its delivery sees it."""

    batch_size: int
    gather_seconds: float

    def handle_batch(self, events: list[Event]) -> Outcome: ...
    def due_in(self) -> float | None: ...
    def stop(self) -> bool: ...
    def statistics(self) -> SinkStatistics: ...


class Delivery:
    """One sink's worker, and everything that can go wrong with its handler."""

    making: ClassVar[threading.RLock] = threading.RLock()
    alive: ClassVar[weakref.WeakSet[Delivery]] = weakref.WeakSet()

    def __init__(self, sink: Handler, capacity: int, policy: Policy) -> None:
        self.sink = sink
        self.name = type(sink).__name__
        self.worker: Worker[Event] = Worker(
            self._handle,
            name=f"streamll-{self.name}",
            capacity=capacity,
            policy=policy,
            batch=sink.batch_size,
            gather=sink.gather_seconds,
            pending=sink.due_in,
        )
        self.begin()
        Delivery.alive.add(self)

    def begin(self) -> None:
        """Count from zero: at first, and in a forked child."""
        self._loop: LoopThread | None = None
        self._handled = 0
        self._failed = 0
        self._said = 0
        self._complained = False
        self.hangs = False

    def refused(self, error: Exception, event: Event) -> None:
        """The worker could not take ``event``; say why the first time."""
        self._say("cannot take", error, event)

    def start(self) -> None:
        self.worker.start()

    def catch_up(self, timeout: float) -> bool:
        return self.worker.catch_up(timeout)

    def stop(self, timeout: float) -> bool:
        done = self.worker.stop(0 if self.hangs else timeout)
        if done and self._loop is not None:
            self._loop.stop(timeout)
            self._loop = None
        statistics = self.sink.statistics()
        if not done and not self.hangs:
            self.hangs = True
            left = statistics.buffered
            logger.warning("sink %s did not finish in time; %d events are left", self.name, left)
        if statistics.failed + statistics.dropped > self._said:
            self._said = statistics.failed + statistics.dropped
            logger.warning(
                "sink %s could not handle %d events, and dropped %d because its buffer was full",
                self.name,
                statistics.failed,
                statistics.dropped,
            )
        return done

    def statistics(self) -> SinkStatistics:
        channel = self.worker.channel.statistics()
        return SinkStatistics(
            received=channel.received,
            handled=self._handled,
            failed=self._failed,
            buffered=channel.buffered,
            merged=channel.merged,
            dropped=channel.dropped,
        )

    def one_by_one(self, handle_event: Callable[[Event], Outcome], events: list[Event]) -> None:
        """Handle each event; one that fails does not take the others with it."""
        for event in events:
            try:
                outcome = handle_event(event)
                if outcome is not None:
                    self._finish(outcome)
            except BaseException as error:  # noqa: BLE001 - the next event must be delivered
                self.failed(error, [event])

    def failed(self, error: BaseException, events: list[Event]) -> None:
        """Count ``events`` as not handled; say why the first time."""
        if events:
            self._failed += len(events)
            self._say("failed on", error, events[0])

    def _say(self, what: str, error: BaseException, event: Event) -> None:
        if self._complained:
            return
        self._complained = True
        frames = traceback.extract_tb(error.__traceback__)
        place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
        logger.warning(
            "sink %s %s a %s event: %s%s (said once; stop() says how many)",
            self.name,
            what,
            event.event_type,
            describe(error),
            place,
        )

    def _handle(self, events: list[Event]) -> None:
        self.hangs = False
        before = self._failed
        try:
            self._finish(self.sink.handle_batch(events))
        except BaseException as error:  # noqa: BLE001 - the next batch must be delivered
            self.failed(error, events)
        self._handled += len(events) - (self._failed - before)

    def _finish(self, outcome: Outcome) -> None:
        """Wait for what an async handler returned, on the sink's own loop."""
        if inspect.isawaitable(outcome):
            if self._loop is None:
                self._loop = LoopThread(f"streamll-{self.name}-loop")
            self._loop.call(outcome)

    @classmethod
    def flush_all(cls) -> None:
        """At exit: let all sinks finish within one bound, then stop each."""
        deadline = time.monotonic() + EXIT_SECONDS
        deliveries = list(cls.alive)
        for delivery in deliveries:
            if not delivery.catch_up(max(deadline - time.monotonic(), 0.1)):
                delivery.hangs = True
                logger.warning("sink %s did not finish before the exit", delivery.name)
        for delivery in deliveries:
            try:
                delivery.sink.stop()
            except Exception as error:  # noqa: BLE001 - the other sinks want to stop as well
                logger.warning("sink %s: %s in stop()", delivery.name, type(error).__name__)

    @classmethod
    def after_fork(cls) -> None:
        """In the child: the parent delivers what it has, the child begins with nothing."""
        cls.making = threading.RLock()
        for delivery in list(cls.alive):
            delivery.worker.reset()
            delivery.begin()


def describe(error: BaseException) -> str:
    """The error's type, and what the operating system says; not its own words."""
    reason = error.strerror if isinstance(error, OSError) else None
    return f"{type(error).__name__}: {reason}" if reason else type(error).__name__


atexit.register(Delivery.flush_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=Delivery.after_fork)
