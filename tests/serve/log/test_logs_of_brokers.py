"""X10: the same server over the user's own Redis, Valkey or RabbitMQ."""

from __future__ import annotations

import asyncio

import dspy
import pytest

from brokers import servers
from brokers.backends import COMPATIBLE_BACKENDS
from brokers.sample_runs import make_run
from serve.serving import events_of, frames, text_of, wait_until
from streamll.brokers.opening import open_source
from streamll.core.positions import Position
from streamll.core.wire import decode_entry
from streamll.serve import create_app
from streamll.serve.log.run_log import RunLog
from streamll.sinks import open_sink
from streamll.testing import Reply

WORDS = " ".join(f"word{n}" for n in range(60))


@pytest.fixture(params=["redis", *COMPATIBLE_BACKENDS, "rabbitmq", "redis-cluster"])
def log(request, server_of):
    if request.param == "redis-cluster":  # nobody else uses the log that has the default name there
        return f"{server_of(request.param).url}?shards=4"
    return server_of(request.param).new_part()


@pytest.fixture
def not_yet_there(tmp_path):
    server = servers.RedisServer(tmp_path, servers.redis_binary(), "--appendonly", "no")
    yield server
    server.stop()


def test_a_log_that_is_away_is_reported_and_waited_for(lm, not_yet_there, serve, monkeypatch):
    from streamll.serve.log import run_log

    monkeypatch.setattr(run_log, "START_S", 0.2)
    app = create_app(dspy.Predict("question -> answer"), log=not_yet_there.url)
    with serve(app).client() as client:
        assert client.get("/healthz").status_code == 503
        answer = client.post("/runs", json={"inputs": {"question": "q"}})
        assert (answer.status_code, "log" in answer.json()["error"]) == (503, True)
        assert client.get("/runs/r1/events").status_code == 503
        not_yet_there.start()
        wait_until(lambda: client.get("/healthz").status_code == 200)
        assert client.post("/runs", json={"inputs": {"question": "q"}}).status_code == 202


def test_a_run_is_resumed_elsewhere_and_cancelled_from_there(practice, lm, log, serve):
    practice.pace = 0.01
    practice.script({"answer": WORDS}, Reply({"answer": WORDS * 20}, hold_after=200))
    program = dspy.Predict("question -> answer")
    here, there = (serve(create_app(program, log=log)) for _ in range(2))
    with here.client() as client, there.client() as other:
        asked = {"inputs": {"question": "q"}}
        run = client.post("/runs", json=asked).json()
        had = []
        with client.stream("GET", run["events"]) as response:
            for frame in frames(response):
                had.append(frame)
                if len(had) == 15:
                    break
        rest = events_of(other, run["events"], headers={"last-event-id": had[-1].id})
        assert text_of([*(f.event for f in had), *rest]) == WORDS
        assert text_of(events_of(other, run["events"])) == WORDS
        assert other.get(run["url"]).json()["status"] == "ended"
        # The list follows the log beside those that read it. It is asked for runs of this program: the
        # cluster's log has the many of the test below as well, and an answer the latest 200.
        wait_until(lambda: run["run_id"] in other.get("/runs?program=Predict").text)
        run = client.post("/runs", json=asked).json()
        with client.stream("GET", run["events"]) as response:
            coming = frames(response)
            while next(coming).event["event_type"] != "token":
                pass
            assert other.delete(run["url"]).status_code == 202
            assert [f.event for f in coming][-1]["event_type"] == "run.cancelled"


def test_a_late_reader_decodes_few_entries_of_others(log, monkeypatch):
    """These logs have no index, so all of them pass by."""
    decoded, reads = [], []

    def counted(body):
        decoded.append(body)
        return decode_entry(body)

    def read_counted(url, options):
        source = open_source(url, options)
        read = source.read

        async def counting():
            entries = await read()
            reads.append([entry.body for entry in entries])
            return entries

        source.read = counting
        return source

    monkeypatch.setattr("streamll.serve.log.run_log.decode_entry", counted)
    monkeypatch.setattr("streamll.serve.log.run_log.open_source", read_counted)
    sink = open_sink(log)
    for number in range(300):
        for event in make_run(f"other{number}", "a"):
            sink.put(event)
    run = make_run("late", "b")
    for event in run:
        sink.put(event)
    assert sink.stop(60)

    async def read():
        history = RunLog(log).history(Position("late"))
        return [item.event async for items in history for item in items]

    assert asyncio.run(read()) == run
    # The last one of each read, and RabbitMQ may hand them over in parts as small as it likes; without
    # looking at how they begin it were all 300.
    of_others = [body for body in decoded if b'"run_id":"late"' not in body]
    assert sum(len(bodies) for bodies in reads) > 50
    assert set(of_others) <= {bodies[-1] for bodies in reads if bodies}
    assert len(of_others) <= len(reads)
