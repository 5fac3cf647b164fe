"""Each event once, whatever a log holds twice; tested without a broker."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers.sample_runs import check_order, make_run, text_of
from streamll.brokers.send_buffer import SendBuffer
from streamll.consumer.deduplication import Deduplicator
from streamll.core.errors import WireError
from streamll.core.events import (
    FieldEnd,
    FieldStart,
    Identity,
    ModuleEnd,
    ModuleStart,
    RunEnd,
    RunStart,
    Status,
    StreamGap,
    TokenEvent,
)
from streamll.core.positions import Position, position
from streamll.core.wire import DecodedEntry, decode_entry
from streamll.flow.coalesce import coalesce

RUN = make_run("r1", ["ab", "cde", "f", "", "ghij", "k"])


def decoded_entries(events, sizes, writer="w") -> list[DecodedEntry]:
    """The events in entries of these sizes."""
    found, place = [], 0
    for number, size in enumerate(sizes, 1):
        part = events[place : place + size]
        place += size
        if part:
            found.append(DecodedEntry(f"{writer}:{number}", None, list(part)))
    return found


def read_all(reading: Deduplicator, found) -> list:
    return [event for decoded in found for event in reading.read(decoded)]


sizes = st.lists(st.integers(1, 5), min_size=12, max_size=12)


@given(sizes, st.data())
def test_entries_that_are_sent_again_are_read_once(cuts, data):
    """X10: a sink may go back to any entry that was not confirmed, any number of times."""
    sent = decoded_entries(RUN, cuts)
    wire, place = [], 0
    while place < len(sent):
        wire.append(sent[place])
        back = data.draw(st.integers(0, 3))
        place = max(0, place - back) if len(wire) < 60 and data.draw(st.booleans()) else place + 1
    assert read_all(Deduplicator(), wire) == RUN


@given(sizes, sizes)
def test_two_writers_that_merge_differently_are_read_once(one, two):
    """X10: the same run from two sinks, one of which had to merge tokens."""
    merged = coalesce(RUN)
    mine, theirs = decoded_entries(RUN, one, "a"), decoded_entries(merged, two, "b")
    wire = []
    rng = random.Random(sum(one) * 100 + sum(two))
    while mine or theirs:
        wire.append((mine if (rng.random() < 0.5 and mine) or not theirs else theirs).pop(0))
    read = read_all(Deduplicator(), wire)
    check_order(read)
    assert text_of(read) == text_of(RUN)
    assert [e.event_type for e in read if not isinstance(e, TokenEvent)] == [
        e.event_type for e in RUN if not isinstance(e, TokenEvent)
    ]


@given(st.integers(0, len(RUN) - 1), st.booleans())
def test_resuming_continues_exactly_at_a_position(k, merge):
    """X10: also where the log holds one merged token for what the reader had in parts."""
    reading = Deduplicator(position(RUN[k]))
    read = read_all(reading, decoded_entries(coalesce(RUN) if merge else RUN, [3] * 9))
    assert text_of(RUN[: k + 1]) + text_of(read) == text_of(RUN)
    check_order([*RUN[: k + 1], *read])


def merged_across_calls() -> list:
    """A run of two calls whose tokens, and whose fields' ends, stand between each other's."""
    run = Identity(run_id="r1")
    calls = [Identity(run_id="r1", path=("QA", n), predictor=n, call_id=n) for n in "ab"]
    events: list = []

    def add(kind, identity, **own):
        events.append(kind(seq=len(events), identity=identity, **own))

    add(RunStart, run, program="QA")
    for call in calls:
        add(ModuleStart, call, name="predict")
        add(FieldStart, call, field="answer")
    length = [0, 0]
    for n, which in enumerate([0, 1, 0, 1, 1, 0, 1, 0, 0]):
        token = "ab"[which] * (1 + n * n)  # so that no two of them end at the same place
        index = sum(each.call_id == "ab"[which] for each in events) - 2
        add(
            TokenEvent,
            calls[which],
            field="answer",
            token=token,
            token_index=index,
            offset=length[which],
        )
        length[which] += len(token)
        if n == 6:
            add(FieldEnd, calls[1], field="answer", length=length[1])
            add(ModuleEnd, calls[1], name="predict", duration=0.1)
    add(FieldEnd, calls[0], field="answer", length=length[0])
    add(ModuleEnd, calls[0], name="predict", duration=0.1)
    add(RunEnd, run)
    return events


@given(sizes, st.booleans())
def test_a_position_is_where_its_event_is_in_the_log(merging, across_calls):
    """X10: also in tokens that were merged across calls, which reach further than those behind."""
    events, entries, place = merged_across_calls(), [], 0
    check_order(events)
    for number, size in enumerate(merging):  # a sink that had to merge so many at a time
        part = coalesce(events[place : place + 3 * size], across_calls=across_calls)
        place += 3 * size
        if part:
            entries.append(DecodedEntry(f"w:{number + 1}", None, part))
    log = [event for decoded in entries for event in decoded.events]
    for k, event in enumerate(log):
        reading = Deduplicator(position(event))
        assert read_all(reading, entries) == log[k + 1 :]
        assert reading.ended


def test_without_an_offset_a_merged_token_is_given_whole():
    """It cannot be cut, so that nothing is lost; its own offset tells the reader where to."""
    reading = Deduplicator(Position("r1", 4))
    read = read_all(reading, decoded_entries(coalesce(RUN), [9]))
    assert (read[0].offset, read[0].token) == (0, "abcdefghijk")


def test_entries_of_different_runs_may_come_in_any_order():
    """RabbitMQ keeps the order of a run, not of a writer."""
    one, two = make_run("r1", ["a"]), make_run("r2", ["b"])
    wire = [
        DecodedEntry("w:2", None, two),
        DecodedEntry("w:1", None, one),
        DecodedEntry("w:2", None, two),
    ]
    assert read_all(Deduplicator(), wire) == [*two, *one]


def test_events_outside_runs_are_deduplicated_by_entry_id():
    said = [Status(message="a"), Status(message="a")]
    gap = [StreamGap(count=2, reason="overflow", identity=Identity(run_id="r1"))]
    wire = [
        DecodedEntry("w:1", None, said),
        DecodedEntry("w:1", None, said),
        DecodedEntry("w:2", None, gap),
    ] * 2
    assert read_all(Deduplicator(), wire) == [*said, *gap]


def test_nothing_is_new_after_a_runs_last_event():
    reading = Deduplicator()
    read_all(reading, decoded_entries(RUN, [20]))
    assert reading.read(DecodedEntry(None, None, RUN)) == []


def test_id_and_traceparent_of_other_types_are_ignored():
    decoded = decode_entry(b'{"v":1,"id":7,"traceparent":[],"events":[]}')
    assert (decoded.id, decoded.traceparent, decoded.events) == (None, None, [])
    with pytest.raises(WireError):
        decode_entry(b"{}")


# --- the buffer ---------------------------------------------------------------------------------


def buffer(max_bytes=10**6, max_entry_bytes=10**6) -> SendBuffer:
    return SendBuffer(max_bytes, max_entry_bytes)


def nothing(_run_id):
    return None


def test_ids_rise_in_sending_order_and_are_kept():
    """A gap that is put in front must not make what follows look like copies."""
    box = buffer(max_bytes=3000)
    box.add(make_run("r1", ["x"] * 5), nothing)
    first = [entry.heading for entry in box.head(9, 10**6)]
    assert [entry.heading for entry in box.head(9, 10**6)] == first
    for n in range(2, 12):
        box.add(make_run(f"r{n}", ["x"] * 5), nothing)
    assert box.bytes <= 3000
    sent = box.head(99, 10**6)
    numbers = [int(decode_entry(entry.body).id.rpartition(":")[2]) for entry in sent]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) == len(numbers)
    read = read_all(Deduplicator(), [decode_entry(entry.body) for entry in sent])
    gaps = [event for event in read if isinstance(event, StreamGap)]
    assert sum(gap.count for gap in gaps) == box.dropped
    assert len(read) - len(gaps) + box.dropped == 11 * 11


def test_a_dropped_gap_is_announced_again():
    box = buffer(max_bytes=2000)
    total = 0
    for n in range(200):
        run = make_run("r1", ["x"])[3:4] if n % 2 else make_run("r2", ["y"])[3:4]
        run = [msgspec.structs.replace(run[0], seq=n, token="z" * 100)]
        box.add(run, nothing)
        box.head(1, 10)
        total += 1
    events = [event for entry in box.head(999, 10**6) for event in decode_entry(entry.body).events]
    assert sum(getattr(event, "count", 1) for event in events) == total


def test_an_oversized_entry_is_split_and_an_oversized_event_becomes_a_gap():
    box = buffer(max_entry_bytes=2000)
    run = make_run("r1", ["x" * 300] * 20 + ["y" * 3000])
    box.add(run, nothing)
    entries = box.head(999, 10**6)
    assert all(len(entry.rest) <= 2000 for entry in entries)
    events = [event for entry in entries for event in decode_entry(entry.body).events]
    [gap] = [event for event in events if isinstance(event, StreamGap)]
    assert (gap.count, gap.reason) == (1, "oversized")
    assert len(events) == len(run)
