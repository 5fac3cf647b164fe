"""Failing brokers and networks, with real servers: accepted events are neither lost nor duplicated.

Each test counts: every event that a sink accepted and did not report as dropped is read, once after
de-duplication, in order per run. The programs that put events in_background notice nothing.
SQLite, which is no server, has ``test_sqlite_faults.py``; what a full sink does, on every log, is in
``test_overflow.py``.
"""

from __future__ import annotations

import functools
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from profiles import THOROUGH

from brokers.backends import COMPATIBLE_BACKENDS, backend_of
from brokers.blockable import shorten_timeouts, through
from brokers.load import (
    BackgroundReader,
    check_complete,
    check_nothing_lost,
    in_background,
    in_the_middle,
    paced_runs,
)
from brokers.sample_runs import BOUND, by_run, check_order, make_run, text_of
from brokers.servers import (
    NEWER_RABBITMQ,
    RabbitMQServer,
    RedisServer,
    Unavailable,
    Wire,
    redis_binary,
    valkey_binary,
    wait_until,
)
from streamll.core.events import Status
from streamll.sinks import open_sink

RUNS = 20
BROKERS = ["redis", *COMPATIBLE_BACKENDS, "rabbitmq"]


@pytest.fixture
def patient_brokers():
    """Not here: what is away is given up and tried again as soon as for users."""


@pytest.fixture(scope="module", params=BROKERS)
def kept(request, tmp_path_factory):
    """A broker of these tests' own, which persists what it confirms. The first test starts it: each
    start takes a RabbitMQ seconds of CPU.
    """

    def make():
        folder = tmp_path_factory.mktemp("kept")
        if request.param == "rabbitmq":
            return RabbitMQServer(folder)
        if request.param == "rabbitmq-newer":
            return RabbitMQServer(folder, root=NEWER_RABBITMQ)
        binary = redis_binary() if request.param == "redis" else valkey_binary()
        return RedisServer(folder, binary)

    try:
        server = make()
    except Unavailable as problem:
        pytest.skip(str(problem))
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def first_stream(kept):
    """To be called once the server runs; it may be killed then."""

    @functools.cache
    def make() -> None:
        if isinstance(kept, RabbitMQServer):
            # RabbitMQ 3.10 does not find its very first stream again if it is killed right after
            # making it (seen at 0.6 s); some seconds later it does.
            first = open_sink(kept.url, target="first")
            first.put(Status(message="the first stream of this node"))
            assert first.stop(BOUND)
            time.sleep(7)

    return make


@pytest.fixture
def server(kept, first_stream):
    if kept.process is None:
        kept.start()
    first_stream()
    return kept


@pytest.fixture(params=BROKERS)
def backend(request, server_of, tmp_path):
    """The broker of all tests, where only the way to it is disturbed."""
    return backend_of(request.param, server_of, tmp_path)


def test_a_broker_that_starts_later_gets_everything(kept, caplog):
    """X10: down from the start; the sink logs it once, and stop() waits for the broker."""
    kept.kill()
    # One that has started and is slow has not failed once more.
    patient = "heartbeat=60" if isinstance(kept, RabbitMQServer) else "socket_timeout=60"
    url = f"{kept.url}?{patient}"
    sink = open_sink(url, target="late")
    reader = BackgroundReader(url, "late")
    runs = paced_runs(sink, count=5, tokens=20)
    assert sink.statistics().buffered > 0
    with in_background(lambda: (time.sleep(0.5), kept.start())):
        assert sink.stop(5 * BOUND)  # a RabbitMQ on a busy machine takes a minute to start
    reader.wait_for_ends(5)
    reader.stop()
    check_complete(reader.events, runs)
    check_nothing_lost(sink)
    for who in ("cannot deliver", "cannot be read"):
        assert len([r for r in caplog.records if who in r.getMessage()]) == 1
    assert {record.name for record in caplog.records} <= {"streamll", "asyncio"}


def test_killing_and_restarting_the_broker_loses_nothing(server, practice):
    """X10: kill -9 in the middle of 20 DSPy programs. They notice nothing: all end while it is down."""
    import dspy

    import streamll
    from streamll.testing import Reply

    text = " ".join(f"w{i}" for i in range(60))
    practice.respond(lambda request: Reply({"answer": text}, pace=0.01, hold_after=30))
    sink = open_sink(server.url, target="kill")
    program = streamll.instrument(
        dspy.Predict("question -> answer"), stream_fields=["answer"], sinks=[sink]
    )

    def ask(n) -> None:
        with dspy.context(lm=practice.lm(cache=False)):
            assert program(question=f"number {n}?").answer == text

    def begun() -> set:
        return {event.run_id for event in list(reader.events) if event.event_type == "token"}

    reader = BackgroundReader(server.url, "kill")
    assert reader.consumer.wait_connected(BOUND)
    with ThreadPoolExecutor(RUNS) as pool:
        programs = [pool.submit(ask, n) for n in range(RUNS)]
        try:
            wait_until(lambda: len(begun()) == RUNS, BOUND, "of every run some tokens are read")
            server.kill()
            practice.release()
            for each in programs:
                each.result(BOUND)
            wait_until(lambda: sink.statistics().failures > 0, BOUND, "the sink notices")
        finally:
            practice.release()
            if server.process is None:
                server.start()
    assert sink.stop(BOUND)
    reader.wait_for_ends(RUNS)
    reader.stop()
    check_order(reader.events)
    assert [text_of(events) for events in by_run(reader.events).values()] == [text] * RUNS
    check_nothing_lost(sink)


