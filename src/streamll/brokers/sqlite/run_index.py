"""Which entries of an SQLite log are a run's: an index that is written in bulk.

An index of SQLite's own costs a page for every entry, since the entries of concurrent runs belong to
different places in it: six times what writing the entry costs. So entries are indexed by the
thousand, and the few that are younger than that are searched.
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
"""Entries that wait to be indexed together: what a reader has to search."""

Row = tuple[int, bytes]


def extend(log: sqlite3.Connection, last: int) -> int:
    """In a transaction: index the entries up to ``last``, if enough are not indexed.

    Returns up to which entry they are now.
    """
    upto = _indexed_upto(log)  # another process may have done it
    if last - upto < UNINDEXED_ENTRIES:
        return upto
    log.execute(
        "INSERT OR IGNORE INTO streamll_places SELECT run_id, id FROM streamll_entries "
        "WHERE id > ? AND id <= ? AND run_id IS NOT NULL ORDER BY run_id, id",
        (upto, last),
    )
    log.execute("UPDATE streamll_placed SET upto = ?", (last,))
    return last


def entries_of(
    log: sqlite3.Connection, target: str, run_id: str, after: int, limit: int
) -> list[Row]:
    """Entries of a run behind ``after``, in order."""
    upto = _indexed_upto(log)  # first: what is indexed from now on is found both ways
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


def last_entries(log: sqlite3.Connection, target: str, run_ids: Iterable[str]) -> list[Row]:
    """The last entry of each of the runs."""
    last = dict(
        log.execute(
            "SELECT run_id, max(id) FROM streamll_entries "
            "WHERE id > ? AND +target = ? AND run_id IS NOT NULL GROUP BY run_id",
            (_indexed_upto(log), target),
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
    """Drop the index of entries written before ``when``, before they are deleted."""
    log.execute(
        "DELETE FROM streamll_places WHERE (run_id, entry) IN "
        "(SELECT run_id, id FROM streamll_entries WHERE written_at < ?)",
        (when,),
    )


def _indexed_upto(log: sqlite3.Connection) -> int:
    [upto] = log.execute("SELECT upto FROM streamll_placed").fetchone()
    return int(upto)
