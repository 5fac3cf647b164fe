"""D3: a sink's connection that breaks between two batches costs no event and no warning."""

from __future__ import annotations

import asyncio
import logging
import threading
import time

import pytest

from brokers.sample_runs import BOUND, ends, make_run, plain, read_log
from brokers.servers import Wire, wait_until
from streamll.brokers import sink as broker_sink
from streamll.brokers.rabbitmq import address as rabbitmq_address
from streamll.brokers.rabbitmq import client as rabbitmq_client
from streamll.brokers.rabbitmq.address import HEARTBEAT_S, Address
from streamll.flow.retry import Backoff
from streamll.sinks import RabbitMQSink, RedisSink


def put_all(sink, events):
    for event in events:
        sink.put(event)
    assert sink.catch_up(BOUND)


def told_of_sinks(caplog) -> list[str]:
    """What was logged by a sink; threads of earlier tests may log as well, that of answers for one."""
    return [said for record in caplog.records if (said := record.getMessage()).startswith("sink ")]


# --- Redis --------------------------------------------------------------------------------------


@pytest.fixture
def server(server_of):
    return server_of("redis")


@pytest.fixture
def client(server):
    import redis

    with redis.Redis.from_url(server.url) as client:
        yield client


def test_an_idle_connection_closed_by_the_server_is_replaced_without_a_failure(
    server, client, monkeypatch, caplog
):
    monkeypatch.setattr(broker_sink, "IDLE_CHECK_S", 0.0)
    caplog.set_level(logging.INFO, logger="streamll")
    url = server.new_part()
    sink = RedisSink(url, target="idle")
    one, two = make_run("r1", ["a"]), make_run("r2", ["b"])
    put_all(sink, one)
    own = [each["id"] for each in client.client_list() if url.endswith(f"/{each['db']}")]
    assert own
    for each in own:
        client.client_kill_filter(_id=each)
    put_all(sink, two)
    assert sink.statistics().failures == 0
    assert not told_of_sinks(caplog)
    assert sink.stop(BOUND)
    read = read_log(url, "idle", ends(2))
    assert [plain(event) for event in read] == [plain(event) for event in [*one, *two]]


def test_a_batch_for_many_streams_is_in_order_in_each(server, client):
    sink = RedisSink(server.url, stream_key="many:{conversation_id}", maxlen=None)
    runs = [make_run(f"r{n}", "abc", {"conversation_id": f"c{n}é"}) for n in range(5)]
    put_all(sink, [event for events in zip(*runs, strict=True) for event in events])
    assert sink.stop(BOUND)
    for n, run in enumerate(runs):
        read = read_log(server.url, f"many:c{n}é", ends(1))
        assert [plain(event) for event in read] == [plain(event) for event in run]
        assert 0 < client.ttl(f"many:c{n}é") <= 86_400


def test_an_error_inside_a_redis_transaction_is_a_failed_batch(server, client):
    client.set("taken:refused", "no stream")
    sink = RedisSink(server.url, stream_key="taken:{conversation_id}")
    for event in make_run("r1", "abc", {"conversation_id": "refused"}):
        sink.put(event)
    wait_until(lambda: sink.statistics().last_error, BOUND, "it has been tried")
    assert not sink.catch_up(0.5)
    statistics = sink.statistics()
    assert statistics.handled == 0
    assert statistics.last_error == "WRONGTYPE: the key holds something that is no stream"
    client.delete("taken:refused")
    assert sink.stop(BOUND)
    assert len(read_log(server.url, "taken:refused", ends(1))) == 9


def test_a_refusal_that_was_under_way_as_a_sink_is_stopped_is_not_the_last_word(
    server, client, monkeypatch
):
    monkeypatch.setattr(broker_sink, "RETRY_BACKOFF", Backoff(base=3600, cap=3600))
    refused, stopping = threading.Event(), threading.Event()

    class Late(RedisSink):
        def _diagnose(self, error):
            refused.set()
            assert stopping.wait(BOUND)
            return super()._diagnose(error)

        def gives_up(self):  # who stops it has begun to wait
            stopping.set()
            return super().gives_up()

    client.set("late", "no stream")
    sink = Late(server.url, stream_key="late")
    for event in make_run("r1", "abc"):
        sink.put(event)
    assert refused.wait(BOUND)
    client.delete("late")
    assert sink.stop(BOUND)
    assert len(read_log(server.url, "late", ends(1))) == 9


# --- RabbitMQ -----------------------------------------------------------------------------------


@pytest.fixture
def rabbit(server_of):
    return server_of("rabbitmq")


