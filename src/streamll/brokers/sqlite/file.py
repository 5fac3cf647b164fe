"""The file: its tables, connections to it, and what a fork does to them."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from streamll.brokers.failures import Diagnosis
from streamll.brokers.opening import positive_seconds, take_options
from streamll.core.errors import ConfigurationError
from streamll.core.urls import without_password

SCHEME = "sqlite:///"

BUSY_TIMEOUT_S = 5.0
"""How long a file that another process has locked is waited for before that counts as a failure."""

SCHEMA = Path(__file__).with_name("schema.sql")

CHECKPOINT_PAGES = 4_000
"""Pages (of 4 KB) after which a writer moves the write-ahead log into the file and waits for the
disk: a quarter as often as SQLite does by default, since a batch waits for it. A write-ahead log that
somebody's long transaction has kept from that is shortened to twice its size afterwards."""


def synchronous_mode(text: str) -> str:
    """``NORMAL`` or ``FULL``. Raises ``ValueError`` for any other."""
    if text.upper() not in ("NORMAL", "FULL"):
        raise ValueError("must be NORMAL or FULL")
    return text.upper()


OPTIONS: dict[str, Callable[[str], Any]] = {
    "keep_seconds": positive_seconds,
    "synchronous": synchronous_mode,
}
"""A sink's arguments that its URL may have as well; readers check and ignore them."""


def path_of(place: str | os.PathLike[str]) -> str:
    """The file of ``sqlite:///relative.db``, ``sqlite:////absolute.db`` or a plain path."""
    return path_and_options(place)[0]


def path_and_options(place: str | os.PathLike[str]) -> tuple[str, dict[str, Any]]:
    """The file, and what stands behind ``?`` in a URL.

    Raises:
        ConfigurationError: it names no file, or an option that there is not.
    """
    text = os.fspath(place)
    path, options = take_options(text, OPTIONS, ()) if text.startswith(SCHEME) else (text, {})
    path = path.removeprefix(SCHEME)
    if path in ("", ":memory:") or "://" in path:
        raise ConfigurationError(
            f"{without_password(text)!r} names no file that other processes could read; use "
            "sqlite:///events.db (relative) or sqlite:////var/lib/events.db"
        )
    return path, options


def check_exists(place: str) -> None:
    """Raise ``ConfigurationError`` if there is no such file, or no log in it. Changes nothing."""
    path = path_of(place)
    if not Path(path).is_file():
        raise ConfigurationError(f"there is no file {path!r}")
    with contextlib.closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)) as log:
        try:
            tables = log.execute("SELECT 1 FROM sqlite_master WHERE name = 'streamll_entries'")
            is_log = tables.fetchone() is not None
        except sqlite3.DatabaseError as error:  # another kind of file; or locked, which may pass
            is_log = isinstance(error, sqlite3.OperationalError)
    if not is_log:
        raise ConfigurationError(f"{path!r} is no log of streamll's")


def exists(path: str) -> bool:
    return Path(path).exists()


def has_log(path: str, target: str) -> bool:
    """Whether there is such a file with entries of this log. Changes nothing."""
    if not Path(path).is_file():
        return False
    with contextlib.closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)) as log:
        if not _has_table(log, "streamll_entries"):
            return False
        statement = "SELECT 1 FROM streamll_entries WHERE target = ? LIMIT 1"
        return log.execute(statement, (target,)).fetchone() is not None


def connect(path: str, *, synchronous: str = "NORMAL") -> sqlite3.Connection:
    """A connection to the log, which is created if it does not exist."""
    return _prepared(_opened(path), synchronous)


def connect_if_there(path: str) -> sqlite3.Connection | None:
    """A connection to the log, or ``None`` if there is none yet: no file, or none of its tables in it.

    Raises:
        sqlite3.OperationalError: nor could there be one, since its folder is not there, or is not
            this user's to write to.
    """
    if not exists(path):
        folder = Path(path).parent
        if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
            raise sqlite3.OperationalError("unable to open database file")
        return None
    connection = _opened(f"file:{quote(path)}?mode=rw", uri=True)
    with contextlib.ExitStack() as closing:
        closing.callback(connection.close)
        if not _has_table(connection, "streamll_entries"):
            return None
        closing.pop_all()
    return _prepared(connection)


def _opened(place: str, *, uri: bool = False) -> sqlite3.Connection:
    return sqlite3.connect(
        place, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, uri=uri
    )


def _prepared(connection: sqlite3.Connection, synchronous: str = "NORMAL") -> sqlite3.Connection:
    """The connection, with its settings, and all tables there."""
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {2 * CHECKPOINT_PAGES * 4096}")
        if not _has_table(connection, "streamll_placed"):
            connection.executescript(f"BEGIN IMMEDIATE;{SCHEMA.read_text('utf-8')}COMMIT;")
    except BaseException:
        connection.close()
        raise
    return connection


def _has_table(log: sqlite3.Connection, name: str) -> bool:
    found = log.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (name,))
    return found.fetchone() is not None


def transaction(connection: sqlite3.Connection) -> sqlite3.Connection:
    """For a ``with`` statement: commits at its end, or rolls back after an error."""
    connection.execute("BEGIN IMMEDIATE")
    return connection


def diagnose(error: BaseException) -> Diagnosis:
    """SQLite's reason; its messages quote no values."""
    if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
        return Diagnosis(f"it is no log: {error}", fatal=True)
    if "unable to open" in str(error):
        reason = "it cannot be opened: is its folder there, and yours to write to?"
        return Diagnosis(reason, fatal=True)
    return Diagnosis(f"{type(error).__name__}: {error}")


class ForkSafeConnection:
    """The owner of a connection that is closed before a fork and opened again when it is needed.

    SQLite must not be used across a fork (https://www.sqlite.org/howtocorrupt.html, 2.6): the child
    would believe to hold the parent's locks.
    """

    def __init__(self) -> None:
        # Held around every use of the connection: closing one while another thread reads from it
        # crashes the process.
        self.lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        _owners.add(self)

    def disconnect(self) -> None:
        with self.lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()


_owners: weakref.WeakSet[ForkSafeConnection] = weakref.WeakSet()
_forking: list[ForkSafeConnection] = []


def _before_fork() -> None:
    for owner in list(_owners):
        owner.lock.acquire()  # until after the fork, in both processes
        owner.disconnect()
        _forking.append(owner)


def _after_fork() -> None:
    while _forking:
        _forking.pop().lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork
    )
