"""A run in one object, as far as it has come: the body of ``GET /runs/{id}``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from streamll.core.events import Event, RunError
from streamll.core.run_view import RunView
from streamll.serve.log.index import LOST, RUNNING, status_of

TOTALS = ("duration", "lm_calls", "prompt_tokens", "completion_tokens", "cost")


class Snapshot:
    """Takes the events of a run; ``answer`` is their sum."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self._view = RunView()

    def feed(self, events: Iterable[Event]) -> None:
        for event in events:
            self._view.feed(event)

    def answer(self, *, lost: bool = False) -> dict[str, Any]:
        """The snapshot. ``lost``: the process of the run has been silent for too long."""
        view, end = self._view, self._view.end
        answer: dict[str, Any] = {
            "run_id": self.run_id,
            "program": view.program,
            "status": LOST if lost and end is None else RUNNING,
        }
        if view.program is not None:
            answer["started_at"] = view.started_at
        if end is not None:
            answer.update(status=status_of(end), ended_at=end.timestamp)
            answer.update({name: getattr(end, name) for name in TOTALS})
        if isinstance(end, RunError):
            answer.update(error_type=end.error_type, error=end.message)
        return {**answer, "seq": view.seq, "fields": view.named_texts()}
