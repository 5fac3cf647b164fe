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


@pytest.fixture
def ends_may_be_late(monkeypatch):
    """The end of a reply is waited for, however late its server has its turn."""
    from streamll.capture.tap.wire import reply

    for after in ("END", "REASON", "EARLY_REASON"):
        monkeypatch.setattr(reply, f"GRACE_AFTER_{after}_S", 60)


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
