"""The latest runs of a log, whichever process runs them: what ``GET /runs`` lists. No I/O.

``add`` takes what is appended while this process lives, ``fill`` what the log has from before. A
run is listed once its ``run.start`` is known; the oldest beyond ``KEPT_RUNS`` are forgotten.
Whether a run is lost is not stored: it is, when the log has had nothing of it for too long.

A run's title is the first line of its inputs, so only runs whose events carry inputs have one.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from streamll.core.events import (
    TERMINAL,
    Answer,
    Event,
    Guarded,
    Question,
    RunError,
    RunStart,
    Totals,
    own_fields,
)
from streamll.core.positions import Position
from streamll.core.run_view import ALIVE, RUN_LOST, RunView
from streamll.guards.rules import ACTIONS
from streamll.serve.permits import RunFacts, facts_of

LISTED_RUNS = 200
"""The most runs in one answer."""

KEPT_RUNS = 1_000
"""The latest runs of the log, among which those are found that somebody looks for."""

TITLE_CHARACTERS = 120
CONTEXT_KEYS, CONTEXT_CHARACTERS = 20, 200
"""How much of a run's context is listed: so many keys, with numbers and texts of this length."""

LOST = "lost"

TOTALS = tuple(name for name in own_fields(Totals) if name != "time_to_first_token")


def summary(run_id: str, view: RunView, *, lost: bool) -> dict[str, Any]:
    """A run as ``GET /runs`` lists it. ``lost``: its process has been silent for too long."""
    end = view.end
    if end is not None:
        lost = isinstance(end, RunError) and end.error_type == RUN_LOST
    known = {"run_id": run_id, "program": view.program, "status": LOST if lost else view.status}
    started = {} if view.program is None else {"started_at": view.started_at}
    ended = {} if end is None else {"ended_at": end.timestamp}
    return known | started | ended


def snapshot(run_id: str, view: RunView, *, lost: bool) -> dict[str, Any]:
    """A run in one object, as far as it has come: the body of ``GET /runs/{id}``."""
    end, fields = view.end, summary(run_id, view, lost=lost)
    if end is not None:
        fields.update({name: msgspec.to_builtins(getattr(end, name)) for name in TOTALS})
    if asked := [each for each in view.open.values() if isinstance(each, Question)]:
        fields["questions"] = [told(each) for each in asked]
    if isinstance(end, RunError):
        fields.update(error_type=end.error_type, error=end.message)
    return {**fields, "seq": view.seq, "fields": view.named_texts()}


def told(question: Question) -> dict[str, Any]:
    """An open question, as far as it has anything to say."""
    own = {name: getattr(question, name) for name in own_fields(Question)}
    return {"asked_at": question.timestamp, **{k: v for k, v in own.items() if v is not None}}


def title_of(inputs: Mapping[str, Any] | None) -> str | None:
    """The first line of the first input that has text; of a conversation that of its last message."""
    for value in (inputs or {}).values():
        if isinstance(value, list) and value and isinstance(value[-1], Mapping):
            value = value[-1].get("content")  # noqa: PLW2901
        if isinstance(value, str) and value.strip() and not value.startswith("data:"):
            line = " ".join(value.strip().partition("\n")[0][: 4 * TITLE_CHARACTERS].split())
            return _valid(
                line if len(line) <= TITLE_CHARACTERS else f"{line[: TITLE_CHARACTERS - 1]}…"
            )
    return None


def brief(context: Mapping[str, Any] | None) -> dict[str, Any]:
    """The numbers and short texts of a context."""
    short = (
        (_valid(key), _valid(value) if isinstance(value, str) else value)
        for key, value in (context or {}).items()
        if len(key) <= CONTEXT_CHARACTERS
        and (
            (isinstance(value, (bool, int, float)) and math.isfinite(value))
            or (isinstance(value, str) and len(value) <= CONTEXT_CHARACTERS)
        )
    )
    return dict(itertools.islice(short, CONTEXT_KEYS))


def _valid(text: str) -> str:
    """Text that can be written as UTF-8: half a surrogate pair becomes a question mark."""
    return text.encode("utf-8", "replace").decode()


class RunRecord(msgspec.Struct):
    """A run of the log. ``view`` has seen its first and its last event, if they are known."""

    heard_at: float
    """By the monotonic clock: the other one may leap, as on a machine that has slept."""
    view: RunView
    attended: bool = False
    """A server process has reported that it runs this, and goes on reporting so."""
    title: str | None = None
    context: Mapping[str, Any] = {}
    asked: set[str] = msgspec.field(default_factory=set)
    """The questions that wait for an answer, as far as the log was followed."""
    facts: RunFacts | None = None
    """What the run is to those who may or may not see it, by its first event."""

    def feed(self, event: Event) -> None:
        self.view.feed(event)
        self.context = brief(event.context) or self.context
        if isinstance(event, RunStart):
            self.title = title_of(event.inputs)
            self.facts = facts_of(event.run_id or "", event, self.context)


