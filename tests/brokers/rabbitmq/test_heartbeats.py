"""D3: a network that is silent is noticed within the seconds of ``heartbeat=``.

Beside each connection stands one whose heartbeat is longer than the test: it notices nothing.
"""

from __future__ import annotations

import contextlib
import socket

import pytest

from brokers.backends import unique_name
from brokers.blockable import through
from brokers.load import BackgroundReader, check_complete, check_nothing_lost
from brokers.sample_runs import BOUND, make_run
from brokers.servers import Wire, wait_until
from streamll.brokers.rabbitmq import publisher
from streamll.sinks import RabbitMQSink

SOON, LATER = "?heartbeat=1", "?heartbeat=600"


@pytest.fixture
def rabbit(server_of):
    return server_of("rabbitmq")


@pytest.fixture
def wire(rabbit):
    with contextlib.closing(Wire(rabbit.port)) as wire:
        yield wire


def put_all(sink, run) -> None:
    for event in run:
        sink.put(event)


def test_a_sink_sends_again_what_a_silent_network_did_not_confirm(rabbit, wire):
    target = unique_name()
    url = through(wire, rabbit)
    sinks = [RabbitMQSink(url + each, target=target) for each in (SOON, LATER)]
    runs = [make_run(f"r{n}", "abc") for n in range(4)]
    for sink, run in zip(sinks, runs, strict=False):
        put_all(sink, run)
        assert sink.catch_up(BOUND)
    soon, later = sinks
    before = [sink.statistics().failures for sink in sinks]  # a busy machine is silent as well
    wire.lose()
    for sink, run in zip(sinks, runs[2:], strict=True):
        put_all(sink, run)
    assert soon.catch_up(BOUND)
    assert soon.statistics().failures > before[0]
    assert later.statistics().failures == before[1]
    # For a moment what its thread has just taken is counted nowhere.
    wait_until(lambda: later.statistics().buffered, BOUND, "it keeps what was not confirmed")
    wire.cut()  # this is noticed at once
    wire.mend()
    reader = BackgroundReader(rabbit.url, target)
    reader.wait_for_ends(4)
    reader.stop()
    check_complete(reader.events, runs)
    for sink in sinks:
        assert sink.stop(BOUND)
        check_nothing_lost(sink)


@pytest.mark.parametrize("group", [None, "g"])
def test_a_reader_connects_again_where_the_network_is_silent(rabbit, wire, group, caplog):
    target = unique_name()
    sink = RabbitMQSink(rabbit.url, target=target)
    runs = [make_run(f"r{n}", "abc") for n in range(2)]
    put_all(sink, runs[0])
    assert sink.catch_up(BOUND)
    url = through(wire, rabbit)
    soon = BackgroundReader(url + SOON, target, group=group)
    later = BackgroundReader(url + LATER, target, group=group and "h")
    for each in (soon, later):
        each.wait_for_ends(1)
    before = [each.consumer.statistics().reconnects for each in (soon, later)]
    wire.lose()
    put_all(sink, runs[1])
    assert sink.stop(BOUND)
    soon.wait_for_ends(2)
    assert soon.consumer.statistics().reconnects > before[0]
    assert "RabbitMQ was silent for 1 s" in caplog.text  # aiormq would have noticed after six
    assert later.consumer.statistics().reconnects == before[1]
    wire.cut()
    wire.mend()
    later.wait_for_ends(2)
    for each in (soon, later):
        each.stop()
        check_complete(each.events, runs)


@pytest.mark.parametrize(("query", "seconds"), [("", 10), ("?heartbeat=4", 4)])
def test_the_kernel_probes_an_idle_connection_of_a_sink(rabbit, query, seconds):
    sink = RabbitMQSink(rabbit.url + query, target=unique_name())
    put_all(sink, make_run("r1", "a"))
    assert sink.catch_up(BOUND)
    connection = sink._transport._socket
    assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    options = publisher.keep_alive(seconds)
    assert options["TCP_USER_TIMEOUT"] == 1000 * seconds
    known = {name: value for name, value in options.items() if hasattr(socket, name)}
    assert known
    for name, value in known.items():
        assert connection.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) == value
    first, interval = options["TCP_KEEPIDLE"], options["TCP_KEEPINTVL"]
    assert first + options["TCP_KEEPCNT"] * interval <= seconds
    assert sink.stop(BOUND)
    assert publisher.keep_alive(0) == {}
