"""How much a sink slows a program that has a token for it every millisecond.

With the sink and with one that does nothing, in turns, pair after pair, so that both halves of a
pair are equally unlucky with what else the machine does. Printed is the median of the pairs' ratios,
and in brackets their quartiles. On a machine that does much else, only `chrt -f 10 python …` (Linux, as
root) brings the quartiles near to each other.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # no look-up over the network

import _paths as paths
from _provider import FIELDS, pieces, provider
from sample_runs import make_run

import streamll
from streamll.sinks import BaseSink, open_sink

TOKENS = 100
"""Of one half of a pair: pairs that are short are seldom disturbed."""

ANSWER = 300


class Nothing:
    """The sink that does nothing."""

    def put(self, event) -> None: ...


def of_a_sleeper(url: str, pairs: int) -> None:
    """A program that sleeps a millisecond before each token, so that all delays add up."""
    sink = open_sink(url, target=f"slow{time.monotonic_ns()}")
    events = iter(make_run("r", ["token "] * (TOKENS * (pairs + 1))))

    def work(into) -> None:
        for event in [next(events) for _ in range(TOKENS)] if into is sink else [None] * TOKENS:
            time.sleep(0.001)
            into.put(event)

    compare("slowdown at one token per ms", work, sink, pairs, TOKENS)


def of_a_program(url: str, pairs: int) -> None:
    """An instrumented DSPy program whose provider sends a token every millisecond."""
    sink, nothing = open_sink(url, target=f"slow{time.monotonic_ns()}"), Nothing()
    with provider() as address:
        programs = {
            into: streamll.instrument(
                paths.program(f"{address}/1/{ANSWER}/v1"), stream_fields=FIELDS, sinks=[into]
            )
            for into in (sink, nothing)
        }

        def work(into) -> None:
            programs[into](question=paths.QUESTION)

        compare("the same, a real program", work, sink, pairs, len(pieces(ANSWER)), nothing=nothing)


def compare(
    name: str,
    work: Callable[[object], None],
    sink: BaseSink,
    pairs: int,
    tokens: int,
    nothing: object = Nothing(),
) -> None:
    """Do ``work`` with the sink and with nothing, in turns; print what the sink cost."""
    measured(work, sink), measured(work, nothing)  # to warm up
    ratios, costs = [], []
    for number in range(pairs):
        turns = (sink, nothing) if number % 2 else (nothing, sink)
        found = {into: measured(work, into) for into in turns}
        (wall, cpu), (base, base_cpu) = found[sink], found[nothing]
        ratios.append(wall / base - 1)
        costs.append((cpu - base_cpu) / tokens * 1e6)
    sink.stop(30)
    low, half, high = statistics.quantiles(ratios, n=4)
    print(
        f"  {name:<44}{half:+.1%} ({low:+.1%} to {high:+.1%})  "
        f"{statistics.median(costs):.0f} µs CPU per token"
    )


def measured(work: Callable[[object], None], into) -> tuple[float, float]:
    """Seconds it took, and seconds of CPU until the sink was done with it as well."""
    wall, cpu = time.perf_counter(), time.process_time()
    work(into)
    wall = time.perf_counter() - wall
    if isinstance(into, BaseSink):
        into.catch_up(5)
    return wall, time.process_time() - cpu


@contextmanager
def apart(server) -> Iterator[None]:
    """This process on one core, the server on another."""
    places = [(0, 0)]  # this thread, which starts the others
    if server is not None:
        places += [
            (int(task.name), 1) for task in Path(f"/proc/{server.process.pid}/task").iterdir()
        ]
    cores = sorted(os.sched_getaffinity(0))
    for thread, core in places:
        os.sched_setaffinity(thread, {cores[core]})
    try:
        yield
    finally:
        for thread, _ in places:
            os.sched_setaffinity(thread, cores)
