"""``BrokerSink``: what the brokers' sinks share: batches, retries, bounds, counters, forks.

Events come through the worker of ``BaseSink``, are packed into entries of a ``SendBuffer`` and sent
through a ``Transport``. One batch is in flight at a time; the next leaves as soon as it is
confirmed, with everything that has arrived meanwhile. While the broker cannot be reached entries
wait in the buffer, bounded by ``max_buffer_bytes``, and are sent in order when it is back.

Everything here is synchronous and runs on the worker's thread.
"""

from __future__ import annotations

import contextlib
import os
import time
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from streamll.brokers import tracing
from streamll.brokers.failures import Diagnosis
from streamll.brokers.open_runs import OpenRuns
from streamll.brokers.send_buffer import PendingEntry, SendBuffer
from streamll.core.errors import ConfigurationError, logger
from streamll.core.events import TERMINAL, Event
from streamll.flow.breaker import State as BreakerState
from streamll.flow.buffer import Policy
from streamll.flow.retry import Backoff
from streamll.sinks.base import BaseSink, SinkStatistics, describe

GATHER_S = 0.01
"""The longest that events gather after a batch: the median event waits half of it."""

SEND_BATCH_BYTES = 4 * 2**20
"""About the most that is sent before a confirmation is awaited."""

SEND_BATCH_ENTRIES = 256

IDLE_CHECK_S = 1.0
"""A connection that was idle for longer is checked before it is used."""

RETRY_BACKOFF = Backoff(attempts=4, base=0.05, cap=1.0)
BREAKER_OPEN_S = 1.0
"""A broker that failed once is retried soon. After the fifth failure in a row the breaker opens for
this long each time: short enough to find a broker that restarts within ``stop()``."""

Confirmed = Callable[[list[tuple[list[Event], bytes]], object], None]


class PartlySent(Exception):
    """Some entries were confirmed. The others go where nothing can be delivered for a while.

    Attributes:
        sent: those that were confirmed.
        is_stuck: whether any other entry goes there as well; the rest is sent meanwhile.
        failure: why.
    """

    def __init__(
        self,
        sent: list[PendingEntry],
        is_stuck: Callable[[PendingEntry], bool],
        failure: Exception,
    ) -> None:
        super().__init__(str(failure))
        self.sent, self.is_stuck, self.failure = sent, is_stuck, failure


class Transport(ABC):
    """A connection to a broker that appends entries to a log."""

    @abstractmethod
    def send(self, entries: list[PendingEntry]) -> object:
        """Send in order; return when the broker has confirmed all of them, raise otherwise:
        ``PartlySent`` if a part of the broker is away.

        The receipt that is returned tells a source of the same kind where the entries are, see
        ``Source.skip``.
        """

    @abstractmethod
    def close(self) -> None: ...

    def is_lost(self, idle: float) -> bool:
        """Whether the broker has closed the connection, unused for ``idle`` seconds, meanwhile."""
        return False


class BrokerStatistics(SinkStatistics, frozen=True, kw_only=True):
    """Counts of events; ``handled`` ones were confirmed by the broker.

    ``dropped`` ones had to make room or were too large; ``stream.gap`` reports them to readers.
    """

    buffered_bytes: int = 0
    batches: int = 0
    entries: int = 0
    bytes_sent: int = 0
    failures: int = 0
    breaker: BreakerState = "closed"
    last_error: str | None = None


