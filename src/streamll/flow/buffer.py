"""What a channel holds, and what its policy does when that exceeds the capacity.

Synchronous and not thread-safe: the channel holds its lock. The reader's end is ``settled``,
where the policy has already merged or dropped what it may; behind it is ``fresh``, as it came.
Every item moves from ``fresh`` to ``settled`` at most once while the buffer is full, so no
policy costs more than a constant per item.

A loss leaves a mark in its place, adjacent losses share one. The reader gets a ``StreamGap`` for
it, one per run. Marks are not counted in ``size``; there is at most one between two items.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Literal

from streamll.core import events as ev
from streamll.core.events import NOBODY, Event, FieldPartial, Identity, StreamGap
from streamll.flow.coalesce import Coalescer, Merging

Policy = Literal["block", "coalesce", "drop_oldest", "fail"]

HARD_LIMIT = 10
"""Lifecycle and custom events are admitted up to this many times the capacity."""

EMITTED = (ev.Status, ev.StreamllEvent)
"""Kinds a program emits, perhaps from places that cannot wait (an event loop)."""

DROPPABLE = (ev.TokenEvent, ev.Thinking, ev.ToolCallDelta, ev.Citation, FieldPartial, *EMITTED)
"""Kinds a policy may drop. All others are lifecycle events and are never dropped."""


class LossMark:
    """Stands where events were lost: how many of each run, and since when."""

    __slots__ = ("runs",)

    def __init__(self) -> None:
        self.runs: dict[str | None, tuple[int, float]] = {}

    def add(self, run_id: str | None, count: int, since: float) -> None:
        before, earliest = self.runs.get(run_id, (0, since))
        self.runs[run_id] = (before + count, earliest)

    def pop(self) -> StreamGap:
        """The gap of the next run; the mark is used up when ``runs`` is empty."""
        run_id = next(iter(self.runs))
        count, since = self.runs.pop(run_id)
        identity = NOBODY if run_id is None else Identity(run_id=run_id)
        return StreamGap(timestamp=since, identity=identity, count=count, reason="overflow")


class Marker:
    """Travels with the items, for this package's own use, and does not count as one."""


class NotAdmitted(Marker):
    """Stands for an event beyond the hard limit whose producer could not wait."""

    def __init__(self, item: object) -> None:
        self.item = item


def is_lifecycle(item: object) -> bool:
    """Whether no policy may drop the item."""
    if isinstance(item, Event):
        return not isinstance(item, DROPPABLE)
    return isinstance(item, Marker)


class Buffer:
    """Policy ``block``: keeps everything; producers keep the bound by waiting.

    ``received == delivered + size + merged + dropped + cleared`` at any time.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.settled: deque[Any] = deque()
        self.fresh: deque[Any] = deque()
        self.markers = 0  # loss marks and markers in the two queues
        self.overflowed = False
        self.received = 0
        self.delivered = 0
        self.merged = 0
        self.dropped = 0
        self.cleared = 0

    @property
    def size(self) -> int:
        return len(self.settled) + len(self.fresh) - self.markers

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
        """Add several at once if none needs the policy; else add none and return False."""
        if len(items) + len(self.fresh) + len(self.settled) > self.capacity or self.overflowed:
            return False
        for kind in set(map(type, items)):
            if issubclass(kind, Marker):
                return False
        self.received += len(items)
        self.fresh.extend(items)
        return True

    def pop(self) -> Any:
        """The oldest item: a merged token joined, a loss mark as its gaps, one by one."""
        queue = self.settled or self.fresh
        item = queue.popleft()
        if type(item) is LossMark:
            gap = item.pop()
            if item.runs:
                queue.appendleft(item)
            else:
                self.markers -= 1
            return gap
        if isinstance(item, Marker):
            self.markers -= 1
            return item
        self.delivered += 1
        return self._joined(item) if type(item) is Merging else item

    def take(self, limit: int) -> list[Any]:
        if self.settled or self.markers:
            items: list[Any] = []
            while self and len(items) < limit:
                items.append(self.pop())
            return items
        fresh = self.fresh
        count = min(limit, len(fresh))
        self.delivered += count
        return [fresh.popleft() for _ in range(count)]

    def clear(self) -> None:
        self.cleared += self.size
        self.settled.clear()
        self.fresh.clear()
        self.markers = 0

    def _add_marker(self, marker: Marker) -> None:
        if isinstance(marker, NotAdmitted):
            self.received += 1
            self._lose(marker.item, self.fresh or self.settled)
        else:
            self.markers += 1
            self.fresh.append(marker)

    def _relieve(self) -> None:
        """Called when an item was added to ``fresh`` and, with markers, the capacity is exceeded."""

    def _joined(self, item: Merging) -> Event:
        return item.joined()

    def _settle_mark(self, mark: LossMark) -> None:
        if self.settled and type(self.settled[-1]) is LossMark:
            for run_id, lost in mark.runs.items():
                self.settled[-1].add(run_id, *lost)
            self.markers -= 1
        else:
            self.settled.append(mark)

    def _lose(self, item: object, queue: deque[Any]) -> None:
        """Count ``item`` as lost in the mark at the end of ``queue``."""
        if not queue or type(queue[-1]) is not LossMark:
            queue.append(LossMark())
            self.markers += 1
        if isinstance(item, Event):
            queue[-1].add(item.identity.run_id, 1, item.timestamp)
        else:
            queue[-1].add(None, 1, 0.0)
        self.dropped += 1


class CoalescingBuffer(Buffer):
    """Policy ``coalesce``: adjacent tokens of one field call merge; no text is lost.

    From the hard limit on, partial values are dropped: a later one contains them. And tokens merge
    across interleaved calls of a run, until the buffer is below its capacity again.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self._coalescer = Coalescer()
        self._shed_at = capacity * HARD_LIMIT

    def _relieve(self) -> None:
        self._settle(self.fresh)
        across_calls = self._coalescer.across_calls
        if self.size >= self._shed_at:  # without partial values more tokens are adjacent
            self._settle_again(across_calls=across_calls, sheds=True)
            self._shed_at = max(self.capacity * HARD_LIMIT, 2 * self.size)
        if self.size >= self.capacity * HARD_LIMIT and not across_calls:
            self._settle_again(across_calls=True)

    def _settle_again(self, *, across_calls: bool, sheds: bool = False) -> None:
        again, self.settled = self.settled, deque()
        self._coalescer = Coalescer(across_calls=across_calls)
        self._settle(again, sheds=sheds)

    def _settle(self, items: deque[Any], *, sheds: bool = False) -> None:
        while items:
            item = items.popleft()
            if type(item) is LossMark:
                self._settle_mark(item)
            elif sheds and isinstance(item, FieldPartial):
                self._lose(item, self.settled)
            elif (kept := self._coalescer.add(item)) is None:
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
            if type(oldest) is LossMark:
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
        has_credit = is_lifecycle(newest) or isinstance(newest, EMITTED)
        bound = self.capacity * HARD_LIMIT if has_credit else self.capacity
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
