"""Which entries tell what a log's latest runs are: of each run the first and the last. No I/O.

A source that finds a run's entries by an index has no need of this; the others read their log
backwards, as far as ``LOOK_BACK_ENTRIES``, and let ``Overview`` choose.
"""

from __future__ import annotations

import msgspec

LOOK_BACK_ENTRIES = 100_000
"""Entries that are looked at for the sake of the latest runs, at most."""

ENTRIES_OUTSIDE_RUNS = 50
"""Entries outside any run that are told: what processes say of themselves."""

BEGINNING = b'"run.start"'


class _RunIdOnly(msgspec.Struct):
    run_id: str | None = None


_heading = msgspec.json.Decoder(_RunIdOnly)


class Overview:
    """``add`` bodies, the newest first, until it is ``complete``; ``bodies`` are the chosen."""

    def __init__(self, runs: int) -> None:
        self._wanted = runs
        self._chosen: list[bytes] = []
        self._seen: set[str] = set()
        self._begun: set[str] = set()
        self._outside = 0

    @property
    def complete(self) -> bool:
        return len(self._begun) >= self._wanted

    @property
    def bodies(self) -> list[bytes]:
        """In the log's order."""
        return self._chosen[::-1]

    def add(self, body: bytes) -> None:
        try:
            run_id = _heading.decode(body).run_id
        except msgspec.MsgspecError:
            return  # none of ours
        begins = BEGINNING in body
        if run_id is None:
            self._outside += 1
            if self._outside <= ENTRIES_OUTSIDE_RUNS:
                self._chosen.append(body)
        elif begins or run_id not in self._seen:
            self._seen.add(run_id)
            self._chosen.append(body)
            if begins:
                self._begun.add(run_id)
