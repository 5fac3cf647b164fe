"""D3: what a sink's connection goes through between two batches costs no event and no complaint."""

from __future__ import annotations

import logging

import pytest

from brokers.runs import BOUND, ends, make_run, plain, read_log
from streamll.brokers import redis as redis_broker
from streamll.sinks import RedisSink


@pytest.fixture
def server(server_of):
    return server_of("redis")


@pytest.fixture
def client(server):
    import redis

    with redis.Redis.from_url(server.url) as client:
        yield client


def put_all(sink, events):
    for event in events:
        sink.put(event)
    assert sink.catch_up(BOUND)


def test_a_connection_that_the_server_ended_while_idle_is_made_again_without_a_failure(
    server, client, monkeypatch, caplog
):
    monkeypatch.setattr(redis_broker, "IDLE_SECONDS", 0.0)
    caplog.set_level(logging.INFO, logger="streamll")
    sink = RedisSink(server.url, target="idle")
    one, two = make_run("r1", ["a"]), make_run("r2", ["b"])
    put_all(sink, one)
    client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    put_all(sink, two)
    assert sink.statistics().failures == 0
    assert not caplog.records
    assert sink.stop(BOUND)
    read = read_log(server.url, "idle", ends(2))
    assert [plain(event) for event in read] == [plain(event) for event in [*one, *two]]


def test_a_batch_for_many_streams_arrives_in_each_in_order(server, client):
    sink = RedisSink(server.url, stream_key="many:{conversation_id}", maxlen=None)
    runs = [make_run(f"r{n}", "abc", {"conversation_id": f"c{n}é"}) for n in range(20)]
    put_all(sink, [event for events in zip(*runs, strict=True) for event in events])
    assert sink.stop(BOUND)
    for n, run in enumerate(runs):
        read = read_log(server.url, f"many:c{n}é", ends(1))
        assert [plain(event) for event in read] == [plain(event) for event in run]
        assert 0 < client.ttl(f"many:c{n}é") <= 86_400


def test_what_redis_refuses_inside_a_transaction_counts_as_not_arrived(server, client):
    client.set("taken:refused", "no stream")
    sink = RedisSink(server.url, stream_key="taken:{conversation_id}")
    for event in make_run("r1", "abc", {"conversation_id": "refused"}):
        sink.put(event)
    assert not sink.catch_up(0.5)
    statistics = sink.statistics()
    assert statistics.handled == 0
    assert statistics.last_error == "WRONGTYPE: the key holds something that is no stream"
    client.delete("taken:refused")
    assert sink.stop(BOUND)
    assert len(read_log(server.url, "taken:refused", ends(1))) == 9
