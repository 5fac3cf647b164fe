"""Reading the log in an SQLite file, alone or as a member of a group."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from streamll.brokers.failures import Diagnosis
from streamll.brokers.overview import ENTRIES_OUTSIDE_RUNS
from streamll.brokers.source import READ_BATCH_ENTRIES, READ_TIMEOUT_S, Entry, Source, SourceOptions
from streamll.brokers.sqlite import run_index
from streamll.brokers.sqlite.file import (
    SCHEME,
    ForkSafeConnection,
    connect,
    diagnose,
    path_of,
    transaction,
)
from streamll.core.errors import ConfigurationError

T = TypeVar("T")

POLL_S = 0.004
"""How often a reader looks for new entries."""


class SQLiteSource(ForkSafeConnection, Source):
    """Reads a log in an SQLite file. For one event loop; not thread-safe."""

    def __init__(self, url: str, options: SourceOptions) -> None:
        super().__init__()
        self._path = path_of(url)
        self._options = options
        self._group = options.target, options.group
        self._after: int | None = None  # from what is new on
        self._seen_version = -1
        self._claim_at = 0.0
        self._thread: ThreadPoolExecutor | None = None
        if options.start != "new":
            start = "0" if options.start == "beginning" else options.start
            if not start.isdecimal():
                raise ConfigurationError(f"start={start!r} is no cursor of an SQLite log")
            self._after = int(start)

    @property
    def name(self) -> str:
        return f"{SCHEME}{self._path}"

    def diagnose(self, error: BaseException) -> Diagnosis:
        return diagnose(error)

    async def connect(self) -> None:
        await self.close()
        # Not the event loop's default threads: handlers may occupy all of those for long.
        self._thread = ThreadPoolExecutor(1, "streamll-sqlite")
        loop = asyncio.get_running_loop()
        self._connection = await loop.run_in_executor(self._thread, self._open)
        self._seen_version = -1

    async def read(self) -> list[Entry]:
        take = self._read if self._options.group is None else self._claim
        deadline = time.monotonic() + (READ_TIMEOUT_S if self._options.waits else 0.0)
        while True:
            entries = await self._with_log(take) if self._has_news() else []
            if entries or time.monotonic() >= deadline:
                return entries
            await asyncio.sleep(POLL_S)

    def skip(self, receipt: object) -> None:
        if isinstance(receipt, range) and receipt.start - 1 == self._after:
            self._after = receipt[-1]

    async def acknowledge(self, entry: Entry) -> None:
        await self._with_log(
            sqlite3.Connection.execute,
            "DELETE FROM streamll_claims WHERE target = ? AND name = ? AND entry = ?",
            (*self._group, int(entry.cursor)),
        )

    async def extend_claim(self, entries: Sequence[Entry]) -> None:
        now, member = time.time(), self._options.member
        statement = (
            "UPDATE streamll_claims SET since = ? "
            "WHERE target = ? AND name = ? AND entry = ? AND member = ?"
        )
        rows = [(now, *self._group, int(entry.cursor), member) for entry in entries]

        def extend(log: sqlite3.Connection) -> None:
            with transaction(log):
                log.executemany(statement, rows)

        await self._with_log(extend)

    async def overview(self, runs: int) -> list[bytes]:
        return await self._with_log(self._overview, runs)

    async def lag(self) -> int | None:
        return None if self._options.group is None else await self._with_log(self._count_lag)

    async def close(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown(wait=False)
        with self._lock:
            self._disconnect()

    async def _with_log(self, work: Callable[..., T], *arguments: Any) -> T:
        """Call ``work(connection, *arguments)`` on the source's thread."""
        if self._thread is None:
            raise sqlite3.OperationalError("not connected")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._locked, work, *arguments)

    # --- on the source's thread -----------------------------------------------------------------

    def _locked(self, work: Callable[..., T], *arguments: Any) -> T:
        with self._lock:
            return work(self._log, *arguments)

    @property
    def _log(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.OperationalError("not connected")
        return self._connection

    def _has_news(self) -> bool:
        """Whether entries have been written that were not skipped, or a claim is due."""
        if self._options.group is not None and time.monotonic() >= self._claim_at:
            return True
        with self._lock:
            [version] = self._log.execute("PRAGMA data_version").fetchone()
            if version == self._seen_version:
                return False
            self._seen_version = version
            return self._after is None or self._after != _last_id(self._log)

    def _open(self) -> sqlite3.Connection:
        log = connect(self._path)
        position = _last_id(log) if self._after is None else self._after
        if self._options.group is None:
            self._after = position
        else:
            log.execute(
                "INSERT OR IGNORE INTO streamll_groups VALUES (?, ?, ?)", (*self._group, position)
            )
        return log

    def _read(self, log: sqlite3.Connection) -> list[Entry]:
        target, run_id, after = self._options.target, self._options.run_id, self._after or 0
        if run_id is not None:
            rows = run_index.entries_of(log, target, run_id, after, READ_BATCH_ENTRIES)
        else:
            rows = log.execute(
                "SELECT id, body FROM streamll_entries WHERE target = ? AND id > ? "
                "ORDER BY id LIMIT ?",
                (target, after, READ_BATCH_ENTRIES),
            ).fetchall()
        if rows:
            self._after = rows[-1][0]
        if len(rows) == READ_BATCH_ENTRIES:
            self._seen_version = -1  # there may be more
        return [Entry(cursor=str(cursor), body=body) for cursor, body in rows]

    def _claim(self, log: sqlite3.Connection) -> list[Entry]:
        now = time.time()
        self._claim_at = time.monotonic() + self._options.claim_after / 3
        with transaction(log):
            rows = self._claim_abandoned(log, now) + self._claim_new(log, now)  # oldest first
        if len(rows) >= READ_BATCH_ENTRIES:
            self._seen_version = -1
        return [
            Entry(cursor=str(cursor), body=body, deliveries=deliveries)
            for cursor, body, deliveries in rows
        ]

    def _claim_new(self, log: sqlite3.Connection, now: float) -> list[Any]:
        rows = log.execute(
            "SELECT id, body, 1 FROM streamll_entries WHERE target = ?1 AND id > "
            "(SELECT position FROM streamll_groups WHERE target = ?1 AND name = ?2) "
            "ORDER BY id LIMIT ?3",
            (*self._group, READ_BATCH_ENTRIES),
        ).fetchall()
        if rows:
            log.execute(
                "UPDATE streamll_groups SET position = ? WHERE target = ? AND name = ?",
                (rows[-1][0], *self._group),
            )
            log.executemany(
                "INSERT INTO streamll_claims VALUES (?, ?, ?, ?, ?, 1)",
                [(*self._group, row[0], self._options.member, now) for row in rows],
            )
        return rows

    def _claim_abandoned(self, log: sqlite3.Connection, now: float) -> list[Any]:
        member, claim_after = self._options.member, self._options.claim_after
        rows = log.execute(
            "SELECT entry, body, deliveries + (member != ?) FROM streamll_claims "
            "LEFT JOIN streamll_entries ON id = entry "
            "WHERE streamll_claims.target = ? AND name = ? AND since < ? ORDER BY entry LIMIT ?",
            (member, *self._group, now - claim_after, READ_BATCH_ENTRIES),
        ).fetchall()
        for cursor, body, deliveries in rows:
            if body is None:  # deleted because of its age
                log.execute("DELETE FROM streamll_claims WHERE entry = ?", (cursor,))
            else:
                log.execute(
                    "UPDATE streamll_claims SET member = ?, since = ?, deliveries = ? "
                    "WHERE target = ? AND name = ? AND entry = ?",
                    (member, now, deliveries, *self._group, cursor),
                )
        return [row for row in rows if row[1] is not None]

    def _overview(self, log: sqlite3.Connection, runs: int) -> list[bytes]:
        target = self._options.target
        started = log.execute(
            "SELECT id, body, run_id FROM streamll_entries WHERE target = ? AND first_seq = 0 "
            "ORDER BY id DESC LIMIT ?",
            (target, runs),
        ).fetchall()
        outside = log.execute(
            "SELECT id, body FROM streamll_entries WHERE target = ? AND run_id IS NULL "
            "ORDER BY id DESC LIMIT ?",
            (target, ENTRIES_OUTSIDE_RUNS),
        )
        ends = run_index.last_entries(log, target, [row[2] for row in started])
        bodies = {row[0]: row[1] for row in [*started, *ends, *outside]}
        return [bodies[entry] for entry in sorted(bodies)]

    def _count_lag(self, log: sqlite3.Connection) -> int:
        [count] = log.execute(
            "SELECT (SELECT count(*) FROM streamll_entries WHERE target = ?1 AND id > "
            "(SELECT position FROM streamll_groups WHERE target = ?1 AND name = ?2)) + "
            "(SELECT count(*) FROM streamll_claims WHERE target = ?1 AND name = ?2)",
            self._group,
        ).fetchone()
        return int(count)


def _last_id(log: sqlite3.Connection) -> int:
    [last] = log.execute("SELECT max(id) FROM streamll_entries").fetchone()
    return last or 0
