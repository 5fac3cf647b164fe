"""A circuit breaker: no calls for a while to a service that failed again and again.

Closed, every call passes. After ``failures`` failures in a row it opens: for ``open_seconds`` every
call fails at once, so that a service in trouble can recover. Then one call may try (half-open);
its outcome closes the breaker or opens it again. Calls that were let through before it opened, and
end while it is open, change nothing: replies that stream take longer than an outage's first failures.

``breaker_for`` keeps one breaker per key for the whole process, e.g. per provider and API key.
Thread-safe; never waits; does not know what is called.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Literal

from streamll.core.errors import CircuitOpen, ConfigurationError

State = Literal["closed", "open", "half-open"]

FAILURES = 10
"""Failures in a row that open a breaker."""

OPEN_S = 30.0
"""How long it stays open."""


class CircuitBreaker:
    """Stops calls to a service that keeps failing, for a while.

    ``permit`` before each call; then exactly one of ``succeeded``, ``failed``, ``left``. Where calls
    overlap, none of them for a call whose permit no longer ``counts``. One object may be shared by
    any threads and event loops.

    Args:
        failures: failures in a row after which no call passes (default 10).
        open_seconds: seconds until one call is let through as a trial (default 30). If that fails,
            the time begins again.
        name: what error messages call the service.
        clock: returns the time in seconds, for tests.

    Raises:
        ConfigurationError: fewer than 1 failure, or a negative time.
    """

    def __init__(
        self,
        failures: int = FAILURES,
        open_seconds: float = OPEN_S,
        *,
        name: str = "the service",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not failures >= 1 or not open_seconds >= 0:
            raise ConfigurationError(
                "a circuit breaker opens after at least 1 failure, for 0 or more seconds"
            )
        self.name = name
        self._threshold = failures
        self._open_seconds = open_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._in_a_row = 0
        self._opened_at: float | None = None
        self._permits = 0
        self._trial: int | None = None

    @property
    def state(self) -> State:
        """``"closed"``: calls pass. ``"open"``: none does. ``"half-open"``: a trial may pass."""
        with self._lock:
            if self._opened_at is None:
                return "closed"
            return "open" if self._remaining() > 0 else "half-open"

    def permit(self) -> int:
        """Ask before a call; returns its permit. Raises ``CircuitOpen`` while no call may pass."""
        with self._lock:
            self._permits += 1
            if self._opened_at is None:
                return self._permits
            remaining = self._remaining()
            if remaining <= 0 and self._trial is None:
                self._trial = self._permits
                return self._trial
            when = f"in {remaining:.1f} s" if remaining > 0 else "after the trial call under way"
            raise CircuitOpen(
                f"{self.name} failed {self._in_a_row} times in a row; the next call may pass {when}",
                max(remaining, 0.0),
            )

    def counts(self, permit: int | None) -> bool:
        """Whether the outcome of a call with this permit is to be told: while it is open, the trial's."""
        with self._lock:
            return self._opened_at is None or permit is None or permit == self._trial

    def succeeded(self) -> None:
        """The call succeeded: calls pass again, and the count of failures begins anew."""
        with self._lock:
            if self._is_waiting():
                return
            self._in_a_row = 0
            self._opened_at = None
            self._trial = None

    def failed(self) -> None:
        """The call failed in a way that says something of the service."""
        with self._lock:
            if self._is_waiting():
                return
            self._in_a_row += 1
            if self._trial is not None or self._in_a_row >= self._threshold:
                self._opened_at = self._clock()
            self._trial = None

    def left(self) -> None:
        """The call ended without an outcome (it was cancelled)."""
        with self._lock:
            self._trial = None

    def _is_waiting(self) -> bool:
        """Whether it is open and nobody tries: what ends now began before."""
        return self._opened_at is not None and self._trial is None

    def _remaining(self) -> float:
        assert self._opened_at is not None
        return self._opened_at + self._open_seconds - self._clock()


_breakers: dict[Hashable, CircuitBreaker] = {}


def breaker_for(key: Hashable, name: str) -> CircuitBreaker:
    return _breakers.setdefault(key, CircuitBreaker(name=name))
