"""All streams whose names match a pattern are read as one log, and a cursor resumes exactly."""

from __future__ import annotations

import asyncio
import time

import pytest
import redis

from brokers.backends import unique_name
from brokers.load import BackgroundReader, check_complete
from brokers.raw_log import PATIENCE, RawCluster
from brokers.sample_runs import BOUND, check_order, ends, make_run, read_log
from brokers.servers import wait_until
from streamll.brokers.copying import copy_log, log_exists
from streamll.brokers.open_runs import alive
from streamll.brokers.opening import open_source
from streamll.brokers.redis import pattern as patterns
from streamll.brokers.redis.client import FIELD
from streamll.brokers.redis.pattern import AHEAD_ENTRIES, names
from streamll.brokers.redis.stream import REREAD_MS
from streamll.brokers.source import SourceOptions
from streamll.consumer import EventConsumer
from streamll.core.errors import ConfigurationError
from streamll.core.events import StreamGap
from streamll.core.wire import encode_batch
from streamll.sinks import open_sink

pytestmark = pytest.mark.usefixtures("patient_clients")


@pytest.fixture
def server_url(server_of):
    return server_of("redis").url


@pytest.fixture
def url(server_url):
    return f"{server_url}?scan_seconds=0.05"


@pytest.fixture
def client(server_url):
    with redis.Redis.from_url(server_url, **PATIENCE) as client:
        yield client


@pytest.fixture
def put(client):
    def put_entries(stream: str, events, kept: int | None = None) -> None:
        """An entry for each event, all at once; ``kept`` are left of the stream."""
        with client.pipeline() as pipeline:
            for event in events:
                pipeline.xadd(stream, {FIELD: encode_batch([event])[0]})
            if kept is not None:
                pipeline.xtrim(stream, kept, approximate=False)
            pipeline.execute()

    return put_entries


def entries_behind(url: str, target: str, start: str = "beginning") -> list:
    async def read() -> list:
        source = open_source(url, SourceOptions(target=target, start=start, waits=False))
        await source.connect()
        found = []
        while entries := await source.read():
            found += entries
        await source.close()
        return found

    return asyncio.run(asyncio.wait_for(read(), BOUND))


def test_streams_are_copied_into_one_that_the_pattern_matches(server_url, put):
    name = unique_name()
    for number in range(3):
        put(f"{name}:{number}", make_run(f"r{number}", ["a"]))
    place = {"source_target": f"{name}:*", "sink_target": f"{name}:0"}
    for copied in (21, 42):
        assert asyncio.run(copy_log(server_url, server_url, **place)).events == copied
    place["sink_target"] = f"{name}:new"
    assert asyncio.run(copy_log(server_url, server_url, **place)).events == 84


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("run:abc", ("run:abc", None)),
        ("what?[1]", ("what?[1]", None)),  # as it always was
        ("run:*", ("run:*", "run:*")),
        ("run:?-*", ("run:?-*", "run:?-*")),
        (r"r[1]:*", (r"r[1]:*", r"r\[1]:*")),
        (r"\*\?\\:*", (r"\*\?\\:*", r"\*\?\\:*")),
        (r"a\b:*", (r"a\b:*", r"a\\b:*")),
        (r"a\*b\?", ("a*b?", None)),
    ],
)
def test_a_name_with_an_asterisk_is_a_pattern(target, expected):
    assert names(target) == expected


def test_streams_are_found_read_and_forgotten(url, client):
    """Those there are, and those that appear and disappear while it reads; no others."""
    name = unique_name()
    pattern = f"{name}:[*]"
    assert not asyncio.run(log_exists(url, pattern))
    sink = open_sink(url, target=f"{name}:[{{run_id}}]")
    runs = [make_run(f"r{n}", "abcde") for n in range(12)]
    client.set(f"{name}:[text]", "no stream")
    for other in (f"{name}:[r1]:dead", f"{name}:r", f"{name}-:[r]"):
        client.xadd(other, {FIELD: b"{}"})
    put_all(sink, runs[:4])
    assert asyncio.run(log_exists(url, pattern))
    reader = BackgroundReader(url, pattern)
    reader.wait_for_ends(4)
    client.delete(f"{name}:[r0]", f"{name}:[r1]")
    put_all(sink, runs[4:8])
    reader.wait_for_ends(8)
    client.xadd(f"{name}:[r0]", {FIELD: encode_batch(make_run("again", ["a"]))[0]})
    put_all(sink, runs[8:])
    reader.wait_for_ends(13)
    assert sink.stop(BOUND)
    reader.stop()
    assert reader.consumer.statistics().reconnects == 0
    assert reader.consumer.statistics().malformed == 0
    check_complete([each for each in reader.events if each.run_id != "again"], runs)


