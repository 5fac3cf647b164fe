"""What waits for a broker that is away: few large entries, in order per run, all counted."""

from __future__ import annotations

import msgspec
import pytest

from brokers.runs import by_run, check_order, make_run, plain
from streamll.brokers.outbox import JOINED_BYTES, Outbox
from streamll.core.events import StreamGap
from streamll.core.wire import decode_batch


def put_one_by_one(outbox: Outbox, *runs, trace=lambda run_id: None) -> None:
    """As a worker does that is woken for each event; the runs' events alternate."""
    for position in range(max(map(len, runs))):
        for run in runs:
            if position < len(run):
                outbox.add([run[position]], trace)


def everything(outbox: Outbox) -> list:
    return outbox.head(10**6, 10**9)


def events_of(parcels) -> list:
    return [event for parcel in parcels for event in decode_batch(parcel.body)]


def test_what_waits_of_a_run_is_one_entry():
    """X10: after an outage a thousand small entries would take a broker far longer than it was."""
    outbox = Outbox(2**26, 2**24)
    runs = [make_run(f"r{n}", [f"{n}.{i} " for i in range(50)], {"n": n}) for n in range(3)]
    put_one_by_one(outbox, *runs)
    parcels = everything(outbox)
    assert len(parcels) == 3
    read = events_of(parcels)
    check_order(read)
    for n, events in by_run(read).items():
        assert [plain(event) for event in events] == [plain(event) for event in runs[int(n[1:])]]
    for parcel, run in zip(parcels, runs, strict=True):
        assert (parcel.first, parcel.last, parcel.events) == (0, len(run) - 1, len(run))
    assert outbox.bytes == sum(parcel.size for parcel in parcels)
    outbox.sent(3)
    assert (outbox.bytes, outbox.events, bool(outbox)) == (0, 0, False)


def test_an_entry_grows_to_a_bound():
    outbox = Outbox(2**26, 2**24)
    put_one_by_one(outbox, make_run("r1", ["x" * 1000] * 100))
    parcels = everything(outbox)
    assert 6 <= len(parcels) <= 10
    assert all(len(parcel.rest) <= JOINED_BYTES for parcel in parcels)
    check_order(events_of(parcels))


def test_what_may_have_arrived_already_stays_as_it_is():
    """Sent again it must be the same entry, or a reader could not tell that it is."""
    outbox = Outbox(2**26, 2**24)
    run = make_run("r1", ["a", "b", "c", "d"])
    outbox.add(run[:3], lambda _: None)
    [tried] = everything(outbox)
    before = tried.body
    put_one_by_one(outbox, run[3:])
    parcels = everything(outbox)
    assert parcels[0].body == before
    assert len(parcels) == 2
    check_order(events_of(parcels))


@pytest.mark.parametrize(
    "context",
    [{"events": [{"seq": 1}], "é": '"events":['}, {"nested": {"events": []}}, {"number": 1.5}],
)
def test_only_entries_of_one_context_and_span_are_joined(context):
    outbox = Outbox(2**26, 2**24)
    run = [
        msgspec.structs.replace(event, context={} if 10 <= position < 20 else context)
        for position, event in enumerate(make_run("r1", ["a"] * 30))
    ]
    put_one_by_one(outbox, run)
    parcels = everything(outbox)
    assert [parcel.events for parcel in parcels] == [10, 10, 16]
    assert [plain(event) for event in events_of(parcels)] == [plain(event) for event in run]
    outbox = Outbox(2**26, 2**24)
    spans = iter(["00-a-1", "00-a-1", "00-b-2", *["00-b-2"] * 40])
    put_one_by_one(outbox, run[:10], trace=lambda _: next(spans))
    assert [parcel.events for parcel in everything(outbox)] == [2, 8]


def test_an_event_that_is_too_large_keeps_its_place():
    outbox = Outbox(2**26, 5_000)
    run = make_run("r1", ["a", "x" * 10_000, "b"])
    put_one_by_one(outbox, run)
    read = events_of(everything(outbox))
    assert [event.event_type for event in read[3:6]] == ["token", "stream.gap", "token"]
    assert outbox.oversized == 1


def test_beyond_the_bound_the_oldest_goes_and_is_announced():
    outbox = Outbox(20_000, 2**24)
    runs = [make_run(f"r{n}", [f"{n}.{i} " for i in range(100)]) for n in range(4)]
    put_one_by_one(outbox, *runs)
    assert 15_000 < outbox.bytes <= 20_000
    read = events_of(everything(outbox))
    gaps = [event for event in read if isinstance(event, StreamGap)]
    assert sum(gap.count for gap in gaps) == outbox.dropped > 0
    assert len(read) - len(gaps) == outbox.events == sum(map(len, runs)) - outbox.dropped
    check_order(read, holes=True)
