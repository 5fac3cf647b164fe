"""Where in a log each run begins, so that nobody reads it from its beginning to find one. No I/O.

A survey of what the log had before finds the places of older runs, the tail those of the runs that
begin since. A place is a cursor: read behind it.
"""

from __future__ import annotations

PLACES_KEPT = 10_000
"""Of so many runs, the latest, the places are known."""

BEGINNING = "beginning"


class RunPlaces:
    def __init__(self, kept: int = PLACES_KEPT) -> None:
        self.complete = False
        """Older runs were looked for as well."""
        self._kept = kept
        self._begins: dict[str, str] = {}
        self._forgotten = False
        self._last: str | None = None

    def hear(self, run_id: str | None, cursor: str) -> None:
        """An entry was appended, and read by the tail."""
        if run_id is not None and run_id not in self._begins:
            self._note(run_id, self._last or BEGINNING)
        self._last = cursor

    def found(self, begins: dict[str, str], last: str) -> None:
        """What a survey found: it began after the tail did, and ended at ``last``."""
        heard, self._begins = self._begins, {}
        for run_id, place in (heard | begins if heard else begins).items():
            self._note(run_id, place)
        self._last, self.complete = self._last or last, True

    def before(self, run_id: str) -> str:
        """A place before the run's first entry, if the log has any."""
        if not self.complete:
            return BEGINNING
        unknown = BEGINNING if self._forgotten else self._last or BEGINNING
        return self._begins.get(run_id, unknown)

    def _note(self, run_id: str, place: str) -> None:
        self._begins[run_id] = place
        if len(self._begins) > self._kept:
            del self._begins[next(iter(self._begins))]
            self._forgotten = True
