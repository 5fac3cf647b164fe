"""How many at once, and how many per second: limits shared by threads and event loops.

``Slots`` is a semaphore whose cap is given by each user. ``Rate`` spaces calls evenly. Both are
fair: first come, first served. ``Limits`` is both, for the LM requests of a ``StreamConfig``.

There are no limits across processes, or by tokens.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable

from streamll.core.errors import ConfigurationError
from streamll.flow.waiting import LoopWaiter, ThreadWaiter, Waiter


class Slots:
    """A semaphore: ``take`` or ``take_async`` before, ``give`` after."""

    def __init__(self) -> None:
        self.taken = 0
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Waiter, int]] = deque()

    def take(self, cap: int, timeout: float | None = None) -> bool:
        """Wait until fewer than ``cap`` are taken, and take one; False after ``timeout`` seconds."""
        waiter = ThreadWaiter()
        return not self._must_wait(waiter, cap) or waiter.wait(timeout, self._withdraw)

    async def take_async(self, cap: int) -> None:
        """``take`` on an event loop. Being cancelled takes nothing."""
        waiter = LoopWaiter()
        if self._must_wait(waiter, cap):
            await waiter.wait(self._withdraw)

    def give(self) -> None:
        """Give one back; the one that has waited longest gets it."""
        with self._lock:
            self.taken -= 1
            self._admit()

    def _must_wait(self, waiter: Waiter, cap: int) -> bool:
        if not cap >= 1:
            raise ConfigurationError(f"at least 1 must be allowed at once, not {cap}")
        with self._lock:
            if not self._waiting and self.taken < cap:
                self.taken += 1
                return False
            self._waiting.append((waiter, cap))
            return True

    def _admit(self) -> None:
        while self._waiting and self.taken < self._waiting[0][1]:
            waiter, _ = self._waiting.popleft()
            if waiter.wake():
                self.taken += 1

    def _withdraw(self, waiter: Waiter) -> None:
        """Leave the queue, or give the slot back that this waiter has got already."""
        with self._lock:
            left = deque(each for each in self._waiting if each[0] is not waiter)
            self.taken -= len(left) == len(self._waiting)
            self._waiting = left
            self._admit()


_slots: dict[Hashable, Slots] = {}


def slots_for(key: Hashable) -> Slots:
    return _slots.setdefault(key, Slots())


class Rate:
    """At most ``per_second``, evenly spaced, after a first ``burst`` that may go at once."""

    def __init__(
        self, per_second: float, burst: int = 1, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not per_second > 0 or not burst >= 1:
            raise ConfigurationError("a rate is more than 0 per second, its burst at least 1")
        self._interval = 1.0 / per_second
        self._slack = (burst - 1) * self._interval
        self._clock = clock
        self._lock = threading.Lock()
        self._next = clock() - self._slack

    def reserve(self) -> float:
        """Reserve the next start; the seconds until then."""
        with self._lock:
            now = self._clock()
            start = max(self._next, now - self._slack)
            self._next = start + self._interval
            return max(0.0, start - now)


class Limits:
    """At most ``max_concurrent`` LM requests at once and ``requests_per_minute``, evenly spaced.

    For ``StreamConfig(limits=…)`` and ``iModel(limits=…)``; all that have the same object share
    it, threads and tasks alike, first come, first served. ``burst`` requests may start at once
    before the spacing begins. ``None`` does not limit. Each attempt counts as a request.

    Raises:
        ConfigurationError: a limit that would let nothing through.
    """

    def __init__(
        self,
        max_concurrent: int | None = None,
        requests_per_minute: float | None = None,
        burst: int = 1,
    ) -> None:
        if max_concurrent is not None and not max_concurrent >= 1:
            raise ConfigurationError(
                f"max_concurrent={max_concurrent} lets no request through; it is at least 1, "
                "or None for any number"
            )
        self._cap = max_concurrent or sys.maxsize
        self._slots = Slots()
        per_minute = math.inf if requests_per_minute is None else requests_per_minute
        self._rate = Rate(per_minute / 60.0, burst)
        self.delay = self._rate.reserve  # reserve the next start; seconds until then
        self.give = self._slots.give

    def take(self) -> None:
        """Wait in this thread until a further request may be under way; ``give`` ends it."""
        self._slots.take(self._cap)

    async def take_async(self) -> None:
        """``take`` on an event loop. Being cancelled takes nothing."""
        await self._slots.take_async(self._cap)
