"""``streamll replay`` and ``streamll report``: a file of recorded events, played or as a page."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from typer import Option

from streamll.cli.command import EventFile, Problem, ViewChoice, ViewOption, existing
from streamll.core.errors import WireError
from streamll.core.events import Event

SQLITE = b"SQLite"
"""What a database begins with."""


def replay(
    file: EventFile,
    speed: Annotated[
        float, Option(min=0, help="2 plays twice as fast as recorded, 0 at once.")
    ] = 1.0,
    to: Annotated[
        str | None, Option(metavar="URL", help="Play into a log: sqlite:///, redis://, …")
    ] = None,
    web: Annotated[bool, Option("--web", help="Play in the viewer.")] = False,
    view: ViewOption = ViewChoice.auto,
) -> None:
    """Play recorded events again. In the terminal, in the viewer, or into a log."""
    import streamll
    from streamll.sinks.terminal import TerminalSink

    if to is not None and web:
        raise Problem("--to and --web exclude each other; choose one")
    events = _events_of(file)
    if web:
        _play_in_viewer(events, speed)
        return
    sink = TerminalSink(view.value) if to is None else streamll.open_sink(to)
    try:
        play(events, sink.put, speed)
    finally:
        sink.stop()


def report(
    file: EventFile,
    output: Annotated[
        Path | None, Option("--output", "-o", help="Default: beside it, as .html.")
    ] = None,
) -> None:
    """Show recorded runs in one HTML file, with their timeline."""
    from streamll.serve.report import report_html

    target = output or file.with_suffix(".html")
    target.write_text(report_html(_events_of(file)), "utf-8")
    print(target)


def _is_log(path: Path) -> bool:
    """Whether it is a log's URL or file, in place of a file of events."""
    from streamll.brokers.opening import BROKERS

    if str(path).startswith(tuple(f"{scheme}:/" for scheme in BROKERS)):
        return True
    with existing(path).open("rb") as file:
        return file.read(len(SQLITE)) == SQLITE


def _events_of(path: Path) -> list[Event]:
    """The events of a recording or of a JSONL sink's file; damaged lines are reported."""
    from streamll.testing.record_file import recorded_events

    if _is_log(path):
        raise Problem(
            f"{str(path)!r} is a log, not a file of events; "
            "streamll tail URL --run ID --json > run.jsonl makes one of a run"
        )
    damaged: list[WireError] = []
    events = list(recorded_events(path, damaged))
    if not events:
        raise Problem(f"{path} has no events" if not damaged else str(damaged[0]))
    if damaged:
        more = f", and {len(damaged) - 1} more" if damaged[1:] else ""
        print(f"streamll: left out: {damaged[0]}{more}", file=sys.stderr)
    return events


def play(events: list[Event], put: Callable[[Event], None], speed: float) -> None:
    """Put each event when it is due; ``speed`` 0 puts all of them at once."""
    began, first = time.monotonic(), events[0].timestamp
    for event in events:
        if speed:
            due = began + (event.timestamp - first) / speed
            time.sleep(max(0.0, due - time.monotonic()))
        put(event)


def _play_in_viewer(events: list[Event], speed: float) -> None:
    """Play once the page is open, and keep it open until Ctrl-C."""
    from streamll.exports import imported

    web_view = imported("streamll.serve.viewer.web_view", "replay --web")
    view = web_view.WebView()
    try:
        web_view.announce(view.url)
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
