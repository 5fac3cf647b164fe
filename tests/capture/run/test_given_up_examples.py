"""Examples that are still under way when their evaluation has given up are not told of after its end."""

from __future__ import annotations

import threading

import dspy
from patience import BOUND

import streamll
from streamll.testing import OrderCheck


def test_an_example_that_outlives_its_evaluation():
    reached, goes_on = threading.Event(), threading.Event()
    examples = [dspy.Example(question=each).with_inputs("question") for each in ("slow", "bad")]

    class Answering(dspy.Module):
        def forward(self, question):
            if question == "slow":
                reached.set()
                assert goes_on.wait(BOUND)
                return dspy.Prediction(answer="")
            assert reached.wait(BOUND)
            raise ValueError(question)

    class Outer(dspy.Module):
        def forward(self):
            evaluate = dspy.Evaluate(
                devset=examples,
                metric=lambda example, prediction: 1.0,
                num_threads=2,
                max_errors=1,
                display_progress=False,
            )
            before = set(threading.enumerate())
            try:
                evaluate(Answering())
            except Exception as error:  # the program goes on without it
                said = str(error)
            goes_on.set()
            for thread in set(threading.enumerate()) - before:
                if thread.name.startswith("ThreadPoolExecutor"):
                    thread.join(BOUND)
            return said

    with streamll.stream(Outer())() as events:
        seen = list(events)
    OrderCheck().check_all(seen)
    end = next(event for event in seen if event.event_type == "evaluate.end")
    assert end.done == len([each for each in seen if each.event_type == "evaluate.example"])
