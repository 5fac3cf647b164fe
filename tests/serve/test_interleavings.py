"""Order faults of a server: ends that come between two steps of somebody else."""

from __future__ import annotations

import asyncio
import contextlib
import time

import dspy
import httpx
import pytest

from serve.log.test_run_log import TOKENS, Writer, opened, run, sink_of, until
from serve.runs import ROOT, RUNS, Scribe
from serve.serving import events_of, frames, wait_until
from serve.test_app import WORDS, started, status_of
from streamll.brokers.opening import open_sink
from streamll.core import events as ev
from streamll.core.errors import ServerStopping
from streamll.core.positions import Position
from streamll.serve import create_app
from streamll.serve.log import index as indexes
from streamll.serve.log import search
from streamll.serve.log.frames import items_of
from streamll.serve.log.index import RunIndex
from streamll.serve.runner import Runner
from streamll.testing import Reply

SIGNATURE = "question -> answer"


@pytest.fixture
def qa():
    return dspy.Predict(SIGNATURE)


@pytest.fixture
def elsewhere(log):
    """A run of another process, which goes on."""
    sink = open_sink(log)
    for event in RUNS["plain"]()[:5]:
        sink.put(event)
    assert sink.stop(60)
    return "/runs/r1/events"


async def all_is_heard(run_log, sink):
    """The tail takes entries in their order: when it has another run's beginning, it has these."""
    name = f"marker{len(run_log.index)}"
    sink.put(ev.RunStart(seq=0, timestamp=1.7e9, identity=ev.Identity(run_id=name), program="M"))
    await until(lambda: run_log.index.facts(name) is not None)


def open_questions(run_log):
    [found] = [each for each in run_log.index.summaries() if each["run_id"] == "r1"]
    return found.get("open_questions")


# 1
def test_a_reader_that_is_let_in_while_the_server_begins_to_drain_is_sent_away(
    lm, serve, log, qa, elsewhere, monkeypatch
):
    """The signal comes while the log is asked whether there is more."""
    app = create_app(qa, log=log)
    has_more = Runner.has_more

    async def drained_meanwhile(runner, position):
        more = await has_more(runner, position)
        app.service.drain()
        return more

    monkeypatch.setattr(Runner, "has_more", drained_meanwhile)
    with serve(app).client() as client:
        try:
            got = events_of(client, elsewhere, timeout=60)
        except httpx.ReadTimeout:
            got = "it was kept"
    assert got != "it was kept"
    assert all(each["event_type"] != "run.error" for each in got)


# 2
def test_a_drain_is_no_leaving(practice, lm, serve, log, qa):
    """A reader whose run is stopped when it leaves was sent away: its program may end by itself."""
    practice.pace = 0.01
    practice.script(Reply({"answer": WORDS}, hold_after=60))
    old, new = (serve(create_app(qa, log=log)) for _ in range(2))
    with old.client() as client:
        run = started(client)
        with client.stream("GET", run["events"] + "?stop_on_leave=1") as response:
            coming = frames(response)
            while next(coming).event["event_type"] != "token":
                pass
            old.drain()
            list(coming)
    practice.release()
    with new.client() as client:
        wait_until(lambda: status_of(client, run) != "running")
        assert status_of(client, run) == "ended"


# 3
def test_leaving_stops_a_run_of_another_process(practice, lm, serve, log, qa):
    practice.pace = 0.01
    practice.script(Reply({"answer": WORDS}, hold_after=20))
    here, there = (serve(create_app(qa, log=log)) for _ in range(2))
    with here.client() as client, there.client() as other:
        run = started(client)
        with other.stream("GET", run["events"] + "?stop_on_leave=1") as response:
            next(f for f in frames(response) if f.event["event_type"] == "token")
        try:
            wait_until(lambda: status_of(client, run) != "running")
        finally:
            practice.release()
        assert status_of(client, run) == "cancelled"


# 4
def test_questions_of_runs_that_nobody_reads_here_are_counted(log):
    """Neither the question nor its answer is in an entry with a run's first or last event."""
    scribe = Scribe().start().add(ev.Question, question_id="q", text="?")
    asked = len(scribe.events)
    scribe.text("answer", "a").add(ev.Answer, question_id="q", outcome="answered")
    scribe.text("answer", "b")

    async def listen():
        async with opened(log) as run_log:
            await run_log.indexed(60)
            assert not run_log.tail.follows_all
            writer = Writer(run_log, sink_of(run_log, log, "another's"), scribe.events)

            async def count():
                await all_is_heard(run_log, writer.sink)
                return open_questions(run_log)

            await writer.write(asked)
            counts = [await count()]
            await writer.write(100)
            counts.append(await count())
            writer.sink.stop()
            return counts

    assert run(listen()) == [1, None]