class RunIndex:
    """``lost_s``: seconds of silence after which a run that has not ended counts as lost."""

    def __init__(self, lost_s: float, limit: int = KEPT_RUNS) -> None:
        self._lost_s = lost_s
        self._limit = limit
        self._runs: dict[str, RunRecord] = {}
        self.ended: dict[str, int] = dict.fromkeys(sorted(TERMINAL), 0)
        """How many runs have ended, by the type of their last event."""
        self.guarded: dict[str, int] = dict.fromkeys(ACTIONS, 0)
        """How often a guard has kept text back, by what it does."""

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, events: list[Event]) -> None:
        """An entry that was appended."""
        last = events[-1]
        if last.event_type in TERMINAL:
            self.ended[last.event_type] += 1
        for event in events:
            if type(event) is Guarded and event.outcome in self.guarded:
                self.guarded[event.outcome] += 1
        self._take(events, time.monotonic())

    def hear(self, run_id: str, at: float | None = None) -> RunRecord | None:
        """Something of the run was appended, by default now; its record, if there is one."""
        run = self._runs.get(run_id)
        if run is not None:
            run.heard_at = max(run.heard_at, time.monotonic() if at is None else at)
        return run

    def alive(self, run_ids: Iterable[str], at: float | None = None) -> None:
        """A process reports that it runs these."""
        for run_id in run_ids:
            run = self.hear(run_id, at)
            if run is not None:
                run.attended = True

    def fill(self, entries: Iterable[list[Event]]) -> None:
        """What the log has from before, entry by entry in its order."""
        now, clock = time.time(), time.monotonic()

        def heard_at(event: Event) -> float:
            return clock - max(0.0, now - event.timestamp)

        for events in entries:
            if events and events[0].run_id is not None:
                if (known := self._runs.get(events[0].run_id)) is not None:
                    known.asked.clear()  # the answer may be in an entry between
                self._take(events, heard_at(events[-1]))
            for event in events:
                if event.event_type == ALIVE:
                    self.alive(event.data.get("runs", ()), heard_at(event))

    def _take(self, events: list[Event], heard_at: float) -> None:
        run_id = events[0].run_id or ""
        run = self.hear(run_id, heard_at)
        if run is None:
            run = self._runs[run_id] = RunRecord(heard_at, RunView(keep_text=False))
        for event in events:
            if type(event) is Question:
                run.asked.add(event.question_id)
            elif type(event) is Answer:
                run.asked.discard(event.question_id)
        for event in (events[0], events[-1]):
            is_end = isinstance(event, Totals) and run.view.end is None
            if is_end or isinstance(event, RunStart):
                run.feed(event)
        if len(self._runs) > 2 * self._limit:
            self._runs = dict(self._latest(self._limit))

    def forget(self, run_id: str) -> None:
        """The log does not have this run any more."""
        self._runs.pop(run_id, None)

    def unattended_s(self, run_id: str) -> float | None:
        """Seconds since the run's process was heard; ``None`` if no process reported to run it."""
        run = self._runs.get(run_id)
        return time.monotonic() - run.heard_at if run is not None and run.attended else None

    def facts(self, run_id: str) -> RunFacts | None:
        """What a run is, if its beginning is known here."""
        run = self._runs.get(run_id)
        return None if run is None else run.facts

    def is_lost(self, run_id: str) -> bool:
        run = self._runs.get(run_id)
        if run is None or run.view.end is not None:
            return False
        return time.monotonic() - run.heard_at > self._lost_s

    def is_under_way(self, run_id: str) -> bool:
        """Whether the log had a run's beginning and not its end, and something of it not long ago."""
        run = self._runs.get(run_id)
        known = run is not None and run.view.program is not None and run.view.end is None
        return known and not self.is_lost(run_id)

    def is_over_at(self, position: Position) -> bool:
        """Whether the run's last event is known and not after ``position``."""
        run = self._runs.get(position.run_id)
        end = None if run is None else run.view.end
        return end is not None and end.seq is not None and end.seq <= position.seq

    def latest(
        self, count: int = LISTED_RUNS, fits: Callable[[dict[str, Any]], bool] = lambda _: True
    ) -> list[dict[str, Any]]:
        """The latest runs that fit, the newest first."""
        return list(itertools.islice(filter(fits, self.summaries()), count))

    def summaries(self) -> Iterator[dict[str, Any]]:
        """Each run as ``GET /runs`` lists it, the newest first."""
        for run_id, run in self._latest(self._limit):
            if run.view.program is not None:
                known = summary(run_id, run.view, lost=self.is_lost(run_id))
                titled = {} if run.title is None else {"title": run.title}
                context = {"context": run.context} if run.context else {}
                waits = len(run.asked) if run.view.end is None else 0
                asked = {"open_questions": waits} if waits else {}
                yield known | titled | context | asked

    def _latest(self, count: int) -> list[tuple[str, RunRecord]]:

        def begun(run: tuple[str, RunRecord]) -> float:
            view = run[1].view
            return 0.0 if view.program is None else view.started_at or 0.0

        return sorted(self._runs.items(), key=begun, reverse=True)[:count]
