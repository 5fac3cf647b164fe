"""Entries of a log, written and read with the broker's own client instead of streamll's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from abc import ABC, abstractmethod

from streamll.brokers.rabbitmq.address import Address

PATIENCE = {"socket_timeout": 60, "socket_connect_timeout": 60}
"""For redis-py, which asks again after five seconds: then an entry is there twice."""

NEWER = b'{"v":2,"run_id":"r9","events":[{"event_type":"token","seq":0}]}'
FOREIGN = [
    b"not json",
    b'{"some": "other program"}',
    b'"text"',
    b"\xff\xfe\x00",
    b'{"v":1,"events":17}',
    b'{"v":1,"events":[{"event_type":"token","seq":"seven"}]}',
    b'{"v":1,"events":[]}',
    b"",
    NEWER,
]


def put_raw(backend, target: str, bodies: list[bytes]) -> int:
    """Write into a log as some other program might; return how many entries that makes."""
    return RAW_LOGS[backend.name](backend.url).put(target, bodies)


def raw_dead_letters(backend, target: str, count: int = 0) -> list[dict]:
    """What is there, once there are so many."""
    log = RAW_LOGS[backend.name](backend.url)
    return [json.loads(body) for body in log.dead_letters(target, count)]


class RawLog(ABC):
    def __init__(self, url: str) -> None:
        self.url = url

    @abstractmethod
    def put(self, target: str, bodies: list[bytes]) -> int:
        """How many entries that makes."""

    @abstractmethod
    def dead_letters(self, target: str, count: int) -> list[bytes]:
        """``count``: so many have been written."""

    def bound(self, target: str) -> None:  # noqa: B027 - most need not
        """Make a log that trims itself, where that cannot be asked for at any time."""

    def trim(self, target: str, entries: int) -> None:  # noqa: B027 - RabbitMQ cannot
        """Delete the oldest entries."""


class RawSQLite(RawLog):
    def trim(self, target: str, entries: int) -> None:
        with self._open() as log, log:
            log.execute(
                "DELETE FROM streamll_entries WHERE id IN (SELECT id FROM streamll_entries "
                "WHERE target = ? ORDER BY id LIMIT ?)",
                (target, entries),
            )

    def put(self, target: str, bodies: list[bytes]) -> int:
        with self._open() as log, log:
            log.executemany(
                "INSERT INTO streamll_entries (target, written_at, body) VALUES (?, 0, ?)",
                [(target, body) for body in bodies],
            )
        return len(bodies)

    def dead_letters(self, target: str, count: int) -> list[bytes]:
        query = "SELECT body FROM streamll_entries WHERE target = ?"
        with self._open() as log:
            return [body for (body,) in log.execute(query, (f"{target}:dead",))]

    def _open(self):
        return contextlib.closing(sqlite3.connect(self.url.removeprefix("sqlite:///")))


class RawRedis(RawLog):
    dead = "{}:dead"

    def trim(self, target: str, entries: int) -> None:
        with self._connect() as client:
            client.xtrim(target, maxlen=max(0, client.xlen(target) - entries), approximate=False)

    def put(self, target: str, bodies: list[bytes]) -> int:
        with self._connect() as client:
            for body in bodies:
                client.xadd(target, {"d": body})
            client.xadd(target, {"colour": "red", "size": "7"})  # of another shape
        return len(bodies) + 1

    def dead_letters(self, target: str, count: int) -> list[bytes]:
        with self._connect() as client:
            return [fields[b"d"] for _, fields in client.xrange(self.dead.format(target))]

    def _connect(self):
        import redis

        return redis.Redis.from_url(self.url, **PATIENCE)


class RawCluster(RawRedis):
    """By redis-py's own client of a cluster."""

    dead = "{{{}}}:dead"

    def _connect(self):
        from redis.cluster import ClusterNode, RedisCluster

        hosts = self.url.removeprefix("redis+cluster://").partition("/")[0].split(",")
        nodes = [ClusterNode(*host.split(":")) for host in hosts]
        return RedisCluster(startup_nodes=nodes, **PATIENCE)


class RawShards(RawCluster):
    """Another program's entries, and dead letters of no run, are in the first shard."""

    dead = "{{{}:0}}:dead"

    def put(self, target: str, bodies: list[bytes]) -> int:
        return super().put(f"{target}:0", bodies)

    def trim(self, target: str, entries: int) -> None:
        """Each shard keeps so many as one stream would: they are trimmed apart."""
        shards = [f"{target}:{n}" for n in range(3)]
        with self._connect() as client:
            left = sum(map(client.xlen, shards)) - entries
            for shard in shards:
                client.xtrim(shard, maxlen=max(0, left), approximate=False)


class RawSentinel(RawRedis):
    """By redis-py's own client of Sentinels."""

    def _connect(self):
        from redis.sentinel import Sentinel

        hosts, _, service = self.url.removeprefix("redis+sentinel://").partition("/")
        sentinels = [host.split(":") for host in hosts.split(",")]
        return Sentinel(sentinels, **PATIENCE).master_for(service)


class RawRabbitMQ(RawLog):
    def __init__(self, url: str) -> None:
        first, *_ = Address(url).nodes
        super().__init__(first.url)

    def bound(self, target: str) -> None:
        asyncio.run(declare_bounded(self.url, target))

    def put(self, target: str, bodies: list[bytes]) -> int:
        asyncio.run(publish(self.url, target, bodies))
        return len(bodies)

    def dead_letters(self, target: str, count: int) -> list[bytes]:
        return asyncio.run(consume_dead(self.url, f"{target}.dead.log", count))


RAW_LOGS: dict[str, type[RawLog]] = {
    "sqlite": RawSQLite,
    "redis": RawRedis,
    "valkey": RawRedis,
    "redis-cluster": RawCluster,
    "redis-sentinel": RawSentinel,
    "redis-shards": RawShards,
    "rabbitmq": RawRabbitMQ,
    "rabbitmq-newer": RawRabbitMQ,
    "rabbitmq-cluster": RawRabbitMQ,
}


async def declare_bounded(url: str, target: str) -> None:
    """A stream deletes whole segments, as soon as a new one begins."""
    import aio_pika

    limits = {"x-max-length-bytes": 400_000, "x-stream-max-segment-size-bytes": 100_000}
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange(target, "topic", durable=True)
        arguments = {"x-queue-type": "stream", **limits}
        queue = await channel.declare_queue(f"{target}.log", durable=True, arguments=arguments)
        await queue.bind(exchange, "#")


async def publish(url: str, target: str, bodies: list[bytes]) -> None:
    import aio_pika

    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(target, ensure=False)
        for body in bodies:
            await exchange.publish(aio_pika.Message(body), "some.key")


async def consume_dead(url: str, queue_name: str, count: int) -> list[bytes]:
    """However long the first ``count`` take to come; a second is waited for more of them."""
    import aio_pika

    connection = await aio_pika.connect(url)
    dead_letters = []
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(100)
        queue = await channel.get_queue(queue_name, ensure=False)
        arrived = asyncio.Queue()
        try:
            await queue.consume(arrived.put, arguments={"x-stream-offset": "first"})
        except aio_pika.exceptions.ChannelNotFoundEntity:  # nothing has been written to it
            return []
        while True:
            try:
                patience = 60 if len(dead_letters) < count else 1
                message = await asyncio.wait_for(arrived.get(), patience)
            except asyncio.TimeoutError:
                return dead_letters
            await message.ack()
            dead_letters.append(message.body)
