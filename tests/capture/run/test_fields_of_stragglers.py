"""A field that a straggler begins, writes or ends when its run ends is in the run whole."""

from __future__ import annotations

import threading

import pytest
from patience import BOUND
from programs import left_behind

from streamll.capture.run.run import Run
from streamll.testing import OrderCheck


@pytest.mark.parametrize("moment", ["field.start", "token", "field.end"])
def test_a_field_that_a_straggler_writes_when_its_run_ends(lm, practice, monkeypatch, moment):
    practice.script({"answer": "one two three"})
    reached, goes_on, stragglers = threading.Event(), threading.Event(), []

    def hold():
        if threading.current_thread() in stragglers and not reached.is_set():
            reached.set()
            assert goes_on.wait(BOUND)

    publish, publish_token = Run.publish, Run.publish_token

    def held(run, kind, *args, **own):
        if kind.closes == "field" == moment.partition(".")[0] and moment == "field.end":
            hold()  # it is about to be told
        event = publish(run, kind, *args, **own)
        if kind.opens == "field" and moment == "field.start":
            hold()  # it has just been told
        return event

    def held_token(*args):
        publish_token(*args)
        if moment == "token":
            hold()

    monkeypatch.setattr(Run, "publish", held)
    monkeypatch.setattr(Run, "publish_token", held_token)
    seen = left_behind(stragglers, reached, goes_on)
    OrderCheck().check_all(seen)
