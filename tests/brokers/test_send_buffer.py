"""What waits for a broker that is away: few large entries, in order per run, all counted."""

from __future__ import annotations

import msgspec
import pytest

from brokers.runs import by_run, check_order, make_run, plain
from streamll.brokers.send_buffer import JOIN_BYTES, SendBuffer
from streamll.core.events import StreamGap
from streamll.core.wire import decode_batch


def put_one_by_one(buffer: SendBuffer, *runs, trace=lambda run_id: None) -> None:
    """As a worker does that is woken for each event; the runs' events alternate."""
    for position in range(max(map(len, runs))):
        for run in runs:
            if position < len(run):
                buffer.add([run[position]], trace)


def everything(buffer: SendBuffer) -> list:
    return buffer.head(10**6, 10**9)


def events_of(entries) -> list:
    return [event for entry in entries for event in decode_batch(entry.body)]


def test_what_waits_of_a_run_is_one_entry():
    """X10: after an outage a thousand small entries would take a broker far longer than it was."""
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
    buffer.sent(3)
    assert (buffer.bytes, buffer.event_count, bool(buffer)) == (0, 0, False)


def test_an_entry_grows_to_a_bound():
    buffer = SendBuffer(2**26, 2**24)
    put_one_by_one(buffer, make_run("r1", ["x" * 1000] * 100))
    entries = everything(buffer)
    assert 6 <= len(entries) <= 10
    assert all(len(entry.rest) <= JOIN_BYTES for entry in entries)
    check_order(events_of(entries))


def test_what_may_have_arrived_already_stays_as_it_is():
    """Sent again it must be the same entry, or a reader could not tell that it is."""
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


def test_an_event_that_is_too_large_keeps_its_place():
    buffer = SendBuffer(2**26, 5_000)
    run = make_run("r1", ["a", "x" * 10_000, "b"])
    put_one_by_one(buffer, run)
    read = events_of(everything(buffer))
    assert [event.event_type for event in read[3:6]] == ["token", "stream.gap", "token"]
    assert buffer.oversized == 1


def test_beyond_the_bound_the_oldest_goes_and_is_announced():
    buffer = SendBuffer(20_000, 2**24)
    runs = [make_run(f"r{n}", [f"{n}.{i} " for i in range(100)]) for n in range(4)]
    put_one_by_one(buffer, *runs)
    assert 15_000 < buffer.bytes <= 20_000
    read = events_of(everything(buffer))
    gaps = [event for event in read if isinstance(event, StreamGap)]
    assert sum(gap.count for gap in gaps) == buffer.dropped > 0
    assert len(read) - len(gaps) == buffer.event_count == sum(map(len, runs)) - buffer.dropped
    check_order(read, holes=True)
