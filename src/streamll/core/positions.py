"""Positions in a run: how far a reader has come, as a value and as text.

The position after an event is ``run_id:seq``, after a token ``run_id:seq:offset``, so that a reader
can resume even where another copy of the log has merged that token with its neighbours. A merged
token's position has the ``seq`` of its last part.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from streamll.core.events import Event, TokenEvent

AFTER_EVERYTHING = 2**53
"""Greater than every ``seq``: only a run that is still under way has more after this."""

_POSITION = re.compile(
    r"(?:(?P<run>(?!-?[0-9]{1,18}:)[^:]{1,200}):)?(?P<seq>-1|[0-9]{1,17})(?::(?P<offset>[0-9]{1,17}))?"
)


class Position(NamedTuple):
    """How far a reader has come in a run. ``seq`` -1: before its first event."""

    run_id: str
    seq: int = -1
    offset: int | None = None

    def __str__(self) -> str:
        end = "" if self.offset is None else f":{self.offset}"
        return f"{self.run_id}:{self.seq}{end}"


def position(event: Event) -> Position:
    """Where a reader that has had this event of a run resumes: what ``start=`` takes.

    Raises:
        ValueError: the event belongs to no run, or has no ``seq``.
    """
    run_id, seq = event.identity.run_id, event.seq
    if run_id is None or seq is None:
        raise ValueError(f"a {event.event_type} event without run and seq has no position")
    if isinstance(event, TokenEvent):
        return Position(run_id, seq + event.count - 1, event.offset + len(event.token))
    return Position(run_id, seq)


def read_position(text: str, run_id: str | None = None) -> Position:
    """Parse ``str(position)``. ``run_id``: the run of a text that names none.

    Raises:
        ValueError: it is not a position.
    """
    found = _POSITION.fullmatch(text.strip())
    run = found["run"] or run_id if found else None
    if found is None or not run:
        raise ValueError(f"not a position in a run: {text[:100]!r}")
    offset = found["offset"]
    return Position(run, int(found["seq"]), None if offset is None else int(offset))
