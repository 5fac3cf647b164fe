"""The contract of every log: what a sink was given, a reader gets back, once and in order.

``any_log`` is each of the six. Memory and JSON lines keep events on this machine for whoever looks
at them afterwards: they keep order, text and places, so that a reader gets each event once and goes on
behind any of them. What needs a consumer (new events, filters, groups, acknowledgements, dead dead_letters)
is asked of ``log``, the brokers.
"""

from __future__ import annotations

import threading
import time

import msgspec
import pytest
from profiles import THOROUGH

from brokers.backends import BACKENDS, CLUSTERS, COMPATIBLE_BACKENDS, backend_of
from brokers.sample_runs import (
    BOUND,
    by_run,
    check_order,
    ends,
    make_run,
    plain,
    read_log,
    text_of,
)
from brokers.servers import wait_until
from streamll.brokers.opening import dead_letter_target
from streamll.consumer import EventConsumer, position
from streamll.consumer.deduplication import Deduplicator
from streamll.core.events import Status, StreamllEvent
from streamll.core.positions import Position
from streamll.core.wire import DecodedEntry
from streamll.sinks import JSONLSink, MemorySink, open_sink, read_jsonl

BROKERS = [*BACKENDS, *COMPATIBLE_BACKENDS, *CLUSTERS]
LOCAL = ["memory", "jsonl"]


class BrokerLog:
    """A fresh log in a broker. ``where`` is what a consumer is given to find it."""

    def __init__(self, backend, **options) -> None:
        self.backend = backend
        self.where = (backend.url, backend.target())
        self.sink = self.another_sink(**options)

    def another_sink(self, **options):
        url, target = self.where
        return open_sink(url, target=target, **options)

    def read(self, enough, start="beginning", seconds=BOUND):
        return read_log(*self.where, enough, start=start, seconds=seconds)


class LocalLog:
    """A list or a file of events, read by the rules that consumers keep."""

    def __init__(self, name: str, folder, **options) -> None:
        self.file = folder / "events.jsonl"
        self.options = options
        self.sink = MemorySink() if name == "memory" else self.another_sink()

    def another_sink(self):
        return self.sink if self.file is None else JSONLSink(self.file, **self.options)

    def read(self, enough, start="beginning", seconds=BOUND):
        assert self.sink.stop(seconds)
        reading, events = Deduplicator(None if start == "beginning" else Position(*start)), []
        kept = (
            list(self.sink.events) if isinstance(self.sink, MemorySink) else read_jsonl(self.file)
        )
        for event in kept:
            for new in reading.read(DecodedEntry(None, None, [event])):
                if start == "beginning" or new.run_id == start[0]:
                    events.append(new)
                    if enough(events):
                        return events
        raise AssertionError(f"only {len(events)} events")


def log_called(name, server_of, folder, **options):
    if name in LOCAL:
        return LocalLog(name, folder, **options)
    return BrokerLog(backend_of(name, server_of, folder), **options)


@pytest.fixture(params=[*LOCAL, *BROKERS])
def any_log(request, server_of, tmp_path):
    log = log_called(request.param, server_of, tmp_path)
    yield log
    log.sink.stop(60)


@pytest.fixture(params=BROKERS)
def log(request, server_of, tmp_path):
    log = log_called(request.param, server_of, tmp_path)
    yield log
    log.sink.stop(60)


def put_all(sink, *runs):
    for events in runs:
        for event in events:
            sink.put(event)


def write(log, *runs):
    put_all(log.sink, *runs)
    assert log.sink.catch_up(BOUND)


def test_a_run_is_read_as_it_was_written(any_log):
    """X10: every event, with identity, context and text, in order and once."""
    run = make_run(
        "r1", ["こんに", "ちは", " \U0001f44b", "\n\u2028", "“x”"], {"conversation_id": "c1"}
    )
    write(any_log, run)
    read = any_log.read(ends(1))
    assert [plain(event) for event in read] == [plain(event) for event in run]
    assert read[3].data["conversation_id"] == "c1"
    check_order(read)


