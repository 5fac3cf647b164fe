"""Writing events into an SQLite file."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import sqlite3
import time
from pathlib import Path
from typing import Any, Literal

from streamll.brokers.send_buffer import PendingEntry
from streamll.brokers.sink import BrokerSink, fill
from streamll.brokers.sqlite import run_index
from streamll.brokers.sqlite.file import (
    INSERT,
    SCHEME,
    TARGET,
    ForkSafeConnection,
    connected,
    path_of,
    transaction,
)

INSERT_ROWS = 128
"""Rows of one statement. Python lets other threads in at every statement, and a busy one does not
give way at once: fifty statements of a row each can take fifty times as long as one of fifty."""


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

    def _connect(self) -> SQLiteTransport:
        return SQLiteTransport(self.path, self.target, self.keep_seconds, self.synchronous)

    def _explain(self, error: BaseException) -> str:
        return (
            f"{type(error).__name__}: {error}" if isinstance(error, sqlite3.Error) else str(error)
        )


class SQLiteTransport(ForkSafeConnection):
    """A sink's connection."""

    def __init__(
        self, path: str, target: str, keep_seconds: float | None, synchronous: str
    ) -> None:
        super().__init__()
        self._open = functools.partial(connected, path, synchronous=synchronous)
        self._target = target
        self._keep = keep_seconds
        self._next_cleaning = 0.0
        self._places = run_index.RunIndexWriter()
        Path(path).parent.mkdir(parents=True, exist_ok=True)

    def send(self, entries: list[PendingEntry]) -> range:
        now = time.time()
        rows = [(fill(self._target, p), p.run_id, p.first, p.last, now, p.body) for p in entries]
        with self._lock:
            if self._connection is None:
                self._connection = self._open()
            last = self._write(self._connection, rows, now)
        return range(last - len(rows) + 1, last + 1)  # nobody else writes in between

    def _write(self, log: sqlite3.Connection, rows: list[Any], now: float) -> int:
        last = self._append(log, rows, now)
        if self._places.are_due(last):
            # The entries are in the log already. If this fails, the next batch tries again.
            with contextlib.suppress(sqlite3.OperationalError), transaction(log):
                self._places.put_down(log, last)
        return last

    def _append(self, log: sqlite3.Connection, rows: list[Any], now: float) -> int:
        cleans = self._keep is not None and now >= self._next_cleaning
        if len(rows) == 1 and not cleans:
            return _insert(log, rows)  # a transaction by itself
        with transaction(log) as connection:
            last = _insert(connection, rows)
            if self._keep is not None and cleans:
                self._next_cleaning = now + min(self._keep / 10, 60)
                run_index.forget_before(connection, now - self._keep)
                connection.execute(
                    "DELETE FROM streamll_entries WHERE written_at < ?", (now - self._keep,)
                )
        return last

    def close(self) -> None:
        with self._lock:
            self._let_go()


def _insert(connection: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> int:
    """In statements of 128, 64, 32, … rows, so that SQLite needs to know but eight.

    Returns the id of the last row.
    """
    done, size, last = 0, INSERT_ROWS, 0
    while done < len(rows):
        while size > len(rows) - done:
            size //= 2
        values = itertools.chain.from_iterable(rows[done : done + size])
        statement = INSERT + ", (?, ?, ?, ?, ?, ?)" * (size - 1)
        last = connection.execute(statement, tuple(values)).lastrowid or 0
        done += size
    return last