def through_a_network(backend, disturb) -> tuple:
    """20 runs and a reader through a wire, to which ``disturb(wire, sink)`` does something:
    the runs go on until that is done.
    """
    target, wire = backend.target(), Wire(backend.server.port)
    sink = open_sink(through(wire, backend.server), target=target)
    reader = BackgroundReader(through(wire, backend.server), target)
    assert reader.consumer.wait_connected(BOUND)

    def meanwhile():
        in_the_middle(sink)
        disturb(wire, sink)

    with in_background(meanwhile) as over:
        runs = paced_runs(sink, until=over)
    assert sink.stop(BOUND)
    reader.wait_for_ends(RUNS)
    reader.stop()
    wire.close()
    check_complete(reader.events, runs)
    check_nothing_lost(sink)
    return sink.statistics(), reader.consumer.statistics()


def until_noticed(sink, before: int) -> None:
    wait_until(lambda: sink.statistics().failures > before, BOUND, "the sink notices")


def test_a_cut_network_neither_loses_nor_duplicates(backend):
    """X10: the connections of sink and reader break again and again in the middle of 20 runs."""

    def disturb(wire, sink):
        for _ in range(3):
            before = sink.statistics().failures
            wire.cut()
            until_noticed(sink, before)
            time.sleep(0.2)
            wire.mend()
            time.sleep(0.3)

    told, read = through_a_network(backend, disturb)
    assert told.failures > 0
    assert read.reconnects > 0


def test_late_and_duplicate_delivery_after_a_stall_loses_nothing(backend, monkeypatch):
    """X10: nothing comes through and nothing is refused; what was on its way arrives after what
    the sink has sent again.
    """
    shorten_timeouts(monkeypatch)

    def disturb(wire, sink):
        for _ in range(2):
            before = sink.statistics().failures
            wire.stall()
            until_noticed(sink, before)
            time.sleep(0.3)
            wire.mend()
            time.sleep(0.2)

    told, _ = through_a_network(backend, disturb)
    assert told.failures > 0


def test_silently_dropped_connections_are_replaced(backend, monkeypatch):
    """X10: no packet comes through any more, and nothing is reported by the network."""
    shorten_timeouts(monkeypatch)

    def disturb(wire, sink):
        before = sink.statistics().failures
        wire.lose()
        until_noticed(sink, before)

    told, read = through_a_network(backend, disturb)
    assert told.failures > 0
    assert read.reconnects > 0


@contextmanager
def full_redis(server):
    import redis

    with redis.Redis(port=server.port) as control:
        control.config_set("maxmemory-policy", "noeviction")
        control.config_set("maxmemory", 1)
        yield "its memory is full"
        control.config_set("maxmemory", 0)


@contextmanager
def full_memory(server):
    server.evaluate("vm_memory_monitor:set_vm_memory_high_watermark({absolute, 1000000})")
    yield "an alarm"
    server.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.4)")


@contextmanager
def full_disk(server):
    server.evaluate(f"rabbit_disk_monitor:set_disk_free_limit({10**15})")
    yield "an alarm"
    server.evaluate(f"rabbit_disk_monitor:set_disk_free_limit({50 * 10**6})")


def fullness_of(server) -> list:
    return [full_memory, full_disk] if isinstance(server, RabbitMQServer) else [full_redis]


def test_events_wait_while_the_broker_is_full(server, caplog, monkeypatch):
    """X10: maxmemory, or an alarm of memory or disk; with room again everything arrives, in order."""
    # Soon, and yet not before a busy machine's RabbitMQ has confirmed anything.
    monkeypatch.setattr("streamll.brokers.rabbitmq.address.HEARTBEAT_S", 3)
    for full in fullness_of(server):
        caplog.clear()
        sink = open_sink(server.url, target=full.__name__)
        reader = BackgroundReader(server.url, full.__name__)
        assert reader.consumer.wait_connected(BOUND)
        for event in make_run("before", ["a"]):
            sink.put(event)
        assert sink.catch_up(BOUND)
        with full(server) as message:
            # A busy RabbitMQ may have taken some of the runs before it sets the alarm.
            with in_background(functools.partial(until_noticed, sink, 0)) as noticed:
                runs = paced_runs(sink, tokens=50, until=noticed)
            assert sink.statistics().buffered > 0
        assert sink.stop(BOUND)
        reader.wait_for_ends(RUNS + 1)
        reader.stop()
        check_complete(reader.events, [make_run("before", ["a"]), *runs])
        check_nothing_lost(sink)
        assert message in caplog.text


def test_a_reader_with_repeatedly_broken_connections_misses_nothing(backend):
    """X10: also of what was on its way to it, and half acknowledged, when that happened."""
    target, count = backend.target(), 3000 if THOROUGH else 450
    sink = open_sink(backend.url, target=target, buffer_size=100_000)
    runs = [make_run(f"r{n}", ["a", "b"]) for n in range(count)]
    for run in runs:
        for event in run:
            sink.put(event)
    assert sink.stop(BOUND)
    wire = Wire(backend.server.port)
    reader = BackgroundReader(through(wire, backend.server), target)
    for n in range(12):
        wait_until(
            lambda n=n: len(reader.events) > n * count // 2, BOUND, "some more have been read"
        )
        wire.cut()
        wire.mend()
    reader.wait_for_ends(len(runs))
    # It may have read all of it before it notices that its connection is broken.
    wait_until(lambda: reader.consumer.statistics().reconnects, BOUND, "it connects again")
    reader.stop()
    wire.close()
    check_complete(reader.events, runs)
