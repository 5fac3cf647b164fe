"""How many at once, and how many per second: limits that threads and event loops share.

``Slots`` counts what is under way under one key; each user brings the cap it wants to keep.
``Rate`` spaces things out. Both are fair: first come, first served. ``Limits`` is the two of
them for the LM requests of a ``StreamConfig``.

What this does not do: limit across processes, or by tokens.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable

from streamll.core.errors import ConfigurationError
from streamll.flow.waiting import LoopWaiter, ThreadWaiter, Waiter


class Slots:
    """What is under way under one key. ``take``/``take_async``, and ``give`` when it is over."""

    def __init__(self) -> None:
        self.taken = 0
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Waiter, int]] = deque()

    def take(self, cap: int, timeout: float | None = None) -> bool:
        """Wait until fewer than ``cap`` are under way, and be one; False when the time is up."""
        waiter = ThreadWaiter()
        if self._taken_at_once(waiter, cap):
            return True
        woken = False
        try:
            woken = waiter.wait(timeout)
        finally:
            if not woken:
                woken = not self._withdrawn(waiter)
        return woken

    async def take_async(self, cap: int) -> None:
        """The same on an event loop. Being cancelled takes nothing."""
        waiter = LoopWaiter()
        if self._taken_at_once(waiter, cap):
            return
        try:
            await waiter.woken
        except BaseException:
            if not self._withdrawn(waiter):
                self.give()
            raise

    def give(self) -> None:
        """One is over: whoever waits longest may go on."""
        with self._lock:
            self.taken -= 1
            self._admit()

    def _taken_at_once(self, waiter: Waiter, cap: int) -> bool:
        if cap < 1:
            raise ConfigurationError(f"at least 1 must be allowed at once, not {cap}")
        with self._lock:
            if not self._waiting and self.taken < cap:
                self.taken += 1
                return True
            self._waiting.append((waiter, cap))
            self._admit()
            return False

    def _admit(self) -> None:
        while self._waiting and self.taken < self._waiting[0][1]:
            waiter, _ = self._waiting.popleft()
            if not waiter.gone:
                self.taken += 1
                if not waiter.wake():
                    self.taken -= 1

    def _withdrawn(self, waiter: Waiter) -> bool:
        """Whether the waiter left the queue before its turn had come."""
        with self._lock:
            waiter.gone = True
            for place, (other, _) in enumerate(self._waiting):
                if other is waiter:
                    del self._waiting[place]
                    self._admit()
                    return True
            return False


_slots: dict[Hashable, Slots] = {}
_lock = threading.Lock()


def slots_for(key: Hashable) -> Slots:
    """The slots that everyone in this process shares for ``key``."""
    with _lock:
        return _slots.setdefault(key, Slots())


class Rate:
    """At most ``per_second``, evenly spaced, after a first ``burst`` that may go at once."""

    def __init__(
        self, per_second: float, burst: int = 1, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if per_second <= 0 or burst < 1:
            raise ConfigurationError("a rate is more than 0 per second, its burst at least 1")
        self._interval = 1.0 / per_second
        self._slack = (burst - 1) * self._interval
        self._clock = clock
        self._lock = threading.Lock()
        self._next = clock() - self._slack

    def reserve(self) -> float:
        """Take the next place in line; the seconds to wait until its time has come."""
        with self._lock:
            now = self._clock()
            place = max(self._next, now - self._slack)
            self._next = place + self._interval
            return max(0.0, place - now)

    def wait(self) -> None:
        """Block this thread until the next place's time."""
        if delay := self.reserve():
            time.sleep(delay)

    async def wait_async(self) -> None:
        if delay := self.reserve():
            await asyncio.sleep(delay)


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
        if max_concurrent is not None and max_concurrent < 1:
            raise ConfigurationError(
                f"max_concurrent={max_concurrent} lets no request through; it is at least 1, "
                "or None for any number"
            )
        self._cap = max_concurrent or 0
        self._slots = Slots() if max_concurrent is not None else None
        self._rate = (
            Rate(requests_per_minute / 60.0, burst) if requests_per_minute is not None else None
        )

    def take(self) -> None:
        """Wait in this thread until a further request may be under way; ``give`` ends it."""
        if self._slots is not None:
            self._slots.take(self._cap)

    async def take_async(self) -> None:
        """The same on an event loop. Being cancelled takes nothing."""
        if self._slots is not None:
            await self._slots.take_async(self._cap)

    def give(self) -> None:
        if self._slots is not None:
            self._slots.give()

    def delay(self) -> float:
        """Reserve the next start; seconds until then."""
        return self._rate.reserve() if self._rate is not None else 0.0
