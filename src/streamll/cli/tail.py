"""``streamll tail``: the events of a log, as they come."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from streamll.cli.command import Problem
from streamll.core.events import Event
from streamll.core.wire import encode


def tail(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="sqlite:///, redis://, rediss://, amqp://.")
    ],
    target: Annotated[
        str | None, typer.Option(help="Stream, exchange or log. Default: where sinks write.")
    ] = None,
    run_id: Annotated[
        str | None, typer.Option("--run", metavar="ID", help="This run only, from its beginning.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Value in an event's data; repeatable."),
    ] = None,
    types: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="GLOB", help='Event types, e.g. "tool.*"; repeatable.'),
    ] = None,
    start: Annotated[
        str, typer.Option("--from", metavar="PLACE", help="new, beginning, or a cursor.")
    ] = "new",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """Print what comes through a log, live."""
    from streamll.consumer import EventConsumer

    conditions = dict(map(condition, where or ()))
    consumer = EventConsumer(url, target, start=start if run_id is None else (run_id, -1))
    show = _json if as_json else _text()
    consumer.on(types or "*", show, where=conditions)
    if run_id is not None:
        asyncio.run(_follow_run(consumer, show, types or [], conditions))
    else:
        consumer.run_sync()


async def _follow_run(
    consumer: Any, show: Callable[[Event], None], types: list[str], where: dict[str, Any]
) -> None:
    from streamll.consumer.handlers import EventFilter

    wants = EventFilter(types or "*", where)
    async for event in consumer:
        if wants(event):
            show(event)


def condition(text: str) -> tuple[str, Any]:
    """``key=value``; a value that is JSON is that (``3``, ``true``), any other a text."""
    import json

    key, separator, value = text.partition("=")
    if not separator or not key:
        raise Problem(f"--where takes key=value, not {text!r}")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _json(event: Event) -> None:
    sys.stdout.write(encode(event).decode() + "\n")
    sys.stdout.flush()


def _text() -> Callable[[Event], None]:
    from streamll.terminal.lines import LineView
    from streamll.terminal.output import Output

    view = LineView(Output())
    return lambda event: view.show([event])
