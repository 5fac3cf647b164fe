"""What a channel holds, and what its policy does when that becomes too much.

Synchronous and not thread-safe: the channel holds its lock. The reader's end is ``settled``,
where the policy has already merged or dropped what it may; behind it is ``fresh``, as it came.
Every item moves from ``fresh`` to ``settled`` at most once while the buffer is full, so no
policy costs more than a constant per item.

A loss leaves a mark at its place, adjacent losses one mark. The reader gets a ``StreamGap`` for
it, one per run. Marks are asides, not counted in ``size``; there is at most one between two
items.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Literal

from streamll.core.events import (
    NOBODY,
    Citation,
    Event,
    FieldPartial,
    Identity,
    Status,
    StreamGap,
    StreamllEvent,
    Thinking,
    TokenEvent,
    ToolCallDelta,
)
from streamll.flow.coalesce import Coalescer, Merging

Policy = Literal["block", "coalesce", "drop_oldest", "fail"]

LIMIT = 10
"""Lifecycle and custom events are admitted up to this many times the capacity."""

SPOKEN = (TokenEvent, Thinking, ToolCallDelta, Citation, FieldPartial)
"""Kinds a model writes: there may be any number of them, and only they fill a buffer fairly."""

VOLUNTARY = (Status, StreamllEvent)
"""Kinds a program emits at will, from places that may be unable to wait."""

DROPPABLE = SPOKEN + VOLUNTARY
"""What a policy may drop. Everything else tells how a run went and is never dropped."""


class Lost:
    """A mark where events were lost: how many of each run, and since when."""

    __slots__ = ("runs",)

    def __init__(self) -> None:
        self.runs: dict[str | None, tuple[int, float]] = {}

    def add(self, item: object) -> None:
        run_id, timestamp = None, 0.0
        if isinstance(item, Event):
            run_id, timestamp = item.identity.run_id, item.timestamp
        count, since = self.runs.get(run_id, (0, timestamp))
        self.runs[run_id] = (count + 1, since)

    def absorb(self, other: Lost) -> None:
        for run_id, (count, since) in other.runs.items():
            own, earlier = self.runs.get(run_id, (0, since))
            self.runs[run_id] = (own + count, earlier)

    def pop(self) -> StreamGap:
        """The next run's gap; the mark is used up when ``runs`` is empty."""
        run_id = next(iter(self.runs))
        count, since = self.runs.pop(run_id)
        identity = NOBODY if run_id is None else Identity(run_id=run_id)
        return StreamGap(timestamp=since, identity=identity, count=count, reason="overflow")


class Marker:
    """Something of this package's own that travels with the items and does not count as one."""


class Refused(Marker):
    """Stands in a producer's place for an event it could neither wait with nor have admitted."""

    def __init__(self, item: object) -> None:
        self.item = item


def is_lifecycle(item: object) -> bool:
    """Whether no policy may drop the item."""
    if isinstance(item, Event):
        return not isinstance(item, DROPPABLE)
    return isinstance(item, Marker)


