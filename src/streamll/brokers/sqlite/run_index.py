"""Where a run's entries are in an SQLite log: an index that is written in bulk.

An index in SQLite's own sense costs a page for every entry, since the entries of runs that are on at
the same time belong to different places in it: six times what writing the entry costs. So places are
put down for thousands of entries at once. Those that are younger than that are few, and looked
through.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

SCHEMA = """
CREATE TABLE IF NOT EXISTS streamll_places (
    run_id TEXT NOT NULL,
    entry INTEGER NOT NULL,
    PRIMARY KEY (run_id, entry)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS streamll_placed (upto INTEGER NOT NULL);
INSERT INTO streamll_placed SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM streamll_placed);
"""

UNINDEXED_ENTRIES = 2_000
"""Entries that wait for others until their places are put down: what a reader looks through."""

Row = tuple[int, bytes]


class RunIndexWriter:
    """The writers' side: ``put_down`` in a transaction when they ``are_due``."""

    def __init__(self) -> None:
        self._upto = 0

    def are_due(self, last: int) -> bool:
        """Whether enough entries wait, now that there are some up to ``last``."""
        return last - self._upto >= UNINDEXED_ENTRIES

    def put_down(self, log: sqlite3.Connection, last: int) -> None:
        self._upto = _placed(log)  # another process may have done it
        if not self.are_due(last):
            return
        log.execute(
            "INSERT OR IGNORE INTO streamll_places SELECT run_id, id FROM streamll_entries "
            "WHERE id > ? AND id <= ? AND run_id IS NOT NULL ORDER BY run_id, id",
            (self._upto, last),
        )
        log.execute("UPDATE streamll_placed SET upto = ?", (last,))
        self._upto = last


def entries_of(
    log: sqlite3.Connection, target: str, run_id: str, after: int, limit: int
) -> list[Row]:
    """Entries of a run behind ``after``, in order."""
    upto = _placed(log)  # asked first: what is placed from now on is found in both ways
    rows: list[Row] = log.execute(
        "SELECT id, body FROM streamll_places CROSS JOIN streamll_entries ON id = entry "
        "WHERE streamll_places.run_id = ? AND entry > ? AND target = ? ORDER BY entry LIMIT ?",
        (run_id, after, target, limit),
    ).fetchall()
    if len(rows) < limit:
        after = max(after, upto, rows[-1][0] if rows else 0)
        rows += log.execute(
            "SELECT id, body FROM streamll_entries "
            "WHERE id > ? AND +target = ? AND +run_id = ? ORDER BY id LIMIT ?",
            (after, target, run_id, limit - len(rows)),
        )
    return rows


def count_behind(log: sqlite3.Connection, target: str, run_id: str, after: int) -> int:
    """How many entries of a run come behind ``after``."""
    upto = max(after, _placed(log))
    [count] = log.execute(
        "SELECT (SELECT count(*) FROM streamll_places CROSS JOIN streamll_entries ON id = entry "
        "WHERE streamll_places.run_id = ?2 AND entry > ?3 AND entry <= ?4 AND target = ?1) + "
        "(SELECT count(*) FROM streamll_entries WHERE id > ?4 AND +target = ?1 AND +run_id = ?2)",
        (target, run_id, after, upto),
    ).fetchone()
    return int(count)


def last_entries(log: sqlite3.Connection, target: str, run_ids: Iterable[str]) -> list[Row]:
    """The last entry of each of the runs."""
    upto = _placed(log)
    last = dict(
        log.execute(
            "SELECT run_id, max(id) FROM streamll_entries "
            "WHERE id > ? AND +target = ? AND run_id IS NOT NULL GROUP BY run_id",
            (upto, target),
        )
    )
    rows: list[Row] = []
    for run_id in run_ids:
        entry = last.get(run_id)
        if entry is None:
            [entry] = log.execute(
                "SELECT max(entry) FROM streamll_places WHERE run_id = ?", (run_id,)
            ).fetchone()
        rows += log.execute("SELECT id, body FROM streamll_entries WHERE id = ?", (entry,))
    return rows


def forget_before(log: sqlite3.Connection, when: float) -> None:
    """Before the entries written before ``when`` are deleted: their places."""
    log.execute(
        "DELETE FROM streamll_places WHERE (run_id, entry) IN "
        "(SELECT run_id, id FROM streamll_entries WHERE written_at < ?)",
        (when,),
    )


def _placed(log: sqlite3.Connection) -> int:
    [upto] = log.execute("SELECT upto FROM streamll_placed").fetchone()
    return int(upto)
