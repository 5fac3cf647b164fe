"""``streamll replay FILE``: what a file of events tells, told again at its own pace."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamll.cli.problem import Problem
from streamll.core.events import Event

if TYPE_CHECKING:
    from streamll.sinks.terminal import Mode


def replay_file(path: Path, *, speed: float, to: str | None, web: bool, view: Mode) -> None:
    """Play to a log (``to``), to the viewer (``web``), or to the terminal."""
    if to is not None and web:
        raise Problem("--to and --web are two places; choose one")
    events = events_of(path)
    if web:
        _play_in_viewer(events, speed)
        return
    sink = _terminal(view) if to is None else _log(to)
    try:
        play(events, sink.put, speed)
    finally:
        sink.stop()


def events_of(path: Path) -> list[Event]:
    """The events of a recording or of a JSONL sink's file."""
    from streamll.testing.record_file import recorded_events

    if not path.is_file():
        raise Problem(f"there is no file {str(path)!r} here ({Path.cwd()})")
    events = list(recorded_events(path))
    if not events:
        raise Problem(f"{path} has no events")
    return events


def play(events: list[Event], put: Callable[[Event], None], speed: float) -> None:
    """Put each event when its time has come; ``speed`` 0 puts them all at once."""
    began, first = time.monotonic(), events[0].timestamp
    for event in events:
        if speed:
            due = began + (event.timestamp - first) / speed
            time.sleep(max(0.0, due - time.monotonic()))
        put(event)


def _terminal(view: Mode) -> Any:
    from streamll.sinks.terminal import TerminalSink

    return TerminalSink(view)


def _log(url: str) -> Any:
    import streamll

    return streamll.open_sink(url)


def _play_in_viewer(events: list[Event], speed: float) -> None:
    """Play when somebody looks, and keep the page until Ctrl-C."""
    from streamll.serve.viewer.web_view import WebView, announce

    view = WebView()
    try:
        announce(view.url)
        if speed:
            print("It plays when the page is open; Ctrl-C ends it", flush=True)
            while not view.watched.wait(1.0):
                pass
        play(events, view.sink.put, speed)
        print("Played; Ctrl-C ends the viewer", flush=True)
        while True:
            time.sleep(3600)
    finally:
        view.stop()