def test_concurrent_runs_each_keep_their_order(any_log):
    """X10: 20 threads write 20 runs through one sink."""
    runs = [make_run(f"r{n}", [f"{n}-{i} " for i in range(100)]) for n in range(20)]
    threads = [threading.Thread(target=write, args=(any_log, run)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND)
    read = any_log.read(ends(20))
    check_order(read)
    found = by_run(read)
    for n, run in enumerate(runs):
        assert text_of(found[f"r{n}"]) == text_of(run)


def test_events_outside_runs_arrive_once_and_in_order(any_log):
    write(any_log, [Status(message=str(n)) for n in range(50)])
    read = any_log.read(lambda events: len(events) == 50)
    assert [event.message for event in read] == [str(n) for n in range(50)]


def test_large_events_arrive_whole(any_log):
    """D: an event of one MiB among small ones."""
    large = "é" * 2**19
    run = make_run("r1", ["a", large, "b"])
    write(any_log, run)
    assert text_of(any_log.read(ends(1))) == f"a{large}b"


def test_a_run_resumes_behind_any_of_its_events(any_log):
    """X10: after seq k come exactly the later events, also where several share an entry."""
    run = make_run("r1", [f"w{i} " for i in range(12)])
    write(any_log, make_run("r0", ["x"]), run, make_run("r2", ["y"]))
    for k in range(-1, len(run) - 1):
        read = any_log.read(ends(1), start=("r1", k))
        assert [event.seq for event in read] == list(range(k + 1, len(run)))


def test_a_merged_token_resumes_inside(any_log):
    """X10: a reader that had part of what is one merged token now gets the rest of it."""
    run = make_run("r1", ["ab", "cde", "f", "ghij"])
    merged = msgspec.structs.replace(run[3], token="abcdefghij", count=4)
    write(any_log, [*run[:3], merged, *run[7:]])
    for k in range(3, 7):
        read = any_log.read(ends(1), start=position(run[k]))
        assert text_of(read) == text_of(run[k + 1 :])
        assert [event.seq for event in read][-3:] == [7, 8, 9]
        if k < 6:
            assert (read[0].seq, read[0].token_index) == (k + 1, k - 2)
            assert read[0].count == 6 - k


def test_duplicates_are_read_once(any_log):
    """X10: two sinks wrote the same run, one of them with tokens merged, and one of them twice."""
    run = make_run("r1", ["ab", "cde", "f", "ghij"])
    merged = msgspec.structs.replace(run[4], token="cdefghij", count=3)
    other = any_log.another_sink()
    write(any_log, run[:5])
    put_all(other, run[:4], [merged], run[7:])
    assert other.catch_up(BOUND)
    write(any_log, run)
    assert other.stop(BOUND)
    read = any_log.read(ends(1))
    check_order(read)
    assert text_of(read) == "abcdefghij"
    assert [event.event_type for event in read if event.event_type != "token"] == [
        event.event_type for event in run if event.event_type != "token"
    ]


def test_a_reader_resumes_at_an_earlier_ones_cursor(log):
    """X10: the cursor of a consumer is the start of the next."""
    write(log, make_run("r1", ["a"] * 5))
    first = EventConsumer(*log.where, start="beginning")
    seen = []
    first.subscribe(seen.append)
    first.start()
    wait_for(lambda: seen and seen[-1].event_type == "run.end")
    assert first.stop(BOUND)
    write(log, make_run("r2", ["b"] * 5))
    read = log.read(ends(1), start=first.cursor)
    assert {event.run_id for event in read} == {"r2"}


def test_start_new_reads_only_later_events(log):
    write(log, make_run("old", ["a"]))
    consumer = EventConsumer(*log.where)
    seen = []
    consumer.subscribe(seen.append)
    consumer.start()
    assert consumer.wait_connected(BOUND)
    write(log, make_run("new", ["b"]))
    wait_for(lambda: seen and seen[-1].event_type == "run.end")
    assert consumer.stop(BOUND)
    assert {event.run_id for event in seen} == {"new"}


def test_handlers_get_the_types_and_values_they_select(log):
    """D4, D6: globs and context."""
    got = {"tokens": [], "starts": [], "c2": [], "all": 0}
    consumer = EventConsumer(*log.where, start="beginning")

    @consumer.on("token")
    async def tokens(event):
        got["tokens"].append(event.data["token"])

    @consumer.on(["*.start", "docs.*"])
    def starts(event):
        got["starts"].append(event.event_type)

    @consumer.on("token", where={"conversation_id": "c2"})
    def second(event):
        got["c2"].append(event.token)

    @consumer.subscribe
    def count(event):
        got["all"] += 1

    custom = StreamllEvent(event_type="docs.found", data={"count": 2})
    one = make_run("r1", ["a", "b"], {"conversation_id": "c1"})
    two = make_run("r2", ["c"], {"conversation_id": "c2"})
    write(log, one, two, [custom])
    consumer.start()
    wait_for(lambda: got["all"] == len(one) + len(two) + 1)
    assert consumer.stop(BOUND)
    assert sorted(got["tokens"]) == ["a", "b", "c"]
    assert got["c2"] == ["c"]
    assert sorted(got["starts"]) == sorted(
        ["run.start", "module.start", "field.start"] * 2 + ["docs.found"]
    )
    statistics = consumer.statistics()
    assert statistics.handled == statistics.received == len(one) + len(two) + 1
    assert statistics.duplicates == 0


def test_members_of_a_group_share_the_runs(log):
    """D4: each event is handled by one member, in order per run within it."""
    handled: dict[int, list] = {0: [], 1: []}
    members = []
    for n in range(2):
        member = EventConsumer(*log.where, group="workers", start="beginning")
        member.subscribe(handled[n].append)
        member.start()
        assert member.wait_connected(BOUND)
        members.append(member)
    runs = [make_run(f"r{n}", ["x"] * 20) for n in range(30)]
    for run in runs:
        write(log, run)
    deadline = time.monotonic() + BOUND
    while not all(handled.values()):  # a quick member may have had all of it so far
        assert time.monotonic() < deadline, "one member gets nothing"
        runs.append(make_run(f"r{len(runs)}", ["x"] * 20))
        write(log, runs[-1])
    total = sum(map(len, runs))
    wait_for(lambda: sum(map(len, handled.values())) >= total)
    wait_for(lambda: all(member.statistics().lag == 0 for member in members))
    assert all(member.stop(BOUND) for member in members)
    everything = handled[0] + handled[1]
    assert len(everything) == len({event.event_id for event in everything}) == total
    for events in handled.values():
        check_order(events, holes=True)


def test_a_group_resumes_where_it_stopped(log):
    first = EventConsumer(*log.where, group="g", start="beginning")
    seen = []
    first.subscribe(lambda event: seen.append(event.event_id))
    first.start()
    assert first.wait_connected(BOUND)
    write(log, make_run("r1", ["a"]))
    wait_for(lambda: len(seen) == 7)
    assert first.stop(BOUND)
    write(log, make_run("r2", ["b"]))
    second = EventConsumer(*log.where, group="g", start="beginning")
    second.subscribe(lambda event: seen.append(event.event_id))
    second.start()
    wait_for(lambda: len(seen) == 14)
    assert second.stop(BOUND)
    assert len(set(seen)) == 14


def test_a_failing_handler_is_retried_then_its_event_becomes_a_dead_letter(log):
    """D4: and the events behind it are handled all the same."""
    tries, after = [], []
    consumer = EventConsumer(*log.where, group="g", start="beginning", retries=2, retry_delay=0.01)

    @consumer.on("token", where={"token": "bad"})
    def fails(event):
        tries.append(event.event_id)
        raise ValueError("cannot use this")

    @consumer.on("token", where={"token": "shaky"})
    async def recovers(event):
        tries.append("shaky")
        if tries.count("shaky") < 2:
            raise OSError("once")

    consumer.on("run.end", after.append)
    consumer.start()
    assert consumer.wait_connected(BOUND)
    write(log, make_run("r1", ["good", "bad", "shaky"]))
    wait_for(lambda: after)
    assert consumer.stop(BOUND)
    assert tries == ["r1:4"] * 3 + ["shaky"] * 2
    statistics = consumer.statistics()
    assert (statistics.dead_lettered, statistics.retried) == (1, 3)
    dead = dead_letter_target(*log.where)
    [decoded] = read_log(log.where[0], dead, lambda events: len(events) == 1)
    assert decoded.event_id == "r1:4"


@pytest.mark.parametrize("name", [*LOCAL, *BROKERS])
@pytest.mark.parametrize("merging", [True, False], ids=["merging", "each token"])
def test_a_hundred_thousand_events(name, merging, server_of, tmp_path):
    """X10: none is lost, none comes twice; the order is each run's.

    Where the run is not thorough, a hundred thousand are for one log to keep.
    """
    length = 10_000 if THOROUGH or (name == "sqlite" and merging) else 1_000
    count = 10 * length
    log = log_called(name, server_of, tmp_path, buffer_size=length if merging else 2 * count)
    runs = [make_run(f"r{n}", [f"{n}.{i} " for i in range(length - 6)]) for n in range(10)]
    for start in range(0, length, 50):
        put_all(log.sink, *(run[start : start + 50] for run in runs))
    assert log.sink.stop(3 * BOUND)  # so many take a busy machine some time
    read = log.read(ends(10), seconds=3 * BOUND)
    check_order(read)
    for n, events in by_run(read).items():
        assert text_of(events) == text_of(runs[int(n[1:])])
    statistics = log.sink.statistics()
    assert statistics.received == count
    assert statistics.handled + statistics.merged == count
    assert statistics.merged == 0 or merging
    assert statistics.dropped == statistics.failed == statistics.buffered == 0


def wait_for(condition):
    wait_until(condition, BOUND, "what the test waits for")
