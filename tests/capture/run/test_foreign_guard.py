"""A guard of another run has stopped what a program without guards waits for."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import dspy
import pytest
from programs import Heard

import streamll
from streamll.core.errors import GuardStopped
from streamll.guards import Words
from streamll.testing import OrderCheck


def test_a_run_ends_by_the_guard_of_another(lm, practice, heard):
    """A pool's thread has no context, so that a guarded module opens a run of its own there."""
    practice.script({"answer": "It is a secret."})
    guarded = streamll.instrument(
        dspy.Predict("question -> answer"),
        fields=["answer"],
        sinks=[Heard()],
        guards=[Words(["secret"], action="stop")],
    )

    class Outer(dspy.Module):
        def forward(self, question):
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(guarded, question=question).result()

    with streamll.stream(Outer(), sinks=[heard])(question="?") as events:
        with pytest.raises(GuardStopped):
            events.result()
    OrderCheck().check_all(heard.events)
    assert heard.events[-1].error_type == "GuardStopped"
