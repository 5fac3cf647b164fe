"""X10: the overview of a log's latest runs, without reading all of it."""

from __future__ import annotations

import asyncio
import time

import pytest

from brokers.backends import BACKENDS, CLUSTERS, backend_of
from brokers.sample_runs import BOUND, make_run
from streamll.brokers.opening import open_sink, open_source
from streamll.brokers.source import SourceOptions
from streamll.core.events import StreamllEvent
from streamll.core.wire import decode_batch

pytestmark = pytest.mark.usefixtures("patient_sources")


@pytest.fixture(params=[*BACKENDS, *CLUSTERS])
def backend(request, server_of, tmp_path):
    return backend_of(request.param, server_of, tmp_path)


def write(backend, target, events):
    """Each event in an entry of its own, as a quick log has them."""
    sink = open_sink(backend.url, target=target, batch_size=1)
    for event in events:
        sink.put(event)
    assert sink.stop(BOUND)


def overview(backend, target, runs):
    async def ask():
        source = open_source(backend.url, SourceOptions(target=target))
        await source.connect()
        try:
            return await source.overview(runs)
        finally:
            await source.close()

    bodies = asyncio.run(asyncio.wait_for(ask(), BOUND))
    return [event for body in bodies for event in decode_batch(body)]


def test_the_overview_has_the_first_and_last_entry_of_the_latest_runs(backend):
    target = backend.target()
    for number in range(5):
        write(backend, target, make_run(f"r{number}", [f"{number}"] * 30))
    unfinished = make_run("r5", ["so", "far"])[:-3]
    write(backend, target, unfinished)
    alive = StreamllEvent(event_type="server.alive", data={"runs": ["r5"]}, timestamp=time.time())
    write(backend, target, [alive])
    told = overview(backend, target, 3)
    begun = [event.run_id for event in told if event.event_type == "run.start"]
    assert begun[-3:] == ["r3", "r4", "r5"]
    assert {"r3", "r4"} <= {event.run_id for event in told if event.event_type == "run.end"}
    assert [event.token for event in told if event.run_id == "r5" and event.seq == 4] == ["far"]
    assert told[-1].event_type == "server.alive"
    assert len(told) < 60


def test_the_overview_of_a_log_without_runs_is_empty(backend):
    assert overview(backend, backend.target(), 10) == []
