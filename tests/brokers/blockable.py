"""Routes to a log that a test can block: a stalled network, a locked file."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from brokers.backends import Backend
from brokers.servers import Wire

LOCK = """
import sqlite3, sys
log = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
log.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.readline()
"""


class BlockableRoute(ABC):
    """``url`` leads to the log. ``block`` stalls it, ``free`` lets everything through."""

    def __init__(self, url: str) -> None:
        self.url = url

    @abstractmethod
    def block(self) -> None: ...

    @abstractmethod
    def free(self) -> None: ...

    def close(self) -> None:
        """Let everything through, for good."""
        self.free()


class NetworkRoute(BlockableRoute):
    def __init__(self, backend: Backend) -> None:
        self.wire = Wire(backend.server.port)
        super().__init__(through(self.wire, backend.server))

    def block(self) -> None:
        self.wire.stall()

    def free(self) -> None:
        self.wire.mend()

    def close(self) -> None:
        self.wire.close()


class LockedFileRoute(BlockableRoute):
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
            locker.communicate("\n", timeout=60)


def through(wire: Wire, server) -> str:
    return server.url.replace(str(server.port), str(wire.port))


@contextmanager
def blockable_route(backend: Backend) -> Iterator[BlockableRoute]:
    route = (LockedFileRoute if backend.server is None else NetworkRoute)(backend)
    with contextlib.closing(route):
        yield route


def shorten_timeouts(monkeypatch) -> None:
    """Shorten the timeouts for silent brokers to a second or so."""
    set_timeouts(monkeypatch, redis=0.7, rabbitmq=1, sqlite=0.3)


def set_timeouts(monkeypatch, *, redis: float, rabbitmq: int, sqlite: float) -> None:
    """After so many seconds a sink gives up a broker that is silent."""
    monkeypatch.setattr("streamll.brokers.redis.client.CONNECT_TIMEOUT_S", redis)
    monkeypatch.setattr("streamll.brokers.redis.client.REPLY_TIMEOUT_S", redis)
    monkeypatch.setattr("streamll.brokers.rabbitmq.client.CONNECT_TIMEOUT_S", float(rabbitmq))
    monkeypatch.setattr("streamll.brokers.rabbitmq.address.HEARTBEAT_S", rabbitmq)
    monkeypatch.setattr("streamll.brokers.sqlite.file.BUSY_TIMEOUT_S", sqlite)
