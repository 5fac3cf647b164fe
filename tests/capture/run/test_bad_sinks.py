"""A sink that raises, hangs or is slow changes neither the result nor the pace of the program."""

from __future__ import annotations

import threading

import dspy
import pytest
from patience import Stopwatch
from programs import QA

import streamll
from streamll.sinks import BaseSink, MemorySink

ANSWER = {"reasoning": "r " * 20, "answer": "a " * 20}


class Raising(BaseSink):
    def handle_event(self, event):
        raise RuntimeError("this sink is broken")


class NeverReady(MemorySink):
    def catch_up(self, timeout):
        raise RuntimeError("this sink is broken")


class Hanging(BaseSink):
    def __init__(self):
        super().__init__()
        self.release = threading.Event()
        self.handled = 0

    def handle_event(self, event):
        self.release.wait(60)
        self.handled += 1


class Refusing:
    """Not even a ``BaseSink``: its ``put`` raises."""

    def put(self, event):
        raise RuntimeError("this outlet is broken")


@pytest.mark.parametrize("sink", [Raising, Hanging, NeverReady])
def test_the_result_and_the_other_sinks_are_as_without_it(lm, practice, sink):
    practice.script(ANSWER, ANSWER)
    bad, good = sink(), MemorySink()
    program = streamll.instrument(QA(), stream_fields="*", sinks=[bad, good])
    answer = program("Why?").answer
    assert good.catch_up(60)  # a call gives its sinks a second, which a busy machine exceeds
    assert answer == good.text("answer") == ANSWER["answer"].strip()
    if isinstance(bad, Hanging):
        bad.release.set()
        assert bad.stop(60)
        assert bad.handled == len(good.events)


def test_the_bounded_wait_is_the_only_delay(lm, practice):
    """A hanging local sink costs the outermost call its second at the end, and no more."""
    practice.script(*[ANSWER] * 4)
    sink = Hanging()

    class Three(dspy.Module):
        def __init__(self):
            super().__init__()
            self.qa = QA()

        def forward(self, question):
            watch = Stopwatch()
            for _ in range(3):
                result = self.qa(question)
            self.inside = watch.seconds
            return result

    program = streamll.instrument(Three(), stream_fields="*", sinks=[sink])
    watch = Stopwatch()
    program("Why?")
    whole = watch.seconds
    assert program.inside < 1.0
    assert whole - program.inside < 2.0
    sink.release.set()
    sink.stop()


def test_a_receiver_that_raises_is_logged_once(lm, practice, caplog):
    practice.script(ANSWER)
    good = MemorySink()
    program = streamll.instrument(QA(), stream_fields="*", sinks=[Refusing(), good])
    answer = program("Why?").answer
    assert good.catch_up(60)
    assert answer == good.text("answer")
    assert caplog.text.count("Refusing") == 1


def test_a_wait_for_a_sink_that_raises_is_logged_once(lm, practice, caplog):
    class Unready(NeverReady): ...

    practice.script(ANSWER, ANSWER)
    program = streamll.instrument(QA(), sinks=[Unready()])
    for _ in range(2):
        assert program("Why?").answer == ANSWER["answer"].strip()
    assert caplog.text.count("Unready") == 1
