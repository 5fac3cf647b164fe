"""X10: a program that waits for a slow tool is not taken for one that was killed: its sink reports it.

What such reports do for readers is tested in ``test_lost_readers.py``.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from brokers.sample_runs import BOUND, make_run
from brokers.servers import wait_until
from streamll.brokers import open_runs
from streamll.brokers.opening import open_source
from streamll.brokers.source import SourceOptions
from streamll.consumer import EventConsumer
from streamll.core.run_view import ALIVE
from streamll.core.wire import decode_batch
from streamll.flow import worker
from streamll.sinks import open_sink

pytestmark = pytest.mark.usefixtures("patient_sources")

CHECK_S = open_runs.CHECK_S  # as it is, which tests of brokers change


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(open_runs, "CHECK_S", 0.3)


def reports(url, target):
    """What processes have reported in a log, each time the runs it named."""

    async def look():
        source = open_source(url, SourceOptions(target=target, start="beginning", waits=False))
        await source.connect()
        try:
            return await source.overview(0)
        finally:
            await source.close()

    events = [event for body in asyncio.run(look()) for event in decode_batch(body)]
    return [event.data["runs"] for event in events if event.event_type == ALIVE]


@pytest.mark.parametrize("group", [None, "g"])
def test_a_silent_run_is_reported_until_it_ends_and_nobody_handles_that(backend, soon, group):
    target = backend.target()
    sink = open_sink(backend.url, target=target)
    consumer = EventConsumer(backend.url, target, group=group, start="beginning")
    heard = []
    consumer.on("*", heard.append)
    *before, end = make_run("r1", ["one ", "two "])
    for event in before:
        sink.put(event)
    assert sink.catch_up(BOUND)
    wait_until(lambda: len(reports(backend.url, target)) >= 2, BOUND, "two reports")
    sink.put(end)
    consumer.start()
    wait_until(lambda: heard and heard[-1].event_type == "run.end", BOUND, "the end")
    assert sink.stop(BOUND)
    assert consumer.stop(BOUND)
    assert [event.seq for event in heard] == list(range(8))
    assert consumer.statistics().duplicates == 0
    assert {run for runs in reports(backend.url, target) for run in runs} == {"r1"}
    assert not sink._open_runs._runs


def test_runs_with_logs_of_their_own_are_reported_there(backend, soon):
    if backend.name == "rabbitmq":
        with pytest.raises(TypeError):  # one exchange, whatever the keys
            open_sink(backend.url, stream_key="x")
        return
    target = backend.target()
    sink = open_sink(backend.url, target=f"{target}-{{run_id}}-{{tenant}}")
    for run_id in ("r1", "r2"):
        sink.put(make_run(run_id, ["x"], context={"tenant": "acme"})[0])
    for run_id in ("r1", "r2"):
        own = f"{target}-{run_id}-acme"
        wait_until(lambda own=own: reports(backend.url, own), BOUND, "its report")
        assert {run for runs in reports(backend.url, own) for run in runs} == {run_id}
    assert sink.stop(BOUND)


def test_silent_runs_of_one_log_share_a_report():
    told = []
    runs = open_runs.OpenRuns(told.append, apart=False)
    runs._look_later = lambda: None  # it is looked when this test says so
    runs.hear([make_run(run_id, ["x"])[0] for run_id in ("r1", "r2", "r3", "r4")])
    runs._look()
    assert not told  # they have only just begun
    runs.hear([*make_run("r3", ["x"]), make_run("r4", ["x"])[1]])
    runs._look()
    assert [event.data["runs"] for event in told] == [["r1", "r2"]]
    runs._look()
    assert [event.data["runs"] for event in told[1:]] == [["r1", "r2", "r4"]]
    runs.forget()


@pytest.mark.parametrize("at", [3, -1], ids=["token", "end"])
def test_runs_that_are_forgotten_in_the_middle_cost_no_events(at):
    """``stop`` comes between two steps of ``hear``; what that raised would fail the whole batch."""
    runs = open_runs.OpenRuns(lambda report: None, apart=False)
    runs._look_later = lambda: None
    run = make_run("r1", ["a"])
    runs.hear(run[:1])

    class Stopped(dict):
        """Has a run when it is asked for it, and a moment later none."""

        def __contains__(self, run_id):
            found = super().__contains__(run_id)
            runs.forget()
            return found

        def get(self, run_id):
            found = super().get(run_id)
            runs.forget()
            return found

    runs._runs = Stopped(runs._runs)
    runs.hear([run[at]])
    assert not runs._runs


def test_a_stopped_or_forgotten_sink_reports_nothing(monkeypatch, tmp_path):
    """The process goes on, with a run that never ended."""
    assert worker.IDLE_TIMEOUT_S < CHECK_S * 0.7
    monkeypatch.setattr(open_runs, "CHECK_S", 0.3)
    monkeypatch.setattr(worker, "IDLE_TIMEOUT_S", 0.1)
    url = f"sqlite:///{tmp_path / 'log.db'}"
    stopped, forgotten = open_sink(url), open_sink(url, target="other")
    stops = threading.Event()
    stopped._reset_after_fork = lambda: stops.wait(BOUND)  # before it hears of the run
    for sink in (stopped, forgotten):
        sink.put(make_run("r1", ["x"])[0])
    assert forgotten.catch_up(BOUND)
    with ThreadPoolExecutor() as pool:
        done = pool.submit(stopped.stop, BOUND)
        wait_until(lambda: stopped._has_asked, BOUND, "it stops")
        stops.set()
        assert done.result()
    assert not stopped._open_runs._runs
    gone = weakref.ref(forgotten)  # between two reports nothing keeps it
    del sink, forgotten
    wait_until(lambda: (gc.collect(), gone())[1] is None, BOUND, "it is gone")
