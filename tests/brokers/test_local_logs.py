"""What the contract asks of logs, asked of the sinks that keep events on this machine."""

from __future__ import annotations

import threading

import pytest

from brokers.runs import BOUND, by_run, check_order, make_run, plain, text_of
from streamll.sinks import JSONLSink, MemorySink, read_jsonl


@pytest.fixture(params=["memory", "jsonl"])
def log(request, tmp_path):
    """A sink, and a function that stops it and gives what it kept."""
    if request.param == "memory":
        sink = MemorySink()
        return sink, lambda: list(sink.events)
    sink = JSONLSink(tmp_path / "events.jsonl", buffer_size=200_000)

    def kept():
        assert sink.stop(BOUND)
        return list(read_jsonl(tmp_path / "events.jsonl"))

    return sink, kept


def test_runs_come_back_as_they_were(log):
    """X10: unicode, context, and an event of one MiB."""
    sink, kept = log
    runs = [
        make_run("r1", ["こんに", "ちは", " \U0001f44b", "\n\u2028"], {"conversation_id": "c1"}),
        make_run("r2", ["a", "é" * 2**19, "b"]),
    ]
    for run in runs:
        for event in run:
            sink.put(event)
    assert [plain(event) for event in kept()] == [plain(event) for run in runs for event in run]


def test_a_hundred_thousand_events_of_ten_threads(log):
    """X10: none is lost, none comes twice; the order is each run's."""
    sink, kept = log
    runs = [make_run(f"r{n}", [f"{n}.{i} " for i in range(9_994)]) for n in range(10)]

    def play(run):
        for event in run:
            sink.put(event)

    threads = [threading.Thread(target=play, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND)
    events = kept()
    assert len(events) == 100_000
    check_order(events)
    for run_id, found in by_run(events).items():
        assert text_of(found) == text_of(runs[int(run_id[1:])])
