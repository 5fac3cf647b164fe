"""The latest runs of a log, whichever process runs them: what ``GET /runs`` lists. No I/O.

``add`` takes what is appended while this process lives, ``fill`` what the log has from before. A
run is listed once its ``run.start`` is known; the oldest beyond ``LISTED_RUNS`` are forgotten.
Whether a run is lost is not stored: it is, when the log has had nothing of it for too long.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import msgspec

from streamll.core.events import TERMINAL, Event, RunError, RunStart
from streamll.core.run_view import RUNNING, STATUS, RunView

LISTED_RUNS = 200

LOST = "lost"
RUN_LOST = "RunLost"
"""``error_type`` of a run whose process is gone."""

TOTALS = ("duration", "lm_calls", "prompt_tokens", "completion_tokens", "cost")


def status_of(end: Event) -> str:
    """A run's status by its last event."""
    if isinstance(end, RunError) and end.error_type == RUN_LOST:
        return LOST
    return STATUS[type(end)]


def snapshot(run_id: str, view: RunView, *, lost: bool) -> dict[str, Any]:
    """A run in one object, as far as it has come: the body of ``GET /runs/{id}``.

    ``lost``: the process of the run has been silent for too long.
    """
    end = view.end
    fields: dict[str, Any] = {
        "run_id": run_id,
        "program": view.program,
        "status": LOST if lost and end is None else RUNNING,
    }
    if view.program is not None:
        fields["started_at"] = view.started_at
    if end is not None:
        fields.update(status=status_of(end), ended_at=end.timestamp)
        fields.update({name: getattr(end, name) for name in TOTALS})
    if isinstance(end, RunError):
        fields.update(error_type=end.error_type, error=end.message)
    return {**fields, "seq": view.seq, "fields": view.named_texts()}


class RunRecord(msgspec.Struct):
    run_id: str
    heard_at: float
    program: str | None = None
    """``None`` until its ``run.start`` is read."""
    started_at: float = 0.0
    status: str = RUNNING
    ended_at: float | None = None
    attended: bool = False
    """A server process has reported that it runs this, and goes on reporting so."""


class RunIndex:
    """``lost_s``: seconds of silence after which a run that has not ended counts as lost."""

    def __init__(self, lost_s: float, limit: int = LISTED_RUNS) -> None:
        self._lost_s = lost_s
        self._limit = limit
        self._runs: dict[str, RunRecord] = {}
        self.ended: dict[str, int] = dict.fromkeys(sorted(TERMINAL), 0)
        """How many runs have ended, by the type of their last event."""

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, events: list[Event]) -> None:
        """An entry that was appended. Only its first and its last event matter."""
        last = events[-1]
        if last.event_type in TERMINAL:
            self.ended[last.event_type] += 1
        self._take(events, time.time())

    def glimpse(self, run_id: str) -> None:
        """An entry of the run was appended that has neither its first event nor its last."""
        self._hear(run_id, time.time())

    def alive(self, run_ids: Iterable[str], at: float | None = None) -> None:
        """A process reports that it runs these."""
        for run_id in run_ids:
            run = self._hear(run_id, time.time() if at is None else at)
            if run is not None:
                run.attended = True

    def fill(self, entries: Iterable[list[Event]]) -> None:
        """What the log has from before, entry by entry in its order."""
        now = time.time()
        for events in entries:
            if events and events[0].run_id is not None:
                self._take(events, min(now, events[-1].timestamp))
            for event in events:
                if event.event_type == "server.alive":
                    self.alive(event.data.get("runs", ()), min(now, event.timestamp))

    def _take(self, events: list[Event], heard_at: float) -> None:
        first, last = events[0], events[-1]
        run_id = first.run_id or ""
        run = self._hear(run_id, heard_at)
        if run is None:
            run = self._runs[run_id] = RunRecord(run_id, heard_at)
        if isinstance(first, RunStart):
            run.program, run.started_at = first.program, first.timestamp
        if last.event_type in TERMINAL and run.ended_at is None:
            run.status, run.ended_at = status_of(last), last.timestamp
        if len(self._runs) > 2 * self._limit:
            self._runs = {each.run_id: each for each in self._latest(self._limit)}

    def _hear(self, run_id: str, at: float) -> RunRecord | None:
        run = self._runs.get(run_id)
        if run is not None:
            run.heard_at = max(run.heard_at, at)
        return run

    def forget(self, run_id: str) -> None:
        """The log does not have this run any more."""
        self._runs.pop(run_id, None)

    def unattended_s(self, run_id: str) -> float | None:
        """Seconds since the run's process was heard; ``None`` if no process reported to run it."""
        run = self._runs.get(run_id)
        return time.time() - run.heard_at if run is not None and run.attended else None

    def is_lost(self, run_id: str) -> bool:
        run = self._runs.get(run_id)
        if run is None or run.ended_at is not None:
            return False
        return time.time() - run.heard_at > self._lost_s

    def latest(self, count: int = LISTED_RUNS) -> list[dict[str, Any]]:
        """The latest runs, the newest first."""
        runs = self._latest(min(count, self._limit))
        return [self._summary(run) for run in runs if run.program is not None]

    def _latest(self, count: int) -> list[RunRecord]:
        return sorted(self._runs.values(), key=lambda run: run.started_at, reverse=True)[:count]

    def _summary(self, run: RunRecord) -> dict[str, Any]:
        status = LOST if self.is_lost(run.run_id) else run.status
        shown = {"run_id": run.run_id, "program": run.program, "status": status}
        ended = {} if run.ended_at is None else {"ended_at": run.ended_at}
        return {**shown, "started_at": run.started_at, **ended}
