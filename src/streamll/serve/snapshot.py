"""A run in one object, as far as it has come: what ``GET /runs/{id}`` answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from streamll.core.events import (
    TERMINAL,
    Event,
    RunError,
    RunStart,
    Totals,
)
from streamll.core.transcript import Transcript
from streamll.serve.frames import items_of
from streamll.serve.recent import LOST, RUNNING, status_of


class Snapshot:
    """Takes events, gives what they come to."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self._told: dict[str, Any] = {"run_id": run_id, "program": None, "status": RUNNING}
        self._transcript = Transcript()
        self._last = -1

    def feed(self, events: Iterable[Event]) -> None:
        for item in items_of(events, self._last):
            self._last, event = item.last, item.event
            self._transcript.feed(event)
            if isinstance(event, RunStart):
                self._told.update(program=event.program, started_at=event.timestamp)
            elif event.event_type in TERMINAL and isinstance(event, Totals):
                self._end(event)

    def _end(self, event: Totals) -> None:
        self._told.update(
            status=status_of(event),
            ended_at=event.timestamp,
            duration=event.duration,
            lm_calls=event.lm_calls,
            prompt_tokens=event.prompt_tokens,
            completion_tokens=event.completion_tokens,
            cost=event.cost,
        )
        if isinstance(event, RunError):
            self._told.update(error_type=event.error_type, error=event.message)

    def answer(self, *, lost: bool = False) -> dict[str, Any]:
        """``lost``: nothing has been heard of it for too long."""
        texts = {
            f"{predictor}.{field}" if predictor else field: text
            for (predictor, field), text in self._transcript.texts().items()
        }
        told = self._told
        if lost and told["status"] == RUNNING:
            told = {**told, "status": LOST}
        return {**told, "seq": self._last, "fields": texts}
