"""Entries of a log, written and read with the broker's own client instead of streamll's."""

from __future__ import annotations

import asyncio
import json
import sqlite3

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


def put_raw(backend, target: str, bodies: list[bytes]) -> None:
    """Write into a log as some other program might."""
    if backend.name == "sqlite":
        log = sqlite3.connect(backend.url.removeprefix("sqlite:///"))
        with log:
            log.executemany(
                "INSERT INTO streamll_entries (target, written_at, body) VALUES (?, 0, ?)",
                [(target, body) for body in bodies],
            )
        log.close()
    elif backend.name == "rabbitmq":
        asyncio.run(publish(backend.url, target, bodies))
    else:
        import redis

        with redis.Redis.from_url(backend.url) as client:
            for body in bodies:
                client.xadd(target, {"d": body})
            client.xadd(target, {"colour": "red", "size": "7"})


async def publish(url: str, target: str, bodies: list[bytes]) -> None:
    import aio_pika

    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(target, ensure=False)
        for body in bodies:
            await exchange.publish(aio_pika.Message(body), "some.key")


def raw_dead_letters(backend, target: str) -> list[dict]:
    if backend.name == "sqlite":
        log = sqlite3.connect(backend.url.removeprefix("sqlite:///"))
        rows = log.execute(
            "SELECT body FROM streamll_entries WHERE target = ?", (f"{target}:dead",)
        ).fetchall()
        log.close()
        return [json.loads(body) for (body,) in rows]
    if backend.name == "rabbitmq":
        return asyncio.run(consume_dead(backend.url, f"{target}.dead.log"))
    import redis

    with redis.Redis.from_url(backend.url) as client:
        return [json.loads(fields[b"d"]) for _, fields in client.xrange(f"{target}:dead")]


async def consume_dead(url: str, queue_name: str) -> list[dict]:
    import aio_pika

    connection = await aio_pika.connect(url)
    dead_letters = []
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(100)
        queue = await channel.get_queue(queue_name, ensure=False)
        arrived = asyncio.Queue()
        await queue.consume(arrived.put, arguments={"x-stream-offset": "first"})
        while True:
            try:
                message = await asyncio.wait_for(arrived.get(), 1)
            except asyncio.TimeoutError:
                return dead_letters
            await message.ack()
            dead_letters.append(json.loads(message.body))
