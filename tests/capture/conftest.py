"""Fixtures of the capture tests."""

from __future__ import annotations

import time

import dspy
import pytest
from programs import Heard

import streamll
import streamll.configuration
import streamll.context


@pytest.fixture
def heard():
    return Heard()


@pytest.fixture
def lm(practice):
    """The practice model as DSPy's default LM, Chat adapter."""
    model = practice.lm()
    dspy.configure(lm=model, adapter=dspy.ChatAdapter())
    return model


@pytest.fixture(autouse=True)
def nothing_left_behind():
    before = (streamll.configuration.configuration.sinks, streamll.context.get_context())
    yield
    from streamll.capture.run import enter

    deadline = time.monotonic() + 60
    while enter.active_runs and time.monotonic() < deadline:
        time.sleep(0.005)  # a program that was left unwinds in its own thread
    assert not enter.active_runs, "a run was not closed"
    streamll.unwatch()
    assert streamll.configuration.configuration.sinks == before[0]
    streamll.clear_context()