class Buffer:
    """Policy ``block``: everything is kept; keeping the bound is the producer's business.

    ``received == delivered + size + merged + dropped`` (+ ``cleared``, once it was) at any time.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.settled: deque[Any] = deque()
        self.fresh: deque[Any] = deque()
        self.asides = 0  # marks and markers in the two queues
        self.overflowed = False
        self.received = 0
        self.delivered = 0
        self.merged = 0
        self.dropped = 0
        self.cleared = 0

    @property
    def size(self) -> int:
        return len(self.settled) + len(self.fresh) - self.asides

    def __bool__(self) -> bool:
        return bool(self.settled or self.fresh)

    def add(self, item: Any) -> None:
        if isinstance(item, Marker):
            self._add_marker(item)
            return
        self.received += 1
        self.fresh.append(item)
        if len(self.fresh) + len(self.settled) > self.capacity:
            self._relieve()

    def add_plain(self, items: list[Any]) -> bool:
        """Add several at once, if none of them needs a look; else add none and say False."""
        if len(items) + len(self.fresh) + len(self.settled) > self.capacity or self.overflowed:
            return False
        for kind in set(map(type, items)):
            if issubclass(kind, Marker):
                return False
        self.received += len(items)
        self.fresh.extend(items)
        return True

    def pop(self) -> Any:
        """The oldest item; a merged token joined, a mark as its gaps, one by one."""
        queue = self.settled or self.fresh
        item = queue.popleft()
        if type(item) is Lost:
            gap = item.pop()
            if item.runs:
                queue.appendleft(item)
            else:
                self.asides -= 1
            return gap
        if isinstance(item, Marker):
            self.asides -= 1
            return item
        self.delivered += 1
        return self._joined(item) if type(item) is Merging else item

    def take(self, limit: int) -> list[Any]:
        """Up to ``limit`` items, oldest first."""
        if self.settled or self.asides:
            items: list[Any] = []
            while self and len(items) < limit:
                items.append(self.pop())
            return items
        fresh = self.fresh
        count = min(limit, len(fresh))
        self.delivered += count
        return [fresh.popleft() for _ in range(count)]

    def clear(self) -> None:
        """Forget everything."""
        self.cleared += self.size
        self.settled.clear()
        self.fresh.clear()
        self.asides = 0

    def _add_marker(self, marker: Marker) -> None:
        if isinstance(marker, Refused):
            self.received += 1
            self._lose(marker.item, self.fresh or self.settled)
        else:
            self.asides += 1
            self.fresh.append(marker)

    def _relieve(self) -> None:
        """Something was added to ``fresh``, and with all asides there is more than the capacity."""

    def _joined(self, item: Merging) -> Event:
        return item.joined()

    def _settle_mark(self, mark: Lost) -> None:
        if self.settled and type(self.settled[-1]) is Lost:
            self.settled[-1].absorb(mark)
            self.asides -= 1
        else:
            self.settled.append(mark)

    def _lose(self, item: object, queue: deque[Any]) -> None:
        """Note at the end of ``queue`` that ``item`` is lost there."""
        if not queue or type(queue[-1]) is not Lost:
            queue.append(Lost())
            self.asides += 1
        queue[-1].add(item)
        self.dropped += 1


class CoalescingBuffer(Buffer):
    """Policy ``coalesce``: adjacent tokens of one field call merge; nothing is lost.

    But for partial values, from the limit on: the tokens have their text, and the last one of
    a field has all of it.

    Where merging within each run's exact order does not help (many calls of one run interleave),
    tokens merge across calls from the limit on, until the buffer is below its capacity again.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self._coalescer = Coalescer()
        self._shed_at = capacity * LIMIT

    def _relieve(self) -> None:
        self._settle(self.fresh)
        if self.size >= self._shed_at:
            self._shed()
        if self.size >= self.capacity * LIMIT and not self._coalescer.across_calls:
            self._coalescer = Coalescer(across_calls=True)
            again, self.settled = self.settled, deque()
            self._settle(again)

    def _shed(self) -> None:
        """Let go of partial values; tokens that only they kept apart merge."""
        again, self.settled = self.settled, deque()
        self._coalescer = Coalescer(across_calls=self._coalescer.across_calls)
        while again:
            item = again.popleft()
            if isinstance(item, FieldPartial):
                self._lose(item, self.settled)
            else:
                self._settle(deque((item,)))
        self._shed_at = max(self.capacity * LIMIT, 2 * self.size)

    def _settle(self, items: deque[Any]) -> None:
        while items:
            item = items.popleft()
            if type(item) is Lost:
                self._settle_mark(item)
                continue
            kept = self._coalescer.add(item)
            if kept is None:
                self.merged += 1
            else:
                self.settled.append(kept)

    def _joined(self, item: Merging) -> Event:
        self._coalescer.forget(item)
        if self._coalescer.across_calls and self.size < self.capacity:
            self._coalescer = Coalescer()
        return item.joined()


class DroppingBuffer(Buffer):
    """Policy ``drop_oldest``: the oldest droppable event makes room."""

    def _relieve(self) -> None:
        while self.fresh and self.size > self.capacity:
            oldest = self.fresh.popleft()
            if type(oldest) is Lost:
                self._settle_mark(oldest)
            elif is_lifecycle(oldest):
                self.settled.append(oldest)
            else:
                self._lose(oldest, self.settled)


class FailingBuffer(Buffer):
    """Policy ``fail``: the first item that does not fit ends the channel."""

    def add(self, item: Any) -> None:
        if self.overflowed and not isinstance(item, Marker):
            self.received += 1
            self.dropped += 1
        else:
            super().add(item)

    def _relieve(self) -> None:
        newest = self.fresh[-1]
        patient = is_lifecycle(newest) or isinstance(newest, VOLUNTARY)
        bound = self.capacity * LIMIT if patient else self.capacity
        if self.size > bound:
            self.fresh.pop()
            self.dropped += 1
            self.overflowed = True


BUFFERS: dict[str, type[Buffer]] = {
    "block": Buffer,
    "coalesce": CoalescingBuffer,
    "drop_oldest": DroppingBuffer,
    "fail": FailingBuffer,
}
