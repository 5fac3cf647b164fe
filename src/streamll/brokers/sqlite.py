"""SQLite: a log in a file, for any number of processes of one machine. Nothing to install or run.

One table of entries in the order of their arrival; ``id`` is the cursor. Write-ahead logging, so
that readers and the writer never wait for each other. Readers look for news every few
milliseconds, which costs a few microseconds while there is none (``PRAGMA data_version``).

A commit survives the end of the process, however it ends. It survives a power cut too with
``synchronous="FULL"``, at the price of waiting for the disk.

Where a run's entries are is put down for many at once, in a table of its own (``sqlite_runs``).
Groups share a log through two more tables: how far the group has read, and who works on what.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from streamll.brokers import sqlite_runs
from streamll.brokers.outbox import Parcel
from streamll.brokers.overview import OUTSIDE
from streamll.brokers.sink import BrokerSink, fill
from streamll.brokers.source import LIMIT, WAIT, Entry, Options, dead_letters
from streamll.core.errors import ConfigurationError

T = TypeVar("T")

SCHEME = "sqlite:///"
TARGET = "streamll:events"
LOOK_SECONDS = 0.004
"""How often a reader looks for news."""

BUSY_SECONDS = 5.0
"""How long a file that somebody else has locked is waited for, before that counts as a failure."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS streamll_entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    target TEXT NOT NULL,
    run_id TEXT,
    first_seq INTEGER,
    last_seq INTEGER,
    written_at REAL NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS streamll_by_target ON streamll_entries (target, id);
CREATE INDEX IF NOT EXISTS streamll_beginnings ON streamll_entries (target, id) WHERE first_seq = 0;
CREATE INDEX IF NOT EXISTS streamll_outside ON streamll_entries (target, id) WHERE run_id IS NULL;
DROP INDEX IF EXISTS streamll_by_run;
CREATE TABLE IF NOT EXISTS streamll_groups (
    target TEXT NOT NULL,
    name TEXT NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (target, name)
);
CREATE TABLE IF NOT EXISTS streamll_claims (
    target TEXT NOT NULL,
    name TEXT NOT NULL,
    entry INTEGER NOT NULL,
    member TEXT NOT NULL,
    since REAL NOT NULL,
    deliveries INTEGER NOT NULL,
    PRIMARY KEY (target, name, entry)
);
"""
INSERT = (
    "INSERT INTO streamll_entries (target, run_id, first_seq, last_seq, written_at, body) "
    "VALUES (?, ?, ?, ?, ?, ?)"
)
CHECKPOINT_PAGES = 4_000
"""Pages (of 4 KB) after which a writer brings what is new into the file itself and waits for the
disk: four times as rarely as SQLite does by itself, since a batch waits for that."""

ROWS_AT_ONCE = 128
"""Rows of one statement. Python lets other threads in at every statement, and a busy one does not
give way at once: fifty statements of a row each can take fifty times as long as one of fifty."""


def path_of(place: str | os.PathLike[str]) -> str:
    """The file of ``sqlite:///relative.db``, ``sqlite:////absolute.db`` or a plain path."""
    text = os.fspath(place)
    if "://" not in text:
        path = text
    elif text.startswith(SCHEME):
        path = text[len(SCHEME) :]
    else:
        path = ""
    if not path or path == ":memory:":
        raise ConfigurationError(
            f"{text!r} names no file that other processes could read; use sqlite:///events.db "
            "(relative) or sqlite:////var/lib/events.db"
        )
    return path


def connected(path: str, *, synchronous: str = "NORMAL") -> sqlite3.Connection:
    """A connection to the log, made if it is not there."""
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        if not connection.execute(
            "SELECT 1 FROM sqlite_master WHERE name = 'streamll_placed'"
        ).fetchone():
            connection.executescript(f"BEGIN IMMEDIATE;{SCHEMA}{sqlite_runs.SCHEMA}COMMIT;")
    except BaseException:
        connection.close()
        raise
    return connection


