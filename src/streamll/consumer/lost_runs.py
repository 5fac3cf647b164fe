"""Runs of which nothing comes any more: their readers are told, and get an end.

A process that is killed writes no end of its run into the log, and who only reads writes none either.
So each reader closes such a run for itself, as a server's process does for all of its readers.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import msgspec

from streamll.brokers.source import Source, SourceOptions
from streamll.consumer.deduplication import Deduplicator
from streamll.core.errors import WireError
from streamll.core.events import TERMINAL, Event
from streamll.core.positions import Position, position
from streamll.core.run_view import (
    ALIVE,
    RUN_GONE,
    RUN_LOST,
    RunView,
    closing_events,
    silence_notice,
)
from streamll.core.wire import decode_batch, decode_entry

BEGINNING = "beginning"
CLOCK_SKEW_S = 2.0
"""How far the clocks of the machines that write a log may differ."""
CHECK_S = 0.25
"""The least time from one look at the clock to the next."""
READING_SHARE = 4
"""So many times as long as the log was looked into, a reader that is behind reads on before the next look. It
finds runs silent whose events it has yet to read, and looking after them all would keep it there."""


class LostRuns:
    """Those of one reader, which counts a run as lost after ``seconds`` of silence.

    Args:
        position: of the one run that is read; ``None`` for all.
        open_source: for looking into the log again.
    """

    def __init__(
        self,
        seconds: float,
        position: Position | None,
        options: SourceOptions,
        open_source: Callable[[SourceOptions], Source],
    ) -> None:
        self._lost_s = seconds
        self._position = position
        self._options = msgspec.structs.replace(options, start=BEGINNING, waits=False)
        self._open_source = open_source
        self._heard: dict[str, float] = {}
        self._begins: dict[str, str] = {}
        """A place in the log before the first entry of an open run, where it is known."""
        self._reached: dict[str, int] = {}
        """The last ``seq`` of an open run that was read."""
        self._told: set[str] = set()
        self._found: list[list[Event]] = []
        """For the reader, who gets it later if the log goes away before all runs were looked at."""
        self._check_at = 0.0
        if position is not None and position.seq >= 0:
            self._heard[position.run_id] = time.monotonic()
            self._reached[position.run_id] = position.seq

    def hear(self, events: list[Event], before: str) -> None:
        """An entry was read, behind the place ``before``."""
        run_id = events[0].run_id
        if run_id is None or (self._position is not None and run_id != self._position.run_id):
            return
        if events[-1].seq is None and run_id not in self._heard:
            return  # a message of the server's processes, under the key of a chat
        self._told.discard(run_id)
        if events[-1].event_type in TERMINAL:
            self._forget(run_id)
        else:
            if events[0].seq == 0:
                self._begins.setdefault(run_id, before)
            self._heard[run_id] = time.monotonic()
            if events[-1].seq is not None:
                reached = position(events[-1]).seq
                self._reached[run_id] = max(reached, self._reached.get(run_id, -1))

    def hear_all(self) -> None:
        """The log was away: until now nobody could be heard."""
        self._heard = dict.fromkeys(self._heard, time.monotonic())

    async def due(self, *, behind: bool = False) -> list[list[Event]]:
        """For each run that has become silent a notice, and later the events that close it.

        ``behind``: the log has more to read already.
        """
        now = time.monotonic()
        if now < self._check_at:
            return []
        self._check_at = now + min(CHECK_S, self._lost_s / 4)
        silent = {run_id: now - at for run_id, at in self._heard.items()}
        suspects = [
            run_id
            for run_id, silent_s in silent.items()
            if silent_s > (self._lost_s if run_id in self._told else self._lost_s / 2)
        ]
        if suspects:
            try:
                await self._look_after(suspects, now)
            finally:
                if behind:
                    looked_s = time.monotonic() - now
                    self._check_at = max(self._check_at, now + (1 + READING_SHARE) * looked_s)
        found, self._found = self._found, []
        return [events for events in found if events]

    async def _look_after(self, suspects: list[str], now: float) -> None:
        alive = await self._reported_alive()
        lost: list[str] = []
        for run_id in suspects:
            if run_id in alive:
                self._heard[run_id] = now
            elif run_id in self._told:
                lost.append(run_id)
            else:
                self._told.add(run_id)
                self._found.append([silence_notice(run_id, self._lost_s)])
        if lost:
            views = await self._views(lost)
            self._found += [self._close(run_id, view) for run_id, view in views.items()]

    async def _reported_alive(self) -> set[str]:
        """The runs that a process has reported as under way not long ago."""
        since = time.time() - self._lost_s / 2
        alive: set[str] = set()
        source = self._open_source(self._options)
        try:
            await source.connect()
            for body in await source.overview(0):
                with contextlib.suppress(WireError):
                    for event in decode_batch(body):
                        if event.event_type == ALIVE and event.timestamp > since:
                            alive.update(map(str, event.data.get("runs", ())))
        finally:
            await source.close()
        return alive

    def _close(self, run_id: str, view: RunView) -> list[Event]:
        """The events that close a run; none if it has ended meanwhile, or gone on."""
        if view.end is None and view.seq > self._reached.get(run_id, -1):
            self._heard[run_id] = time.monotonic()  # what the log has of it is read first
            self._told.discard(run_id)
            return []
        self._forget(run_id)
        self._told.discard(run_id)
        if view.end is not None:
            return []
        events = closing_events(view, run_id, time.time(), RUN_LOST, RUN_GONE)
        if view.seq < 0 and self._position is not None:  # the log has nothing of it any more
            events = [msgspec.structs.replace(events[-1], seq=self._position.seq + 1)]
        return events

    def _forget(self, run_id: str) -> None:
        self._heard.pop(run_id, None)
        self._begins.pop(run_id, None)
        self._reached.pop(run_id, None)

    async def _views(self, run_ids: list[str]) -> dict[str, RunView]:
        """What the log has of these runs, read once: a broker that was away leaves many of them."""
        views = {run_id: RunView(keep_ended=False) for run_id in run_ids}
        deduplicators = {run_id: Deduplicator(Position(run_id)) for run_id in run_ids}
        first = next((each for each in self._begins if each in views), None)  # as the log has them
        known = first is not None and all(run_id in self._begins for run_id in run_ids)
        options = msgspec.structs.replace(
            self._options,
            run_id=run_ids[0] if len(run_ids) == 1 else None,
            start=self._begins[first] if known and first is not None else BEGINNING,
        )
        source = self._open_source(options)
        try:
            await source.connect()
            until, latest = time.time() + CLOCK_SKEW_S, 0.0
            while latest < until and (entries := await source.read()):
                for entry in entries:  # a log that is written to all the time has no end
                    with contextlib.suppress(WireError):
                        decoded = decode_entry(entry.body)
                        latest = max((event.timestamp for event in decoded.events), default=latest)
                        run_id = decoded.events[0].run_id if decoded.events else None
                        if run_id in views:
                            for event in deduplicators[run_id].read(decoded):
                                views[run_id].feed(event)
        finally:
            await source.close()
        return views
