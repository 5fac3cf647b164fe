"""X10: which runs there are is told by the log; the list outlives every process."""

from __future__ import annotations

import time

import dspy
import pytest
from patience import Stopwatch

from brokers import servers
from brokers.sample_runs import make_run
from serve.runs import RUNS, Scribe
from serve.serving import events_of, wait_until
from streamll.brokers.opening import open_sink
from streamll.core import events as ev
from streamll.core.events import RunStart
from streamll.serve import Limits, create_app
from streamll.serve.log.index import RunIndex
from streamll.testing import Reply

FULL = {"authorization": "Bearer a-long-enough-token"}


@pytest.fixture(params=["sqlite", "redis", "rabbitmq"])
def any_log(request, server_of, log):
    return log if request.param == "sqlite" else server_of(request.param).new_part()


@pytest.fixture
def qa():
    return dspy.Predict("question -> answer")


def asked(client):
    run = client.post("/runs", json={"inputs": {"question": "q"}}, headers=FULL).json()
    return run["run_id"]


def listed(client, query=""):
    return client.get(f"/runs{query}", headers=FULL).json()["runs"]


def test_a_new_process_lists_what_the_log_has(practice, lm, serve, any_log, qa):
    practice.respond(lambda _: {"answer": "yes"})
    first = serve(create_app(qa, log=any_log))
    with first.client() as client:
        runs = [asked(client) for _ in range(3)]
        for run_id in runs:
            events_of(client, f"/runs/{run_id}/events")
        # Who reads the log itself may have a run's end before the list has.
        wait_until(lambda: {each["status"] for each in listed(client)} == {"ended"})
        before = listed(client)
    first.stop()
    with serve(create_app(qa, log=any_log)).client() as client:
        assert listed(client) == before
    assert [each["run_id"] for each in before] == runs[::-1]
    assert {each["status"] for each in before} == {"ended"}
    assert all(each["started_at"] <= each["ended_at"] <= time.time() for each in before)


def test_runs_that_wait_for_an_answer_are_counted():
    """As the log was followed; of what it has from before, as its latest entry says."""
    scribe = Scribe(0.1).start()
    for name in ("one", "two"):
        scribe.add(ev.Question, question_id=name, text="?")
    begun = list(scribe.events)
    scribe.add(ev.Answer, question_id="one", outcome="answered").add(ev.Status, message="on")
    told = scribe.events[len(begun) :]
    ended = [scribe.end().events[-1]]
    followed, anew = RunIndex(lost_s=1e12), RunIndex(lost_s=1e12)
    counts = []
    for entry in (begun, told, ended):
        followed.add(entry)
        counts.append(next(followed.summaries()).get("open_questions"))
    anew.fill([begun])
    counts.append(next(anew.summaries()).get("open_questions"))
    anew.fill([told])
    assert [*counts, next(anew.summaries()).get("open_questions")] == [2, 1, None, 2, None]


def test_processes_list_each_others_runs(practice, lm, serve, any_log, qa):
    practice.script(Reply({"answer": "one two"}, hold_after=12), {"answer": "yes"})
    here, there = (serve(create_app(qa, log=any_log)) for _ in range(2))
    with here.client() as client, there.client() as other:
        first = asked(client)
        practice.wait_for_requests(1)
        second = asked(other)
        states = {first: "running", second: "ended"}
        for each in (client, other):
            wait_until(
                lambda each=each: {r["run_id"]: r["status"] for r in listed(each)} == states,
                what="the list",
            )
            assert [run["run_id"] for run in listed(each)] == [second, first]
        practice.release()
        wait_until(lambda: {run["status"] for run in listed(other)} == {"ended"})


def test_how_runs_ended_is_in_the_list(lm, serve, log, qa):
    sink = open_sink(log)
    for name in ("plain", "failed", "cancelled"):
        for event in RUNS[name]():
            run = type(event.identity)(**{**_asdict(event.identity), "run_id": name})
            sink.put(_replaced(event, identity=run, timestamp=time.time()))
    for event in RUNS["plain"]()[:5]:  # its process died a long time ago
        sink.put(event)
    assert sink.stop(60)
    with serve(create_app(qa, log=log)).client() as client:
        states = {run["run_id"]: run["status"] for run in listed(client)}
        assert states == {
            "plain": "ended", "failed": "failed", "cancelled": "cancelled", "r1": "lost",
        }  # fmt: skip
        assert client.get("/runs/r1").json()["status"] == "lost"


def _asdict(struct):
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def _replaced(struct, **changes):
    return type(struct)(**{**_asdict(struct), **changes})


