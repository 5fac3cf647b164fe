"""What a program leaves behind is closed by its run's end, wherever it was at that moment."""

from __future__ import annotations

import contextvars
import threading

import dspy
import pytest
from patience import BOUND

import streamll
from streamll.capture.hooks import callbacks
from streamll.testing import OrderCheck


@pytest.mark.parametrize(
    ("moment", "kinds"),
    [
        ("inputs", []),
        ("prompts", ["module.start", "module.error"]),
        ("outputs", ["module.start", "lm.start", "lm.end", "module.error"]),
    ],
)
def test_a_call_that_begins_or_ends_when_its_run_does(lm, practice, monkeypatch, moment, kinds):
    """Another thread's, between the moment it is known and the one in which readers are told."""
    reached, goes_on, stragglers = threading.Event(), threading.Event(), []
    included = callbacks.included

    def held(what, *values):
        if what == moment and threading.current_thread() in stragglers:
            reached.set()
            assert goes_on.wait(BOUND)
        return included(what, *values)

    monkeypatch.setattr(callbacks, "included", held)
    answer = dspy.Predict("question -> answer")

    class Leaving(dspy.Module):
        def forward(self):
            context = contextvars.copy_context()
            stragglers.append(
                threading.Thread(target=context.run, args=(answer,), kwargs={"question": "?"})
            )
            stragglers[0].start()
            assert reached.wait(BOUND)
            return "left"

    with streamll.stream(Leaving())() as events:
        seen = list(events)
    goes_on.set()
    stragglers[0].join(BOUND)
    OrderCheck().check_all(seen)
    ours = [event for event in seen if "predict" in str(event.path).lower()]
    told = [event.event_type for event in ours if event.opens or event.closes]
    assert [kind for kind in told if not kind.startswith("field.")] == kinds
