"""What a member of a Redis group takes over, and what counts as a delivery: one that was delivered too
often is suspected of ending processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import math

import pytest
import redis

from brokers.backends import unique_name
from brokers.raw_log import PATIENCE
from brokers.sample_runs import BOUND
from brokers.servers import wait_until
from streamll.brokers.opening import open_source
from streamll.brokers.redis import stream
from streamll.brokers.redis.client import FIELD
from streamll.brokers.source import SourceOptions

pytestmark = pytest.mark.usefixtures("patient_clients")

CLAIM_S = 0.2


@pytest.fixture
def url(server_of):
    return server_of("redis").url


@pytest.fixture
def client(url):
    with redis.Redis.from_url(url, **PATIENCE) as client:
        yield client


@pytest.fixture
def key():
    return unique_name()


@contextlib.asynccontextmanager
async def members(url: str, key: str, *names: str):
    options = {"target": key, "start": "beginning", "group": "g", "claim_after": CLAIM_S}
    async with contextlib.AsyncExitStack() as stack:
        sources = []
        for name in names:
            own = SourceOptions(**options, member=name, read_timeout=0.05)
            sources.append(open_source(url, own))
            await sources[-1].connect()
            stack.push_async_callback(sources[-1].close)
        yield sources


def add(client, key: str, count: int) -> list[str]:
    return [client.xadd(key, {FIELD: b"body"}).decode() for _ in range(count)]


def deliveries(client, key: str) -> list[int]:
    return [each["times_delivered"] for each in client.xpending_range(key, "g", "-", "+", 100)]


def wait_until_silent(client, key: str) -> None:
    """Until whoever holds the entries has said nothing of them for too long."""

    def is_silent() -> bool:
        pending = client.xpending_range(key, "g", "-", "+", 100)
        return min(each["time_since_delivered"] for each in pending) > CLAIM_S * 1000

    wait_until(is_silent, BOUND, "they can be claimed")


async def read_count(source, count: int) -> list:
    entries: list = []
    while len(entries) < count:
        entries += await source.read()
    return entries


def run(main) -> None:
    asyncio.run(asyncio.wait_for(main(), BOUND))


def test_a_member_that_was_kept_from_reporting_does_not_claim_its_own_entries(url, client, key):
    """D4: an async handler blocks the loop. Each claim would count as a delivery."""

    async def main() -> None:
        async with members(url, key, "busy", "heir") as (busy, heir):
            add(client, key, 3)
            await read_count(busy, 3)
            for _ in range(3):
                wait_until_silent(client, key)
                busy._claim_at = 0.0  # it is time to look
                assert await busy.read() == []
                assert deliveries(client, key) == [1, 1, 1]
            entries = await read_count(heir, 3)
            assert [entry.deliveries for entry in entries] == [2, 2, 2]
            assert deliveries(client, key) == [2, 2, 2]

    run(main)


def test_a_connection_that_breaks_counts_no_delivery(url, client, key):
    """D4: what a member holds across ten connections was delivered once, and what it took over twice."""

    async def main() -> None:
        async with members(url, key, "busy", "heir") as (busy, heir):
            for times, member in enumerate((busy, heir), 1):
                if member is busy:
                    add(client, key, 3)
                else:
                    wait_until_silent(client, key)
                    member._claim_at = 0.0
                await read_count(member, 3)
                for _ in range(10):
                    await member.connect()
                    entries = await read_count(member, 3)
                    assert [entry.deliveries for entry in entries] == [times] * 3
                assert deliveries(client, key) == [times] * 3

    run(main)


def test_what_was_deleted_does_not_hide_what_a_member_was_given_behind_it(
    url, client, key, monkeypatch
):
    """A whole page of what it holds is gone."""
    monkeypatch.setattr(stream, "READ_BATCH_ENTRIES", 2)

    async def main() -> None:
        async with members(url, key, "m") as (source,):
            ids = add(client, key, 6)
            await read_count(source, 6)
            client.xdel(key, *ids[:4])
            await source.connect()
            found = []
            while source._own_after is not None:
                found += await source.read()
            assert [entry.cursor for entry in found] == ids[4:]

    run(main)


def test_what_silent_members_hold_is_claimed_page_by_page(url, client, key, monkeypatch):
    """Also behind a page of what this member holds itself."""
    monkeypatch.setattr(stream, "READ_BATCH_ENTRIES", 2)

    async def main() -> None:
        async with members(url, key, "silent", "heir") as (silent, heir):
            own = add(client, key, 3)
            await read_count(heir, 3)
            ids = add(client, key, 5)
            silent._claim_at = math.inf  # it takes nothing over, however slow the machine is
            await read_count(silent, 5)
            wait_until_silent(client, key)
            heir._claim_at = 0.0
            claimed = await read_count(heir, 5)
            assert [entry.cursor for entry in claimed] == ids
            assert deliveries(client, key) == [1] * len(own) + [2] * len(ids)

    run(main)


@pytest.mark.parametrize("read", [4, 0], ids=["at the end", "at the beginning"])
def test_what_is_written_while_the_lag_is_asked_for_counts(url, client, key, monkeypatch, read):
    """D4: it was taken for trimmed, and not counted until the group had caught up."""
    monkeypatch.setattr(stream, "READ_BATCH_ENTRIES", 5)

    async def main() -> None:
        async with members(url, key, "m") as (source,):
            add(client, key, 4)
            for entry in await read_count(source, read):
                await source.acknowledge(entry)
            asked = []

            def then_written(command):
                async def ask(*arguments):
                    told = await command(*arguments)
                    asked.append(command)
                    if len(asked) == 1:
                        add(client, key, 9)
                    return told

                return ask

            for name in ("xinfo_stream", "xinfo_groups"):
                monkeypatch.setattr(
                    source._client, name, then_written(getattr(source._client, name))
                )
            await source.lag()
            assert len(asked) == 2
            await read_count(source, 5)  # and there are more
            assert await source.lag() == 13 - read

    run(main)