class BrokerSink(BaseSink, ABC):
    """Ships events to a log. A subclass has a ``destination`` and knows how to ``_connect``.

    Args:
        buffer_size: events that may wait for the worker; beyond it tokens of a field merge.
        batch_size: the most events handed over at once.
        flush_interval: the longest an event waits for others to share its batch, in seconds. A
            batch leaves as soon as the one before is confirmed, and no later than 10 ms after it.
        overflow: what happens beyond ``buffer_size``; see ``BaseSink``.
        max_buffer_bytes: how much may wait for a broker that is away; beyond it the oldest entries
            are dropped.
        max_entry_bytes: a larger event is dropped; readers get a ``stream.gap`` instead.

    Raises:
        ConfigurationError: a size below 1 (``max_buffer_bytes``: 0), or a negative interval.
    """

    local = False
    destination: str
    """Where events go, for people: without credentials."""
    key_template: str = ""
    """What names the log of an entry, if there is one for each key; see ``fill``."""
    source_url: str = ""
    """What a source is given to read what this sink writes; with credentials."""
    is_followed = False
    """This process follows the log for answers by itself."""

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
        if not batch_size >= 1 or not buffer_size >= 1:
            raise ConfigurationError("buffer_size and batch_size must be at least 1")
        if not max_entry_bytes >= 1 or not max_buffer_bytes >= 0:
            raise ConfigurationError(
                "max_entry_bytes must be at least 1, and max_buffer_bytes not negative"
            )
        if not flush_interval >= 0:
            raise ConfigurationError("flush_interval (seconds) must not be negative")
        super().__init__(buffer_size=buffer_size, overflow=overflow)
        self.batch_size = batch_size
        self.flush_interval = flush_interval
        self.gather_seconds = min(flush_interval, GATHER_S)
        self._max_bytes = (max_buffer_bytes, max_entry_bytes)
        self._left_to_parent: list[Transport | None] = []
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._buffer = SendBuffer(*self._max_bytes)
        self._listener: Confirmed | None = None
        self._transport: Transport | None = None
        self._used_at = self._retry_at = 0.0
        self._is_stuck: Callable[[PendingEntry], bool] | None = None
        self._failures_in_a_row = 0
        self._traces: dict[str | None, str | None] = {}
        self._open_runs: OpenRuns | None = None
        self._counts: Counter[str] = Counter()
        self._last_error: str | None = None
        self._logged_error: str | None = None
        self._is_refused = False
        self._has_asked = False  # somebody waits for the next attempt, not for one under way

    def _reset_after_fork(self) -> None:
        """In a forked child: start empty. The parent ships what it had through its own connection,
        and its listener stays the parent's.
        """
        if self._process != os.getpid():
            self._left_to_parent.append(self._transport)  # never closed here: the parent uses it
            self._reset()

    # --- to override ----------------------------------------------------------------------------

    @property
    def takes_answers(self) -> bool:
        """Questions of a run can be answered through its log (``asking.through_log``)."""
        return bool(self.source_url)

    def log_of(self, run_id: str, context: Mapping[str, Any]) -> str:
        """The name of the log that has this run."""
        return fill(self.key_template, run_id, context)

    @abstractmethod
    def _connect(self) -> Transport:
        """Open a connection. Raises what the client library raises."""

    def _diagnose(self, error: BaseException) -> Diagnosis:
        """Why the broker failed, without anything that could hold an event or a password."""
        return Diagnosis(describe(error))

    # --- for readers in this process ------------------------------------------------------------

    def confirm_to(self, listener: Confirmed) -> None:
        """Call ``listener`` on the worker's thread with what the log has accepted: each entry's
        events and body, in order, and the receipt of ``Transport.send``. Readers in this process
        then need not read it back. The listener must not raise.
        """
        self._reset_after_fork()
        self._listener = listener
        self._buffer.keeps_events = True

    @property
    def producer(self) -> str:
        """What the ids of this sink's entries begin with."""
        return self._buffer.producer

    # --- called by a run ------------------------------------------------------------------------

    def put(self, event: Event) -> None:
        """Hand an event over: never waits, never raises."""
        if tracing.in_use():
            run_id = event.identity.run_id
            if run_id is None or run_id not in self._traces:
                # The span a run started under; outside runs, that of the latest event.
                self._traces[run_id] = tracing.current()
        super().put(event)

    # --- on the worker's thread -----------------------------------------------------------------

    def handle_batch(self, events: list[Event]) -> None:
        self._reset_after_fork()
        if self._open_runs is None:
            self._open_runs = OpenRuns(self.put, apart="{run_id}" in self.key_template)
        self._open_runs.hear(events)
        self._buffer.add(events, self._traces.get)
        if self._traces:
            for event in events:
                if event.event_type in TERMINAL:
                    self._traces.pop(event.identity.run_id, None)
        self._ship()

    def due_in(self) -> float | None:
        if self._process != os.getpid() or not self._buffer:
            return None
        return self._retry_in()

    def gives_up(self) -> bool:
        """The broker has refused for good, as with a wrong password."""
        return self._is_refused and not self._has_asked

    def stop(self, timeout: float = 10.0) -> bool:
        """Ship what was put before now and disconnect.

        Tries again at once, and waits up to ``timeout`` seconds for a broker that is away, but not
        for one that refuses this attempt. False when not everything was shipped.
        The events are kept: if the process goes on and the broker comes back, they arrive.
        """
        self._forget_runs()
        self._has_asked = True
        done = super().stop(timeout)
        self._forget_runs()  # of which it has only heard now
        if done and self._process == os.getpid():
            self._disconnect()
        return done

    def _forget_runs(self) -> None:
        if self._open_runs is not None:
            self._open_runs.forget()

    def statistics(self) -> BrokerStatistics:
        """Counts of events so far, and what waits for the broker."""
        if self._process != os.getpid():
            return BrokerStatistics()
        own, buffer = super().statistics(), self._buffer
        breaker: BreakerState = "closed"
        if self._failures_in_a_row > RETRY_BACKOFF.attempts:
            breaker = "open" if self._retry_in() else "half-open"
        return BrokerStatistics(
            received=own.received,
            failed=own.failed,
            buffered=own.buffered + buffer.event_count,
            merged=own.merged,
            dropped=own.dropped + buffer.dropped + buffer.oversized,
            buffered_bytes=buffer.bytes,
            breaker=breaker,
            last_error=self._last_error,
            **self._counts,
        )

    def _ship(self) -> None:
        """Send what waits, until nothing does or the broker fails.

        While a part of the broker is away, what is for the others goes on.
        """
        while self._buffer:
            if not self._retry_in() and self._is_stuck is not None:
                self._is_stuck = None
                self._disconnect()
            elif self._retry_in() and self._is_stuck is None:
                return
            entries = self._buffer.head(SEND_BATCH_ENTRIES, SEND_BATCH_BYTES, self._is_stuck)
            if not entries:
                return
            if self._has_asked:
                self._retry_at = 0.0
                self._is_refused = self._has_asked = False  # in this order: see ``gives_up``
            try:
                if self._transport is None or self._is_lost(self._transport):
                    self._disconnect()
                    self._transport = self._connect()
                receipt = self._transport.send(entries)
                self._used_at = time.monotonic()
            except PartlySent as error:
                self._stuck(error)
            except Exception as error:  # noqa: BLE001 - whatever it is, the events are kept
                self._is_stuck = None
                self._disconnect()
                self._broker_failed(error)
            else:
                self._confirmed(entries, receipt)

    def _stuck(self, error: PartlySent) -> None:
        before, now = self._is_stuck, error.is_stuck
        self._is_stuck = now if before is None else lambda entry: before(entry) or now(entry)
        self._used_at = time.monotonic()
        if error.sent:
            self._confirmed(error.sent, None)
        if before is None:
            self._broker_failed(error.failure)

    def _is_lost(self, transport: Transport) -> bool:
        idle = time.monotonic() - self._used_at
        try:
            return idle > IDLE_CHECK_S and transport.is_lost(idle)
        except Exception:  # noqa: BLE001 - a broken connection fails in its own way
            return True

    def _confirmed(self, entries: list[PendingEntry], receipt: object) -> None:
        self._buffer.sent(entries)
        self._counts.update(
            handled=sum(entry.event_count for entry in entries),
            bytes_sent=sum(entry.size for entry in entries),
            entries=len(entries),
            batches=1,
        )
        if self._is_stuck is None:
            self._is_refused = False
        if self._failures_in_a_row and self._is_stuck is None:
            self._failures_in_a_row = 0
            logger.info("sink %s: %s is back", type(self).__name__, self.destination)
        if self._listener is not None:
            self._listener([(entry.events_as_read, entry.body) for entry in entries], receipt)

    def _broker_failed(self, error: Exception) -> None:
        """Keep the events and try again later.

        What is logged is the first failure in a row, and a refusal behind others once it comes
        again: a broker that is starting may refuse what it takes a moment later.
        """
        reason, refused = self._diagnose(error)
        refused_again = refused and reason == self._last_error
        if not self._failures_in_a_row or (refused_again and reason != self._logged_error):
            self._logged_error = reason
            name, kept = type(self).__name__, self._buffer.max_bytes
            text = "sink %s cannot deliver to %s (%s); up to %d bytes of events are kept while it retries"
            logger.warning(text, name, self.destination, reason, kept)
        self._last_error = reason  # before it counts: who sees a failure can see why
        self._counts["failures"] += 1
        self._failures_in_a_row += 1
        pause = RETRY_BACKOFF.delay(self._failures_in_a_row)
        self._retry_at = time.monotonic() + (BREAKER_OPEN_S if pause is None else pause)
        # Last: who waits for this sink gives up now and logs that, behind the reason.
        self._is_refused = refused and reason == self._logged_error

    def _retry_in(self) -> float:
        """Seconds until the broker may be tried again after a failure; 0 when it may be now."""
        return 0.0 if self._has_asked else max(self._retry_at - time.monotonic(), 0.0)

    def _disconnect(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            with contextlib.suppress(Exception):
                transport.close()


def fill(template: str, run_id: str | None, context: Mapping[str, Any]) -> str:
    """A key such as ``run:{conversation_id}`` with the run's id and context filled in.

    A name that is not set becomes ``-``.
    """
    if "{" not in template:
        return template
    names = defaultdict(lambda: "-", context)
    if run_id is not None:
        names["run_id"] = run_id
    return template.format_map(names)
