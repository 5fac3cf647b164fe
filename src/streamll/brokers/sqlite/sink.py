"""Writing events into an SQLite file."""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
import time
from pathlib import Path
from typing import Any, Literal

from streamll.brokers.failures import Diagnosis
from streamll.brokers.opening import given_once
from streamll.brokers.send_buffer import PendingEntry
from streamll.brokers.sink import BrokerSink, Transport, fill
from streamll.brokers.sqlite import file, run_index
from streamll.core.errors import ConfigurationError

TARGET = "streamll:events"
DEAD_LETTERS = ":dead"

INSERT = (
    "INSERT INTO streamll_entries (target, run_id, first_seq, last_seq, written_at, body) "
    "VALUES (?, ?, ?, ?, ?, ?)"
)

INSERT_ROWS = 128
"""Rows per statement. Python releases its lock at every statement, and a busy thread does not give
it back at once: fifty statements of one row can take fifty times as long as one of fifty."""

CLEANING_INTERVAL_S = 60.0


class SQLiteSink(BrokerSink):
    """Writes events into an SQLite file.

    Args:
        path: a path or ``sqlite:///…`` URL, which may have the options that are only SQLite's:
            ``sqlite:///events.db?keep_seconds=86400&synchronous=FULL``.
        target: the log's name inside the file; may contain ``{run_id}`` and names of the context.
        keep_seconds: delete entries older than this; by default all are kept.
        synchronous: ``"FULL"`` waits for the disk, so that a power cut loses nothing either.
        options: see ``BrokerSink``.

    Raises:
        ConfigurationError: a path or option that cannot work.
        TypeError: an option with different values as an argument and in the URL.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] = "streamll.db",
        *,
        target: str = TARGET,
        keep_seconds: float | None = None,
        synchronous: Literal["NORMAL", "FULL"] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.path, in_url = file.path_and_options(path)
        self.target = self.key_template = target
        self.keep_seconds: float | None = given_once("keep_seconds", keep_seconds, in_url, None)
        self.synchronous: str = given_once("synchronous", synchronous, in_url, "NORMAL")
        if self.synchronous not in ("NORMAL", "FULL"):
            raise ConfigurationError(f"synchronous is NORMAL or FULL, not {self.synchronous!r}")
        if self.keep_seconds is not None and not self.keep_seconds > 0:
            raise ConfigurationError("keep_seconds must be greater than 0")
        self.source_url = self.destination = f"{file.SCHEME}{self.path}"

    def _connect(self) -> SQLiteTransport:
        return SQLiteTransport(self)

    def _diagnose(self, error: BaseException) -> Diagnosis:
        return file.diagnose(error)


class SQLiteTransport(file.ForkSafeConnection, Transport):
    """A sink's connection. The receipt of ``send`` is the range of the entries' ids."""

    def __init__(self, sink: SQLiteSink) -> None:
        super().__init__()
        self._sink = sink
        self._next_cleaning = 0.0
        self._indexed_upto = 0
        Path(sink.path).parent.mkdir(parents=True, exist_ok=True)

    def send(self, entries: list[PendingEntry]) -> range:
        now, target = time.time(), self._sink.target
        rows = [
            (
                fill(target, each.run_id, each.context),
                each.run_id,
                each.first_seq,
                each.last_seq,
                now,
                each.body,
            )
            for each in entries
        ]
        with self.lock:
            if self._connection is None:
                self._connection = file.connect(self._sink.path, synchronous=self._sink.synchronous)
            last = self._append(self._connection, rows, now)
            if last - self._indexed_upto >= run_index.UNINDEXED_ENTRIES:
                # The entries are in the log. If indexing fails, the next batch tries again.
                with (
                    contextlib.suppress(sqlite3.OperationalError),
                    file.transaction(self._connection) as log,
                ):
                    self._indexed_upto = run_index.extend(log, last)
        return range(last - len(rows) + 1, last + 1)  # one transaction: no other writer's between

    def _append(self, log: sqlite3.Connection, rows: list[Any], now: float) -> int:
        """Insert the rows, and delete old ones now and then; return the last row's id."""
        keep = self._sink.keep_seconds
        cleans = keep is not None and now >= self._next_cleaning
        if len(rows) == 1 and not cleans:
            return _insert(log, rows)  # a transaction by itself
        with file.transaction(log):
            last = _insert(log, rows)
            if keep is not None and cleans:
                self._next_cleaning = now + min(keep / 10, CLEANING_INTERVAL_S)
                oldest = now - keep
                run_index.forget_before(log, oldest)
                log.execute("DELETE FROM streamll_entries WHERE written_at < ?", (oldest,))
        return last

    def close(self) -> None:
        self.disconnect()


def _insert(log: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> int:
    """In statements of 128, 64, 32, … rows, so that SQLite has to cache only eight.

    Returns the last row's id.
    """
    done, size, last = 0, INSERT_ROWS, 0
    while done < len(rows):
        while size > len(rows) - done:
            size //= 2
        values = itertools.chain.from_iterable(rows[done : done + size])
        statement = INSERT + ", (?, ?, ?, ?, ?, ?)" * (size - 1)
        last = log.execute(statement, tuple(values)).lastrowid or 0
        done += size
    return last
