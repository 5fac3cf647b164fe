"""What the brokers' sinks share: batches, retries, bounds, counts, forks, the end of the process.

Events come through the worker of ``BaseSink``, are packed into an ``SendBuffer`` and shipped by a
``Transport``. One batch is under way at a time; the next leaves as soon as it is confirmed, with
all that has come meanwhile. When the broker cannot be reached, events wait in the buffer, bounded
by ``max_buffer_bytes``, and are sent in order when it is back.

Everything here is synchronous and runs on the worker's thread.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from string import Formatter
from typing import Any, Protocol

from streamll.brokers import tracing
from streamll.brokers.send_buffer import PendingEntry, SendBuffer
from streamll.core.errors import ConfigurationError
from streamll.core.events import TERMINAL, Event
from streamll.flow.breaker import CircuitBreaker
from streamll.flow.breaker import State as BreakerState
from streamll.flow.buffer import Policy
from streamll.flow.retry import Backoff
from streamll.sinks.base import BaseSink, SinkStatistics
from streamll.sinks.delivery import describe, logger

GATHER_S = 0.01
"""The most that events gather after a batch: half of it is what the median event waits."""

SEND_BATCH_BYTES = 4 * 2**20
"""About as much as is sent before a confirmation is awaited."""

SEND_BATCH_ENTRIES = 256

RETRY_BACKOFF = Backoff(attempts=4, base=0.05, cap=1.0)
BREAKER_OPEN_S = 1.0
"""A broker that failed once is tried again soon. After the fifth time in a row the breaker leaves
it alone for this long each time: short enough to find a broker that restarts within ``stop()``."""


Confirmed = Callable[[list[list[Event]], object], None]


class Transport(Protocol):
    """A connection to a broker."""

    def send(self, entries: list[PendingEntry]) -> object:
        """Send in order; return when the broker has confirmed all of them, raise otherwise.

        What is returned tells a source of the same kind where they are; see ``Source.skip``.
        """

    def close(self) -> None: ...


class BrokerStatistics(SinkStatistics, frozen=True, kw_only=True):
    """Counts of events; ``handled`` ones were confirmed by the broker.

    ``dropped`` ones had to make room or were too large; readers were told by ``stream.gap``.
    """

    buffered_bytes: int = 0
    batches: int = 0
    entries: int = 0
    bytes_sent: int = 0
    failures: int = 0
    breaker: BreakerState = "closed"
    last_error: str | None = None


class BrokerSink(BaseSink):
    """Ships events to a log. Subclasses say how to ``_connect``.

    Args:
        buffer_size: events that wait for the worker; beyond it tokens of a field merge.
        batch_size: the most events handed over at once.
        flush_interval: the longest an event waits for others to share its batch, in seconds. A
            batch leaves as soon as the one before is confirmed, and no later than 10 ms after it.
        overflow: what happens beyond ``buffer_size``; see ``BaseSink``.
        max_buffer_bytes: what may wait for a broker that is away; beyond it the oldest is dropped.
        max_entry_bytes: an event that takes more is dropped; its readers get a ``stream.gap``.
    """

    local = False
    _transport: Transport | None
    _last_error: str | None
    _confirmed: int
    _entries: int
    _bytes: int
    _batches: int
    _failures: int
    _failures_in_a_row: int
    _confirmed_to: Confirmed | None

    def __init__(
        self,
        *,
        buffer_size: int = 10_000,
        batch_size: int = 500,
        flush_interval: float = 0.1,
        overflow: Policy = "coalesce",
        max_buffer_bytes: int = 64 * 2**20,
        max_entry_bytes: int = 16 * 2**20,
    ) -> None:
        if batch_size < 1 or buffer_size < 1:
            raise ConfigurationError("buffer_size and batch_size must be at least 1")
        if flush_interval < 0:
            raise ConfigurationError("flush_interval is seconds, and not negative")
        super().__init__(buffer_size=buffer_size, overflow=overflow)
        self.batch_size = batch_size
        self.flush_interval = flush_interval
        self.gather_seconds = min(flush_interval, GATHER_S)
        self._max_bytes = (max_buffer_bytes, max_entry_bytes)
        self._left_behind: list[Any] = []
        self._begin()

    @property
    def destination(self) -> str:
        """Where events go, for people and without credentials."""
        raise ConfigurationError(f"{type(self).__name__} does not say where events go")

    def _connect(self) -> Transport:
        raise ConfigurationError(f"{type(self).__name__} does not say how to connect")

    # --- for readers in this process ------------------------------------------------------------

    def confirm_to(self, listener: Confirmed) -> None:
        """Tell ``listener`` on the worker's thread what the log has got: each entry's events, in
        order, and what ``Transport.send`` returned. Readers in this process then need not read it
        back. It must not raise.
        """
        self._begin_anew_after_fork()
        self._confirmed_to = listener
        self._buffer.keeps_events = True

    @property
    def producer(self) -> str:
        """What the ids of this sink's entries begin with."""
        return self._buffer.producer

    # --- what a run calls -----------------------------------------------------------------------

    def put(self, event: Event) -> None:
        """Hand an event over: never waits, never raises."""
        if tracing.in_use():
            self._remember_trace(event.identity.run_id)
        super().put(event)

    def _remember_trace(self, run_id: str | None) -> None:
        """Keep the span a run began under; outside runs, that of the latest event."""
        if run_id is None or run_id not in self._traces:
            self._traces[run_id] = tracing.current()

    # --- on the worker's thread -----------------------------------------------------------------

    def handle_batch(self, events: list[Event]) -> None:
        self._begin_anew_after_fork()
        self._buffer.add(events, self._traces.get)
        if self._traces:
            for event in events:
                if event.event_type in TERMINAL:
                    self._traces.pop(event.identity.run_id, None)
        self._ship()

    def due_in(self) -> float | None:
        if self._process != os.getpid() or not self._buffer:
            return None
        return self._resting()

    def stop(self, timeout: float = 10.0) -> bool:
        """Ship what was put before now and disconnect.

        Waits up to ``timeout`` seconds for a broker that is away; False when that was too short.
        The events are kept: if the process goes on and the broker comes back, they arrive.
        """
        done = super().stop(timeout)
        if done and self._process == os.getpid():
            self._disconnect()
        return done

    def statistics(self) -> BrokerStatistics:
        own = super().statistics()
        if self._process != os.getpid():
            return BrokerStatistics()
        buffer = self._buffer
        return BrokerStatistics(
            received=own.received,
            handled=self._confirmed,
            failed=own.failed,
            buffered=own.buffered + buffer.events,
            merged=own.merged,
            dropped=own.dropped + buffer.dropped + buffer.oversized,
            buffered_bytes=buffer.bytes,
            batches=self._batches,
            entries=self._entries,
            bytes_sent=self._bytes,
            failures=self._failures,
            breaker=self._breaker.state,
            last_error=self._last_error,
        )

    def _ship(self) -> None:
        """Send what waits, until it is out or the broker fails."""
        while self._buffer and not self._resting():
            entries = self._buffer.head(SEND_BATCH_ENTRIES, SEND_BATCH_BYTES)
            try:
                if self._transport is None:
                    self._transport = self._connect()
                receipt = self._transport.send(entries)
            except Exception as error:  # noqa: BLE001 - whatever it is, the events are kept
                self._broker_failed(error)
            else:
                self._arrived(entries, receipt)

    def _arrived(self, entries: list[PendingEntry], receipt: object) -> None:
        self._buffer.sent(len(entries))
        for entry in entries:
            self._confirmed += entry.events
            self._bytes += entry.size
        self._entries += len(entries)
        self._batches += 1
        if self._failures_in_a_row:
            self._breaker.succeeded()
            self._failures_in_a_row = 0
            logger.info("sink %s: %s is back", type(self).__name__, self.destination)
        if self._confirmed_to is not None:
            self._confirmed_to([entry.logged for entry in entries], receipt)

    def _broker_failed(self, error: Exception) -> None:
        if not self._failures_in_a_row:
            logger.warning(
                "sink %s cannot deliver to %s (%s); events wait, up to %d bytes, and it tries on",
                type(self).__name__,
                self.destination,
                self._explain(error),
                self._buffer.max_bytes,
            )
        self._failures += 1
        self._last_error = self._explain(error)
        self._failures_in_a_row += 1
        self._breaker.failed()
        pause = RETRY_BACKOFF.delay(self._failures_in_a_row)
        self._rest_until = time.monotonic() + (BREAKER_OPEN_S if pause is None else pause)
        self._disconnect()

    def _resting(self) -> float:
        """Seconds for which the broker is left alone after a failure."""
        return max(self._rest_until - time.monotonic(), 0.0)

    def _explain(self, error: BaseException) -> str:
        """What went wrong, without anything that could hold an event or a password."""
        return describe(error)

    def _disconnect(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            with contextlib.suppress(Exception):
                transport.close()

    def _begin_anew_after_fork(self) -> None:
        """In a forked child: the parent ships what it had, through connections of its own, and its
        readers are not the child's.
        """
        if self._process != os.getpid():
            self._left_behind.append(self._transport)  # not to be closed: the parent uses it
            self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._buffer = SendBuffer(*self._max_bytes)
        self._confirmed_to = None
        self._breaker = CircuitBreaker(RETRY_BACKOFF.attempts + 1, BREAKER_OPEN_S)
        self._rest_until = 0.0
        self._failures_in_a_row = 0
        self._transport = None
        self._traces: dict[str | None, str | None] = {}
        self._confirmed = self._entries = self._bytes = self._batches = self._failures = 0
        self._last_error = None


def fill(template: str, entry: PendingEntry) -> str:
    """A key such as ``run:{conversation_id}``, with the run's id and its context filled in."""
    if "{" not in template:
        return template
    return Formatter().vformat(template, (), _Names(entry))


class _Names(Mapping[str, Any]):
    """Names a template may use; one that is not set counts as ``-``."""

    def __init__(self, entry: PendingEntry) -> None:
        self._parcel = entry

    def __getitem__(self, name: str) -> Any:
        if name == "run_id":
            return self._parcel.run_id or "-"
        return self._parcel.context.get(name, "-")

    def __iter__(self) -> Any:
        return iter(("run_id", *self._parcel.context))

    def __len__(self) -> int:
        return 1 + len(self._parcel.context)
