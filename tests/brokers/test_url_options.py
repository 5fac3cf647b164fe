"""What a URL may say besides where the log is."""

from __future__ import annotations

import asyncio
import contextlib
import time

import aio_pika
import pytest
import redis
from aiormq.exceptions import ChannelPreconditionFailed

from brokers.backends import backend_of
from brokers.raw_log import PATIENCE
from brokers.sample_runs import BOUND, ends, make_run, read_log
from streamll.brokers.send_buffer import PendingEntry
from streamll.brokers.sqlite.sink import SQLiteSink
from streamll.consumer import EventConsumer
from streamll.core.errors import ConfigurationError
from streamll.sinks import RabbitMQSink, RedisSink, open_sink

pytestmark = pytest.mark.usefixtures("patient_clients")


def write(sink, *bodies: bytes) -> None:
    with contextlib.closing(sink._connect()) as transport:
        transport.send([PendingEntry(body) for body in bodies])


def test_options_of_a_url_are_the_sinks_and_no_part_of_a_files_name(tmp_path):
    url = f"sqlite:///{tmp_path}/log.db?keep_seconds=60&synchronous=full"
    sink = open_sink(url)
    assert (sink.path, sink.keep_seconds, sink.synchronous) == (f"{tmp_path}/log.db", 60.0, "FULL")
    run = make_run("r1", "ab")
    for event in run:
        sink.put(event)
    assert sink.stop(BOUND)
    assert [path.name for path in tmp_path.iterdir()] == ["log.db"]
    assert read_log(url, sink.target, ends(1)) == run


def test_an_sqlite_log_keeps_what_its_url_says(tmp_path):
    url = f"sqlite:///{tmp_path}/log.db?keep_seconds=0.01"
    write(open_sink(url), b"old")
    time.sleep(0.02)  # what is older than this goes
    write(open_sink(url), b"new")
    [(body,)] = SQLite(tmp_path / "log.db").bodies()
    assert body == b"new"


class SQLite:
    def __init__(self, path) -> None:
        self.path = path

    def bodies(self):
        import sqlite3

        with contextlib.closing(sqlite3.connect(self.path)) as log:
            return log.execute("SELECT body FROM streamll_entries").fetchall()


def test_a_redis_stream_keeps_what_its_url_says(server_of, tmp_path):
    backend = backend_of("redis", server_of, tmp_path)
    target, kept = backend.target(), backend.target()
    write(open_sink(f"{backend.url}?maxlen=100&ttl=3600", target=target), *[b"x"] * 500)
    write(open_sink(f"{backend.url}?maxlen=none", target=kept), *[b"x"] * 500)
    with contextlib.closing(redis.Redis.from_url(backend.url, **PATIENCE)) as client:
        assert 100 <= client.xlen(target) < 250  # Redis trims by whole nodes
        assert 0 < client.ttl(target) <= 3600
        assert (client.xlen(kept), client.ttl(kept)) == (500, -1)


@pytest.mark.parametrize("creator", ["sink", "member of a group"])
def test_a_rabbitmq_log_is_created_with_what_its_url_says(server_of, tmp_path, creator):
    backend = backend_of("rabbitmq", server_of, tmp_path)
    url, target = f"{backend.url}?max_bytes=1000000", backend.target()
    if creator == "sink":
        write(open_sink(url, target=target), b"{}")
    else:
        consumer = EventConsumer(url, target, group="g")
        consumer.start()
        assert consumer.wait_connected(BOUND)
        assert consumer.stop(BOUND)
    assert asyncio.run(declares(backend.url, target, 1_000_000))
    assert not asyncio.run(declares(backend.url, target, 1_000_001))


async def declares(url: str, log: str, max_bytes: int) -> bool:
    """Whether RabbitMQ has the log's queue with this limit."""
    arguments = {"x-queue-type": "stream", "x-max-length-bytes": max_bytes}
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        try:
            await channel.declare_queue(f"{log}.log", durable=True, arguments=arguments)
        except ChannelPreconditionFailed:
            return False
        return True


