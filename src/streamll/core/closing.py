"""Closes a run whose process is gone: the events it would have written last.

``closing_events`` closes what a ``RunView`` has open, innermost first, and then the run: fields
with the text they have, calls as failed, the totals as far as they are known. It neither knows
whether the process is really gone nor writes anything.
"""

from __future__ import annotations

from typing import Any

from streamll.core import events as ev
from streamll.core.events import Event, Identity
from streamll.core.ordering import FAILURES
from streamll.core.run_view import RunView

LOST_MESSAGE = "still running when its process was lost"


def closing_events(
    view: RunView, run_id: str, now: float, error_type: str, message: str
) -> list[Event]:
    """The events that end the run here; ``run.error`` is the last one.

    Args:
        view: the run so far. ``RunView(keep_ended=False)`` keeps what is needed here.
        run_id: the run, whose first event may be missing in ``view``.
        now: the events' timestamp.
        error_type, message: how the run failed.
    """
    events: list[Event] = []

    def add(kind: type[Event], who: Identity, /, **own: Any) -> None:
        seq = view.seq + 1 + len(events)
        events.append(kind(seq=seq, timestamp=now, identity=who, **own))

    for opened in reversed(view.open.values()):
        own = _own_fields(opened, view, error_type)
        add(FAILURES[opened.opens], opened.identity, **own)
    failed = {"error_type": error_type, "message": message, "partial": view.partial_texts()}
    totals = {name: getattr(view.totals, name) for name in ev.own_fields(ev.Totals)}
    add(ev.RunError, Identity(run_id=run_id), **failed, **totals)
    return events


def _own_fields(opened: Event, view: RunView, error_type: str) -> dict[str, Any]:
    """The own fields of the event that closes ``opened``: how it ended, and what both have."""
    field = view.field(opened, opened.field) if isinstance(opened, ev.FieldStart) else None
    known = {name: getattr(opened, name) for name in ev.own_fields(type(opened))} | {
        "length": field.length if field else 0,
        "complete": False,
        "duration": max(0.0, (view.latest_at or opened.timestamp) - opened.timestamp),
        "error_type": error_type,
        "message": LOST_MESSAGE,
    }
    names = ev.own_fields(FAILURES[opened.opens])
    return {name: known[name] for name in names if name in known}
