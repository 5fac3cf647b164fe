"""The order in which things go out of which some wait to be judged.

What waits holds back what came later of the same call, and of the calls around it; if it begins a call,
also what came later inside. Everything else goes on. Nothing here knows events, locks or threads.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator
from typing import Any

Call = str | None
"""The id of a call; None is the run, which is around all calls."""


class Waiting:
    """Something of a call: ``go`` puts it out, once nothing of it is ``undecided``."""

    __slots__ = ("begins", "behind", "blockers", "call", "follows", "go", "order", "scope",
                 "undecided")  # fmt: skip

    def __init__(
        self,
        call: Call,
        go: Callable[[], None] = lambda: None,
        *,
        undecided: int = 0,
        begins: bool = False,
        follows: tuple[Call, ...] = (),
        scope: Any = None,
    ) -> None:
        self.call = call
        self.go = go
        self.undecided = undecided
        self.begins = begins
        """Whether the call begins with this."""
        self.follows = follows
        """Other calls of which all must be out that came before."""
        self.scope = scope
        self.order = 0  # it does not wait
        self.blockers = 0
        self.behind: list[Waiting] = []

    @property
    def has_waited(self) -> bool:
        """Whether it did not go out at once."""
        return self.order > 0

    def __lt__(self, other: Waiting) -> bool:
        return self.order < other.order


class Lanes:
    """One line for each call. Where nothing waits, everything goes through at once."""

    def __init__(self) -> None:
        self._above: dict[Call, Call] = {}  # around which call there is which
        self._last: dict[Call, Waiting] = {}  # that waits, of each call
        self._beginnings: dict[Call, Waiting] = {}  # that wait
        self._order = itertools.count(1)
        self._waiting: dict[int, Waiting] = {}

    def is_inside(self, call: Call, around: Call) -> None:
        """Remember which call is around another."""
        if call is not None:
            self._above[call] = around

    def knows(self, call: Call) -> bool:
        """Whether it is remembered what is around this call."""
        return call in self._above

    def forget(self, call: Call) -> None:
        """The call is over."""
        self._above.pop(call, None)

    def __iter__(self) -> Iterator[Waiting]:
        """What has not gone out, the oldest first."""
        return iter(self._waiting.values())

    def put(self, thing: Waiting) -> None:
        """The next of its call: goes out now, or when ``decided`` has been called often enough."""
        blockers = self._blockers(thing) if self._waiting else ()
        if not thing.undecided and not blockers:
            thing.go()
            return
        thing.order = next(self._order)
        self._waiting[thing.order] = thing
        for blocker in blockers:
            blocker.behind.append(thing)
        thing.blockers = len(blockers)
        self._last[thing.call] = thing
        if thing.begins:
            self._beginnings[thing.call] = thing

    def _blockers(self, thing: Waiting) -> set[Waiting]:
        """What has to be out before this thing."""
        call = thing.call
        above = set(self._around(call))
        found = {begin for each, begin in self._beginnings.items() if each in above}
        for other, last in self._last.items():
            if other == call or other in thing.follows or call in self._around(other):
                found.add(last)
        return found

    def _around(self, call: Call) -> Iterator[Call]:
        while call is not None:
            call = self._above.get(call)
            yield call

    def decided(self, thing: Waiting) -> None:
        """One more verdict is known of it."""
        thing.undecided -= 1
        if not thing.undecided and not thing.blockers:
            self._release(thing)

    def _release(self, first: Waiting) -> None:
        ready = [first]
        while ready:
            thing = heapq.heappop(ready)
            self._leave(thing)
            for behind in thing.behind:
                behind.blockers -= 1
                if not behind.blockers and not behind.undecided:
                    heapq.heappush(ready, behind)
            thing.go()

    def _leave(self, thing: Waiting) -> None:
        del self._waiting[thing.order]
        for places in (self._last, self._beginnings):
            if places.get(thing.call) is thing:
                del places[thing.call]
