"""A log that is spread over several streams is one log: each run whole and in order, once."""

from __future__ import annotations

import asyncio

import pytest
import redis

from brokers.backends import own, unique_name
from brokers.load import (
    PACE_S,
    TOKENS,
    BackgroundReader,
    check_complete,
    in_background,
    in_the_middle,
    paced_runs,
)
from brokers.redis_nodes import LATER_MS, RedisCluster
from brokers.sample_runs import BOUND, by_run, check_order, ends, make_run, plain, read_log
from streamll.brokers.opening import open_source
from streamll.brokers.redis.shards import shard_name, shard_of
from streamll.brokers.source import SourceOptions
from streamll.consumer import EventConsumer
from streamll.core.errors import ConfigurationError
from streamll.core.events import Status
from streamll.sinks import open_sink

pytestmark = pytest.mark.usefixtures("patient_clients")

RUNS = [make_run(f"r{n}", "abcde") for n in range(12)]


@pytest.fixture
def url(server_of):
    return f"{server_of('redis').url}?shards=3"


def written(url: str, *runs, name: str | None = None) -> str:
    name = name or unique_name()
    sink = open_sink(url, target=name)
    for run in runs:
        for event in run:
            sink.put(event)
    assert sink.stop(BOUND)
    return name


def test_a_runs_shard_is_the_same_for_ever():
    """Other processes, and other versions, have to find it."""
    assert [shard_of(f"r{n}", 3) for n in range(8)] == [2, 0, 2, 2, 0, 2, 1, 2]
    assert shard_of(None, 3) == 0
    assert (shard_name("x", 2), shard_name("x:dead", 2)) == ("x:2", "x:2:dead")


def test_every_run_is_in_one_shard_and_all_are_read(url):
    name = written(url, *RUNS, [Status(message="of no run")])
    with redis.Redis.from_url(url.partition("?")[0]) as client:
        assert all(client.xlen(f"{name}:{n}") for n in range(3))
        assert not client.exists(name)
    read = read_log(url, name, lambda events: len(events) == 11 * len(RUNS) + 1)
    check_order([event for event in read if event.run_id])
    for n, run in enumerate(RUNS):
        assert [plain(each) for each in by_run(read)[f"r{n}"]] == [plain(each) for each in run]
        assert read_log(url, name, ends(1), start=(f"r{n}", 2)) == run[3:]


def test_a_reader_resumes_behind_any_entry(url):
    """The cursor of one shard's entry is a place in all of them."""
    name = unique_name()
    for run in RUNS:
        written(url, run[:4], run[4:], name=name)
    entries = entries_behind(url, name, "beginning")
    assert len({entry.body for entry in entries}) == len(entries) >= 2 * len(RUNS) - 2
    for number, entry in enumerate(entries, 1):
        rest = entries_behind(url, name, entry.cursor)
        assert sorted(each.body for each in rest) == sorted(each.body for each in entries[number:])


def entries_behind(url: str, name: str, start: str) -> list:
    async def read() -> list:
        source = open_source(url, SourceOptions(target=name, start=start, waits=False))
        await source.connect()
        found = []
        while entries := await source.read():
            found += entries
        await source.close()
        return found

    return asyncio.run(asyncio.wait_for(read(), BOUND))


def test_a_primarys_end_stops_no_shard_for_good(tmp_path):
    """X17: a reader and a member of a group over three shards of a cluster, one of which is killed."""
    with own(lambda: RedisCluster(tmp_path, patient=True)) as cluster:
        url, name = f"{cluster.url}?shards=6", "spread"
        sink, reader = open_sink(url, target=name), BackgroundReader(url, name)
        member, handled = EventConsumer(url, name, group="g", start="beginning"), []
        member.subscribe(handled.append)
        member.start()
        assert reader.consumer.wait_connected(BOUND)
        primaries = {cluster.primary_of(f"{name}:{n}") for n in range(6)}
        assert len(primaries) > 1

        def kill() -> None:
            in_the_middle(sink)
            cluster.give_up_after(LATER_MS)
            primaries.pop().kill()

        with in_background(kill) as over:
            runs = paced_runs(sink, tokens=TOKENS // 2, pace=2 * PACE_S, until=over)
        assert sink.stop(BOUND)
        reader.wait_for_ends(len(runs))
        reader.stop()
        check_complete(reader.events, runs)
        assert member.stop(BOUND)


def test_what_shards_cannot_be_is_refused():
    with pytest.raises(ConfigurationError, match="with 'run:.run_id.' there are several already"):
        open_sink("redis://h?shards=2", target="run:{run_id}")
    with pytest.raises(ConfigurationError, match="is no cursor of a log with shards=2"):
        EventConsumer("redis://h?shards=2", start="0:1-0,2-0,3-0")
    with pytest.raises(ConfigurationError, match="shards must be a whole number greater than 0"):
        EventConsumer("redis://h?shards=0")
