"""How a run ends that nobody runs any more: the events its process would have written last.

Feed it the run as the log has it; ``ending`` closes what is open, innermost first, and then the
run: fields with what they have, calls as failed, the totals as far as they were told. It neither
knows whether the process is really gone nor writes anything. Memory: the text of open calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from streamll.core import events as ev
from streamll.core.events import Event, Identity
from streamll.core.ordering import FAILURES, Key, key_of

MESSAGE = "still running when its process was lost"

Field = tuple[str | None, int, int, str]  # call, attempt, candidate, name


class RunCloser:
    """Takes one run's events in order."""

    def __init__(self, run_id: str) -> None:
        self._identity = Identity(run_id=run_id)
        self._open: dict[Key, Event] = {}
        self._texts: dict[Field, tuple[Identity, list[str]]] = {}
        self._started = self._latest = 0.0
        self._first_token: float | None = None
        self._calls: list[ev.LMEnd] = []

    def feed(self, event: Event) -> None:
        self._started = self._started or event.timestamp
        self._latest = event.timestamp
        if event.opens and event.opens != "run":
            self._open[key_of(event, event.opens)] = event
        elif event.closes:
            self._open.pop(key_of(event, event.closes), None)
        if isinstance(event, ev.TokenEvent):
            self._token(event)
        elif isinstance(event, (ev.ModuleEnd, ev.ModuleError)):
            self._forget(lambda field: field[0] == event.call_id)
        elif isinstance(event, ev.LMSuperseded):
            self._forget(lambda field: field[:2] == (event.call_id, event.attempt))
        elif isinstance(event, ev.LMEnd):
            self._calls.append(event)

    def _token(self, event: ev.TokenEvent) -> None:
        if self._first_token is None:
            self._first_token = event.timestamp
        _, pieces = self._texts.setdefault(_field(event, event.field), (event.identity, []))
        pieces.append(event.token)

    def _forget(self, gone: Callable[[Field], bool]) -> None:
        for field in [field for field in self._texts if gone(field)]:
            del self._texts[field]

    def ending(self, seq: int, now: float, error_type: str, message: str) -> list[Event]:
        """The events from ``seq`` on that end the run here: ``run.error`` is the last."""
        events: list[Event] = []

        def add(kind: type[Event], who: Identity, /, **own: Any) -> None:
            events.append(kind(seq=seq + len(events), timestamp=now, identity=who, **own))

        for opened in reversed(self._open.values()):
            kind, own = self._closing(opened, error_type)
            add(kind, opened.identity, **own)
        add(
            ev.RunError,
            self._identity,
            error_type=error_type,
            message=message,
            partial=self._partial(),
            **self._totals(),
        )
        return events

    def _closing(self, opened: Event, error_type: str) -> tuple[type[Event], dict[str, Any]]:
        kind = FAILURES[opened.opens]
        lasted = max(0.0, self._latest - opened.timestamp)
        match opened:
            case ev.FieldStart():
                _, pieces = self._texts.get(_field(opened, opened.field), (None, ()))
                length = sum(map(len, pieces))
                return kind, {"field": opened.field, "length": length, "complete": False}
            case ev.LMStart():
                return kind, {"model": opened.model, "duration": lasted, "error_type": error_type}
            case ev.TraceStart():
                own = {"trace_id": opened.trace_id, "parent_trace_id": opened.parent_trace_id}
                return kind, {
                    "name": opened.name, "duration": lasted, "error_type": error_type, **own
                }  # fmt: skip
            case _:
                name = opened.data["name"]
                own = {"error_type": error_type, "message": MESSAGE}
                if isinstance(opened, ev.ToolStart):
                    own["kind"] = opened.kind
                return kind, {"name": name, "duration": lasted, **own}

    def _partial(self) -> Mapping[str, str]:
        """What was streamed of calls that have not ended, by ``predictor.field``."""
        partial: dict[str, str] = {}
        for (_, _, candidate, name), (identity, pieces) in self._texts.items():
            if not candidate:
                partial[f"{identity.predictor}.{name}" if identity.predictor else name] = "".join(
                    pieces
                )
        return partial

    def _totals(self) -> dict[str, Any]:
        costs = [call.cost for call in self._calls if call.cost is not None]
        first = self._first_token
        return {
            "duration": max(0.0, self._latest - self._started),
            "time_to_first_token": None if first is None else max(0.0, first - self._started),
            "lm_calls": len(self._calls),
            "prompt_tokens": sum(call.prompt_tokens for call in self._calls),
            "completion_tokens": sum(call.completion_tokens for call in self._calls),
            "cost": sum(costs) if costs else None,
        }


def _field(event: Event, name: str) -> Field:
    return event.call_id, event.attempt, event.candidate, name
