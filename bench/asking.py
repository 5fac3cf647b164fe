"""What runs cost that wait for an answer, and how soon an answer is there.

    python bench/asking.py [sqlite redis rabbitmq] [--runs 500] [--seconds 5] [--answers 50]

Waiting: so many runs of one process, async and then sync, each read by a stream: the memory of each, the
threads of all, and the process's CPU while nobody answers. "once" is the first of them, with all that it imports
and DSPy's own call.

Answers: a program asks through a log, one question after the other, and a consumer in a process of its own
answers with the time at which it does. The figure is from there to the program's next line.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import dspy
from idle import log_in

import streamll
from streamll.sinks import open_sink

ANSWERER = """
import sys, time
from streamll.consumer import EventConsumer

consumer = EventConsumer(sys.argv[1])
consumer.on("question", lambda event: consumer.answer(event, time.time()))
consumer.start()
consumer.wait_connected(60)
print("ready", flush=True)
sys.stdin.readline()
consumer.stop()
"""


class Asks(dspy.Module):
    def forward(self, questions: int = 1) -> list[float]:
        found = []
        for _ in range(questions):
            sent = streamll.ask("When?", schema=float)
            found.append(time.time() - sent)
        return found


class AsksAsync(dspy.Module):
    async def aforward(self) -> float:
        return await streamll.ask_async("When?", schema=float)


def resident_kb() -> int:
    gc.collect()
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


class Measured:
    """Memory, threads and CPU of this process while runs wait in it."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._threads = threading.active_count()
        self._memory = self._first = 0

    def begin(self) -> None:
        """The first run waits."""
        self._first = resident_kb()

    def end(self, runs: int, seconds: float) -> None:
        """All of them wait."""
        each = (resident_kb() - self._first) / (runs - 1)
        threads = threading.active_count() - self._threads
        before, began = time.process_time(), time.monotonic()
        time.sleep(seconds)
        cpu = 100 * (time.process_time() - before) / (time.monotonic() - began)
        print(
            f"{runs} waiting, {self._what:<6}{each:8.1f} KB each{threads:6} threads{cpu:8.2f} % CPU",
            flush=True,
        )


async def wait_async(runs: int, seconds: float) -> None:
    measured, asked = Measured("async"), []
    async with AsyncExitStack() as opened:
        for _ in range(runs):
            events = await opened.enter_async_context(streamll.stream(AsksAsync())())
            while (event := await anext(events)).event_type != "question":
                pass
            asked.append((events, event))
            if len(asked) == 1:
                measured.begin()
        measured.end(runs, seconds)
        for events, question in asked:
            events.answer(question, 1.0)
            await events.result()


def wait_sync(runs: int, seconds: float) -> None:
    measured, asked = Measured("sync"), []
    with ExitStack() as opened:
        for _ in range(runs):
            events = opened.enter_context(streamll.stream(Asks())())
            while (event := next(events)).event_type != "question":
                pass
            asked.append((events, event))
            if len(asked) == 1:
                measured.begin()
        measured.end(runs, seconds)
        for events, question in asked:
            events.answer(question, 1.0)
            events.result()


def answers_through(broker: str, log: str, answers: int) -> None:
    sink = open_sink(log)
    command = [sys.executable, "-c", ANSWERER, log]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert process.stdout is not None
    process.stdout.readline()
    with streamll.stream(Asks(), sinks=[sink], read=False)(questions=answers + 3) as run:
        found = sorted(run.result()[3:])  # the first connect
    process.communicate("\n", timeout=60)
    sink.stop()
    late = found[int(0.9 * len(found))]
    print(
        f"answers through {broker:<10} median {1000 * statistics.median(found):6.1f} ms, "
        f"p90 {1000 * late:6.1f}, at most {1000 * found[-1]:6.1f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    brokers = ("sqlite", "redis", "rabbitmq")
    parser.add_argument("brokers", nargs="*", default=brokers, metavar="BROKER")
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--answers", type=int, default=50)
    options = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}")
    asyncio.run(wait_async(options.runs, options.seconds))
    wait_sync(options.runs, options.seconds)
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    with tempfile.TemporaryDirectory() as folder:
        for broker in options.brokers:
            own = Path(folder, broker)
            own.mkdir()
            with log_in(broker, str(own)) as log:
                answers_through(broker, log, options.answers)


if __name__ == "__main__":
    main()