def on_a_channel(url, do):
    """Run ``do(channel)`` with aio-pika."""

    async def main():
        import aio_pika

        connection = await aio_pika.connect(url)
        async with connection:
            return await do(await connection.channel())

    return asyncio.run(asyncio.wait_for(main(), BOUND))


def test_an_idle_connection_closed_by_rabbitmq_is_replaced(rabbit, monkeypatch, caplog):
    monkeypatch.setattr(broker_sink, "IDLE_CHECK_S", 0.0)
    caplog.set_level(logging.INFO, logger="streamll")
    wire = Wire(rabbit.port)
    sink = RabbitMQSink(rabbit.url.replace(str(rabbit.port), str(wire.port)), target="idle")
    one, two = (make_run(f"r{n}", ["a"]) for n in range(2))
    put_all(sink, one)
    wire.cut()
    wire.mend()
    put_all(sink, two)
    assert sink.statistics().failures == 0
    assert not told_of_sinks(caplog)
    assert sink.stop(BOUND)
    wire.close()
    read = read_log(rabbit.url, "idle", ends(2))
    assert [plain(event) for event in read] == [plain(event) for event in [*one, *two]]


def test_an_idle_connection_outlives_heartbeats(rabbit):
    """Nobody sends any while a sink sleeps: RabbitMQ must not wait for them, or for an answer."""
    sink = RabbitMQSink(f"{rabbit.url}?heartbeat=1", target="asleep")
    put_all(sink, make_run("r0", ["a"]))
    connection = sink._transport
    connection._socket.settimeout(BOUND)  # a busy RabbitMQ may take more than a second to confirm
    time.sleep(4)  # a second is a heartbeat, of which RabbitMQ misses two
    put_all(sink, make_run("r1", ["b"]))
    assert sink._transport is connection
    assert sink.stop(BOUND)
    assert len(read_log(rabbit.url, "asleep", ends(2))) == 14


@pytest.mark.parametrize(("query", "seconds"), [("?heartbeat=3", 3), ("", HEARTBEAT_S)])
def test_a_readers_heartbeat_is_that_of_its_url(rabbit, monkeypatch, query, seconds):
    monkeypatch.setattr(rabbitmq_address, "HEARTBEAT_S", HEARTBEAT_S)

    async def main():
        address = Address(rabbit.url + query)
        connection = await rabbitmq_client.connect(address.nodes[0], address.heartbeat)
        found = connection.transport.connection.heartbeat_timeout
        await connection.close()
        return found

    assert asyncio.run(main()) == seconds


def test_a_nacked_message_is_sent_again_before_the_runs_next(rabbit):
    async def fill_up(channel):
        queue = await channel.declare_queue(
            "full", arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
        )
        await queue.bind("nacks", "#")

    async def create_parent_folder(channel):
        await channel.queue_delete("full")

    sink = RabbitMQSink(rabbit.url, target="nacks", batch_size=2)
    put_all(sink, make_run("r1", ["a"]))
    on_a_channel(rabbit.url, fill_up)
    run = make_run("r2", "abcdef")
    for event in run:
        sink.put(event)
    wait_until(lambda: sink.statistics().last_error, BOUND, "it has not been taken")
    assert sink.statistics().last_error == "DeliveryError"
    on_a_channel(rabbit.url, create_parent_folder)
    assert sink.stop(BOUND)
    assert sink.statistics().dropped == 0
    read = read_log(rabbit.url, "nacks", ends(2))
    assert [plain(event) for event in read[-len(run) :]] == [plain(event) for event in run]


def test_a_deleted_exchange_is_declared_again(rabbit):
    async def delete(channel):
        await channel.exchange_delete("deleted")
        await channel.queue_delete("deleted.log")

    sink = RabbitMQSink(rabbit.url, target="deleted")
    put_all(sink, make_run("r1", ["a"]))
    on_a_channel(rabbit.url, delete)
    put_all(sink, make_run("r2", ["b"]))
    assert sink.statistics().last_error == "ChannelNotFoundEntity"
    assert sink.stop(BOUND)
    assert {event.run_id for event in read_log(rabbit.url, "deleted", ends(1))} == {"r2"}


def test_bodies_beyond_a_frame_and_long_routing_keys_arrive(rabbit):
    text = "Grüße " * 100_000
    run = make_run("r1", [text, "end"], {"topic": "ü" * 300})
    sink = RabbitMQSink(rabbit.url, target="long", routing_key="{topic}")
    put_all(sink, run)
    assert sink.statistics().failures == 0
    assert sink.stop(BOUND)
    read = read_log(rabbit.url, "long", ends(1))
    assert [plain(event) for event in read] == [plain(event) for event in run]
