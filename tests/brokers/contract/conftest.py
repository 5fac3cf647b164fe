"""The contract is about brokers that are there, however slow a busy machine makes them."""

from __future__ import annotations

import pytest

from brokers.blockable import set_timeouts
from brokers.sample_runs import BOUND


@pytest.fixture(autouse=True)
def patient_brokers(monkeypatch):
    """A broker that takes its time is not given up: what it was sent again would count twice, and a
    connection that was replaced would have failed. A question waits until its log is followed.

    A test of just that sets its own times.
    """
    set_timeouts(monkeypatch, redis=BOUND, rabbitmq=BOUND, sqlite=BOUND)
    monkeypatch.setattr("streamll.brokers.rabbitmq.groups.REPLY_TIMEOUT_S", float(BOUND))
    monkeypatch.setattr("streamll.asking.through_log.START_S", float(BOUND))


@pytest.fixture
def patient_sources(monkeypatch):
    """For who asks a source itself, and does not try again as a consumer does."""
    monkeypatch.setattr("streamll.brokers.rabbitmq.client.CONFIRM_TIMEOUT_S", float(BOUND))
