"""A log is created by who writes to it, with its retention: not by who looks whether there is one."""

from __future__ import annotations

import asyncio
from importlib import import_module
from pathlib import Path

import dspy
import pytest

from brokers.sample_runs import BOUND, collect, ends, make_run
from serve.patient import patient_servers  # noqa: F401 - a busy machine makes a log late
from serve.serving import Server, events_of, wait_until
from streamll.brokers.copying import log_exists
from streamll.brokers.opening import default_target
from streamll.consumer import EventConsumer
from streamll.serve import create_app
from streamll.sinks import open_sink


def exists(backend, target: str) -> bool:
    if backend.name == "sqlite":  # whichever log is in it
        return Path(backend.url.removeprefix("sqlite:///")).exists()
    return asyncio.run(log_exists(backend.url, target))


@pytest.fixture
def new_log(backend, monkeypatch):
    """The name of a log that is not there, which is also what a server uses."""
    if backend.name == "sqlite":
        return default_target(backend.url)  # of a file of its own
    target = backend.target()
    room = import_module(f"streamll.brokers.{backend.name}.sink")
    monkeypatch.setattr(room, "TARGET", target)
    return target


@pytest.mark.parametrize("start", ["new", "beginning"])
def test_a_reader_waits_for_a_log_and_gets_all_of_it(backend, new_log, tmp_path, start):
    asyncio.run(read_before_it_is_written(backend, new_log, tmp_path, start))


async def read_before_it_is_written(backend, new_log, tmp_path, start):
    consumer = EventConsumer(backend.url, new_log, start=start)
    reading = asyncio.create_task(collect(consumer, ends(1)))
    assert await asyncio.to_thread(consumer.wait_connected, BOUND)
    assert not await log_exists(backend.url, new_log)
    assert list(tmp_path.iterdir()) == []  # of an SQLite log
    sink = open_sink(backend.url, target=new_log)
    run = make_run("r1", "ab")
    for event in run:
        sink.put(event)
    assert await asyncio.to_thread(sink.stop, BOUND)
    assert await reading == run


def test_a_group_is_kept_in_the_log(backend, new_log):
    """What is written while none of its members is there is theirs: so joining creates the log."""
    member_of_group(backend, new_log).stop(BOUND)
    sink = open_sink(backend.url, target=new_log)
    run, got = make_run("r1", "ab"), []
    for event in run:
        sink.put(event)
    assert sink.stop(BOUND)
    member = member_of_group(backend, new_log, got.append)
    wait_until(lambda: len(got) == len(run), BOUND, "the group's events")
    assert member.stop(BOUND)


def member_of_group(backend, target: str, handler=print) -> EventConsumer:
    member = EventConsumer(backend.url, target, group="g")
    member.subscribe(handler)
    member.start()
    assert member.wait_connected(BOUND)
    return member


def test_a_server_lists_no_runs_and_creates_no_log_for_that(backend, new_log, practice):
    dspy.configure(lm=practice.lm(), adapter=dspy.ChatAdapter())
    server = Server(create_app(dspy.Predict("question -> answer"), log=backend.url))
    try:
        with server.client() as client:
            wait_until(lambda: "log_reachable 1" in client.get("/metrics").text)
            assert client.get("/runs").json() == {"runs": [], "more": False}
            assert client.get("/runs/r1").status_code == 404
            assert "log_reachable 1" in client.get("/metrics").text
            assert not exists(backend, new_log)
            practice.respond(lambda _: {"answer": "yes"})
            run = client.post("/runs", json={"inputs": {"question": "q"}}).json()
            assert events_of(client, f"/runs/{run['run_id']}/events")[-1]["event_type"] == "run.end"
            assert exists(backend, new_log)
    finally:
        server.stop()
