"""How long the model has said nothing: the clock behind first-token and idle timeouts.

``heard`` is called for every token and only notes the time; a timer looks whether that is long
ago. The time in which the reader keeps the model waiting is not the model's silence.
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
    """How long a program that was told to end may take to."""
    return min(0.2, max(0.05, limit / 10))


class IdleTimer:
    """Measures the silences of one attempt after the other.

    ``time_is_up`` is called on the timers' thread, and never after ``stop`` has returned.
    """

    def __init__(self, config: StreamConfig, time_is_up: Callable[[StreamTimeout], None]) -> None:
        self._first = config.first_token_timeout
        self._idle = config.idle_timeout
        self.watches = self._first is not None or self._idle is not None
        self._time_is_up = time_is_up
        self._lock = threading.Lock()
        self._timer: Timer | None = None
        self._since = 0.0
        self._began = False
        self._held = False

    def start(self) -> None:
        if self.watches:
            self._began = self._held = False
            self._since = time.monotonic()
            self._arm(self._first)

    def heard(self) -> None:
        if not self.watches:
            return
        self._since = time.monotonic()
        if not self._began:
            self._began = True
            self._arm(self._idle)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """The reader keeps the model waiting: not the model's silence."""
        self._held = True
        try:
            yield
        finally:
            self._since = time.monotonic()
            self._held = False

    def stop(self) -> None:
        """Nothing is measured any more; a look that is being taken has had its consequences."""
        if self.watches:
            self._arm(None)

    def _arm(self, limit: float | None) -> None:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if limit is not None:
                self._look_at(self._since + limit, limit)

    def _look_at(self, when: float, limit: float) -> None:
        timer = self._timer = timers.at(when, lambda: self._look(timer, limit))

    def _look(self, timer: Timer, limit: float) -> None:
        with self._lock:
            if self._timer is not timer:
                return
            now = time.monotonic()
            silent = 0.0 if self._held else now - self._since
            if silent < limit:
                self._look_at(now + limit - silent, limit)
                return
            self._timer = None
            kind = IdleTimeout if self._began else FirstTokenTimeout
            self._time_is_up(kind(limit, elapsed=silent))
