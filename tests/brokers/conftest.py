"""Brokers for the contract: one server of each kind for the whole test session."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from brokers import servers

BACKENDS = ["sqlite", "redis", "valkey", "rabbitmq"]
_numbers = itertools.count()


class Backend:
    """A running broker, and fresh names in it."""

    def __init__(self, name: str, url: str, server: servers.Server | None = None) -> None:
        self.name = name
        self.url = url
        self.server = server

    def target(self) -> str:
        return f"t{next(_numbers)}"


def available(make: Callable[[], servers.Server]) -> servers.Server:
    """Start a server; without one, in CI the tests fail (skipped is failed there)."""
    try:
        server = make()
        server.start()
    except servers.Unavailable as problem:
        pytest.skip(str(problem))
    return server


@pytest.fixture(scope="session")
def server_of(tmp_path_factory):
    """``server_of("redis")``: started when first asked for, shared by the session."""
    started: dict[str, servers.Server] = {}

    def make(name: str) -> servers.Server:
        folder: Path = tmp_path_factory.mktemp(name)
        if name == "rabbitmq":
            return servers.RabbitMQServer(folder)
        binary = servers.redis_binary() if name == "redis" else servers.valkey_binary()
        # What the contract writes need not survive; the faults have servers of their own.
        return servers.RedisServer(folder, binary, "--appendonly", "no")

    def get(name: str) -> servers.Server:
        if name not in started:
            started[name] = available(lambda: make(name))
        return started[name]

    yield get
    for server in started.values():
        server.stop()


@pytest.fixture(params=BACKENDS)
def backend(request, server_of, tmp_path) -> Backend:
    if request.param == "sqlite":
        return Backend("sqlite", f"sqlite:///{tmp_path}/log.db")
    server = server_of(request.param)
    return Backend(request.param, server.url, server)
