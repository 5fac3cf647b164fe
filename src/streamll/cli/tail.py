"""``streamll tail``: the events of a log, as they come."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from typing import Any

from streamll.cli.problem import Problem
from streamll.core.events import Event
from streamll.core.wire import encode


def tail(
    url: str,
    target: str | None,
    *,
    run_id: str | None,
    where: Sequence[str],
    types: Sequence[str],
    start: str,
    as_json: bool,
) -> None:
    """Print until Ctrl-C; a single run, until it ends."""
    from streamll.consumer import EventConsumer

    conditions = dict(map(condition, where))
    consumer = EventConsumer(url, target, start=start if run_id is None else (run_id, -1))
    show = _json if as_json else _text()
    consumer.on(list(types) or "*", show, where=conditions)
    if run_id is not None:
        asyncio.run(_follow_run(consumer, show, list(types), conditions))
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
    from streamll.terminal.output import Output
    from streamll.terminal.plain import PlainView

    view = PlainView(Output())
    return lambda event: view.show([event])
