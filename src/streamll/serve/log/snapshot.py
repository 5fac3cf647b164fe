"""A run in one object, as far as it has come: the body of ``GET /runs/{id}``."""

from __future__ import annotations

from typing import Any

from streamll.core.events import RunError
from streamll.core.run_view import RUNNING, RunView
from streamll.serve.log.index import LOST, status_of

TOTALS = ("duration", "lm_calls", "prompt_tokens", "completion_tokens", "cost")


def snapshot(run_id: str, view: RunView, *, lost: bool) -> dict[str, Any]:
    """``lost``: the process of the run has been silent for too long."""
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
