"""What a log has lost unread is told to its reader, and what a writer has left out is not."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from brokers.backends import BACKENDS, CLUSTERS, COMPATIBLE_BACKENDS, backend_of
from brokers.raw_log import RAW_LOGS
from brokers.sample_runs import check_order, make_run
from streamll.brokers.send_buffer import PendingEntry
from streamll.consumer import EventConsumer
from streamll.core.events import StreamGap
from streamll.core.wire import encode_batch
from streamll.sinks import open_sink

TOKENS = ["x" * 1000] * 1500
KEPT = 10
"""Entries that are left, where a log is trimmed at all times."""


@pytest.fixture(params=[*BACKENDS, *COMPATIBLE_BACKENDS, *CLUSTERS])
def backend(request, server_of, tmp_path):
    return backend_of(request.param, server_of, tmp_path)


@pytest.fixture
def target(backend) -> str:
    name = backend.target()
    RAW_LOGS[backend.name](backend.url).bound(name)
    return name


def append(backend, target: str, events) -> None:
    """One entry for each event."""
    sink = open_sink(backend.url, target=target)
    with contextlib.closing(sink._connect()) as transport:
        entries = [PendingEntry.of([event], encode_batch([event])[0]) for event in events]
        for start in range(0, len(entries), 100):
            transport.send(entries[start : start + 100])


def trim(backend, target: str, entries: int) -> None:
    RAW_LOGS[backend.name](backend.url).trim(target, entries)


def count_missing(backend, events) -> int:
    """What the gap counts, which is at its place; nothing is missing elsewhere.

    RabbitMQ sends on to a reader while it deletes: it may overtake one several times.
    """
    check_order(events, holes=True)
    gaps = [event for event in events if isinstance(event, StreamGap)]
    assert len(gaps) == 1 or backend.name == "rabbitmq"
    for gap in gaps:
        assert (gap.reason, gap.run_id) == ("trimmed", events[-1].run_id)
        place = events.index(gap)
        before = events[place - 1].seq if place else -1
        assert events[place + 1].seq == before + gap.count + 1
    missing = sum(gap.count for gap in gaps)
    assert len(events) - len(gaps) + missing == events[-1].seq + 1
    return missing


def interleaved(one, two):
    return [event for pair in zip(one, two, strict=True) for event in pair]


def test_a_reader_that_is_overtaken_is_told_in_each_run(backend, target):
    """X9, X10: between two reads most of what it has not seen is deleted."""
    runs = [make_run(run_id, TOKENS) for run_id in ("r1", "r2")]
    early = make_run("r0", ["a"])

    async def read() -> list:
        consumer, events = EventConsumer(backend.url, target, start="beginning"), []
        async with contextlib.aclosing(aiter(consumer)) as found:
            async for event in found:
                events.append(event)
                if len(events) == 9:
                    both = interleaved(*(run[2:] for run in runs))
                    await asyncio.to_thread(append, backend, target, both)
                    await asyncio.to_thread(trim, backend, target, 12 + len(both) - KEPT)
                if sum(event.event_type == "run.end" for event in events) == 3:
                    return events
        raise AssertionError("unreachable")

    append(backend, target, [*early, *interleaved(runs[0][:2], runs[1][:2])])
    # Some thousand entries, which RabbitMQ confirms two by two.
    events = asyncio.run(asyncio.wait_for(read(), 300))
    assert [event for event in events if event.run_id == "r0"] == early
    for run_id in ("r1", "r2"):
        assert count_missing(backend, [e for e in events if e.run_id == run_id]) > 500


@pytest.mark.parametrize("had", [-1, 1])
def test_a_reader_of_a_run_whose_beginning_is_gone_is_told(backend, target, had):
    """X10: also one that had nothing of it, and where other runs' entries come first."""
    run, other = make_run("r1", TOKENS), make_run("r2", ["b"] * 600)
    append(backend, target, run[:-400])
    append(backend, target, other)
    append(backend, target, run[-400:])
    trim(backend, target, len(run) - 400 + 5)

    async def read() -> list:
        return [event async for event in EventConsumer(backend.url, target, start=("r1", had))]

    events = asyncio.run(asyncio.wait_for(read(), 60))
    if had >= 0:
        events = [*run[: had + 1], *events]
    assert count_missing(backend, events) > 500
    assert events[-1] == run[-1]


def test_what_a_writer_left_out_is_no_loss(backend, target):
    """X15: ``redact`` may withhold events, and an inner module's sink gets a part of the run."""
    run = make_run("r1", ["y"] * 300)
    told = [event for event in run if event.seq % 3]

    async def read(start) -> list:
        consumer, events = EventConsumer(backend.url, target, start=start), []
        async with contextlib.aclosing(aiter(consumer)) as found:
            async for event in found:
                events.append(event)
                if len(events) == 20 and start == "beginning":
                    await asyncio.to_thread(append, backend, target, told[100:])
                if event.event_type == "run.end":
                    return events
        raise AssertionError("unreachable")

    append(backend, target, told[:100])
    assert asyncio.run(asyncio.wait_for(read("beginning"), 60)) == told
    assert asyncio.run(asyncio.wait_for(read(("r1", -1)), 60)) == told
