"""Events that wait for a verdict which comes later, in another thread or task.

``hold`` keeps a place for events that are not known yet. What comes after it in the same call, in
calls around it and in calls inside it waits behind it, in order; calls beside it go on. ``settle``
puts the events into the place, ``abandon`` gives up on all places. Both return what can leave now.

Nothing here waits, and nothing locks: a run calls this under its lock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from streamll.core.events import CALLS, Event, Identity

Leaving = tuple[Event, Any]
"""An event, and the scope whose receivers get it."""


class Hold:
    """A place in the order of a run for events that are not known yet.

    ``otherwise`` are those that come if nobody settles it before the run ends.
    """

    def __init__(self, identity: Identity, scope: Any, otherwise: Sequence[Event] = ()) -> None:
        self.call_id = identity.call_id
        self.scope = scope
        self.otherwise = otherwise
        self.events: Sequence[Event] | None = None


class Pending:
    """The queue of one run: places to be settled, and the events behind them."""

    def __init__(self) -> None:
        self.waiting: list[Hold | Leaving] = []
        """Empty where nothing waits."""
        self._parents: dict[str, str | None] = {}
        self._when_empty: list[Callable[[], None]] = []

    def hold(self, identity: Identity, scope: Any, otherwise: Sequence[Event] = ()) -> Hold:
        """Keep a place here, behind everything that has been passed so far."""
        place = Hold(identity, scope, otherwise)
        self.waiting.append(place)
        return place

    def passes(self, event: Event, scope: Any) -> bool:
        """Whether the event can leave; else it waits."""
        if event.opens in CALLS and event.call_id is not None:
            self._parents[event.call_id] = event.parent_call_id
        if not self.waiting or not self._waits(event.call_id, self._places()):
            return True
        self.waiting.append((event, scope))
        return False

    def settle(self, place: Hold, events: Sequence[Event]) -> list[Leaving]:
        """These events come in the place of ``place``."""
        place.events = events
        return self._leaving()

    def abandon(self) -> list[Leaving]:
        """Nobody settles the places that are left."""
        for place in self._places():
            if place.events is None:
                place.events = place.otherwise
        return self._leaving()

    def when_empty(self, call: Callable[[], None]) -> bool:
        """Call this once when nothing waits any more; False if nothing does now."""
        if self.waiting:
            self._when_empty.append(call)
        return bool(self.waiting)

    def _places(self) -> list[Hold]:
        return [each for each in self.waiting if isinstance(each, Hold)]

    def _waits(self, call_id: str | None, places: Sequence[Hold]) -> bool:
        return any(self._is_within(call_id, place.call_id) for place in places) or any(
            self._is_within(place.call_id, call_id) for place in places
        )

    def _is_within(self, call_id: str | None, outer: str | None) -> bool:
        """Whether a call is another or lies inside it; all lie inside the run, ``None``."""
        while call_id != outer and call_id is not None:
            call_id = self._parents.get(call_id)
        return call_id == outer

    def _leaving(self) -> list[Leaving]:
        leaving: list[Leaving] = []
        queue, self.waiting = self.waiting, []
        ahead: list[Hold] = []
        for each in queue:
            if isinstance(each, Hold):
                self._settle_in_turn(each, ahead, leaving)
            elif self._waits(each[0].call_id, ahead):
                self.waiting.append(each)
            else:
                leaving.append(each)
        if not self.waiting:
            calls, self._when_empty = self._when_empty, []
            for call in calls:
                call()
        return leaving

    def _settle_in_turn(self, place: Hold, ahead: list[Hold], leaving: list[Leaving]) -> None:
        """A settled place still waits for those before it that its call waits for."""
        if place.events is None or self._waits(place.call_id, ahead):
            ahead.append(place)
            self.waiting.append(place)
        else:
            leaving += [(event, place.scope) for event in place.events]
