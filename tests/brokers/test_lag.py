"""What a reader or a group has yet to read, as the source of each log tells it."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest

from brokers.backends import BACKENDS, SPEAKING_ALIKE, backend_of
from brokers.runs import BOUND, make_run
from brokers.servers import wait_until
from streamll.brokers.opening import open_source
from streamll.brokers.source import SourceOptions
from streamll.consumer import EventConsumer
from streamll.sinks import open_sink

ENTRIES = 1_500
LATE = 30
"""RabbitMQ counts what a stream holds every 5 seconds."""


@pytest.fixture(params=[*BACKENDS, *SPEAKING_ALIKE])
def backend(request, server_of, tmp_path):
    return backend_of(request.param, server_of, tmp_path)


def put_entries(backend, target: str, numbers: range, **options) -> None:
    """One entry each."""
    sink = open_sink(backend.url, target=target, **options)
    for n in numbers:
        sink.put(make_run(f"r{n}", ["x"])[3])
    assert sink.stop(BOUND)


@contextlib.asynccontextmanager
async def reading(backend, target: str, **options):
    source = open_source(backend.url, SourceOptions(target=target, **options))
    await source.connect()
    try:
        yield source
    finally:
        await source.close()


async def lag_is(source, expected: int) -> None:
    deadline = asyncio.get_running_loop().time() + LATE
    while (lag := await source.lag()) != expected:
        assert asyncio.get_running_loop().time() < deadline, f"{lag} is told, {expected} is right"
        await asyncio.sleep(0.05)


def test_a_readers_lag_is_what_it_has_not_read(backend):
    """D4: also where that is more than one look shows, and while more is written."""
    target = backend.target()
    put_entries(backend, target, range(ENTRIES))

    async def main() -> None:
        async with reading(backend, target, start="beginning") as source:
            await lag_is(source, ENTRIES)
            read = len(await source.read())
            assert 0 < read < ENTRIES
            await lag_is(source, ENTRIES - read)
            await asyncio.to_thread(put_entries, backend, target, range(100))
            while read < ENTRIES + 50:
                read += len(await source.read())
            await lag_is(source, ENTRIES + 100 - read)
            while read < ENTRIES + 100:
                read += len(await source.read())
            await lag_is(source, 0)
        async with reading(backend, target, start="new") as source:
            await lag_is(source, 0)

    asyncio.run(main())


def test_a_groups_lag_is_what_it_has_not_acknowledged(backend):
    """D4: what waits, and what members have in their hands; also from a cursor on."""
    target = backend.target()
    put_entries(backend, target, range(10))

    async def main() -> None:
        async with reading(backend, target, start="beginning") as reader:
            cursor = (await reader.read())[3].cursor
        options = {"group": "g", "member": "m", "start": cursor}
        async with reading(backend, target, **options) as source:
            entries = []
            while len(entries) < 6:
                entries += await source.read()
            await asyncio.to_thread(put_entries, backend, target, range(5))
            await lag_is(source, 11)
            for entry in entries[:4]:
                await source.acknowledge(entry)
            await lag_is(source, 7)
            while len(entries) < 11:
                entries += await source.read()
            for entry in entries[4:]:
                await source.acknowledge(entry)
            await lag_is(source, 0)

    asyncio.run(main())


def test_who_reads_one_run_does_not_wait_for_others(tmp_path, server_of):
    """SQLite finds the entries of a run, and counts no others."""
    backend = backend_of("sqlite", server_of, tmp_path)
    target = backend.target()
    put_entries(backend, target, range(20))

    async def main() -> None:
        async with reading(backend, target, start="beginning", run_id="r7") as source:
            assert await source.lag() == 1
            assert len(await source.read()) == 1
            assert await source.lag() == 0

    asyncio.run(main())


def test_what_redis_has_trimmed_is_ahead_of_nobody(server_of, tmp_path):
    import redis

    backend = backend_of("redis", server_of, tmp_path)
    target = backend.target()
    put_entries(backend, target, range(1000))

    async def main() -> None:
        async with reading(backend, target, start="beginning") as source:
            await lag_is(source, 1000)
            with redis.Redis.from_url(backend.url) as client:
                client.xtrim(target, maxlen=100, approximate=False)
            await lag_is(source, 100)
            while await source.read():
                pass
            await lag_is(source, 0)

    asyncio.run(main())


def test_a_consumer_tells_its_lag(tmp_path, server_of):
    """D4: ``statistics().lag``, while its handlers do not get on."""
    backend = backend_of("sqlite", server_of, tmp_path)
    target = backend.target()
    put_entries(backend, target, range(600))
    go_on = threading.Event()
    consumer = EventConsumer(backend.url, target, start="beginning", prefetch=1)
    consumer.subscribe(lambda event: go_on.wait(BOUND))
    consumer.start()
    wait_until(lambda: (consumer.statistics().lag or 0) == 600 - 256, BOUND, "it lags behind")
    assert consumer.statistics().handled == 0
    go_on.set()
    wait_until(lambda: consumer.statistics().lag == 0, BOUND, "it has caught up")
    assert consumer.stop()
