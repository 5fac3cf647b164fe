"""The runs that a sink has seen begin and not end: their silence is explained in the log.

A reader cannot tell a program that waits for a slow tool from one that was killed. So while a run
is silent, its process reports every few seconds that it is still there, as ``streamll serve`` does
for the runs of its own.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from streamll.core.events import TERMINAL, Event, RunStart, StreamllEvent
from streamll.core.run_view import ALIVE
from streamll.flow.timers import Timer, timers

CHECK_S = 5.0
"""How often is looked for silent runs. One that has been silent for so long is reported, so the
reports of a run are less than twice this apart."""


class _OpenRun(msgspec.Struct):
    context: Mapping[str, Any]
    heard: bool = True  # since the last look, or else it is silent


class OpenRuns:
    """``hear`` what a sink sends. ``put`` gets the reports, on the thread of the timers."""

    def __init__(self, put: Callable[[Event], None], *, apart: bool) -> None:
        """``apart``: each run has a log of its own, so each gets a report of its own."""
        self._put = put
        self._apart = apart
        self._runs: dict[str, _OpenRun] = {}
        self._timer: Timer | None = None

    def hear(self, events: Iterable[Event]) -> None:
        runs = self._runs
        for event in events:
            run_id = event.identity.run_id
            if type(event) is RunStart and run_id is not None:
                runs[run_id] = _OpenRun(event.context)
                self._look_later()
            elif run_id is not None and (run := runs.get(run_id)) is not None:
                if event.event_type in TERMINAL:
                    runs.pop(run_id, None)  # ``forget`` may come between, on another thread
                else:
                    run.heard = True

    def forget(self) -> None:
        """The sink stops, and reports nothing any more."""
        self._runs.clear()

    def _look_later(self) -> None:
        if self._timer is None:
            when, look = time.monotonic() + CHECK_S, weakref.WeakMethod(self._look)
            self._timer = timers.at(when, lambda: _call(look))

    def _look(self) -> None:
        self._timer = None
        silent: dict[str, tuple[Mapping[str, Any], list[str]]] = {}
        for run_id, run in list(self._runs.items()):
            if not run.heard:
                context = {**run.context, "run_id": run_id} if self._apart else run.context
                silent.setdefault(repr(context), (context, []))[1].append(run_id)
            run.heard = False
        for context, run_ids in silent.values():
            self._put(alive(run_ids, context))
        if self._runs:
            self._look_later()


def _call(method: weakref.WeakMethod[Callable[[], None]]) -> None:
    """Unless the sink has been forgotten: a timer must not keep it."""
    found = method()
    if found is not None:
        found()


def alive(run_ids: list[str], context: Mapping[str, Any]) -> Event:
    """The report that these runs are under way. It belongs to none of them, and has no ``seq``."""
    return StreamllEvent(
        event_type=ALIVE, data={"runs": run_ids}, timestamp=time.time(), context=context
    )