async def read_count(source, count: int) -> list:
    entries: list = []
    while len(entries) < count:
        entries += await source.read()
    return entries


def test_a_stream_that_expires_while_it_is_waited_for_is_forgotten(server_of, monkeypatch):
    """X17: every stream with a ttl does. On a cluster the reader goes on, without connecting again."""
    monkeypatch.setattr(patterns, "LIVE_S", 0.0)  # both are waited for with all the others
    monkeypatch.setattr(patterns, "QUIET_POLL_S", 0.01)
    url, name = server_of("redis-cluster").url, unique_name()
    old, new = f"{name}:old".encode(), f"{name}:new".encode()

    async def main(client) -> None:
        options = SourceOptions(target=f"{name}:*", start="beginning")
        source = open_source(f"{url}?scan_seconds=3600", options)
        await source.connect()
        read, look, expired = await read_count(source, 2), source._look, asyncio.Event()

        async def expires(address, keys, *block_ms):
            if old in keys and not expired.is_set():
                expired.set()
                client.delete(old)
                await source._discover()
                client.xadd(new, {FIELD: b"third"})
            return await look(address, keys, *block_ms)

        monkeypatch.setattr(source, "_look", expires)
        read += await read_count(source, 1)
        while not expired.is_set() or any(old in each.keys for each in source._watches.values()):
            read += await source.read()
        assert [entry.body for entry in read] == [b"first", b"second", b"third"]
        assert old not in source._after.keys() | source._looked.keys()
        await source.close()

    with RawCluster(url)._connect() as client:
        client.xadd(old, {FIELD: b"first"}, id="1-0")
        client.xadd(new, {FIELD: b"second"})
        asyncio.run(asyncio.wait_for(main(client), BOUND))


def test_what_was_read_ahead_of_a_stream_that_goes_away_is_given_out(
    server_url, client, monkeypatch
):
    monkeypatch.setattr(patterns, "READ_BATCH_ENTRIES", 1)
    name = unique_name()
    for stream, number in (("a", 1), ("b", 2), ("a", 3)):
        client.xadd(f"{name}:{stream}", {FIELD: b"%d" % number}, id=f"{number}-0")

    async def main() -> list[bytes]:
        options = SourceOptions(target=f"{name}:*", start="beginning")
        source = open_source(f"{server_url}?scan_seconds=3600", options)
        await source.connect()
        read = await read_count(source, 1)
        client.delete(f"{name}:b")
        await source._discover()
        read += await read_count(source, 2)
        await source.close()
        return [entry.body for entry in read]

    assert asyncio.run(asyncio.wait_for(main(), BOUND)) == [b"1", b"2", b"3"]


def put_all(sink, runs) -> None:
    for run in runs:
        for event in run:
            sink.put(event)
    assert sink.catch_up(BOUND)


def test_a_reader_resumes_behind_any_entry(url, client):
    """Behind each entry it gets exactly the others; a cursor names the streams of the last seconds."""
    name, now = unique_name(), int(time.time() * 1000) - 60_000
    for n in range(120):  # each of six streams is silent for most of the time
        stream = f"{name};{n // 10 % 6}="
        client.xadd(stream, {FIELD: b"%d" % n}, id=f"{now + 500 * n - n % 3}-{n % 2}")
    entries = entries_behind(url, f"{name}*")
    assert len(entries) == 120
    for number, entry in enumerate(entries, 1):
        rest = entries_behind(url, f"{name}*", entry.cursor)
        assert [each.body for each in rest] == [each.body for each in entries[number:]]
        assert entry.cursor.count("=") <= REREAD_MS / 5000 + 1


def test_what_was_not_found_yet_is_behind_the_cursor(server_url, put):
    """A reader does not know of a stream yet, whose entry is older than one that it has."""
    name = unique_name()
    put(f"{name}:known", make_run("known", "a")[:1])

    async def read_one() -> str:
        options = SourceOptions(target=f"{name}:*")
        source = open_source(f"{server_url}?scan_seconds=3600", options)
        await source.connect()
        put(f"{name}:unknown", make_run("unknown", "a")[:1])
        put(f"{name}:known", make_run("known", "a")[1:2])
        while not (entries := await source.read()):
            pass
        await source.close()
        [entry] = entries
        assert b'"known"' in entry.body
        return entry.cursor

    cursor = asyncio.run(asyncio.wait_for(read_one(), BOUND))
    [entry] = entries_behind(server_url, f"{name}:*", cursor)
    assert b'"unknown"' in entry.body