class _Holder:
    """Someone with an open connection. SQLite cannot bear one that is open across a fork: the
    child would believe to hold the parent's locks. So all are closed before, and opened again.
    """

    alive: ClassVar[weakref.WeakSet[_Holder]] = weakref.WeakSet()

    def __init__(self) -> None:
        # Held around every use of the connection: one that is closed while another thread reads
        # from it takes the process with it.
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        _Holder.alive.add(self)

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @classmethod
    def before_fork(cls) -> None:
        cls.waiting = list(cls.alive)
        for holder in cls.waiting:
            holder._lock.acquire()  # noqa: SLF001 - until after the fork, in both processes
            holder._let_go()  # noqa: SLF001

    @classmethod
    def after_fork(cls) -> None:
        waiting, cls.waiting = cls.waiting, []
        for holder in waiting:
            holder._lock.release()  # noqa: SLF001

    waiting: ClassVar[list[_Holder]] = []


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_Holder.before_fork,
        after_in_parent=_Holder.after_fork,
        after_in_child=_Holder.after_fork,
    )


class SQLiteSink(BrokerSink):
    """Writes events into an SQLite file.

    Args:
        path: a path or ``sqlite:///…`` URL.
        target: the log's name inside the file; may hold ``{run_id}`` and names of the context.
        keep_seconds: forget entries older than this; by default all are kept.
        synchronous: ``"FULL"`` waits for the disk, so that a power cut loses nothing either.
        options: see ``BrokerSink``.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] = "streamll.db",
        *,
        target: str = TARGET,
        keep_seconds: float | None = None,
        synchronous: Literal["NORMAL", "FULL"] = "NORMAL",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.path = path_of(path)
        self.target = target
        self.keep_seconds = keep_seconds
        self.synchronous = synchronous

    @property
    def destination(self) -> str:
        return f"{SCHEME}{self.path}"

    def _connect(self) -> _Writer:
        return _Writer(self.path, self.target, self.keep_seconds, self.synchronous)

    def _explain(self, error: BaseException) -> str:
        return (
            f"{type(error).__name__}: {error}" if isinstance(error, sqlite3.Error) else str(error)
        )


class _Writer(_Holder):
    """A sink's connection."""

    def __init__(
        self, path: str, target: str, keep_seconds: float | None, synchronous: str
    ) -> None:
        super().__init__()
        self._open = functools.partial(connected, path, synchronous=synchronous)
        self._target = target
        self._keep = keep_seconds
        self._next_cleaning = 0.0
        self._places = sqlite_runs.Places()
        Path(path).parent.mkdir(parents=True, exist_ok=True)

    def send(self, parcels: list[Parcel]) -> range:
        now = time.time()
        rows = [(fill(self._target, p), p.run_id, p.first, p.last, now, p.body) for p in parcels]
        with self._lock:
            if self._connection is None:
                self._connection = self._open()
            last = self._write(self._connection, rows, now)
        return range(last - len(rows) + 1, last + 1)  # nobody else writes in between

    def _write(self, log: sqlite3.Connection, rows: list[Any], now: float) -> int:
        last = self._append(log, rows, now)
        if self._places.are_due(last):
            # The entries are in the log already. If this fails, the next batch tries again.
            with contextlib.suppress(sqlite3.OperationalError), _transaction(log):
                self._places.put_down(log, last)
        return last

    def _append(self, log: sqlite3.Connection, rows: list[Any], now: float) -> int:
        cleans = self._keep is not None and now >= self._next_cleaning
        if len(rows) == 1 and not cleans:
            return _insert(log, rows)  # a transaction by itself
        with _transaction(log) as connection:
            last = _insert(connection, rows)
            if self._keep is not None and cleans:
                self._next_cleaning = now + min(self._keep / 10, 60)
                sqlite_runs.forget_before(connection, now - self._keep)
                connection.execute(
                    "DELETE FROM streamll_entries WHERE written_at < ?", (now - self._keep,)
                )
        return last

    def close(self) -> None:
        with self._lock:
            self._let_go()