def test_an_answer_that_nobody_reads_here_closes_its_question(log):
    """Somebody read the run when it asked, and has left."""
    scribe = Scribe().start().add(ev.Question, question_id="q", text="?")
    asked = len(scribe.events)
    scribe.add(ev.Answer, question_id="q", outcome="answered")

    async def listen():
        async with opened(log) as run_log:
            await run_log.indexed(60)
            writer = Writer(run_log, sink_of(run_log, log, "another's"), scribe.events)
            with run_log.buffer("r1"):
                await writer.write(asked)
            before = open_questions(run_log)
            await writer.write(1)
            await all_is_heard(run_log, writer.sink)
            writer.sink.stop()
            return before, open_questions(run_log)

    assert run(listen()) == (1, None)


# 5
def test_a_machine_that_slept_has_lost_no_run(monkeypatch):
    """The wall clock goes on meanwhile, the processes and their reports do not."""
    index = RunIndex(lost_s=60)
    index.add(Scribe().start().events[:1])
    index.alive(["r1"])
    now = time.time
    monkeypatch.setattr(indexes.time, "time", lambda: now() + 3600)
    assert index.unattended_s("r1") < 60
    assert not index.is_lost("r1")
    assert index.is_under_way("r1")


# 6
def test_searches_that_read_a_run_at_once_count_its_text_once(monkeypatch):
    class Log:
        def __init__(self):
            self.readers, self.both = 0, asyncio.Event()

        async def history(self, position):
            self.readers += 1
            if self.readers == 2:
                self.both.set()
            await self.both.wait()
            yield items_of(events, position)

    events = Scribe().start().text("answer", *TOKENS).end().events

    async def read():
        kept, until_ = search.RunSearch(Log()), time.monotonic() + 60
        await asyncio.gather(*(kept._text({"run_id": "r1"}, until_) for _ in range(2)))
        return kept

    monkeypatch.setattr(search, "RUN_S", 60)
    kept = asyncio.run(read())
    assert kept._kept == sum(map(len, kept._texts.values())) > 0


# 7
def test_a_reader_that_is_busy_while_all_are_dismissed_leaves_as_well(log):
    """It has something in hand when the others are woken, and only then waits for news."""
    events = Scribe().start().text("answer", *TOKENS[:3], end=False).events

    async def read():
        async with opened(log) as run_log:
            writer = Writer(run_log, sink_of(run_log, log, "another's"), events)
            await writer.write(len(events))
            await all_is_heard(run_log, writer.sink)
            batches = run_log.read(Position("r1"))
            async with contextlib.aclosing(batches):
                await anext(batches)
                run_log.dismiss()
                with pytest.raises(ServerStopping):
                    await asyncio.wait_for(anext(batches), 60)
            writer.sink.stop()

    run(read())


def test_who_comes_back_after_others_were_dismissed_stays(log):
    """The buffer is the same as long as its run, or another reader, has it."""
    events = Scribe().start().text("answer", *TOKENS[:3]).end().events

    async def read():
        async with opened(log) as run_log:
            writer = Writer(run_log, sink_of(run_log, log, "another's"), events)
            with run_log.buffer("r1"):
                await writer.write(3)
                run_log.dismiss(only="r1")
                got = []

                async def read_all():
                    async for items in run_log.read(Position("r1")):
                        got.extend(items)

                reading = asyncio.create_task(read_all())
                while writer.left:
                    written = writer.written
                    await until(lambda n=written: len(got) >= n or reading.done())
                    await writer.write(1)
                await reading
            writer.sink.stop()
            return [item.event.seq for item in got]

    assert run(read()) == list(range(len(events)))


# 8
def test_a_buffer_that_begins_with_a_loss_does_not_reach_back_to_the_beginning(log):
    """A loss has no number. What the log had before it was there for whoever comes."""
    scribe = Scribe().start().text("answer", *TOKENS[:20], end=False)
    before = len(scribe.events)
    loss = ev.StreamGap(timestamp=0.0, identity=ROOT, count=1, reason="oversized")
    scribe.events.append(loss)
    scribe.add(ev.Status, message="on").add(ev.RunEnd, ROOT)

    async def read():
        async with opened(log) as run_log:
            sink = sink_of(run_log, log, "another's")
            writer = Writer(run_log, sink, scribe.events)
            await writer.write(before)
            await all_is_heard(run_log, sink)
            with run_log.buffer("r1") as buffer:
                for event in scribe.events[before:]:
                    sink.put(event)
                assert await asyncio.to_thread(sink.catch_up, 60)
                await until(lambda: buffer.ended)
                got = [items async for items in run_log.read(Position("r1"))]
            sink.stop()
            return [item.event.seq for items in got for item in items]

    expected = [event.seq for event in scribe.events]
    assert run(read()) == expected
