"""The buffer of a sink whose broker is away: few large entries, in order per run, all counted."""

from __future__ import annotations

import msgspec
import pytest

from brokers.sample_runs import by_run, check_order, make_run, plain
from streamll.brokers.send_buffer import JOIN_BYTES, SendBuffer
from streamll.brokers.sink import fill
from streamll.core.events import StreamGap
from streamll.core.wire import decode_batch


def put_one_by_one(buffer: SendBuffer, *runs, trace=lambda run_id: None) -> None:
    """Add each event by itself, like a worker that wakes for each; the runs' events alternate."""
    for position in range(max(map(len, runs))):
        for run in runs:
            if position < len(run):
                buffer.add([run[position]], trace)


def everything(buffer: SendBuffer) -> list:
    return buffer.head(10**6, 10**9)


def events_of(entries) -> list:
    return [event for entry in entries for event in decode_batch(entry.body)]


def test_waiting_entries_of_a_run_are_joined():
    """X10: a thousand small entries would keep a broker busy for longer than the outage."""
    buffer = SendBuffer(2**26, 2**24)
    runs = [make_run(f"r{n}", [f"{n}.{i} " for i in range(50)], {"n": n}) for n in range(3)]
    put_one_by_one(buffer, *runs)
    entries = everything(buffer)
    assert len(entries) == 3
    read = events_of(entries)
    check_order(read)
    for n, events in by_run(read).items():
        assert [plain(event) for event in events] == [plain(event) for event in runs[int(n[1:])]]
    for entry, run in zip(entries, runs, strict=True):
        assert (entry.first_seq, entry.last_seq, entry.event_count) == (0, len(run) - 1, len(run))
    assert buffer.bytes == sum(entry.size for entry in entries)
    buffer.sent(entries)
    assert (buffer.bytes, buffer.event_count, bool(buffer)) == (0, 0, False)


def test_joined_entries_have_a_size_limit():
    buffer = SendBuffer(2**26, 2**24)
    put_one_by_one(buffer, make_run("r1", ["x" * 1000] * 100))
    entries = everything(buffer)
    assert 6 <= len(entries) <= 10
    assert all(len(entry.rest) <= JOIN_BYTES for entry in entries)
    check_order(events_of(entries))


def test_an_entry_that_was_sent_is_not_changed():
    """A retry must send the same entry, or a reader could not recognise the duplicate."""
    buffer = SendBuffer(2**26, 2**24)
    run = make_run("r1", ["a", "b", "c", "d"])
    buffer.add(run[:3], lambda _: None)
    [tried] = everything(buffer)
    before = tried.body
    put_one_by_one(buffer, run[3:])
    entries = everything(buffer)
    assert entries[0].body == before
    assert len(entries) == 2
    check_order(events_of(entries))


@pytest.mark.parametrize(
    "context",
    [{"events": [{"seq": 1}], "é": '"events":['}, {"nested": {"events": []}}, {"number": 1.5}],
)
def test_only_entries_of_one_context_and_span_are_joined(context):
    buffer = SendBuffer(2**26, 2**24)
    run = [
        msgspec.structs.replace(event, context={} if 10 <= position < 20 else context)
        for position, event in enumerate(make_run("r1", ["a"] * 30))
    ]
    put_one_by_one(buffer, run)
    entries = everything(buffer)
    assert [entry.event_count for entry in entries] == [10, 10, 16]
    assert [plain(event) for event in events_of(entries)] == [plain(event) for event in run]
    buffer = SendBuffer(2**26, 2**24)
    spans = iter(["00-a-1", "00-a-1", "00-b-2", *["00-b-2"] * 40])
    put_one_by_one(buffer, run[:10], trace=lambda _: next(spans))
    assert [entry.event_count for entry in everything(buffer)] == [2, 8]


def test_stuck_entries_stay_where_they_are():
    """X17: what cannot be delivered now is left out, and sent as it was, in its run's order."""
    buffer = SendBuffer(2**26, 2**24)
    runs = [make_run(f"r{n}", ["a"] * 10) for n in range(3)]
    for half in (slice(None, 5), slice(5, None)):
        buffer.add([event for run in runs for event in run[half]], lambda _: None)
        first = buffer.head(2, 10**9)
    assert [entry.run_id for entry in first] == ["r0", "r1"]
    buffer.sent(first[1:])
    others = buffer.head(10, 10**9, lambda entry: entry.run_id == "r0")
    assert {entry.run_id for entry in others} == {"r1", "r2"}
    buffer.sent(others)
    assert buffer.head(10, 10**9, lambda entry: entry.run_id == "r0") == []
    left = everything(buffer)
    assert left[0] is first[0]
    numbers = [int(entry.heading.split(b":")[2].partition(b'"')[0]) for entry in left]
    assert numbers == sorted(numbers)
    assert events_of(left) == runs[0]
    buffer.sent(left)
    assert (buffer.bytes, buffer.event_count, bool(buffer)) == (0, 0, False)


def test_the_gap_for_an_oversized_event_is_at_its_position():
    buffer = SendBuffer(2**26, 5_000)
    run = make_run("r1", ["a", "x" * 10_000, "b"])
    put_one_by_one(buffer, run)
    read = events_of(everything(buffer))
    assert [event.event_type for event in read[3:6]] == ["token", "stream.gap", "token"]
    assert buffer.oversized == 1


def test_beyond_max_bytes_the_oldest_entries_become_a_gap():
    buffer = SendBuffer(20_000, 2**24)
    runs = [make_run(f"r{n}", [f"{n}.{i} " for i in range(100)]) for n in range(4)]
    put_one_by_one(buffer, *runs)
    assert 15_000 < buffer.bytes <= 20_000
    read = events_of(everything(buffer))
    gaps = [event for event in read if isinstance(event, StreamGap)]
    assert sum(gap.count for gap in gaps) == buffer.dropped > 0
    assert len(read) - len(gaps) == buffer.event_count == sum(map(len, runs)) - buffer.dropped
    check_order(read, holes=True)


@pytest.mark.parametrize("limits", [(20_000, 2**24), (2**26, 5_000)], ids=["overflow", "oversized"])
def test_a_gap_is_told_where_the_lost_events_would_have_been(limits):
    """With a stream per conversation that stream's readers are told, and handlers with ``where=``."""
    buffer = SendBuffer(*limits)
    context = {"conversation_id": "c1"}
    put_one_by_one(buffer, make_run("r1", ["x" * 6_000] * 10, context))
    entries = everything(buffer)
    for entry in entries:
        assert fill("run:{conversation_id}", entry.run_id, entry.context) == "run:c1"
    read = events_of(entries)
    assert any(isinstance(event, StreamGap) for event in read)
    assert all(event.context == context for event in read)
