"""The brokers the tests run against, and processes that use them."""

from __future__ import annotations

import itertools
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from profiles import THOROUGH

from brokers import servers

BACKENDS = ["sqlite", "redis", "rabbitmq"]
SERVERLESS = {"sqlite": "sqlite:///{folder}/log.db"}
"""URLs of the brokers that need no server; ``shared`` starts the others."""
COMPATIBLE_BACKENDS = ["valkey"] if sys.version_info >= (3, 11) else []  # the wheel begins there
"""Servers of another's protocol, or of another version: they run the contract and fault tests only."""
CLUSTERS = ["redis-cluster"]
"""Groups of servers that are one broker: they run the contract, and fault tests of their own."""
if THOROUGH:
    CLUSTERS += ["redis-sentinel", "redis-shards", "rabbitmq-cluster"]
if THOROUGH and servers.NEWER_RABBITMQ.exists():
    COMPATIBLE_BACKENDS.append("rabbitmq-newer")

T = TypeVar("T", bound=servers.Server)
_numbers = itertools.count()


def unique_name() -> str:
    """A name that nobody else uses in servers that workers share."""
    return f"t{os.environ.get('PYTEST_XDIST_WORKER', '')}-{next(_numbers)}"


class Backend:
    """A running broker, and fresh names in it."""

    def __init__(self, name: str, url: str, server: servers.Server | None = None) -> None:
        self.name = name
        self.url = url
        self.server = server

    def target(self) -> str:
        return unique_name()

    @property
    def patient_url(self) -> str:
        """For a process that must not take a broker that a busy machine keeps waiting for one that is
        away, and say so.
        """
        if self.server is None:
            return self.url
        if isinstance(self.server, servers.RabbitMQServer):
            return f"{self.url}?heartbeat=60"
        return f"{self.url}?socket_timeout=60&socket_connect_timeout=60"


def available(make: Callable[[], T]) -> T:
    """Start a server of one's own; without one, in CI the tests fail (skipped is failed there)."""
    try:
        return servers.started(make)
    except servers.Unavailable as problem:
        pytest.skip(str(problem))


@contextmanager
def own(make: Callable[[], T]) -> Iterator[T]:
    """A server, or a group of them, that a ``with`` block may do to what it likes."""
    server = available(make)
    try:
        yield server
    finally:
        server.stop()


def backend_of(name: str, server_of: Callable[[str], servers.Server], folder: Path) -> Backend:
    if name in SERVERLESS:
        return Backend(name, SERVERLESS[name].format(folder=folder))
    if name == "redis-shards":  # a cluster's, of which each log is in three streams
        server = server_of("redis-cluster")
        return Backend(name, f"{server.url}?shards=3", server)
    server = server_of(name)
    return Backend(name, server.url, server)


PRELUDE = """
    import json, os, sys, threading, time
    sys.path.insert(0, {tests!r})
    from brokers.sample_runs import make_run
    from streamll.consumer import EventConsumer
    from streamll.core.events import Status
    from streamll.sinks import open_sink
    url, target = {url!r}, {target!r}
"""


def script(backend: Backend, target: str, body: str) -> list[str]:
    """The command of a process that runs ``body`` with ``url`` and ``target`` of a log."""
    tests = str(Path(__file__).parent.parent)
    prelude = textwrap.dedent(PRELUDE).format(tests=tests, url=backend.url, target=target)
    return [sys.executable, "-c", prelude + textwrap.dedent(body)]
