"""A8: the guide's block subscribes, and never says ``run``."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest
import warm

from brokers.sample_runs import BOUND, check_order, make_run
from brokers.servers import wait_until
from streamll.consumer import EventConsumer
from streamll.sinks import open_sink

THREAD_NAME = "streamll-consumer"
BLOCK = """
from streamll.consumer import EventConsumer
consumer = EventConsumer({url!r})
consumer.{how}(print)
"""


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/log.db"


def write(url, *runs):
    sink = open_sink(url)
    for run in runs:
        for event in run:
            sink.put(event)
    assert sink.stop(BOUND)


def test_it_begins_on_a_thread_by_itself(url):
    write(url, make_run("r1", ["a"]))
    consumer, seen = EventConsumer(url, start="beginning"), []
    consumer.subscribe(seen.append)
    wait_until(lambda: len(seen) == 7, BOUND, "it has begun")
    assert consumer.stop(BOUND)


def test_it_begins_on_the_loop_of_its_handlers(url):
    """Where the guide's handler has its WebSocket; a consumer that a function made and left."""
    write(url, make_run("r1", ["a"]))
    loops, all_of_them = set(), asyncio.Event

    async def main():
        seen, done = [], all_of_them()

        async def handle(event):
            loops.add(asyncio.get_running_loop())
            seen.append(event)
            if len(seen) == 7:
                done.set()

        def set_up():
            EventConsumer(url, start="beginning").subscribe(handle)

        set_up()
        await asyncio.wait_for(done.wait(), BOUND)
        check_order(seen)
        assert loops == {asyncio.get_running_loop()}

    asyncio.run(main())


@pytest.mark.parametrize("on_loop", [True, False])
def test_whoever_runs_it_takes_over(url, on_loop):
    """Late, and each event is handled once."""
    write(url, make_run("r1", ["a"]))
    consumer, seen = EventConsumer(url, start="beginning"), []

    async def heard(count):
        await asyncio.to_thread(wait_until, lambda: len(seen) >= count, BOUND, f"event {count}")

    async def main():
        if on_loop:
            consumer.subscribe(seen.append)
        await heard(7)
        running = asyncio.create_task(consumer.run())
        await asyncio.to_thread(write, url, make_run("r2", ["b"]))
        await heard(14)
        consumer.stop_soon()
        await asyncio.wait_for(running, BOUND)

    if not on_loop:
        consumer.subscribe(seen.append)
    asyncio.run(main())
    check_order(seen)
    assert len(seen) == 14


def test_one_that_is_run_at_once_does_not_begin_by_itself(url, new_threads):
    write(url, make_run("r1", ["a"]))
    consumer, seen = EventConsumer(url, start="beginning"), []
    consumer.subscribe(seen.append)
    consumer.start()
    wait_until(lambda: len(seen) == 7, BOUND, "all events")
    assert len(new_threads(THREAD_NAME)) == 1
    assert consumer.stop(BOUND)


@pytest.fixture
def at_once(monkeypatch):
    """Nothing is left for ``start`` or ``run`` to come first, and threads take turns all the time."""
    monkeypatch.setattr("streamll.consumer.self_start.SELF_START_S", 0.0)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


TIMES = 40


def test_it_begins_once_whoever_comes_first(url, at_once, new_threads):
    """By itself, or by ``start`` at the same time: one thread, so that handlers get each event once."""
    write(url, make_run("r1", ["a"]))
    consumers, all_seen = [], []
    for _ in range(TIMES):
        seen = []
        consumer = EventConsumer(url, start="beginning")
        consumer.subscribe(seen.append)
        consumer.start()
        consumers.append(consumer)
        all_seen.append(seen)
    wait_until(lambda: all(len(seen) >= 7 for seen in all_seen), 4 * BOUND, "all events")
    for consumer in consumers:
        consumer.stop_soon()
    assert all(consumer.stop(BOUND) for consumer in consumers)
    assert new_threads(THREAD_NAME) == []
    for seen in all_seen:
        check_order(seen)


def test_what_is_stopped_at_once_does_not_begin(url, at_once, new_threads):
    """However the stop and the beginning by itself meet, nothing is read afterwards."""
    consumers, seen = [], []
    for _ in range(TIMES):
        consumer = EventConsumer(url, start="beginning")
        consumer.subscribe(seen.append)
        consumers.append(consumer)
        assert consumer.stop(BOUND)
    wait_until(
        lambda: not any(isinstance(each, threading.Timer) for each in threading.enumerate()),
        BOUND,
        "all have been about to begin",
    )
    write(url, make_run("r1", ["a"]))
    assert new_threads(THREAD_NAME) == []
    assert not any(consumer.statistics().received for consumer in consumers)
    assert seen == []


def test_none_begins_by_itself_when_the_program_has_ended(url):
    """Nothing can be read then; what is written at exit may take a while."""
    before = "from streamll.consumer import self_start; self_start.SELF_START_S = 5"
    more = (
        "import atexit, threading\n"
        "timers = [each for each in threading.enumerate() if isinstance(each, threading.Timer)]\n"
        "assert timers\n"
        "atexit.register(lambda timers=timers: [each.join(60) for each in timers])\n"
    )
    done = warm.run(
        [sys.executable, "-c", f"{before}{BLOCK.format(url=url, how='subscribe')}{more}"],
        capture_output=True, timeout=BOUND, text=True, check=True,
    )  # fmt: skip
    assert "was never started" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("how", ["subscribe", "on"])
@pytest.mark.parametrize(
    "more", ["", "consumer.start(); consumer.wait_connected(60); consumer.stop(60)"]
)
def test_a_program_that_ends_before_is_told_what_is_missing(url, how, more):
    at_leisure = "from streamll.consumer import self_start; self_start.SELF_START_S = 60"
    block = BLOCK.format(url=url, how=how if how == "subscribe" else "on('*')")
    script = f"{at_leisure}\n{block}{more}"
    done = warm.run(
        [sys.executable, "-c", script], capture_output=True, timeout=BOUND, text=True, check=True
    )
    assert ("was never started: `await consumer.run()`" in done.stderr) is (not more)
    assert done.stderr.count("\n") == (not more)


def test_a_failure_of_one_that_began_by_itself_is_logged(tmp_path, caplog):
    (tmp_path / "log.db").write_text("this is no database, and long enough to be looked at" * 9)
    EventConsumer(f"sqlite:///{tmp_path}/log.db").subscribe(print)
    wait_until(lambda: "ended: " in caplog.text, BOUND, "it is reported")
    assert "is no log" in caplog.text
