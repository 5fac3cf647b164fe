"""A log that dies between a question and its answer: the answer arrives when it is back."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import dspy
import pytest
from profiles import THOROUGH

import streamll
from brokers.backends import backend_of, own
from brokers.blockable import LockedFileRoute
from brokers.sample_runs import BOUND
from brokers.servers import RabbitMQServer, RedisServer, redis_binary
from streamll.consumer import EventConsumer
from streamll.core.events import Status
from streamll.core.ordering import OrderCheck
from streamll.sinks import open_sink


class Asks(dspy.Module):
    def forward(self, **_):
        return [streamll.ask(f"How many {what}?", schema=int) for what in ("apples", "pears")]


class Asking:
    """A program that asks through a log, and a consumer that knows of its questions."""

    def __init__(self, url, target):
        self.events, self._changed = [], threading.Condition()
        self.consumer = EventConsumer(url, target)
        self.consumer.on("*", self._see)
        self.consumer.start()
        assert self.consumer.wait_connected(BOUND)
        self.sink = open_sink(url, target=target)
        self._pool = ThreadPoolExecutor(1)
        self._run = self._pool.submit(self._result)

    def _see(self, event):
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def _result(self):
        with streamll.stream(Asks(), sinks=[self.sink], read=False)() as run:
            return run.result()

    def seen(self, kind, number=1):
        """The event of this kind, as soon as there are so many."""

        def found():
            return [event for event in self.events if event.event_type == kind][number - 1 :]

        with self._changed:
            assert self._changed.wait_for(found, BOUND), f"no {kind} {number}"
            return found()[0]

    def end(self):
        result = self._run.result(BOUND)
        self.seen("run.end")
        self._pool.shutdown()
        self.consumer.stop()
        assert self.sink.stop(BOUND)
        OrderCheck().check_all(self.events)
        return result


@pytest.fixture
def patient_brokers(monkeypatch):
    """What is away is given up and tried again as soon as for users. Only that a question waits until its
    log is followed: on a busy machine that takes a while.
    """
    monkeypatch.setattr("streamll.asking.through_log.START_S", float(BOUND))


@pytest.fixture(params=["redis", *(["rabbitmq"] if THOROUGH else [])])
def server(request, tmp_path):
    make = RedisServer if request.param == "redis" else RabbitMQServer
    more = [redis_binary()] if request.param == "redis" else []
    with own(lambda: make(tmp_path, *more)) as started:
        if request.param == "rabbitmq":
            first = open_sink(started.url, target="first")  # as test_broker_faults says
            first.put(Status(message="the first stream of this node"))
            assert first.stop(BOUND)
            time.sleep(7)
        yield started


def test_a_broker_is_killed_between_question_and_answer(server):
    asking = Asking(server.url, "kill")
    first = asking.seen("question")
    server.kill()
    asking.consumer.answer(first, 3)  # nobody can hear it yet
    server.start()
    second = asking.seen("question", 2)
    server.kill()
    server.start()
    asking.consumer.answer(second, 4)
    assert asking.end() == [3, 4]


def test_a_log_is_locked_between_question_and_answer(server_of, tmp_path):
    backend = backend_of("sqlite", server_of, tmp_path)
    route = LockedFileRoute(backend)
    try:
        asking = Asking(backend.url, "locked")
        first = asking.seen("question")
        route.block()
        asking.consumer.answer(first, 3)
        streamll.answer(first.run_id, first, 5)  # here it is heard at once, and was first
        route.free()
        asking.consumer.answer(asking.seen("question", 2), 4)
        assert asking.end() == [5, 4]
    finally:
        route.close()
