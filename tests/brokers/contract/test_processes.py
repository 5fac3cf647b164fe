"""Producers and consumers in processes of their own, which exit, fork or are killed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
import traceback

import pytest
import warm

from brokers.backends import script
from brokers.sample_runs import BOUND, by_run, check_order, ends, make_run, read_log, text_of
from streamll.core.events import Status
from streamll.sinks import open_sink


def test_process_exit_flushes_its_sinks(backend):
    """X10: without a call of stop()."""
    target = backend.target()
    body = """
        from streamll.sinks import base
        base.EXIT_SECONDS = 60  # a busy broker may take more than ten to make a log
        sink = open_sink(url, target=target)
        for event in make_run("r1", [f"w{i} " for i in range(500)]):
            sink.put(event)
    """
    warm.run(script(backend, target, body), check=True, timeout=2 * BOUND)
    read = read_log(backend.url, target, ends(1))
    check_order(read)
    assert text_of(read) == "".join(f"w{i} " for i in range(500))


def test_events_confirmed_before_a_kill_are_read(backend):
    """X10: kill -9 in the middle; everything its sink had counted as handled is in the log."""
    target = backend.target()
    body = """
        from streamll.brokers import open_runs
        open_runs.CHECK_S = 3600  # what is handled are these runs' events, without reports of them
        # Room for all: a busy broker takes some time to make a log, and what waits is not to merge.
        sink = open_sink(url, target=target, buffer_size=20_000)
        runs = [make_run(f"r{n}", [f"{n}.{i} " for i in range(2000)]) for n in range(5)]
        def play(run):
            for event in run:
                sink.put(event)
                time.sleep(0.001)
        for run in runs:
            threading.Thread(target=play, args=(run,), daemon=True).start()
        while True:
            print(sink.statistics().handled, flush=True)
            time.sleep(0.01)
    """
    process = warm.Popen(script(backend, target, body), stdout=subprocess.PIPE, text=True)
    confirmed = 0
    for line in process.stdout:
        confirmed = int(line)
        if confirmed > 500:
            break
    process.kill()
    confirmed = max([confirmed, *map(int, process.stdout.read().split("\n")[:-1])])
    process.wait(60)
    process.stdout.close()
    read = read_log(backend.url, target, lambda events: len(events) >= confirmed)
    check_holes = by_run(read)
    for run_id, events in check_holes.items():
        assert [event.seq for event in events] == list(range(len(events))), run_id
    assert len(read) >= confirmed


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_and_its_parent_each_deliver_their_own_events(backend):
    """D: prefork servers make the sink before they fork."""
    target = backend.target()
    sink = open_sink(backend.url, target=target)
    for event in make_run("before", ["a"]):
        sink.put(event)
    assert sink.catch_up(BOUND)
    pid = os.fork()
    if pid == 0:
        try:
            for event in make_run("child", ["b"] * 50):
                sink.put(event)
            done = sink.stop(60)
            os._exit(0 if done and sink.statistics().handled == 56 else 1)
        except BaseException:
            traceback.print_exc()
            os._exit(2)
    for event in make_run("parent", ["c"] * 50):
        sink.put(event)
    assert sink.stop(BOUND)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    read = read_log(backend.url, target, ends(3))
    check_order(read)
    assert {run: text_of(events) for run, events in by_run(read).items()} == {
        "before": "a",
        "child": "b" * 50,
        "parent": "c" * 50,
    }


def test_a_consumer_finishes_its_work_on_sigterm(backend):
    """D4: what it has begun is handled and acknowledged; then it ends with 0."""
    target = backend.target()
    body = """
        consumer = EventConsumer(url, target, group="g", start="beginning")
        @consumer.on("token")
        def handle(event):
            print("begun", flush=True)
            time.sleep(0.5)
            print("done", flush=True)
        consumer.run_sync()
        print(consumer.statistics().handled)
    """
    process = warm.Popen(script(backend, target, body), stdout=subprocess.PIPE, text=True)
    sink = open_sink(backend.url, target=target)
    for event in make_run("r0", ["a"])[:4]:
        sink.put(event)
    assert sink.stop(BOUND)
    assert process.stdout.readline() == "begun\n"
    process.terminate()
    output, _ = process.communicate(timeout=BOUND)
    assert process.returncode == 0
    assert output == "done\n4\n"


def test_event_loops_and_threads_put_into_one_sink(backend):
    """A9: from tasks of an event loop and from plain threads, at the same time."""
    target = backend.target()
    sink = open_sink(backend.url, target=target, buffer_size=50_000)

    async def main():
        async def task(n):
            for i in range(50):
                sink.put(Status(message=f"task {n} {i}"))
                await asyncio.sleep(0)

        await asyncio.gather(*(task(n) for n in range(10)))

    def plain(n):
        for i in range(50):
            sink.put(Status(message=f"thread {n} {i}"))

    threads = [threading.Thread(target=plain, args=(n,)) for n in range(10)]
    for thread in threads:
        thread.start()
    asyncio.run(main())
    for thread in threads:
        thread.join(BOUND)
    assert sink.stop(BOUND)
    read = read_log(backend.url, target, lambda events: len(events) == 1000)
    for who in ("task", "thread"):
        for n in range(10):
            own = [event.message for event in read if event.message.startswith(f"{who} {n} ")]
            assert own == [f"{who} {n} {i}" for i in range(50)]
