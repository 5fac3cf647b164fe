"""The way to a log, which a test can block: a network that lets nothing through, a locked file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from brokers.backends import Backend
from brokers.servers import Wire

LOCK = """
import sqlite3, sys
log = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
log.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.readline()
"""


class Way:
    """``url`` leads to the log. ``block`` makes it silent, ``free`` lets everything through."""

    def __init__(self, url: str) -> None:
        self.url = url

    def block(self) -> None:
        raise AssertionError("how?")

    def free(self) -> None:
        raise AssertionError("how?")


class Network(Way):
    def __init__(self, backend: Backend) -> None:
        self.wire = Wire(backend.server.port)
        super().__init__(through(self.wire, backend.server))

    def block(self) -> None:
        self.wire.stall()

    def free(self) -> None:
        self.wire.mend()


class LockedFile(Way):
    """Another process has locked the file."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend.url)
        self._locker: subprocess.Popen | None = None

    def block(self) -> None:
        path = self.url.removeprefix("sqlite:///")
        self._locker = subprocess.Popen(
            [sys.executable, "-c", LOCK, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._locker.stdout.readline() == "locked\n"

    def free(self) -> None:
        locker, self._locker = self._locker, None
        if locker is not None:
            locker.communicate("\n", timeout=30)


def through(wire: Wire, server) -> str:
    return server.url.replace(str(server.port), str(wire.port))


@contextmanager
def way_to(backend: Backend) -> Iterator[Way]:
    if backend.server is None:
        way: Way = LockedFile(backend)
        try:
            yield way
        finally:
            way.free()
    else:
        way = Network(backend)
        try:
            yield way
        finally:
            way.wire.close()


def be_impatient(monkeypatch) -> None:
    """Give up a silent broker after a second or so, for tests that wait for that."""
    monkeypatch.setattr("streamll.brokers.redis.client.CONNECT_TIMEOUT_S", 0.7)
    monkeypatch.setattr("streamll.brokers.redis.client.REPLY_TIMEOUT_S", 0.7)
    monkeypatch.setattr("streamll.brokers.rabbitmq.client.CONNECT_TIMEOUT_S", 1.0)
    monkeypatch.setattr("streamll.brokers.rabbitmq.client.HEARTBEAT_S", 1)
    monkeypatch.setattr("aiormq.connection.Connection.HEARTBEAT_GRACE_MULTIPLIER", 1)
    monkeypatch.setattr("streamll.brokers.rabbitmq.client.CONFIRM_TIMEOUT_S", 1.0)
    monkeypatch.setattr("streamll.brokers.sqlite.file.BUSY_TIMEOUT_S", 0.3)
