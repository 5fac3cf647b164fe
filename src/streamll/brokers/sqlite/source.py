"""Reading the log in an SQLite file, alone or as a member of a group."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from msgspec.structs import asdict

from streamll.brokers.failures import Diagnosis
from streamll.brokers.overview import ENTRIES_OUTSIDE_RUNS
from streamll.brokers.source import READ_BATCH_ENTRIES, Entry, Source, SourceOptions
from streamll.brokers.sqlite import file, run_index
from streamll.brokers.sqlite.writes import Writes
from streamll.core.errors import ConfigurationError

T = TypeVar("T")

POLL_S = 0.004
"""How often a reader looks for new entries while the file is written to."""

BUSY_S = 0.25
"""How long it looks so often after a write was heard of, which may not be committed yet."""

QUIET_POLL_S = 0.2
"""How often it looks at last in a file that nothing is written to, where writes cannot be heard of."""

POLLS_PER_QUIET = 20
"""Until then after a twentieth of the time for which nothing has come."""

CLAIM = Path(__file__).with_name("claim.sql").read_text("utf-8").split(";")
"""Statements that claim entries for a member of a group; the last one reads them."""


class SQLiteSource(file.ForkSafeConnection, Source):
    """Reads a log in an SQLite file. For one event loop; not thread-safe."""

    def __init__(self, url: str, options: SourceOptions) -> None:
        super().__init__()
        self._path = file.path_of(url)
        self.name = f"{file.SCHEME}{self._path}"
        self._options = options
        self._group = options.target, options.group
        self._after: int | None = None  # from what is new on
        self._end: int | None = None  # where a reader that does not wait is done
        self._seen_version = -1
        self._claim_at = 0.0
        self._thread: ThreadPoolExecutor | None = None
        self._writes: Writes | None = None
        self._busy_until = 0.0
        self._awaits_log = False
        if options.start != "new":
            start = "0" if options.start == "beginning" else options.start
            if not start.isdecimal():
                raise ConfigurationError(f"start={start!r} is no cursor of an SQLite log")
            self._after = int(start)

    def diagnose(self, error: BaseException) -> Diagnosis:
        return file.diagnose(error)

    async def connect(self) -> None:
        await self.close()
        # Not the event loop's default threads: handlers may occupy all of those for long.
        self._thread = ThreadPoolExecutor(1, "streamll-sqlite")
        loop = asyncio.get_running_loop()
        self._connection = await loop.run_in_executor(self._thread, self._open)
        self._awaits_log = self._connection is None
        self._begin()

    def _begin(self) -> None:
        """Look at the log, and hear of writes if there is one."""
        if self._options.waits and not self._awaits_log:
            with contextlib.suppress(OSError):
                self._writes = Writes(self._path)
        self._busy_until = time.monotonic() + BUSY_S  # what was written before that is not heard
        self._seen_version = -1

    async def exists(self) -> bool:
        return await asyncio.to_thread(file.has_log, self._path, self._options.target)

    async def read(self) -> list[Entry]:
        take = self._read if self._options.group is None else self._claim
        deadline = time.monotonic() + (self._options.read_timeout if self._options.waits else 0.0)
        while self._awaits_log and not await self._appeared():
            if time.monotonic() >= deadline:
                return []
            await self._pause(deadline)
        while True:
            rows = await self._with_log(take) if self._locked(self._has_news) else []
            if len(rows) >= READ_BATCH_ENTRIES:
                self._seen_version = -1  # there may be more
            if rows:
                self._busy_until = time.monotonic() + BUSY_S
            if rows or time.monotonic() >= deadline:
                return [Entry(cursor=str(row[0]), body=row[1], deliveries=row[2]) for row in rows]
            await self._pause(deadline)

    async def _appeared(self) -> bool:
        """Whether there is a log now, where there was none."""
        if file.exists(self._path):
            loop = asyncio.get_running_loop()
            self._connection = await loop.run_in_executor(self._thread, self._open)
            self._awaits_log = self._connection is None
            if not self._awaits_log:
                self._begin()
        return not self._awaits_log

    async def _pause(self, deadline: float) -> None:
        """Wait until it is time to look again, which is not after ``deadline``."""
        now = time.monotonic()
        if now < self._busy_until:
            await asyncio.sleep(POLL_S)
            return
        if self._options.group is not None:
            deadline = min(deadline, self._claim_at)
        left_s = max(0.0, deadline - now)
        if self._writes is None:
            quiet_s = now - self._busy_until
            pause_s = min(max(POLL_S, quiet_s / POLLS_PER_QUIET), QUIET_POLL_S, left_s)
            await asyncio.sleep(pause_s)
        elif await self._writes.wait(left_s):
            self._busy_until = time.monotonic() + BUSY_S

    def skip(self, receipt: object) -> None:
        if isinstance(receipt, range) and receipt.start - 1 == self._after:
            self._after = receipt[-1]

    async def acknowledge(self, entry: Entry) -> None:
        await self._execute(
            "DELETE FROM streamll_claims WHERE target = ? AND name = ? AND entry = ?",
            (*self._group, int(entry.cursor)),
        )

    async def extend_claim(self, entries: Sequence[Entry]) -> None:
        now, member = time.time(), self._options.member
        await self._with_log(
            sqlite3.Connection.executemany,
            "UPDATE streamll_claims SET since = ? "
            "WHERE target = ? AND name = ? AND entry = ? AND member = ?",
            [(now, *self._group, int(entry.cursor), member) for entry in entries],
        )

    async def was_trimmed(self, after: str, entry: str) -> bool:
        before = max(1, int(after)) if after.isdecimal() else 1
        statement = "SELECT 1 FROM streamll_entries WHERE id = ?"
        return not await self._execute(statement, (before,))

    async def overview(self, runs: int) -> list[bytes]:
        if self._awaits_log:
            return []
        target = self._options.target
        return await self._with_log(run_index.overview, target, runs, ENTRIES_OUTSIDE_RUNS)

    async def lag(self) -> int | None:
        if self._options.group is None:
            return None
        [[count]] = await self._execute(
            "SELECT (SELECT count(*) FROM streamll_entries WHERE target = ?1 AND id > "
            "(SELECT position FROM streamll_groups WHERE target = ?1 AND name = ?2)) + "
            "(SELECT count(*) FROM streamll_claims WHERE target = ?1 AND name = ?2)",
            self._group,
        )
        return int(count)

    async def close(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown(wait=False)
        writes, self._writes = self._writes, None
        if writes is not None:
            writes.close()
        self.disconnect()

    async def _execute(self, statement: str, parameters: Sequence[Any]) -> list[Any]:
        return await self._with_log(lambda log: log.execute(statement, parameters).fetchall())

    async def _with_log(self, work: Callable[..., T], *arguments: Any) -> T:
        """Call ``work(connection, *arguments)`` on the source's thread."""
        if self._thread is None:
            raise sqlite3.OperationalError("not connected")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._locked, work, *arguments)

    # --- on the source's thread -----------------------------------------------------------------

    def _locked(self, work: Callable[..., T], *arguments: Any) -> T:
        with self.lock:
            if self._connection is None:
                raise sqlite3.OperationalError("not connected")
            return work(self._connection, *arguments)

    def _has_news(self, log: sqlite3.Connection) -> bool:
        """Whether entries have been written that were not skipped, or a claim is due."""
        if self._options.group is not None and time.monotonic() >= self._claim_at:
            return True
        [version] = log.execute("PRAGMA data_version").fetchone()
        if version == self._seen_version:
            return False
        self._seen_version = version
        return self._after is None or self._after != _last_id(log)

    def _open(self) -> sqlite3.Connection | None:
        """Only a group, which is kept in the log, creates one that is not there."""
        is_member = self._options.group is not None
        log = file.connect(self._path) if is_member else file.connect_if_there(self._path)
        if log is None:
            self._after = self._after or 0  # all that it will have is new
            return None
        position = _last_id(log) if self._after is None else self._after
        self._end = None if self._options.waits else _last_id(log)
        if self._options.group is None:
            self._after = position
        else:
            log.execute(
                "INSERT OR IGNORE INTO streamll_groups VALUES (?, ?, ?)", (*self._group, position)
            )
        return log

    def _read(self, log: sqlite3.Connection) -> list[Any]:
        target, run_id, after = self._options.target, self._options.run_id, self._after or 0
        if run_id is not None:
            rows = run_index.entries_of(log, target, run_id, after, READ_BATCH_ENTRIES)
        else:
            rows = log.execute(
                "SELECT id, body FROM streamll_entries WHERE target = ? AND id > ? "
                "ORDER BY id LIMIT ?",
                (target, after, READ_BATCH_ENTRIES),
            ).fetchall()
        if self._end is not None:
            rows = [row for row in rows if row[0] <= self._end]
        if rows:
            self._after = rows[-1][0]
        return [(*row, 1) for row in rows]

    def _claim(self, log: sqlite3.Connection) -> list[Any]:
        """Claim what other members have abandoned, and what is new; oldest first."""
        options, now = self._options, time.time()
        self._claim_at = time.monotonic() + options.claim_interval
        values = asdict(options) | {"now": now, "limit": READ_BATCH_ENTRIES}
        with file.transaction(log):
            for statement in CLAIM:
                claimed = log.execute(statement, values)
            return claimed.fetchall()


def _last_id(log: sqlite3.Connection) -> int:
    [last] = log.execute("SELECT max(id) FROM streamll_entries").fetchone()
    return last or 0