def test_a_list_is_as_long_as_one_wants_and_bounded(practice, lm, serve, log, qa):
    sink = open_sink(log)
    for number in range(250):
        identity = RUNS["plain"]()[0].identity
        identity = _replaced(identity, run_id=f"r{number}")
        sink.put(RunStart(seq=0, timestamp=1e9 + number, identity=identity, program="QA"))
    assert sink.stop(60)
    with serve(create_app(qa, log=log)).client() as client:
        assert [run["run_id"] for run in listed(client)] == [f"r{n}" for n in range(249, 49, -1)]
        assert [run["run_id"] for run in listed(client, "?limit=2")] == ["r249", "r248"]
        assert len(listed(client, f"?limit={'0' * 30}7")) == 7
        for bad in ("0", "-1", "x", "201", "9" * 30, "000000001999", "1" + "9" * 5000, "٣"):
            assert client.get(f"/runs?limit={bad}").status_code == 400


def test_the_list_needs_a_token_that_permits_everything(practice, lm, serve, log, qa):
    practice.script({"answer": "yes"})
    app = create_app(qa, log=log, tokens="a-long-enough-token")
    with serve(app).client() as client:
        run = client.post("/runs", json={"inputs": {"question": "q"}}, headers=FULL).json()
        only_this = {"authorization": f"Bearer {run['token']}"}
        assert client.get("/runs").status_code == 401
        assert client.get("/runs", headers=only_this).status_code == 401
        wait_until(lambda: [each["run_id"] for each in listed(client)] == [run["run_id"]])


def test_a_log_that_is_away_has_no_list(lm, serve, qa, tmp_path, monkeypatch):
    from streamll.serve.log import run_log

    monkeypatch.setattr(run_log, "START_S", 1.0)
    server = servers.RedisServer(tmp_path, servers.redis_binary(), "--appendonly", "no")
    with serve(create_app(qa, log=server.url)).client() as client:
        answer = client.get("/runs")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        watch = Stopwatch()
        for _ in range(5):
            client.get("/healthz")
        assert watch.seconds < 2.5, "who asks after it waits once, not each time"


def test_a_run_the_log_has_forgotten_leaves_the_list(lm, serve, log, qa):
    import sqlite3

    sink = open_sink(log)
    for event in RUNS["plain"]():
        sink.put(event)
    assert sink.stop(60)
    with serve(create_app(qa, log=log)).client() as client:
        assert [run["run_id"] for run in listed(client)] == ["r1"]
        with sqlite3.connect(log.removeprefix("sqlite:///"), timeout=60) as connection:
            connection.execute("DELETE FROM streamll_entries")
        connection.close()
        assert client.get("/runs/r1").status_code == 404
        assert listed(client) == []


# --- what is heard while the log is still being asked ---------------------------------------------


def test_runs_that_end_before_the_index_is_filled_are_not_forgotten():
    index = RunIndex(lost_s=60)
    events = RUNS["plain"]()
    index.add(events[3:5])
    index.add(events[5:])
    index.fill([events[:3]])
    assert [run["status"] for run in index.latest()] == ["ended"]
    assert index.ended["run.end"] == 1


def test_the_oldest_are_forgotten_and_not_the_latest():
    index = RunIndex(lost_s=60, limit=3)
    for number in range(20):
        identity = _replaced(RUNS["plain"]()[0].identity, run_id=f"r{number}")
        index.add([RunStart(seq=0, timestamp=float(number), identity=identity, program="QA")])
    assert len(index) <= 6
    assert [run["run_id"] for run in index.latest()] == ["r19", "r18", "r17"]


def test_a_run_is_lost_when_nobody_speaks_of_it_and_not_before():
    start = RUNS["plain"]()[0]
    index = RunIndex(lost_s=Limits().lost_seconds)
    index.fill([[_replaced(start, timestamp=time.time() - 3600)]])
    assert [run["status"] for run in index.latest()] == ["lost"]
    assert index.unattended_s("r1") is None
    index.alive(["r1"])
    assert [run["status"] for run in index.latest()] == ["running"]
    assert index.unattended_s("r1") < 60


def test_a_run_is_known_to_be_under_way_without_a_look_into_the_log():
    index, run = RunIndex(lost_s=60), make_run("r1", ["a"])
    assert not index.is_under_way("r1")
    index.add(run[2:3])
    assert not index.is_under_way("r1"), "of an older run the end may be missing as well"
    index.add(run[:1])
    assert index.is_under_way("r1")
    assert not RunIndex(lost_s=60).is_under_way("r1")
    index.add(run[-1:])
    assert not index.is_under_way("r1")
    lost = RunIndex(lost_s=0)
    lost.add(run[:1])
    wait_until(lambda: not lost.is_under_way("r1"))
