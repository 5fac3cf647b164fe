"""A group's lag: what its members have not acknowledged yet. A reader without a group has none."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest

from brokers.backends import BACKENDS, CLUSTERS, COMPATIBLE_BACKENDS, backend_of
from brokers.raw_log import RAW_LOGS
from brokers.sample_runs import BOUND, make_run
from brokers.servers import wait_until
from streamll.brokers.opening import open_source
from streamll.brokers.source import READ_BATCH_ENTRIES, SourceOptions
from streamll.consumer import EventConsumer
from streamll.sinks import open_sink

pytestmark = pytest.mark.usefixtures("patient_sources")


@pytest.fixture(params=[*BACKENDS, *COMPATIBLE_BACKENDS, *CLUSTERS])
def backend(request, server_of, tmp_path):
    return backend_of(request.param, server_of, tmp_path)


def put_entries(backend, target: str, numbers: range, **options) -> None:
    """One entry per number."""
    sink = open_sink(backend.url, target=target, **options)
    for n in numbers:
        sink.put(make_run(f"r{n}", ["x"])[3])
    assert sink.stop(BOUND)


@contextlib.asynccontextmanager
async def connected_source(backend, target: str, **options):
    # Nobody here extends a claim: none is to expire on a busy machine.
    options = SourceOptions(target=target, claim_after=3600, **options)
    source = open_source(backend.url, options)
    await source.connect()
    try:
        yield source
    finally:
        await source.close()


async def wait_for_lag(source, *expected: int | None) -> None:
    """Until it is one of these."""
    deadline = asyncio.get_running_loop().time() + BOUND
    while (lag := await source.lag()) not in expected:
        assert asyncio.get_running_loop().time() < deadline, f"lag is {lag}, not {expected}"
        await asyncio.sleep(0.05)


async def read_count(source, count: int) -> list:
    entries: list = []
    while len(entries) < count:
        entries += await source.read()
    return entries


def test_a_groups_lag_is_what_it_has_not_acknowledged(backend):
    """D4: what waits, and what members hold."""
    target = backend.target()
    put_entries(backend, target, range(6))

    async def main() -> None:
        options = {"group": "g", "member": "m", "start": "beginning"}
        async with connected_source(backend, target, **options) as source:
            entries = await read_count(source, 6)
            await asyncio.to_thread(put_entries, backend, target, range(5))
            await wait_for_lag(source, 11)
            for entry in entries[:4]:
                await source.acknowledge(entry)
            await wait_for_lag(source, 7)
            for entry in entries[4:] + await read_count(source, 5):
                await source.acknowledge(entry)
            await wait_for_lag(source, 0)

    asyncio.run(main())


def test_a_group_that_began_at_a_cursor_has_a_lag_once_it_has_caught_up(backend):
    """D4: Redis does not know it earlier; the other brokers do."""
    target = backend.target()
    put_entries(backend, target, range(10))

    async def main() -> None:
        async with connected_source(backend, target, start="beginning") as reader:
            cursor = (await read_count(reader, 4))[3].cursor
        options = {"group": "g", "member": "m", "start": cursor}
        async with connected_source(backend, target, **options) as source:
            await wait_for_lag(source, 6, None)
            for entry in await read_count(source, 6):
                await source.acknowledge(entry)
            await wait_for_lag(source, 0)
            await asyncio.to_thread(put_entries, backend, target, range(5))
            await wait_for_lag(source, 5)

    asyncio.run(main())


def test_a_reader_without_a_group_has_no_lag(backend):
    target = backend.target()
    put_entries(backend, target, range(10))

    async def main() -> None:
        async with connected_source(backend, target, start="beginning") as source:
            assert await source.lag() is None

    asyncio.run(main())


def test_a_consumers_statistics_have_its_groups_lag(tmp_path, server_of):
    """D4: ``statistics().lag``, while its handlers make no progress."""
    backend = backend_of("sqlite", server_of, tmp_path)
    target = backend.target()
    put_entries(backend, target, range(600))
    proceed = threading.Event()
    consumer = EventConsumer(backend.url, target, group="g", start="beginning", prefetch=1)
    consumer.subscribe(lambda event: proceed.wait(BOUND))
    consumer.start()
    wait_until(lambda: consumer.statistics().lag == 600, BOUND, "it lags behind")
    assert consumer.statistics().handled == 0
    proceed.set()
    wait_until(lambda: consumer.statistics().lag == 0, BOUND, "it has caught up")
    assert consumer.stop(BOUND)


@pytest.mark.parametrize("name", ["sqlite", "redis", "redis?protocol=3", "valkey"])
def test_what_was_trimmed_is_not_waited_for(name, server_of, tmp_path):
    """D4: neither before the group was given it, nor while a member holds it."""
    if name == "valkey" and name not in COMPATIBLE_BACKENDS:
        pytest.skip("no wheel for this Python")
    kind, _, query = name.partition("?")
    backend = backend_of(kind, server_of, tmp_path)
    backend.url += query and f"?{query}"
    target, log = backend.target(), RAW_LOGS[kind](backend.url)
    put_entries(backend, target, range(4))

    async def main() -> None:
        options = {"group": "g", "member": "m", "start": "beginning"}
        async with connected_source(backend, target, **options) as source:
            held = await read_count(source, 4)
            await asyncio.to_thread(put_entries, backend, target, range(6))
            log.trim(target, 8)  # what it holds, and four more
            await wait_for_lag(source, 2 + len(held))
            for entry in held + await read_count(source, 2):
                await source.acknowledge(entry)
            await wait_for_lag(source, 0)
            await asyncio.to_thread(put_entries, backend, target, range(300))
            await wait_for_lag(source, 300)
            for entry in await source.read():
                await source.acknowledge(entry)
            await wait_for_lag(source, 300 - READ_BATCH_ENTRIES)

    asyncio.run(main())


def test_a_member_that_comes_back_is_not_given_what_was_trimmed(server_of, tmp_path):
    backend = backend_of("redis", server_of, tmp_path)
    target = backend.target()
    put_entries(backend, target, range(4))

    async def main() -> None:
        options = {"group": "g", "member": "m", "start": "beginning"}
        async with connected_source(backend, target, **options) as source:
            held = await read_count(source, 4)
            RAW_LOGS["redis"](backend.url).trim(target, 3)
            await source.connect()
            assert [entry.cursor for entry in await source.read()] == [held[-1].cursor]

    asyncio.run(main())
