"""Fixtures of tests that stream a program under a ``StreamConfig``."""

from __future__ import annotations

import time

import dspy
import pytest
from outcomes import run_async, run_sync

from streamll.capture.policy.providers import breaker_of


@pytest.fixture(params=["sync", "async"])
def run(request):
    """Stream a question with a config to its end, one way and the other."""
    return run_sync if request.param == "sync" else run_async


@pytest.fixture
def lm(practice):
    """The practice model, Chat adapter; its own retries would show as further requests."""
    model = practice.lm(num_retries=7)
    dspy.configure(lm=model, adapter=dspy.ChatAdapter())
    return model


@pytest.fixture
def breaker(lm):
    """The breaker that all streams to this practice server share."""
    return breaker_of(lm)


@pytest.fixture(autouse=True)
def programs_have_ended():
    """A program that was told to end has ended before the next test begins."""
    yield
    from streamll.capture.run import enter

    deadline = time.monotonic() + 60
    while enter.active_runs and time.monotonic() < deadline:
        time.sleep(0.005)
    assert not enter.active_runs, "a program goes on after its stream"
