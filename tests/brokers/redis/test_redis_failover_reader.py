"""A reader behind a failover: the log ends before what was read, and goes on with lower numbers."""

from __future__ import annotations

import time

import pytest
import redis

from brokers.backends import own
from brokers.load import BackgroundReader
from brokers.raw_log import PATIENCE
from brokers.sample_runs import BOUND, check_order, make_run, plain
from brokers.servers import RedisServer, redis_binary, wait_until
from streamll.brokers.redis.client import FIELD
from streamll.brokers.send_buffer import SendBuffer
from streamll.consumer import EventConsumer

pytestmark = pytest.mark.usefixtures("patient_clients")


@pytest.fixture
def server(tmp_path):
    with own(lambda: RedisServer(tmp_path, redis_binary(), "--appendonly", "no")) as server:
        yield server


@pytest.fixture
def client(server):
    with redis.Redis.from_url(server.url, **PATIENCE) as client:
        yield client


def entries_of(*runs) -> list[bytes]:
    """One event in each, as one sink numbers them."""
    buffer = SendBuffer(2**20, 2**20)
    for run in runs:
        for event in run:
            buffer.add([event], lambda _: None)
            buffer.head(1000, 2**20)  # what has been sent is not joined
    return [entry.body for entry in buffer.head(1000, 2**20)]


def test_a_reader_goes_back_to_where_the_logs_agree(server, client):
    """X17: what was read and not replicated comes again, numbered by a clock that is slower."""
    key, now = "behind", int(time.time() * 1000)
    run = make_run("r1", "abcdef")
    bodies = entries_of(run)
    for number, body in enumerate(bodies[:8]):
        client.xadd(key, {FIELD: body}, id=f"{now + 100 * number}-0")
    reader = BackgroundReader(server.url, key)
    wait_until(lambda: len(reader.events) == 8, BOUND, "it has been read")
    with client.pipeline() as failover:  # the new primary has five of them, and a clock of its own
        for number in range(5, 8):
            failover.xdel(key, f"{now + 100 * number}-0")
        failover.execute_command("XSETID", key, f"{now + 400}-0")
        for number, body in enumerate(bodies[5:]):
            failover.xadd(key, {FIELD: body}, id=f"{now + 400}-{number + 1}")
        failover.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        failover.execute()
    reader.wait_for_ends(1)
    reader.stop()
    check_order(reader.events)
    assert [plain(event) for event in reader.events] == [plain(event) for event in run]


def test_a_reader_of_what_is_new_does_not_go_back_before_its_start(server, client):
    key, now = "floor", int(time.time() * 1000)
    old, new = make_run("old", "ab"), make_run("new", "cd")
    client.xadd(key, {FIELD: entries_of(old)[0]}, id=f"{now}-0")
    seen = []
    consumer = EventConsumer(server.url, key)
    consumer.subscribe(seen.append)
    consumer.start()
    assert consumer.wait_connected(BOUND)
    bodies = entries_of(new)
    client.xadd(key, {FIELD: bodies[0]}, id=f"{now + 100}-0")
    wait_until(lambda: seen, BOUND, "the first is read")
    with client.pipeline() as failover:
        failover.xdel(key, f"{now + 100}-0")
        failover.execute_command("XSETID", key, f"{now}-0")
        for number, body in enumerate(bodies):
            failover.xadd(key, {FIELD: body}, id=f"{now}-{number + 1}")
        failover.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        failover.execute()
    wait_until(lambda: len(seen) >= len(new), BOUND, "the others are read")
    assert consumer.stop(BOUND)
    assert [event.run_id for event in seen] == ["new"] * len(new)
