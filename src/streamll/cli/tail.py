"""``streamll tail`` and ``streamll copy``: a log's events, printed as they come or copied."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any

from typer import Argument, Option

from streamll.cli.command import FAILED, Problem, key_value
from streamll.core.errors import BrokerError
from streamll.core.wire import encode

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def tail(
    url: Annotated[
        str,
        Argument(
            metavar="URL",
            help="sqlite:///, redis://, redis+cluster://, redis+sentinel://, amqp://.",
        ),
    ],
    target: Annotated[
        str | None,
        Option(
            help="Stream ('run:*': all that match), exchange or log. Default: where sinks write."
        ),
    ] = None,
    run_id: Annotated[
        str | None, Option("--run", metavar="ID", help="This run only, from its beginning.")
    ] = None,
    where: Annotated[
        list[str] | None, Option(metavar="KEY=VALUE", help="Value in an event's data; repeatable.")
    ] = None,
    types: Annotated[
        list[str] | None,
        Option("--type", metavar="GLOB", help='Event types, e.g. "tool.*"; repeatable.'),
    ] = None,
    start: Annotated[
        str | None,
        Option("--from", metavar="PLACE", help="new, beginning, or a cursor. Default: new."),
    ] = None,
    lost_seconds: Annotated[
        float | None,
        Option(min=1, help="Silence after which a run counts as lost. Default with --run: 60."),
    ] = None,
    as_json: Annotated[bool, Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """Print what comes through a log, live."""
    from streamll.brokers.copying import has_run, log_exists
    from streamll.brokers.log_files import check_log
    from streamll.consumer import EventConsumer
    from streamll.consumer.consumer import stopping_on_signals
    from streamll.consumer.handlers import EventFilter
    from streamll.core.urls import without_password
    from streamll.terminal.lines import LineView
    from streamll.terminal.output import Output

    wants = EventFilter(types or "*", dict(map(Condition.read, where or ())))
    if run_id is not None and start is not None:
        raise Problem("--run shows a run from its beginning: leave out --from, or --run")
    place: Any = start or "new" if run_id is None else (run_id, -1)
    consumer = EventConsumer(url, target, start=place, lost_seconds=lost_seconds)
    check_log(url)
    view = LineView(Output())

    async def show() -> None:
        if run_id is not None and not await has_run(url, consumer.target, run_id):
            raise Problem(f"the log has no run {run_id!r}", FAILED)
        with suppress(BrokerError):  # the consumer reports that, and waits for the broker
            if not await log_exists(url, consumer.target):
                place = f"{without_password(url)} has no log {consumer.target!r}"
                print(f"streamll: {place} yet; waiting for its first entry", file=sys.stderr)
        # A loop and no handler: what a handler fails on becomes a dead letter in the log.
        async for event in consumer:
            if wants(event) and as_json:
                print(encode(event).decode(), flush=True)
            elif wants(event):
                view.show([event])

    with stopping_on_signals(consumer.stop_soon):
        asyncio.run(show())


class Condition:
    """Equals a text, and what that is as JSON (``3``, ``true``): an id may be kept as either."""

    def __init__(self, text: str) -> None:
        self._text = self._value = text
        with suppress(ValueError):
            self._value = json.loads(text)

    @classmethod
    def read(cls, text: str) -> tuple[str, Condition]:
        """``key=value``."""
        key, value = key_value(text, "--where")
        return key, cls(value)

    def __eq__(self, other: object) -> bool:
        return other in (self._text, self._value)

    __hash__ = None  # type: ignore[assignment]


def copy(
    source: Annotated[str, Argument(metavar="SOURCE", help="URL of a log.")],
    sink: Annotated[str, Argument(metavar="DESTINATION", help="URL to copy it to.")],
    target: Annotated[str | None, Option(help="The log's name.")] = None,
    to_target: Annotated[str | None, Option(help="The copy's name.")] = None,
    since: Annotated[
        str | None, Option(metavar="WHEN", help="30m, 2h, 1d, or a date and time.")
    ] = None,
) -> None:
    """Copy a log to another broker."""
    from streamll.brokers.copying import copy_log
    from streamll.brokers.log_files import check_log

    after = None if since is None else moment(since)
    check_log(source)
    copying = copy_log(source, sink, source_target=target, sink_target=to_target, since=after)
    copied = asyncio.run(copying)
    others = f"; {copied.left} entries are not streamll's and were left out" if copied.left else ""
    print(f"{copied.events} events in {copied.entries} entries{others}")


def moment(text: str) -> float:
    """``2h`` ago (s, m, h, d), or an ISO date and time, in seconds since the epoch."""
    if found := re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text):
        return time.time() - float(found[1]) * UNITS[found[2]]
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        raise Problem(
            f"--since takes 30m, 2h, 1d or a date such as 2026-11-20T09:00, not {text!r}"
        ) from None
