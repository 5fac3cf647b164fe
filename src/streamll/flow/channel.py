"""A bounded channel between any threads and event loops, without polling.

``put`` never waits: it hands the item over and returns, whatever another thread is doing with
the channel. So ``put``, ``close`` and ``abandon`` are safe in a finalizer or in a callback on an
event loop. A producer that can wait (the LM tap) checks ``full`` afterwards and calls
``wait_for_space``; a thread that has put another kind of event checks ``overfull`` and calls
``wait_for_room``, holding no lock of its own.

How: items go through ``_inbox``, whose append is atomic. The thread that holds the lock moves them
into the buffer; a thread that does not get the lock returns, because the holder looks into the
inbox again after releasing it. While the policy has nothing to decide (``_slack``), items stay in
the inbox until a reader comes, which is woken if it waits: a token costs one append, and where
nothing else is buffered it goes from the inbox to its reader.

A channel does not survive a fork; sinks make a new one.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import msgspec

from streamll.core.errors import ChannelClosed, ChannelOverflow, ConfigurationError
from streamll.flow.buffer import BUFFERS, EMITTED, HARD_LIMIT, Marker, NotAdmitted, Policy
from streamll.flow.waiting import (
    LOOP_CHECK_S,
    LoopWaiter,
    Pulse,
    ThreadWaiter,
    Waiter,
    on_event_loop,
)

T = TypeVar("T")
W = TypeVar("W", bound=Waiter)

END = Marker()
"""Put into the inbox by ``close``: what comes after it is discarded."""

INBOX_ITEMS = 64
"""At most so many items stay in the inbox."""


class ChannelStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """``received == delivered + buffered + merged + dropped + discarded`` at every moment.

    ``dropped`` events were announced to the reader as gaps (which ``delivered`` does not count);
    ``discarded`` ones came after the end or when there was no reader any more.
    """

    name: str
    capacity: int
    policy: Policy
    received: int
    delivered: int
    buffered: int
    merged: int
    dropped: int
    discarded: int
    waiting_readers: int
    waiting_producers: int
    closed: bool


class Channel(Generic[T]):
    """Items in order from any number of producers to any number of readers.

    ``policy`` decides what happens at ``capacity`` items: ``block`` (producers that can wait do),
    ``coalesce`` (adjacent tokens of one field merge), ``drop_oldest`` (the reader gets their
    number as ``stream.gap``), ``fail`` (both sides get ``ChannelOverflow``). Lifecycle events are
    never dropped and may exceed the capacity; custom and status events may exceed it ten times,
    then the newest is dropped where its producer cannot wait.
    """

    def __init__(self, capacity: int = 100, policy: Policy = "block", *, name: str = "") -> None:
        if not capacity >= 1:
            raise ConfigurationError(f"capacity must be at least 1, not {capacity}")
        if policy not in BUFFERS:
            raise ConfigurationError(f"policy must be one of {', '.join(BUFFERS)}, not {policy!r}")
        self.name = name
        self.capacity = capacity
        self.policy: Policy = policy
        self.full = False
        """Policy ``block``: producers should wait. Set at the capacity, cleared at half of it."""
        self.overfull = False
        """The hard limit is reached, and the policy does not reduce what is there by itself."""
        self._low = capacity // 2
        self._limit = capacity * HARD_LIMIT
        self._blocks = policy == "block"
        self._limited = policy in {"block", "coalesce"}  # the others drop or fail
        self._lock = threading.Lock()
        self._buffer = BUFFERS[policy](capacity)
        self._inbox: deque[Any] = deque()
        self._slack = min(INBOX_ITEMS, capacity)  # how many items may stay in the inbox
        self._nudged = False
        self._closed = False
        self._abandoned = False
        self._readers: deque[Waiter] = deque()
        self._producers: deque[Waiter] = deque()
        self._reader_pulse: Pulse | None = None
        self._late = 0
        self._interrupts = self._answered = 0

    # --- producing ------------------------------------------------------------------------------

    def put(self, item: T) -> None:
        """Hand the item over. Never waits.

        After ``close`` or ``abandon`` it is discarded and counted: a call that outlives its
        program must not fail because of that. Raises ``ChannelOverflow`` once a channel with
        policy ``fail`` has been full.
        """
        if self.overfull and isinstance(item, EMITTED) and not self._may_wait():
            self._inbox.append(NotAdmitted(item))
        else:
            self._inbox.append(item)
        if self._nudged or len(self._inbox) >= self._slack:
            self._settle()
            if self._buffer.overflowed:
                raise self._overflow()
        elif self._readers:
            self._wake_reader()

    def wait_for_space(self, timeout: float | None = None) -> bool:
        """Block this thread while ``full``; False after ``timeout`` seconds.

        Returns at once on the thread of an event loop, where nothing may block, and soon when the
        reader's event loop is blocked: it may be waiting for this very thread.
        """
        if len(self._inbox) >= self._slack:
            self._keep_up()
        return not self.full or self._wait_while("full", timeout)

    async def wait_for_space_async(self) -> None:
        if len(self._inbox) >= self._slack:
            self._keep_up()
        while self.full:
            waiter = LoopWaiter()
            if self._add_producer(waiter, "full"):
                await waiter.wait(self._nudge)

    def wait_for_room(self, timeout: float | None = None) -> bool:
        """Block this thread while ``overfull``, if the policy is ``block``; as ``wait_for_space``."""
        if len(self._inbox) >= self._slack:
            self._keep_up()
        return not self.overfull or self._wait_while("overfull", timeout)

    def close(self) -> None:
        """End the channel; readers still get what is buffered. Idempotent."""
        self._inbox.append(END)
        self._settle()

    def abandon(self) -> None:
        """Stop reading: what is buffered or comes later is discarded. Idempotent.

        Waiting producers are woken; waiting readers get ``ChannelClosed``.
        """
        self._abandoned = True
        self._nudge()

    def interrupt(self) -> None:
        """Wake the readers that wait now; they get an empty batch, if there is no item.

        Where none waits, the next that would is one: it may be about to.
        """
        self._interrupts += 1
        self._nudge()

    # --- reading --------------------------------------------------------------------------------

    def get(self, timeout: float | None = None) -> T:
        """The next item. Blocks this thread. Raises ``ChannelClosed`` at the end, ``TimeoutError``."""
        return self.get_batch(1, timeout)[0]

    def get_batch(self, limit: int, timeout: float | None = None) -> list[T]:
        """At least one and at most ``limit`` items, as many as there are; none if interrupted."""
        interrupts = self._interrupts
        taken = self._take(limit, ThreadWaiter)
        deadline = None if timeout is None else time.monotonic() + timeout
        while not isinstance(taken, list):
            woken = taken.wait(_until(deadline), self._nudge)
            if self._interrupts != interrupts:
                return []
            taken = self._take(limit, ThreadWaiter if woken else None)
        return taken

    def read_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Declare the reader's event loop before it first waits there."""
        if self._reader_pulse is None or self._reader_pulse.loop is not loop:
            self._reader_pulse = Pulse(loop)

    async def get_async(self) -> T:
        """The next item. Cancelling the wait loses nothing."""
        return (await self.get_batch_async(1))[0]

    async def get_batch_async(self, limit: int) -> list[T]:
        interrupts = self._interrupts
        while type(taken := self._take(limit, LoopWaiter)) is LoopWaiter:
            pulse = self._reader_pulse
            if pulse is None or pulse.loop is not taken.loop:
                self.read_on(taken.loop)
            try:
                await taken.woken
            except BaseException:
                taken.gone = True
                self._nudge()
                raise
            if self._interrupts != interrupts:
                return []
        return taken  # type: ignore[return-value]

    # --- looking --------------------------------------------------------------------------------

    @property
    def empty(self) -> bool:
        with self._looking():
            return not self._buffer

    @property
    def idle(self) -> bool:
        """Whether everything put so far has been taken and a reader waits for more."""
        with self._looking():
            return not self._buffer and any(not waiter.gone for waiter in self._readers)

    def statistics(self) -> ChannelStatistics:
        with self._looking():
            buffer = self._buffer
            return ChannelStatistics(
                name=self.name,
                capacity=self.capacity,
                policy=self.policy,
                received=buffer.received + self._late,
                delivered=buffer.delivered,
                buffered=buffer.size,
                merged=buffer.merged,
                dropped=buffer.dropped,
                discarded=buffer.cleared + self._late,
                waiting_readers=sum(not waiter.gone for waiter in self._readers),
                waiting_producers=sum(not waiter.gone for waiter in self._producers),
                closed=self._closed,
            )

    def __repr__(self) -> str:
        return f"<Channel {self.name!r} {self.policy} {self._buffer.size}/{self.capacity}>"

    # --- moving items; all but the first three are called holding the lock ----------------------

    def _settle(self) -> None:
        """Move the inbox and forget waiters that left, unless the lock's holder will."""
        while (self._inbox or self._nudged) and self._lock.acquire(blocking=False):
            try:
                if self._nudged:
                    self._nudged = False
                    self._remove_gone()
                    if self._interrupts != self._answered and self._readers:
                        self._answered = self._interrupts
                        self._wake_all(self._readers)
                self._receive()
            finally:
                self._lock.release()

    def _wake_reader(self) -> None:
        """Wake one, which takes what is in the inbox by itself: the policy has nothing to decide."""
        if self._lock.acquire(blocking=False):
            try:
                self._wake_one(self._readers)
            finally:
                self._lock.release()
        if self._nudged or (self._readers and self._inbox):  # of threads that did not get the lock
            self._settle()

    def _keep_up(self) -> None:
        """Wait for the lock's holder: it was interrupted, and has not seen that this is full."""
        with self._looking():
            pass

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """Hold the lock, with everything put so far in the buffer."""
        with self._lock:
            self._receive()
            yield
        self._settle()

    def _nudge(self, gone: Waiter | None = None) -> None:
        """Have a look. A waiter that stopped waiting may have been woken: then another must be."""
        self._nudged = True
        self._settle()

    def _receive(self) -> None:
        """Move the inbox into the buffer."""
        inbox = self._inbox
        self._add([inbox.popleft() for _ in range(len(inbox))])

    def _passed(self, limit: int) -> list[Any]:
        """The inbox, for a reader of ``limit`` items; nothing where it had to go into the buffer."""
        inbox, buffer = self._inbox, self._buffer
        items = [inbox.popleft()]
        while inbox and len(items) < self.capacity:
            items.append(inbox.popleft())
        passes = len(items) <= limit and not (buffer.fresh or buffer.settled or self._closed)
        for item in items:
            passes = passes and not isinstance(item, Marker)
        if passes and not (self._abandoned or buffer.overflowed):
            buffer.received += len(items)
            buffer.delivered += len(items)
            return items
        self._add(items)
        return []

    def _add(self, items: list[Any]) -> None:
        buffer = self._buffer
        if self._closed or self._abandoned or not buffer.add_plain(items):
            for item in items:
                if item is END:
                    self._closed = True
                elif self._closed or self._abandoned:
                    self._late += 1
                else:
                    buffer.add(item)
        if self._abandoned and buffer:
            buffer.clear()
        self._update()

    def _update(self) -> None:
        """After adding or taking: note whether there is space, and wake those who waited for it."""
        buffer, was_full, was_overfull = self._buffer, self.full, self.overfull
        size = buffer.size
        ended = self._closed or self._abandoned or buffer.overflowed
        if ended or size >= self.capacity:
            self._slack = 1
            self.full = self._blocks and not ended
        else:
            self._slack = min(INBOX_ITEMS, self.capacity - size)
            self.full = self.full and size > self._low
        self.overfull = self._limited and size >= self._limit and not ended
        if (was_full and not self.full) or (was_overfull and not self.overfull):
            self._wake_all(self._producers)
        if ended:
            self._wake_all(self._readers)
        elif self._readers and (buffer.fresh or buffer.settled):
            self._wake_one(self._readers)

    def _wake_one(self, waiters: deque[Waiter]) -> None:
        while waiters:
            waiter = waiters.popleft()
            if not waiter.gone and waiter.wake():
                return

    def _wake_all(self, waiters: deque[Waiter]) -> None:
        while waiters:
            self._wake_one(waiters)

    def _remove_gone(self) -> None:
        self._readers = deque(waiter for waiter in self._readers if not waiter.gone)
        self._producers = deque(waiter for waiter in self._producers if not waiter.gone)

    def _in_line(self, waiter: Callable[[], W]) -> list[T] | W:
        """A waiter in the readers' queue, or nothing where an interrupt came before it."""
        if self._interrupts != self._answered:
            self._answered = self._interrupts
            return []
        waiting = waiter()
        self._readers.append(waiting)
        return waiting

    # --- waiting; called without the lock -------------------------------------------------------

    def _take(self, limit: int, waiter: Callable[[], W] | None) -> list[T] | W:
        """Up to ``limit`` items. If there are none yet, a waiter that is in the readers' queue now.

        Raises at the end, and ``TimeoutError`` without ``waiter``.
        """
        taken: list[T] | W = []
        end: Exception | None = None
        with self._lock:
            buffer = self._buffer
            if self._inbox:
                taken = self._passed(limit)
            if taken:
                pass
            elif (buffer.fresh or buffer.settled) and not self._abandoned:
                taken = buffer.take(limit)
                if self.full or self.overfull or self._readers:
                    self._update()
            elif self._closed or self._abandoned:
                end = ChannelClosed(f"channel {self.name!r} has ended")
            elif buffer.overflowed:
                end = self._overflow()
            elif waiter is None:
                end = TimeoutError(f"no item of channel {self.name!r} in time")
            else:
                taken = self._in_line(waiter)
        if self._inbox or self._nudged:
            self._settle()
        if end is not None:
            raise end
        return taken

    def _wait_while(self, state: str, timeout: float | None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        while getattr(self, state) and self._may_wait():
            pulse, until = self._reader_pulse, deadline
            if pulse is not None:
                if pulse.is_blocked():
                    return False
                soon = time.monotonic() + LOOP_CHECK_S
                until = soon if deadline is None else min(soon, deadline)
            waiter = ThreadWaiter()
            if self._add_producer(waiter, state) and not waiter.wait(_until(until), self._nudge):
                if pulse is None or until == deadline:
                    return not getattr(self, state)
                pulse.check()
        return True

    def _add_producer(self, waiter: Waiter, state: str) -> bool:
        """Register a producer while ``state`` (``full``, ``overfull``) is true."""
        with self._lock:
            waits: bool = getattr(self, state)
            if waits:
                self._producers.append(waiter)
        self._settle()
        return waits

    def _may_wait(self) -> bool:
        return self._blocks and not on_event_loop()

    def _overflow(self) -> ChannelOverflow:
        return ChannelOverflow(
            f"the reader of channel {self.name!r} is too slow: more than {self.capacity} items "
            "are waiting"
        )


def _until(deadline: float | None) -> float | None:
    return None if deadline is None else deadline - time.monotonic()
