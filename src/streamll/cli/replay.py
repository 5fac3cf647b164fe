"""``streamll replay`` and ``streamll report``: recorded events, or those of a log, played or as a page."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from heapq import merge
from operator import attrgetter
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from streamll.cli.command import FAILED, Problem, ViewChoice, ViewOption, existing
from streamll.cli.showing import keep_open, web_page
from streamll.core.errors import WireError
from streamll.core.events import Event

SQLITE = b"SQLite"
"""What a database begins with."""

Place = Annotated[
    str,
    Argument(
        metavar="FILE|URL",
        help="A recording, a file of a JSONL sink, or a log: sqlite:///, redis://, amqp://.",
    ),
]
RunIds = Annotated[
    list[str] | None,
    Option(
        "--run",
        metavar="ID",
        help="This run only; repeatable. Default: all of a file's, the latest of a log's.",
    ),
]
AllRuns = Annotated[bool, Option("--all", help="All runs of a log.")]
Target = Annotated[
    str | None, Option(help="The log's stream, exchange or name. Default: where sinks write.")
]


def replay(
    place: Place,
    run_ids: RunIds = None,
    all_runs: AllRuns = False,
    target: Target = None,
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
    events = events_of(place, run_ids or (), all_runs=all_runs, target=target)
    if web:
        _play_in_viewer(events, speed)
        return
    sink = TerminalSink(view.value) if to is None else streamll.open_sink(to)
    try:
        play(events, sink.put, speed)
    finally:
        sink.stop()


def report(
    place: Place,
    run_ids: RunIds = None,
    all_runs: AllRuns = False,
    target: Target = None,
    output: Annotated[
        Path | None,
        Option(
            "--output", "-o", help="Default: beside the file, as .html; for a log ID.html here."
        ),
    ] = None,
) -> None:
    """Show recorded runs in one HTML file, with their timeline."""
    from streamll.serve.report import report_html

    events = events_of(place, run_ids or (), all_runs=all_runs, target=target)
    if output is None and log_at(place) is None:
        output = Path(place).with_suffix(".html")
    elif output is None:
        shown = {event.run_id for event in events}
        output = Path(f"{events[0].run_id if len(shown) == 1 else 'runs'}.html")
    output.write_text(report_html(events), "utf-8")
    print(output)


def log_at(place: str) -> str | None:
    """The URL of the log that ``place`` is, by its URL or its file; ``None`` for a file of events."""
    from streamll.brokers.opening import BROKERS

    if place.startswith(tuple(f"{scheme}:/" for scheme in BROKERS)):
        return place
    path = existing(Path(place))
    with path.open("rb") as file:
        return f"sqlite:///{path}" if file.read(len(SQLITE)) == SQLITE else None


def events_of(
    place: str, run_ids: Sequence[str], *, all_runs: bool = False, target: str | None = None
) -> list[Event]:
    """The events of a file or a log; ``Problem`` where there are none, or a run is not there."""
    if all_runs and run_ids:
        raise Problem("--all and --run exclude each other; choose one")
    url = log_at(place)
    if url is not None:
        events = asyncio.run(_logged(url, target, run_ids, all_runs=all_runs))
    elif target is not None:
        raise Problem(f"--target is for a log, and {place} is a file of events")
    else:
        events = _recorded(Path(place))
    found = {event.run_id for event in events}
    if lacking := [each for each in run_ids if each not in found]:
        what = "file" if url is None else "log"
        raise Problem(f"the {what} has no run {lacking[0]!r}", FAILED)
    return [event for event in events if not run_ids or event.run_id in run_ids]


def _recorded(path: Path) -> list[Event]:
    """The events of a recording or of a JSONL sink's file; damaged lines are reported."""
    from streamll.testing.record_file import recorded_events

    damaged: list[WireError] = []
    events = list(recorded_events(path, damaged))
    if not events:
        raise Problem(f"{path} has no events" if not damaged else str(damaged[0]))
    if damaged:
        more = f", and {len(damaged) - 1} more" if damaged[1:] else ""
        print(f"streamll: left out: {damaged[0]}{more}", file=sys.stderr)
    return events


async def _logged(
    url: str, target: str | None, run_ids: Sequence[str], *, all_runs: bool
) -> list[Event]:
    """The events of these runs of a log, of all, or of the latest one, which is named."""
    from streamll.brokers.log_files import check_log
    from streamll.brokers.opening import default_target
    from streamll.consumer.stored import stored_events, stored_overview
    from streamll.core.urls import without_password
    from streamll.serve.log.index import LISTED_RUNS, RunIndex

    check_log(url)
    target = target or default_target(url)
    if all_runs:
        events = await stored_events(url, target)
        if not events:
            raise Problem(f"{without_password(url)} has no runs", FAILED)
        return events
    if not run_ids:
        index = RunIndex(lost_s=60.0)
        index.fill(await stored_overview(url, target, LISTED_RUNS))
        latest = index.latest()
        if not latest:
            raise Problem(f"{without_password(url)} has no runs", FAILED)
        run_ids = [str(latest[0]["run_id"])]
        others = (
            f", the latest of {len(latest)}; --run ID or --all for others" if latest[1:] else ""
        )
        print(f"streamll: run {run_ids[0]}{others}", file=sys.stderr)
    runs = [await stored_events(url, target, each) for each in dict.fromkeys(run_ids)]
    return list(merge(*runs, key=attrgetter("timestamp")))


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
    with web_page("replay --web") as view:
        if speed:
            print("It plays when the page is open; Ctrl-C ends it", flush=True)
            while not view.watched.wait(1.0):
                pass
        play(events, view.sink.put, speed)
        keep_open("Played; Ctrl-C ends the viewer")
