"""Chooses the entries that show what a log's latest runs are: of each run the first and the last.

No I/O. Sources with an index do without; the others read their log backwards, up to
``LOOK_BACK_ENTRIES``, and let ``Overview`` choose.
"""

from __future__ import annotations

import msgspec

from streamll.core.errors import WireError
from streamll.core.wire import decode_batch

LOOK_BACK_ENTRIES = 100_000
"""The most entries that are searched for the latest runs."""

ENTRIES_OUTSIDE_RUNS = 50
"""The most entries outside any run that are returned: what processes report of themselves."""

_RUN_START = b'"run.start"'


class _RunIdOnly(msgspec.Struct):
    run_id: str | None = None


_decoder = msgspec.json.Decoder(_RunIdOnly)


class Overview:
    """``add`` bodies, newest first, until it is ``complete``; ``bodies`` are the chosen ones."""

    def __init__(self, runs: int, outside: int = ENTRIES_OUTSIDE_RUNS) -> None:
        self._wanted = runs
        self._most_outside = outside
        self._chosen: list[bytes] = []
        self._seen: set[str] = set()
        self._started: set[str] = set()
        self._outside = 0

    @property
    def complete(self) -> bool:
        return len(self._started) >= self._wanted

    @property
    def bodies(self) -> list[bytes]:
        """In the log's order."""
        return self._chosen[::-1]

    def add(self, body: bytes) -> None:
        try:
            run_id = _decoder.decode(body).run_id
        except msgspec.MsgspecError:
            return  # not written by streamll
        starts = _RUN_START in body
        if run_id is None:
            self._outside += 1
            if self._outside <= self._most_outside:
                self._chosen.append(body)
        elif starts or run_id not in self._seen:
            self._seen.add(run_id)
            self._chosen.append(body)
            if starts:
                self._started.add(run_id)


def time_of(body: bytes) -> float:
    """When an entry's last event happened, by which entries of several streams are ordered."""
    try:
        return decode_batch(body)[-1].timestamp
    except (WireError, IndexError):
        return 0.0
