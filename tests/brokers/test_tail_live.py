"""``streamll tail`` in a process of its own prints events as they are published."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
import warm
from patience import Stopwatch

from brokers.sample_runs import BOUND, make_run
from streamll.core.events import Status
from streamll.sinks import open_sink

EVENTS = 30


@contextmanager
def tail(*arguments: str):
    """The command's output, line by line; at the end it gets Ctrl-C and ends well."""
    with warm.Popen(
        [sys.executable, "-m", "streamll", "tail", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process.stdout
        finally:
            process.send_signal(2)
            _, errors = process.communicate(timeout=BOUND)
        assert process.returncode in (0, 130)
        assert errors == ""


def latencies(output, sink) -> list[float]:
    """Seconds from ``put`` to the printed line, per event."""
    took = []
    for n in range(EVENTS):
        time.sleep(0.02)
        watch = Stopwatch()
        sink.put(Status(message=f"event {n}"))
        assert f"event {n}" in output.readline()
        took.append(watch.seconds)
    return took


@pytest.mark.parametrize("form", ["text", "json"])
def test_tail_prints_an_event_within_milliseconds(backend, form, capsys):
    sink = open_sink(backend.url, target=backend.target())
    sink.put(Status(message="the log is there"))
    assert sink.catch_up(BOUND)
    where = [backend.patient_url, "--target", name_of(sink), "--from", "beginning"]
    with tail(*where, *(["--json"] if form == "json" else [])) as output:
        assert "the log is there" in output.readline()
        took = latencies(output, sink)
    assert sink.stop(BOUND)
    with capsys.disabled():
        print(f"\ntail of {backend.name}, {form}: p50 {statistics.median(took) * 1000:.1f} ms")
    assert statistics.median(took) < 1.0


def test_tail_from_now_skips_earlier_events_and_filters(backend):
    """--from new is the default; --type takes globs, --where a value in an event's data."""
    sink = open_sink(backend.url, target=backend.target())
    for event in make_run("old", ["x"], {"tenant": "acme"}):
        sink.put(event)
    assert sink.catch_up(BOUND)
    where = ["--target", name_of(sink), "--type", "tok*", "--type", "run.*"]
    with tail(backend.patient_url, *where, "--where", "tenant=acme", "--json") as output:
        number, deadline, listens = 0, time.monotonic() + BOUND, False
        while not listens:  # it is not known from outside when it has begun to
            assert time.monotonic() < deadline
            listens = ready(output, 0.3)
            number += 1  # after it has begun, too: that may have been in the middle of a run
            for tenant in ("other", "acme"):
                for event in make_run(f"{tenant}{number}", ["a"], {"tenant": tenant}):
                    sink.put(event)
        lines = [json.loads(output.readline())]
        while lines[0]["event_type"] != "run.start":
            lines = [json.loads(output.readline())]
        lines += [json.loads(output.readline()) for _ in range(2)]
    assert sink.stop(BOUND)
    assert [line["event_type"] for line in lines] == ["run.start", "token", "run.end"]
    assert {line["context"]["tenant"] for line in lines} == {"acme"}
    assert lines[0]["run_id"] != "old"


def ready(output, seconds: float) -> bool:
    import select

    return bool(select.select([output], [], [], seconds)[0])


def name_of(sink) -> str:
    return getattr(sink, "target", None) or getattr(sink, "stream_key", None) or sink.exchange
