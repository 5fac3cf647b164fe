"""What RabbitMQ is slow to send is no end: who reads a log up to its end gets all of it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from brokers.backends import unique_name
from brokers.blockable import through
from brokers.late_deliveries import LateDeliveries
from brokers.sample_runs import BOUND, make_run
from streamll.brokers.copying import copy_log, has_run
from streamll.brokers.opening import open_sink, open_source
from streamll.brokers.source import SourceOptions
from streamll.consumer import EventConsumer
from streamll.core.events import Event
from streamll.core.wire import decode_batch

pytestmark = pytest.mark.usefixtures("patient_clients")

RUN = make_run("r1", [f"{number} " for number in range(300)])
"""In one entry for each event: more than one read returns, and RabbitMQ sends unasked."""


def write(url: str, target: str, events: list[Event]) -> None:
    sink = open_sink(url, target=target, batch_size=1)
    for event in events:
        sink.put(event)
    assert sink.stop(BOUND)


@pytest.fixture(params=[1, 7], ids=["the first", "one in the middle"])
def late(request, server_of):
    """A log's direct URL, the one on which a delivery is late, and the log's name."""
    server, target = server_of("rabbitmq"), unique_name()
    with contextlib.closing(LateDeliveries(server.port, request.param)) as wire:
        write(server.url, target, RUN)
        yield server.url, through(wire, server), target


def events_in(bodies) -> list[Event]:
    return [event for body in bodies for event in decode_batch(body)]


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, BOUND))


async def read_all(url: str, target: str) -> list[Event]:
    options = SourceOptions(target=target, start="beginning", waits=False)
    source, events = open_source(url, options), []
    await source.connect()
    try:
        while entries := await source.read():
            events += events_in(entry.body for entry in entries)
        return events
    finally:
        await source.close()


def test_a_log_is_read_up_to_its_end(late):
    _, url, target = late
    assert run(read_all(url, target)) == RUN


def test_the_end_is_that_of_the_time_of_connecting(server_of):
    """Otherwise a log that is written to all the time would have none."""
    url, target = server_of("rabbitmq").url, unique_name()

    async def main() -> list[Event]:
        options = SourceOptions(target=target, start="beginning", waits=False)
        source = open_source(url, options)
        await source.connect()
        try:
            await asyncio.to_thread(write, url, target, RUN[150:])
            found = []
            while entries := await source.read():
                found += entries
            return events_in(entry.body for entry in found)
        finally:
            await source.close()

    write(url, target, RUN[:150])
    events = run(main())
    assert events[:150] == RUN[:150]
    assert len(events) < len(RUN)
    assert run(read_all(url, target)) == RUN


def test_an_empty_log_has_an_end_as_well(server_of):
    url, target = server_of("rabbitmq").url, unique_name()
    write(url, target, [])
    assert run(read_all(url, target)) == []


def test_the_overview_has_every_run(late):
    _, url, target = late

    async def main() -> list[Event]:
        source = open_source(url, SourceOptions(target=target))
        await source.connect()
        try:
            return events_in(await source.overview(10))
        finally:
            await source.close()

    assert [event.event_type for event in run(main())] == ["run.start", "run.end"]


def test_a_copy_has_everything_and_a_run_is_found(late, tmp_path):
    _, url, target = late
    copied = f"sqlite:///{tmp_path}/copy.db"
    assert run(has_run(url, target, "r1"))
    run(copy_log(url, copied, source_target=target))
    assert run(read_all(copied, target)) == RUN


def test_a_silent_run_is_closed_behind_its_last_event(late):
    direct, url, _ = late
    target = unique_name()
    write(direct, target, RUN[:100])

    async def main() -> list[Event]:
        consumer = EventConsumer(url, target, start=("r1", -1), lost_seconds=0.5)
        return [event async for event in consumer]

    events = run(main())
    numbered = [event for event in events if event.seq is not None]
    assert numbered[:100] == RUN[:100]
    assert [event.seq for event in numbered] == list(range(len(numbered)))
    assert events[-1].event_type == "run.error"
