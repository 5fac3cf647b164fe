"""The latest runs of a log, whichever process runs them: what ``GET /runs`` lists. No I/O.

What a process hears of the log while it lives is not all of it, so ``fill`` adds what the log says
of the time before. Runs are known by their ``run.start``; the oldest beyond ``LISTED`` are
forgotten. Whether a run is lost is not kept but seen: nothing has been heard of it for too long.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import msgspec

from streamll.core.events import TERMINAL, Event, RunError, RunStart

LISTED = 200

RUNNING, LOST = "running", "lost"
STATUS = {"run.end": "ended", "run.error": "failed", "run.cancelled": "cancelled"}
RUN_LOST = "RunLost"
"""``error_type`` of a run that ended because its process was gone."""


def status_of(event: Event) -> str:
    """What a run's last event says of it."""
    if isinstance(event, RunError) and event.error_type == RUN_LOST:
        return LOST
    return STATUS[event.event_type]


class RunRecord(msgspec.Struct):
    run_id: str
    program: str
    started_at: float
    heard_at: float
    status: str = RUNNING
    ended_at: float | None = None
    attended: bool = False
    """A server's process said that it runs this; it goes on saying so."""

    def told(self) -> dict[str, Any]:
        told = {"run_id": self.run_id, "program": self.program, "status": self.status}
        times = {"started_at": self.started_at, "ended_at": self.ended_at}
        return told | {name: value for name, value in times.items() if value is not None}


class RunIndex:
    """``lost_seconds``: silence after which a run that has not ended counts as lost."""

    def __init__(self, lost_seconds: float, limit: int = LISTED) -> None:
        self._lost_seconds = lost_seconds
        self._limit = limit
        self._runs: dict[str, RunRecord] = {}
        self._unknown: dict[str, list[Event]] | None = {}  # until the log has told of them
        self.ended: dict[str, int] = dict.fromkeys(sorted(TERMINAL), 0)

    def __len__(self) -> int:
        return len(self._runs)

    def hear(self, events: list[Event]) -> None:
        """One entry of the log, as it comes: its first and its last event say all there is."""
        last = events[-1]
        if last.event_type in TERMINAL:
            self.ended[last.event_type] += 1
        self._take(events, time.time())

    def glimpse(self, run_id: str) -> None:
        """There was an entry of the run, neither its first nor its last."""
        run = self._runs.get(run_id)
        if run is not None:
            run.heard_at = max(run.heard_at, time.time())

    def alive(self, run_ids: Iterable[str], at: float | None = None) -> None:
        """A process says that it runs these."""
        for run_id in run_ids:
            run = self._runs.get(run_id)
            if run is not None:
                run.attended = True
                run.heard_at = max(run.heard_at, time.time() if at is None else at)

    def fill(self, entries: Iterable[list[Event]]) -> None:
        """What the log says of the time before, entry by entry in its order."""
        now = time.time()
        for events in entries:
            if events and events[0].run_id is not None:
                self._take(events, min(now, events[-1].timestamp))
            for event in events:
                if event.event_type == "server.alive":
                    self.alive(event.data.get("runs", ()), min(now, event.timestamp))
        heard, self._unknown = self._unknown or {}, None
        for events in heard.values():
            self._take(events, now)

    def _take(self, events: list[Event], heard_at: float) -> None:
        first, last = events[0], events[-1]
        run_id = first.run_id or ""
        run = self._runs.get(run_id)
        if run is None:
            if not isinstance(first, RunStart):
                if self._unknown is not None:
                    self._unknown[run_id] = [last]
                return
            run = self._runs[run_id] = RunRecord(run_id, first.program, first.timestamp, heard_at)
            if len(self._runs) > 2 * self._limit:
                self._forget()
        run.heard_at = max(run.heard_at, heard_at)
        if last.event_type in TERMINAL and run.ended_at is None:
            run.status, run.ended_at = status_of(last), last.timestamp

    def _forget(self) -> None:
        keep = sorted(self._runs.values(), key=lambda run: run.started_at)[-self._limit :]
        self._runs = {run.run_id: run for run in keep}

    def forget(self, run_id: str) -> None:
        """The log does not have it any more."""
        self._runs.pop(run_id, None)

    def unattended(self, run_id: str) -> float | None:
        """Seconds since the process that has a run was heard; ``None``: none said it has it."""
        run = self._runs.get(run_id)
        return time.time() - run.heard_at if run is not None and run.attended else None

    def is_lost(self, run_id: str) -> bool:
        run = self._runs.get(run_id)
        silent = run is not None and time.time() - run.heard_at > self._lost_seconds
        return run is not None and run.ended_at is None and silent

    def latest(self, count: int = LISTED) -> list[dict[str, Any]]:
        """The latest runs, the newest first."""
        runs = sorted(self._runs.values(), key=lambda run: run.started_at, reverse=True)
        return [
            run.told() | ({"status": LOST} if self.is_lost(run.run_id) else {})
            for run in runs[: min(count, self._limit)]
        ]
