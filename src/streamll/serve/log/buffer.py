"""The latest events of one run, shared by all who read it in this process. No I/O."""

from __future__ import annotations

import asyncio
import itertools
import time

from streamll.core.events import TERMINAL, Event, StreamGap
from streamll.core.positions import Position
from streamll.serve.log.frames import EntryJSON, Item, items_of

KEPT_EVENTS = 4_000
"""At least so many events of a run are kept for its readers, and at most twice as many."""


class RunBuffer:
    """Items have an index that counts all ever added, also those no longer kept."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.readers = 0
        self.ended = False
        self.dismissals = 0
        """How often its readers were told to leave when they have what there is; who comes after that stays."""
        self.heard_at = time.monotonic()
        """When the log last had something of the run."""
        self.notice: Event | None = None
        """What its readers are told besides; in no log, and without ``seq``."""
        self.position = Position(run_id)
        """The position after the last event so far."""
        self.start = 0
        """Index of the first item that is kept."""
        self._items: list[Item] = []
        self._waiting: list[asyncio.Future[None]] = []

    def add(self, events: list[Event], entry: EntryJSON | None = None) -> None:
        self.heard_at = time.monotonic()
        if self.is_empty:  # its reader reads the log up to here
            events = list(itertools.dropwhile(_is_loss, events))
        if not events:
            return
        items = items_of(events, self.position, entry)
        self._items += items
        self.position = items[-1].position
        self.ended = self.ended or events[-1].event_type in TERMINAL
        if len(self._items) > 2 * KEPT_EVENTS:
            del self._items[:KEPT_EVENTS]
            self.start += KEPT_EVENTS
        self.wake()

    def tell(self, notice: Event | None) -> None:
        """Give waiting readers a notice, once until there is none."""
        if notice is None or self.notice is None:
            self.notice = notice
            if notice is not None:
                self.wake()

    def wake(self) -> None:
        """Let every waiting reader look."""
        waiting, self._waiting = self._waiting, []
        for reader in waiting:
            if not reader.done():  # it may have left
                reader.set_result(None)

    def changed(self) -> asyncio.Future[None]:
        """A future that resolves when the next event arrives, or ``wake`` is called."""
        changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(changed)
        return changed

    def index_after(self, seq: int) -> int | None:
        """The index of the first item after ``seq``.

        ``None`` if there may be earlier ones in the log: what is needed is no longer kept, or
        nothing has arrived yet.
        """
        if not self._items or self._items[0].first > seq + 1:
            return None
        following = (index for index, item in enumerate(self._items) if item.position.seq > seq)
        index = next(following, len(self._items))
        while index and self._items[index - 1].event.seq is None:  # a gap belongs to what follows
            index -= 1
        return self.start + index

    def since(self, index: int) -> list[Item] | None:
        """The items from ``index`` on; ``None`` if they are no longer kept."""
        return self._items[index - self.start :] if index >= self.start else None

    @property
    def end(self) -> int:
        """The index of the next item."""
        return self.start + len(self._items)

    @property
    def is_empty(self) -> bool:
        return not self._items


def _is_loss(event: Event) -> bool:
    """Something is missing before what follows. It has no place of its own: nobody could tell what of the
    run comes before a buffer that begins so.
    """
    return isinstance(event, StreamGap) and event.seq is None
