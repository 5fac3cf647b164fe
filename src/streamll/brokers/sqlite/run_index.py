"""Which entries of an SQLite log are a run's: an index that is written in bulk.

An index of SQLite's own costs a page for every entry, since the entries of concurrent runs belong to
different places in it: six times what writing the entry costs. So entries are indexed by the
thousand, and the few that are younger than that are searched.
"""

from __future__ import annotations

import sqlite3

UNINDEXED_ENTRIES = 2_000
"""Entries that wait to be indexed together: what a reader has to search."""

Row = tuple[int, bytes]


def extend(log: sqlite3.Connection, last: int) -> int:
    """In a transaction: index the entries up to ``last``, if enough are not indexed.

    Returns up to which entry they are now.
    """
    [upto] = log.execute("SELECT upto FROM streamll_placed").fetchone()
    if last - upto < UNINDEXED_ENTRIES:  # another process has done it
        return int(upto)
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
    return log.execute(
        "SELECT id, body FROM streamll_places CROSS JOIN streamll_entries ON id = entry "
        "WHERE streamll_places.run_id = ?1 AND entry > ?2 AND target = ?3 "
        "UNION ALL SELECT id, body FROM streamll_entries WHERE "
        "id > max(?2, (SELECT upto FROM streamll_placed)) AND +target = ?3 AND +run_id = ?1 "
        "ORDER BY id LIMIT ?4",
        (run_id, after, target, limit),
    ).fetchall()


def overview(log: sqlite3.Connection, target: str, runs: int, outside: int) -> list[bytes]:
    """The first and the last entry of the latest ``runs`` runs, and the latest ``outside`` any."""
    rows = log.execute(
        "WITH started AS (SELECT id, run_id FROM streamll_entries "
        "WHERE target = ?1 AND first_seq = 0 ORDER BY id DESC LIMIT ?2), "
        "unindexed AS (SELECT run_id, max(id) AS last FROM streamll_entries "
        "WHERE id > (SELECT upto FROM streamll_placed) AND +target = ?1 GROUP BY run_id) "
        "SELECT body FROM streamll_entries WHERE id IN ("
        "SELECT id FROM started "
        "UNION SELECT coalesce(last, (SELECT max(entry) FROM streamll_places AS place "
        "WHERE place.run_id = started.run_id)) FROM started LEFT JOIN unindexed USING (run_id) "
        "UNION SELECT * FROM (SELECT id FROM streamll_entries "
        "WHERE target = ?1 AND run_id IS NULL ORDER BY id DESC LIMIT ?3)) ORDER BY id",
        (target, runs, outside),
    )
    return [body for (body,) in rows]


def forget_before(log: sqlite3.Connection, when: float) -> None:
    """Drop the index of entries written before ``when``, before they are deleted."""
    log.execute(
        "DELETE FROM streamll_places WHERE (run_id, entry) IN "
        "(SELECT run_id, id FROM streamll_entries WHERE written_at < ?)",
        (when,),
    )
