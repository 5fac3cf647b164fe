"""The latest events of one run, shared by all who read it in this process. No I/O."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque

from streamll.core.events import TERMINAL, Event
from streamll.serve.log.frames import Item, items_of

KEPT_EVENTS = 4_000
"""Events of a run that are kept for its readers, at least; twice that at most."""


class RunBuffer:
    """Items are found by their index, which counts all that have ever been added."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.readers = 0
        self.ended = False
        self.heard_at = time.monotonic()
        self._items: deque[Item] = deque()
        self._dropped = 0  # items that are no longer kept
        self.last = -1
        self._waiting: list[asyncio.Future[None]] = []

    def add(self, events: list[Event]) -> None:
        self.heard_at = time.monotonic()
        items = items_of(events, self.last)
        self._items += items
        self.last = items[-1].last
        self.ended = self.ended or events[-1].event_type in TERMINAL
        if len(self._items) > 2 * KEPT_EVENTS:
            for _ in range(KEPT_EVENTS):
                self._items.popleft()
            self._dropped += KEPT_EVENTS
        self.wake()

    def wake(self) -> None:
        """Let every waiting reader look."""
        waiting, self._waiting = self._waiting, []
        for reader in waiting:
            if not reader.done():  # it may have left
                reader.set_result(None)

    def news(self) -> asyncio.Future[None]:
        """What a reader waits for who has had everything."""
        news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(news)
        return news

    def index_behind(self, seq: int) -> int | None:
        """Where a reader goes on who has had everything up to ``seq``; ``None``: in the log.

        A feed that has heard nothing yet cannot tell.
        """
        if not self._items or self._items[0].first > seq + 1:
            return None
        for index, item in enumerate(self._items):
            if item.last > seq:
                return self._dropped + index
        return self._dropped + len(self._items)

    def since(self, index: int) -> list[Item] | None:
        """The items from ``index`` on; ``None`` if they are no longer kept."""
        start = index - self._dropped
        if start < 0:
            return None
        behind = len(self._items) - start
        if behind == 1:  # a reader that keeps up
            return [self._items[-1]]
        return list(itertools.islice(reversed(self._items), behind))[::-1]

    @property
    def start(self) -> int:
        """The index of the first item that is kept."""
        return self._dropped

    @property
    def end(self) -> int:
        """The index of the next item."""
        return self._dropped + len(self._items)
