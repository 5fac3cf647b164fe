"""Questions of a run that no server runs, answered by whoever reads its log."""

from __future__ import annotations

import asyncio
import json
import threading

import dspy
import pytest
import warm

import streamll
from brokers.backends import script
from streamll.consumer import EventConsumer
from streamll.core.errors import QuestionWithdrawn, WrongAnswer
from streamll.core.ordering import OrderCheck
from streamll.sinks import open_sink


class Asks(dspy.Module):
    def forward(self, **_):
        return [streamll.ask(f"How many {what}?", schema=int) for what in ("apples", "pears")]


class AsksAsync(dspy.Module):
    async def aforward(self, **_):
        return [await streamll.ask_async(f"{what}?", schema=int) for what in ("apples", "pears")]


class Reader:
    """A consumer that calls ``deal(consumer, question)`` and keeps the events."""

    def __init__(self, backend, target, deal):
        self.events, self.ended = [], threading.Event()
        self.consumer = EventConsumer(backend.url, target)

        def see(event):
            self.events.append(event)
            if event.event_type == "question":
                deal(self.consumer, event)
            if event.event_type.startswith("run.") and event.event_type != "run.start":
                self.ended.set()

        self.consumer.on("*", see)
        self.consumer.start()
        assert self.consumer.wait_connected(60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        assert self.ended.wait(60)
        self.consumer.stop()


def result_of(program, sink):
    if isinstance(program, Asks):
        with streamll.stream(program, sinks=[sink], read=False)() as run:
            return run.result()

    async def main():
        async with streamll.stream(program, sinks=[sink], read=False)() as run:
            return await run.result()

    return asyncio.run(main())


@pytest.mark.parametrize("program", [Asks(), AsksAsync()], ids=["sync", "async"])
def test_another_reader_of_the_log_answers(backend, program):
    target = backend.target()
    given = []

    def deal(consumer, question):
        with pytest.raises(WrongAnswer):
            consumer.answer(question, "many")
        given.append(consumer.answer(question, 3, by="ada"))

    with Reader(backend, target, deal) as reader:
        sink = open_sink(backend.url, target=target)
        assert result_of(program, sink) == [3, 3]
        sink.stop()
    answers = [event for event in reader.events if event.event_type == "answer"]
    assert [(e.answer_id, e.value, e.by) for e in answers] == [(id_, 3, "ada") for id_ in given]
    OrderCheck().check_all(reader.events)


def test_the_second_answer_and_one_to_nothing_change_nothing(backend):
    """Of two answers in the log the first wins; an answer to another question is nobody's."""
    target = backend.target()

    def deal(consumer, question):
        consumer.answer(question, 1, by=7)  # an id of hers; in an event it is text
        consumer.answer(question, 2, by="bob")
        consumer.decline(question)

    with Reader(backend, target, deal) as reader:
        sink = open_sink(backend.url, target=target)
        with streamll.stream(Asks(), sinks=[sink], read=False)() as run:
            assert run.result() == [1, 1]
        sink.stop()
    assert [e.by for e in reader.events if e.event_type == "answer"] == ["7", "7"]


def test_somebody_declines(backend):
    target = backend.target()
    with Reader(backend, target, lambda consumer, question: consumer.decline(question, by="ada")):
        sink = open_sink(backend.url, target=target)
        with (
            pytest.raises(QuestionWithdrawn),
            streamll.stream(Asks(), sinks=[sink], read=False)() as run,
        ):
            run.result()
        sink.stop()


PROGRAM = """
    import dspy, streamll
    from streamll.asking import through_log

    through_log.START_S = 60  # a busy machine takes a while to follow the log

    class Asks(dspy.Module):
        def forward(self):
            return streamll.ask("How many?", schema=int, to="ada")

    sink = open_sink(url, target=target)
    with streamll.stream(Asks(), sinks=[sink], read=False)() as run:
        print(json.dumps(run.result()))
    assert sink.stop(60)
"""


def test_the_program_is_another_process(backend):
    target = backend.target()
    with Reader(backend, target, lambda consumer, question: consumer.answer(question, 7)):
        process = warm.run(script(backend, target, PROGRAM), capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout) == 7
