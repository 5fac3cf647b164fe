"""What a program leaves behind is closed by its run's end, wherever it was at that moment."""

from __future__ import annotations

import threading

import pytest
from patience import BOUND
from programs import left_behind

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
    seen = left_behind(stragglers, reached, goes_on)
    OrderCheck().check_all(seen)
    ours = [event for event in seen if "predict" in str(event.path).lower()]
    told = [event.event_type for event in ours if event.opens or event.closes]
    assert [kind for kind in told if not kind.startswith("field.")] == kinds
