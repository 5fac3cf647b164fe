"""``streamll copy``: a log, from one broker to another."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import datetime
from typing import Annotated

import typer

from streamll.cli.command import Problem

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def copy(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="URL of a log.")],
    sink: Annotated[str, typer.Argument(metavar="DESTINATION", help="URL to copy it to.")],
    target: Annotated[str | None, typer.Option(help="The log's name.")] = None,
    to_target: Annotated[str | None, typer.Option(help="The copy's name.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="30m, 2h, 1d, or a date and time.")
    ] = None,
) -> None:
    """Copy a log to another broker."""
    from streamll.brokers.copying import copy_log

    copied = asyncio.run(
        copy_log(
            source,
            sink,
            source_target=target,
            sink_target=to_target,
            since=None if since is None else moment(since),
        )
    )
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
