"""A program that ends after its stream was ended without it: what readers were told stands."""

from __future__ import annotations

import threading

import dspy
import pytest
from patience import BOUND
from programs import Heard

import streamll
from streamll.core.errors import TotalTimeout
from streamll.flow.config import StreamConfig


class Noticing(Heard):
    def __init__(self):
        super().__init__()
        self.ended = threading.Event()

    def put(self, event):
        super().put(event)
        if event.closes == "run":
            self.ended.set()


def test_a_late_program_does_not_take_its_timeout_back():
    goes_on, heard = threading.Event(), Noticing()

    class Late(dspy.Module):
        def forward(self):
            assert goes_on.wait(BOUND)
            return dspy.Prediction(answer="late")

    config = StreamConfig(timeout=0.01)
    with streamll.stream(Late(), config=config, sinks=[heard])() as events:
        assert heard.ended.wait(BOUND)  # the reader was told of the timeout, and reads on later
        goes_on.set()
        events._program_run.join(BOUND)
        assert heard.types[-1] == "run.error"
        with pytest.raises(TotalTimeout):
            events.result()