def test_a_plain_path_may_have_a_question_mark(tmp_path):
    assert SQLiteSink(tmp_path / "what?.db").path == f"{tmp_path}/what?.db"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:///x.db?keep=6", "has no option 'keep'; there are keep_seconds, synchronous$"),
        ("sqlite:///x.db?keep_seconds=", "keep_seconds must be a number of seconds .*, not ''"),
        ("sqlite:///x.db?keep_seconds=-1", "keep_seconds must be .* greater than 0, not '-1'"),
        ("sqlite:///x.db?keep_seconds=nan", "keep_seconds must be .* greater than 0, not 'nan'"),
        ("sqlite:///x.db?synchronous=OFF", "must be NORMAL or FULL, not 'OFF'"),
        ("sqlite:///x.db?keep_seconds=1&keep_seconds=2", "has keep_seconds= twice"),
        (
            "redis://:secret@h?max_len=6",
            "has no option 'max_len'; there are maxlen, ttl, replicas, .*, db, .*",
        ),
        ("redis://:secret@h?maxlen=0", "maxlen must be a whole number greater than 0, .*not '0'"),
        ("redis://:secret@h?replicas=all", "replicas must be a whole number, not 'all'"),
        ("unix://:secret@/run/r.sock?ttl=soon", "ttl must be a number of seconds"),
        ("amqp://u:secret@h?maxbytes=6", "no option 'maxbytes'; there are max_bytes, heartbeat, "),
        ("amqp://u:secret@h?max_bytes=2GiB", "max_bytes must be a whole number .*, not '2GiB'"),
    ],
)
def test_an_option_that_cannot_work_is_refused(tmp_path, monkeypatch, url, message):
    monkeypatch.chdir(tmp_path)
    for use in (open_sink, EventConsumer):
        with pytest.raises(ConfigurationError, match=message) as refused:
            use(url)
        assert "secret" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "name", "value"),
    [
        ("sqlite:///x.db", "keep_seconds", 60),
        ("redis://h", "maxlen", 100_000),  # what it is without
        ("redis://h", "ttl", 60),
        ("amqp://h", "max_bytes", 2**31),
    ],
)
def test_an_option_is_given_once(url, name, value):
    given = f"{url}?{name}={value}"
    assert getattr(open_sink(given, **{name: value}), name) == value
    assert getattr(open_sink(given), name) == getattr(open_sink(url, **{name: value}), name)
    with pytest.raises(TypeError, match=f"{name}= has another value in the URL"):
        open_sink(f"{url}?{name}=61", **{name: value})


def test_none_is_a_maxlen():
    assert RedisSink("redis://h").maxlen == 100_000
    assert RedisSink("redis://h", maxlen=None).maxlen is None
    assert RedisSink("redis://h?maxlen=none", maxlen=None).maxlen is None
    with pytest.raises(TypeError, match="maxlen= has another value"):
        RedisSink("redis://h?maxlen=6", maxlen=None)


def test_an_argument_that_cannot_work_is_refused():
    for make in (
        lambda: RedisSink("redis://h", maxlen=0),
        lambda: RedisSink("redis://h", ttl=0),
        lambda: RabbitMQSink("amqp://h", max_bytes=0),
        lambda: SQLiteSink("x.db", keep_seconds=0),
        lambda: SQLiteSink("x.db", max_entry_bytes=0),
        lambda: SQLiteSink("x.db", max_buffer_bytes=-1),
    ):
        with pytest.raises(ConfigurationError, match="must be"):
            make()


def test_the_rest_of_a_url_is_the_clients():
    assert RedisSink("redis://h:1/2?ttl=6&socket_timeout=7").url == "redis://h:1/2?socket_timeout=7"
    assert RabbitMQSink("amqp://h/v?max_bytes=6").url == "amqp://h/v"
