"""Measures a model's silences: the clock behind first-token and idle timeouts.

``reset`` is called for every token and only notes the time; a timer checks how long ago that is. The
time in which the reader makes the model wait is not the model's silence.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from streamll.core.errors import FirstTokenTimeout, IdleTimeout, StreamTimeout
from streamll.flow.config import StreamConfig
from streamll.flow.timers import Timer, timers


def grace(limit: float) -> float:
    """Seconds that a program may take to end after its timeout."""
    return min(0.2, max(0.05, limit / 10))


class IdleTimer:
    """Measures the silences of one attempt after the other.

    ``time_is_up`` is called on the timers' thread, and never after ``stop`` has returned.
    """

    def __init__(self, config: StreamConfig, time_is_up: Callable[[StreamTimeout], None]) -> None:
        self._first = config.first_token_timeout
        self._idle = config.idle_timeout
        self.enabled = self._first is not None or self._idle is not None
        self._time_is_up = time_is_up
        self._lock = threading.Lock()
        self._timer: Timer | None = None
        self._since = 0.0
        self._begun = False
        self._held = False

    def start(self) -> None:
        if self.enabled:
            self._begun = self._held = False
            self._since = time.monotonic()
            self._arm(self._first)

    def reset(self) -> None:
        if not self.enabled:
            return
        self._since = time.monotonic()
        if not self._begun:
            self._begun = True
            self._arm(self._idle)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """While entered, the reader makes the model wait."""
        self._held = True
        try:
            yield
        finally:
            self._since = time.monotonic()
            self._held = False

    def stop(self) -> None:
        """Stop measuring. A check that is under way is completed first."""
        if self.enabled:
            self._arm(None)

    def _arm(self, limit: float | None) -> None:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if limit is not None:
                self._check_at(self._since + limit, limit)

    def _check_at(self, when: float, limit: float) -> None:
        timer = self._timer = timers.at(when, lambda: self._check(timer, limit))

    def _check(self, timer: Timer, limit: float) -> None:
        with self._lock:
            if self._timer is not timer:
                return
            now = time.monotonic()
            silent = 0.0 if self._held else now - self._since
            if silent < limit:
                self._check_at(now + limit - silent, limit)
                return
            self._timer = None
            kind = IdleTimeout if self._begun else FirstTokenTimeout
            self._time_is_up(kind(limit, elapsed=silent))