def test_more_than_is_read_ahead_comes_in_the_order_of_time(url, client):
    name, now = unique_name(), int(time.time() * 1000) - 3_600_000
    with client.pipeline(transaction=False) as pipeline:
        for n in range(3 * AHEAD_ENTRIES):
            stream = 0 if n % 7 else n % 5  # one has most of it
            pipeline.xadd(f"{name}:{stream}", {FIELD: b"%d" % n}, id=f"{now + 100 * n}-1")
        pipeline.execute()
    entries = entries_behind(url, f"{name}:*")
    assert [int(each.body) for each in entries] == list(range(3 * AHEAD_ENTRIES))
    for number in range(1, len(entries), 997):
        rest = entries_behind(url, f"{name}:*", entries[number].cursor)
        assert [each.body for each in rest] == [each.body for each in entries[number + 1 :]]


def test_a_reader_of_what_is_new_gets_all_of_that(url, put):
    """In streams that were there, and in those that were not."""
    name = unique_name()
    put(f"{name}:old", make_run("old", "ab"))
    put(f"{name}:half", make_run("half", "ab")[:4])
    seen = []
    consumer = EventConsumer(url, f"{name}:*")
    consumer.subscribe(seen.append)
    consumer.start()
    assert consumer.wait_connected(BOUND)
    put(f"{name}:half", make_run("half", "ab")[4:])
    put(f"{name}:new", make_run("new", "ab"))
    put(f"{name}:old", make_run("later", "ab"))
    wait_until(lambda: len(seen) >= 4 + 8 + 8, BOUND, "all of that is read")
    assert consumer.stop(BOUND)
    assert {event.run_id for event in seen} == {"half", "new", "later"}
    check_order([event for event in seen if event.run_id != "half"])
    assert [event.seq for event in seen if event.run_id == "half"] == [4, 5, 6, 7]
    cursor = consumer.cursor
    put(f"{name}:half", make_run("last", "ab"))
    assert {e.run_id for e in read_log(url, f"{name}:*", ends(1), start=cursor)} == {"last"}


def test_what_was_trimmed_unread_is_told_and_no_more(url, put):
    """X9: of the stream that lost something; others were trimmed behind the reader, or not at all."""
    name = unique_name()
    runs = {run_id: make_run(run_id, "abcdef") for run_id in ("r1", "r2", "r3")}
    put(f"{name}:r1", runs["r1"][:4])
    put(f"{name}:r2", runs["r2"][:4])

    all_ended = ends(3)

    def enough(events: list) -> bool:
        if len(events) == 8:
            for run_id, run in runs.items():
                kept = len(run) - 2 if run_id == "r2" else 3
                put(f"{name}:{run_id}", run if run_id == "r3" else run[4:], kept)
        return all_ended(events)

    events = read_log(url, f"{name}:*", enough)
    check_order(events, holes=True)
    gaps = {event.run_id: event.count for event in events if isinstance(event, StreamGap)}
    assert gaps == {"r1": len(runs["r1"]) - 4 - 3, "r3": len(runs["r3"]) - 3}


def test_the_latest_runs_of_all_streams_are_listed(url, put):
    name = unique_name()
    for n in range(6):
        put(f"{name}:{n % 3}", make_run(f"r{n}", ["a"] * 600)[:-1])
        put(f"{name}:{n % 3}", [alive([f"r{n}"], {})])

    async def overview(runs: int) -> bytes:
        source = open_source(url, SourceOptions(target=f"{name}:*"))
        await source.connect()
        found = await source.overview(runs)
        await source.close()
        return b"".join(found)

    listed = asyncio.run(overview(6))
    places = [listed.index(b'"run_id":"r%d"' % n) for n in range(6)]
    assert places == sorted(places)
    assert listed.count(b'"run.start"') == 6
    reported = asyncio.run(overview(0))
    assert all(b'["r%d"]' % n in reported for n in (3, 4, 5))


def test_what_a_pattern_cannot_be_is_refused():
    with pytest.raises(ConfigurationError, match=r"several; .* \?shards=12 in its URL"):
        EventConsumer("redis://h", "run:*", group="g")
    with pytest.raises(ConfigurationError, match="leave out one of the two"):
        EventConsumer("redis://h?shards=3", "run:*")
    with pytest.raises(ConfigurationError, match="no cursor of the streams of a pattern"):
        EventConsumer("redis://h", "run:*", start="1-0")
    with pytest.raises(ConfigurationError, match="scan_seconds must be a number of seconds"):
        EventConsumer("redis://h?scan_seconds=0", "run:*")
