"""Brokers for the contract: one server of each kind for the whole test session."""

from __future__ import annotations

from pathlib import Path

import pytest

from brokers import servers
from brokers.backends import BACKENDS, Backend, available, backend_of


@pytest.fixture(scope="session")
def server_of(tmp_path_factory):
    """``server_of("redis")``: started when first asked for, shared by the session."""
    started: dict[str, servers.Server] = {}

    def make(name: str) -> servers.Server:
        folder: Path = tmp_path_factory.mktemp(name)  # another for each attempt
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
    return backend_of(request.param, server_of, tmp_path)
