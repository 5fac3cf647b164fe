"""Puts events while something goes wrong, reads them in the background, and checks what arrived."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from profiles import THOROUGH

from brokers.sample_runs import BOUND, by_run, check_order, make_run, text_of
from brokers.servers import wait_until
from streamll.consumer import EventConsumer
from streamll.core.errors import BrokerError
from streamll.core.events import Event, StreamGap
from streamll.sinks import open_sink

TOKENS, PACE_S = (150, 0.01) if THOROUGH else (75, 0.02)
"""Of a paced run: it takes as long with fewer events."""


class BackgroundReader:
    """A consumer that reads a log on a thread, whatever happens to the broker."""

    def __init__(self, url: str, target: str, **options) -> None:
        self.events = []
        self.ended = 0
        self.consumer = EventConsumer(url, target, start="beginning", **options)
        self.consumer.subscribe(self._note)
        self.consumer.start()

    def _note(self, event) -> None:
        self.events.append(event)
        self.ended += event.event_type == "run.end"

    def wait_for_ends(self, count: int) -> None:
        wait_until(lambda: self.ended >= count, BOUND, f"{count} runs have been read")

    def stop(self) -> None:
        assert self.consumer.stop(BOUND)


def paced_runs(
    sink,
    count: int = 20,
    tokens: int = TOKENS,
    pace: float = PACE_S,
    until: threading.Event | None = None,
) -> list[list]:
    """Put ``count`` concurrent runs, each on its thread, a token every ``pace`` seconds.

    The median run spends next to no time in ``put``, whatever happens to the broker: the sink's
    thread, which the first ``put`` would begin, is there before. The runs have
    so many tokens, or more where ``until`` is not set by then: it has to happen in their middle.
    """
    runs = [make_run(f"r{n}", [f"{n}.{i} " for i in range(tokens)]) for n in range(count)]

    def play(run) -> float:
        inside, first = 0.0, time.perf_counter()
        for event in run if until is None else _prolonged(run, until):
            began = time.perf_counter()
            sink.put(event)
            inside += time.perf_counter() - began
            time.sleep(pace)
        return inside / (time.perf_counter() - first)

    sink.start()
    with ThreadPoolExecutor(count) as pool:
        shares = list(pool.map(play, runs))
    assert statistics.median(shares) < 0.5
    return runs


def _prolonged(run: list[Event], until: threading.Event) -> Iterator[Event]:
    """The run's events. Before the last three it gets further tokens until that is set."""
    *begun, end_of_field, end_of_module, end = run
    yield from begun
    token, deadline = begun[-1], time.monotonic() + BOUND
    while (
        not until.wait(0.2) and time.monotonic() < deadline
    ):  # seldom: the fault needs the machine
        token = msgspec.structs.replace(
            token,
            seq=token.seq + 1,
            token_index=token.token_index + 1,
            offset=token.offset + len(token.token),
        )
        begun.append(token)
        yield token
    length = token.offset + len(token.token)
    last = [msgspec.structs.replace(end_of_field, length=length), end_of_module, end]
    run[:] = [
        *begun,
        *(msgspec.structs.replace(each, seq=len(begun) + n) for n, each in enumerate(last)),
    ]
    yield from run[-3:]


def in_the_middle(*sinks) -> None:
    """Wait until runs are under way: the log has something of them, and by far not all."""
    wait_until(lambda: all(sink.statistics().handled > 100 for sink in sinks), BOUND, "runs begin")


@contextlib.contextmanager
def in_background(work):
    """Run ``work`` on a thread beside the block; both are over at the end.

    Gives the block an event that is set once the work is over.
    """
    over = threading.Event()

    def run() -> None:
        try:
            work()
        finally:
            over.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield over
    thread.join(BOUND)
    assert not thread.is_alive()


def check_complete(read, runs) -> None:
    check_order(read)
    found = by_run(read)
    assert found.keys() == {run[0].run_id for run in runs}
    for run in runs:
        assert text_of(found[run[0].run_id]) == text_of(run)
    assert not [event for event in read if isinstance(event, StreamGap)]


def check_nothing_lost(sink) -> None:
    counts = sink.statistics()
    assert (counts.dropped, counts.failed, counts.buffered) == (0, 0, 0)
    assert counts.handled + counts.merged == counts.received


def fatal_consumer_error(url: str, target: str | None = None) -> str:
    """The message of the error that ends a consumer whose first connection cannot succeed."""
    with pytest.raises(BrokerError) as caught:
        asyncio.run(asyncio.wait_for(EventConsumer(url, target).run(), BOUND))
    return str(caught.value)


def consumer_warning(url: str, caplog) -> str:
    """What a consumer logs that keeps retrying."""
    caplog.clear()
    consumer = EventConsumer(url)
    consumer.start()
    wait_until(lambda: "cannot be read" in caplog.text, BOUND, "a warning")
    assert consumer.stop(BOUND)
    return caplog.text


def sink_warning(url: str, caplog) -> str:
    """The one warning of a sink that cannot deliver; it keeps its events."""
    caplog.clear()
    sink = open_sink(url)
    for event in make_run("r1", ["a"]):
        sink.put(event)
    wait_until(lambda: sink.statistics().failures >= 2, BOUND, "it has been refused twice")
    # For a moment what its thread has just taken is counted nowhere, or twice.
    wait_until(lambda: sink.statistics().buffered == 7, BOUND, "it keeps all of them")
    discard_backlog(sink)
    [warning] = [r.getMessage() for r in caplog.records if "cannot deliver" in r.getMessage()]
    loggers = {record.name for record in caplog.records}  # asyncio may tell of earlier tests
    assert loggers - {"asyncio"} == {"streamll"}, "no library logs by itself"
    return warning


class NullTransport:
    """A connection that accepts everything and delivers nothing."""

    def send(self, entries) -> None: ...

    def close(self) -> None: ...


def discard_backlog(sink) -> None:
    """Make a sink drop what it cannot deliver: the end of the test session would wait for it."""
    sink._connect = NullTransport
    # Where the broker refused, ``stop`` waits for nothing until that has been tried.
    wait_until(lambda: not sink.statistics().left, BOUND, "the events are gone")
    assert sink.stop(BOUND)