class SQLiteSource(_Holder):
    """Reads a log in an SQLite file. Not thread-safe: one event loop reads."""

    def __init__(self, url: str, options: Options) -> None:
        super().__init__()
        self._path = path_of(url)
        self._options = options
        self._after: int | None = None
        self._seen_version = -1
        self._next_claim = 0.0
        self._thread: ThreadPoolExecutor | None = None
        if options.start not in ("new", "beginning"):
            if not options.start.isdecimal():
                raise ConfigurationError(f"start={options.start!r} is no place in an SQLite log")
            self._after = int(options.start)

    @property
    def place(self) -> str:
        return f"{SCHEME}{self._path}"

    def hopeless(self, error: BaseException) -> str | None:
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(
            error, sqlite3.OperationalError
        ):
            return f"{self._path} is no log: {error}"
        if "unable to open" in str(error):
            return f"{self._path} cannot be opened: is its folder there, and yours to write to?"
        return None

    def explain(self, error: BaseException) -> str:
        return f"{type(error).__name__}: {error}"

    async def connect(self) -> None:
        await self.close()
        # Not the event loop's own threads: handlers may be using all of those, for long.
        self._thread = ThreadPoolExecutor(1, "streamll-sqlite")
        self._connection = await self._on_thread(self._prepare)
        self._seen_version = -1

    async def read(self) -> list[Entry]:
        take = self._read if self._options.group is None else self._claim
        deadline = time.monotonic() + WAIT
        while True:
            entries = await self._on_thread(take) if self._has_news() else []
            if entries or time.monotonic() >= deadline:
                return entries
            await asyncio.sleep(LOOK_SECONDS)

    def pass_over(self, receipt: object) -> None:
        if isinstance(receipt, range) and receipt.start - 1 == self._after:
            self._after = receipt[-1]

    async def acknowledge(self, entry: Entry) -> None:
        await self._execute(
            "DELETE FROM streamll_claims WHERE target = ? AND name = ? AND entry = ?",
            [(*self._group, int(entry.cursor))],
        )

    async def keep(self, entries: Sequence[Entry]) -> None:
        now = time.time()
        await self._execute(
            "UPDATE streamll_claims SET since = ? "
            "WHERE target = ? AND name = ? AND entry = ? AND member = ?",
            [(now, *self._group, int(entry.cursor), self._options.member) for entry in entries],
        )

    async def bury(self, body: bytes) -> None:
        row = (dead_letters(self._options), None, None, None, time.time(), body)
        await self._execute(INSERT, [row])

    async def overview(self, runs: int) -> list[bytes]:
        return await self._on_thread(functools.partial(self._overview, runs))

    async def lag(self) -> int | None:
        return await self._on_thread(self._count_behind)

    async def close(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown(wait=False)
        with self._lock:
            self._let_go()

    async def _on_thread(self, work: Callable[[], T]) -> T:
        if self._thread is None:
            raise sqlite3.OperationalError("not connected")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # --- on a thread ----------------------------------------------------------------------------

    @property
    def _log(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.OperationalError("not connected")
        return self._connection

    @property
    def _group(self) -> tuple[str, str | None]:
        return self._options.target, self._options.group

    def _has_news(self) -> bool:
        """Whether anybody has written since the last look what was not passed over, or something
        may be claimed.
        """
        if self._options.group is not None and time.monotonic() >= self._next_claim:
            return True
        with self._lock:
            [version] = self._log.execute("PRAGMA data_version").fetchone()
            if version == self._seen_version:
                return False
            self._seen_version = version
            return self._after is None or self._after != _last_id(self._log)

    def _prepare(self) -> sqlite3.Connection:
        connection = connected(self._path)
        if self._options.group is not None:
            self._join(connection)
        elif self._after is None:
            self._after = self._start(connection)
        return connection

    def _start(self, connection: sqlite3.Connection) -> int:
        if self._options.start == "beginning":
            return 0
        if self._options.start != "new":
            return int(self._options.start)
        return _last_id(connection)

    def _join(self, connection: sqlite3.Connection) -> None:
        connection.execute(
            "INSERT OR IGNORE INTO streamll_groups VALUES (?, ?, ?)",
            (*self._group, self._start(connection)),
        )

    def _read(self) -> list[Entry]:
        target, run_id, after = self._options.target, self._options.run_id, self._after or 0
        with self._lock:
            if run_id is not None:
                rows = sqlite_runs.entries_of(self._log, target, run_id, after, LIMIT)
            else:
                rows = self._log.execute(
                    "SELECT id, body FROM streamll_entries WHERE target = ? AND id > ? "
                    "ORDER BY id LIMIT ?",
                    (target, after, LIMIT),
                ).fetchall()
        if rows:
            self._after = rows[-1][0]
        if len(rows) == LIMIT:
            self._seen_version = -1  # there is more than was taken
        return [Entry(cursor=str(cursor), body=body) for cursor, body in rows]

    def _claim(self) -> list[Entry]:
        now = time.time()
        self._next_claim = time.monotonic() + self._options.claim_after / 3
        with self._lock, _transaction(self._log) as log:
            rows = self._claim_abandoned(log, now) + self._claim_new(log, now)  # oldest first
        if len(rows) >= LIMIT:
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
            (*self._group, LIMIT),
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
        rows = log.execute(
            "SELECT entry, body, deliveries + (member != ?) FROM streamll_claims "
            "LEFT JOIN streamll_entries ON id = entry "
            "WHERE streamll_claims.target = ? AND name = ? AND since < ? ORDER BY entry LIMIT ?",
            (self._options.member, *self._group, now - self._options.claim_after, LIMIT),
        ).fetchall()
        for cursor, body, deliveries in rows:
            if body is None:  # too old to be kept
                log.execute("DELETE FROM streamll_claims WHERE entry = ?", (cursor,))
            else:
                log.execute(
                    "UPDATE streamll_claims SET member = ?, since = ?, deliveries = ? "
                    "WHERE target = ? AND name = ? AND entry = ?",
                    (self._options.member, now, deliveries, *self._group, cursor),
                )
        return [row for row in rows if row[1] is not None]

    def _overview(self, runs: int) -> list[bytes]:
        target = self._options.target
        with self._lock:
            begun = self._log.execute(
                "SELECT id, body, run_id FROM streamll_entries WHERE target = ? AND first_seq = 0 "
                "ORDER BY id DESC LIMIT ?",
                (target, runs),
            ).fetchall()
            outside = self._log.execute(
                "SELECT id, body FROM streamll_entries WHERE target = ? AND run_id IS NULL "
                "ORDER BY id DESC LIMIT ?",
                (target, OUTSIDE),
            ).fetchall()
            ends = sqlite_runs.last_entries(self._log, target, [row[2] for row in begun])
            rows = {row[0]: row[1] for row in [*begun, *ends, *outside]}
        return [rows[number] for number in sorted(rows)]

    def _count_behind(self) -> int:
        target, run_id, after = self._options.target, self._options.run_id, self._after or 0
        if run_id is not None and self._options.group is None:
            with self._lock:
                return sqlite_runs.count_behind(self._log, target, run_id, after)
        values: tuple[Any, ...] = (target, after)
        if self._options.group is None:
            query = "SELECT count(*) FROM streamll_entries WHERE target = ? AND id > ?"
        else:
            query = (
                "SELECT (SELECT count(*) FROM streamll_entries WHERE target = ?1 AND id > "
                "(SELECT position FROM streamll_groups WHERE target = ?1 AND name = ?2)) + "
                "(SELECT count(*) FROM streamll_claims WHERE target = ?1 AND name = ?2)"
            )
            values = self._group
        with self._lock:
            [count] = self._log.execute(query, values).fetchone()
        return int(count)

    async def _execute(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        def work() -> None:
            with self._lock, _transaction(self._log) as log:
                log.executemany(statement, rows)

        await self._on_thread(work)


def _insert(connection: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> int:
    """In statements of 128, 64, 32, … rows, so that SQLite needs to know but eight.

    Returns the id of the last row.
    """
    done, size, last = 0, ROWS_AT_ONCE, 0
    while done < len(rows):
        while size > len(rows) - done:
            size //= 2
        values = itertools.chain.from_iterable(rows[done : done + size])
        statement = INSERT + ", (?, ?, ?, ?, ?, ?)" * (size - 1)
        last = connection.execute(statement, tuple(values)).lastrowid or 0
        done += size
    return last


def _last_id(connection: sqlite3.Connection) -> int:
    [last] = connection.execute("SELECT max(id) FROM streamll_entries").fetchone()
    return last or 0


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Any:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
