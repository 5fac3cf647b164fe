"""X10: who reads without a server the run of a process that was killed is told, and comes to an end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time

import pytest
import warm

from brokers.backends import BACKENDS, backend_of, script
from brokers.raw_log import RAW_LOGS
from brokers.sample_runs import BOUND, check_order, make_run, read_log, text_of
from brokers.servers import wait_until
from streamll.brokers.send_buffer import PendingEntry
from streamll.consumer import EventConsumer
from streamll.core.errors import ConfigurationError
from streamll.core.events import Identity, StreamllEvent
from streamll.core.wire import encode_batch
from streamll.sinks import open_sink

LOST_S = 1.0
SAID = "one two "
PRODUCER = """
    for number in range({logs}):
        sink = open_sink(url, target=f"{{target}}-{{number}}")
        for event in make_run("r1", ["one ", "two "])[:5]:
            sink.put(event)
        sink.catch_up(60)
    print("said", flush=True)
    sys.stdin.read()
"""
LOGS = 10
"""In which one process was at work: a test takes one."""


@pytest.fixture(scope="module", params=BACKENDS)
def broker(request, server_of, tmp_path_factory):
    return backend_of(request.param, server_of, tmp_path_factory.mktemp("log"))


@pytest.fixture(scope="module")
def abandoned(broker):
    """Logs whose process was killed in the middle of a run in each."""
    target = broker.target()
    with warm.Popen(
        script(broker, target, PRODUCER.format(logs=LOGS)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "said\n"
        process.kill()
    return iter([f"{target}-{number}" for number in range(LOGS)])


@pytest.fixture
def backend(broker):
    return broker


@pytest.fixture
def killed(abandoned):
    """A log with a run whose process was killed while it wrote its answer."""
    return next(abandoned)


def check_lost(events, had=()):
    """Told, then closed in legal order, with the text as far as it came."""
    *_, last = events
    notices = [event for event in events if event.seq is None]
    assert notices  # several where reading is slow: events may come half a second apart
    for notice in notices:
        assert notice.event_type == "status"
        assert "silent; after 1 s it counts as lost" in notice.message
        events.remove(notice)
    check_order([*had, *events])
    assert text_of([*had, *events]) == SAID
    assert (last.event_type, last.error_type) == ("run.error", "RunLost")
    assert list(last.partial.values()) == [SAID]


async def iterate(backend, target, **options):
    consumer = EventConsumer(backend.url, target, lost_seconds=LOST_S, **options)
    return [event async for event in consumer]


@pytest.mark.parametrize("had", [0, 3, 5])
def test_a_loop_over_the_run_ends(backend, killed, had):
    start = ("r1", had - 1)
    events = asyncio.run(asyncio.wait_for(iterate(backend, killed, start=start), BOUND))
    check_lost(events, make_run("r1", ["one ", "two "])[:had])


def test_handlers_are_told_and_the_log_is_as_it_was(backend, killed):
    """Of every run of the log, once that is asked for; the other runs go on."""
    consumer = EventConsumer(backend.url, killed, start="beginning", lost_seconds=LOST_S)
    told, ended = [], []
    consumer.on("*", told.append)
    consumer.on("run.*", ended.append)
    sink = open_sink(backend.url, target=killed)
    sink.put(StreamllEvent(event_type="server.chat", identity=Identity(run_id="chat-1")))
    assert sink.catch_up(BOUND)
    consumer.start()
    wait_until(lambda: [e.event_type for e in ended][-1:] == ["run.error"], BOUND, "it is closed")
    assert sink.stop(BOUND)
    with contextlib.closing(sink._connect()) as transport:  # whole, so that none of it is late
        run = make_run("r2", ["x"])
        transport.send([PendingEntry.of(run, encode_batch(run)[0])])
    wait_until(lambda: ended[-1].event_type == "run.end", BOUND, "the other run")
    assert consumer.stop(BOUND)
    assert [event.run_id for event in ended] == ["r1", "r1", "r2", "r2"]  # and no chat
    check_lost([event for event in told if event.run_id == "r1"])
    kept = read_log(backend.url, killed, lambda events: events[-1].event_type == "run.end")
    assert [event.seq for event in kept if event.run_id == "r1"] == [0, 1, 2, 3, 4]


def test_tail_of_the_run_ends(backend, killed):
    command = ["tail", backend.url, "--target", killed, "--run", "r1", "--lost-seconds", "1"]
    done = warm.run(
        [sys.executable, "-m", "streamll", *command, "--json"],
        capture_output=True, text=True, timeout=5 * BOUND, check=True,
    )  # fmt: skip
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert (told[-1]["event_type"], told[-1]["error_type"]) == ("run.error", "RunLost")


def test_a_silent_run_that_its_process_reports_is_not_lost(backend, abandoned):
    """As ``streamll serve`` does, which may run a slow tool. Its end is what ends its readers.

    Where the machine is so busy that a report is late, the run is rightly found silent: such a machine
    gets another chance.
    """
    for _ in range(3):
        events = events_of_a_reported_run(backend, next(abandoned))
        if all(event.seq is not None for event in events):
            break
    check_order(events)
    assert [event.seq for event in events] == list(range(8))
    assert events[-1].event_type == "run.end"


def events_of_a_reported_run(backend, killed) -> list:
    lost_s = 8 * LOST_S  # a report that is half of that old is none, and it may be late
    consumer = EventConsumer(backend.url, killed, start=("r1", -1), lost_seconds=lost_s)
    sink = open_sink(backend.url, target=killed)
    began, events = time.monotonic(), []

    async def report():
        while time.monotonic() - began < 1.25 * lost_s:
            data = {"runs": ["r1"]}
            now = time.time()
            sink.put(StreamllEvent(event_type="server.alive", data=data, timestamp=now))
            await asyncio.sleep(0.1)
        for event in make_run("r1", ["one ", "two "])[5:]:
            sink.put(event)

    async def main():
        reporting = asyncio.create_task(report())
        async for event in consumer:
            events.append(event)
        await reporting

    asyncio.run(asyncio.wait_for(main(), BOUND))
    assert sink.stop(BOUND)
    return events


def test_a_reader_of_a_run_that_the_log_has_nothing_of_any_more_ends(backend, killed):
    if backend.name == "rabbitmq":
        position, target = ("never-there", 7), killed  # it cannot be asked to trim so little
    else:
        RAW_LOGS[backend.name](backend.url).trim(killed, 5)
        position, target = ("r1", 2), killed
    [_, last] = asyncio.run(asyncio.wait_for(iterate(backend, target, start=position), BOUND))
    assert (last.error_type, last.seq) == ("RunLost", position[1] + 1)


def test_what_cannot_be_asked_for_is_refused(backend):
    for options, said in (
        ({"lost_seconds": 0}, "greater than 0"),
        ({"lost_seconds": 5, "group": "g"}, "leave out lost_seconds"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            EventConsumer(backend.url, **options)
