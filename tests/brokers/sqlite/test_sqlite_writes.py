"""A reader of an SQLite log sleeps while nothing is written, and is woken by any process that writes."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
import time

import pytest
import warm

from streamll.brokers.opening import open_source
from streamll.brokers.source import SourceOptions
from streamll.brokers.sqlite.source import BUSY_S, POLL_S, POLLS_PER_QUIET, QUIET_POLL_S
from streamll.core.events import Status
from streamll.core.wire import decode_batch
from streamll.sinks import open_sink

WRITER = """
import sys
from streamll.core.events import Status
from streamll.sinks import open_sink
sink = open_sink(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
sink.put(Status(message="news"))
assert sink.stop(60)
"""


@pytest.fixture
def url(tmp_path):
    url = f"sqlite:///{tmp_path}/log.db"
    sink = open_sink(url)
    sink.put(Status(message="old"))
    assert sink.stop(60)
    return url


def source_of(url, seconds):
    return open_source(url, SourceOptions(target="streamll:events", read_timeout=seconds))


@pytest.fixture(params=["hears", "looks"])
def hearing(request, monkeypatch):
    """Whether writes can be heard of, as only Linux tells of them."""
    if request.param == "looks":
        monkeypatch.setattr(sys, "platform", "other")
    yield request.param
    monkeypatch.undo()


def test_an_idle_reader_hardly_looks(url, hearing):
    seconds = (5 if hearing == "hears" else 15) * BUSY_S

    async def read():
        source = source_of(url, seconds)
        await source.connect()
        looked = []
        source._connection.set_trace_callback(looked.append)
        assert await source.read() == []
        await source.close()
        return len(looked)

    allowed = 1.5 * BUSY_S / POLL_S
    if hearing == "looks":
        allowed += POLLS_PER_QUIET * math.log(QUIET_POLL_S / POLL_S) + seconds / QUIET_POLL_S
    assert asyncio.run(read()) < allowed < 0.4 * seconds / POLL_S


def test_a_write_of_another_process_wakes_it(url, hearing):
    async def read(writer):
        source = source_of(url, 600.0)
        await source.connect()
        source._busy_until -= 60.0  # as after a while without writes
        reading = asyncio.create_task(source.read())
        await asyncio.sleep(0)
        assert not reading.done()
        writer.stdin.write("\n")
        writer.stdin.flush()
        [entry] = await asyncio.wait_for(reading, 60)
        await source.close()
        return decode_batch(entry.body)

    with warm.Popen(
        [sys.executable, "-c", WRITER, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdout.readline()
        [event] = asyncio.run(read(writer))
    assert event.message == "news"


def test_claims_of_others_are_taken_when_they_are_due(url):
    """Nothing is written when a claim expires."""
    options = {"target": "streamll:events", "start": "beginning", "group": "g", "claim_after": 1.0}

    async def read():
        first, second = (
            open_source(url, SourceOptions(member=member, read_timeout=600.0, **options))
            for member in "ab"
        )
        await first.connect()
        await second.connect()
        taken = await first.read()
        again = await asyncio.wait_for(second.read(), 60)
        await first.close()
        await second.close()
        return [each.deliveries for each in (*taken, *again)]

    begun = time.monotonic()
    assert asyncio.run(read()) == [1, 2]
    assert time.monotonic() - begun >= 1.0
