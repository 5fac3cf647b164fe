"""X8: a listener in the writer's process gets what the log has confirmed, entry by entry."""

from __future__ import annotations

import asyncio
import os

import pytest

from brokers.sample_runs import BOUND, make_run
from streamll.brokers.opening import open_sink, open_source
from streamll.brokers.source import SourceOptions
from streamll.brokers.sqlite.sink import SQLiteSink
from streamll.core.events import StreamllEvent
from streamll.core.wire import decode_batch, encode

pytestmark = pytest.mark.usefixtures("patient_sources")


def entries(backend, target):
    """The events of each entry of the log, as JSON."""

    async def read():
        options = SourceOptions(target=target, start="beginning", waits=False)
        source = open_source(backend.url, options)
        await source.connect()
        found = []
        while bodies := [entry.body for entry in await source.read()]:
            found += [[encode(event) for event in decode_batch(body)] for body in bodies]
        await source.close()
        return found

    return asyncio.run(asyncio.wait_for(read(), BOUND))


def test_a_listener_gets_confirmed_entries_in_order(backend):
    target = backend.target()
    sink = open_sink(backend.url, target=target, batch_size=7)
    heard = []
    sink.confirm_to(lambda told, receipt: heard.extend(told))
    runs = [make_run(f"r{number}", list("some text")) for number in range(5)]
    odd = StreamllEvent(event_type="mine", data={"set": {1}, "n": float("nan")}, timestamp=1.0)
    for parts in zip(*runs, strict=True):
        for event in (*parts, odd):
            sink.put(event)
    assert sink.stop(BOUND)
    told = [[encode(event) for event in events] for events, _ in heard]
    assert [[encode(e) for e in decode_batch(body)] for _, body in heard] == told
    logged = entries(backend, target)
    assert sorted(told) == sorted(logged)  # a broker may store different runs in any order
    for run in runs:
        events = [event for each, _ in heard for event in each if event.run_id == run[0].run_id]
        assert [event.seq for event in events] == [event.seq for event in run]


def test_a_forked_child_calls_its_own_listener_not_its_parents(tmp_path):
    sink = SQLiteSink(tmp_path / "log.db")
    heard = []
    sink.confirm_to(lambda told, receipt: heard.append("parent"))
    run = make_run("r", ["x"])
    sink.put(run[0])
    assert sink.catch_up(BOUND)
    assert heard == ["parent"]
    writer = sink.producer
    child = os.fork()
    if child == 0:
        code = 1
        try:
            sink.put(run[1])
            quiet = sink.catch_up(BOUND) and heard == ["parent"]
            sink.confirm_to(lambda told, receipt: heard.append("child"))
            sink.put(run[2])
            told = sink.catch_up(BOUND) and heard == ["parent", "child"]
            code = 0 if quiet and told and sink.producer != writer else 1
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    sink.put(run[1])
    assert sink.catch_up(BOUND)
    assert heard == ["parent", "parent"]
    sink.stop()
