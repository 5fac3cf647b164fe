"""Fixtures of the streamify tests."""

from __future__ import annotations

import time

import dspy
import pytest


@pytest.fixture
def lm(practice):
    """The practice model as DSPy's default LM, Chat adapter."""
    model = practice.lm()
    dspy.configure(lm=model, adapter=dspy.ChatAdapter())
    return model


@pytest.fixture(autouse=True)
def every_run_is_closed():
    yield
    from streamll.capture.run import enter

    deadline = time.monotonic() + 5
    while enter.active.runs and time.monotonic() < deadline:
        time.sleep(0.005)  # a program that was left unwinds in its own thread
    assert not enter.active.runs, "a run was not closed"
