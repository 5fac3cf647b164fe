"""Brokers for the contract: one server of each kind for the whole test run."""

from __future__ import annotations

import pytest

from brokers.backends import BACKENDS, Backend, backend_of
from brokers.blockable import set_timeouts


@pytest.fixture(params=BACKENDS)
def backend(request, server_of, tmp_path) -> Backend:
    return backend_of(request.param, server_of, tmp_path)


@pytest.fixture(autouse=True)
def no_reports(monkeypatch):
    """A run is silent for seconds where a fault or a busy machine keeps its sink waiting. What the sink
    then reports of it would be one event more than a test has put.
    """
    monkeypatch.setattr("streamll.brokers.open_runs.CHECK_S", 3600.0)


@pytest.fixture
def patient_clients(monkeypatch):
    """A broker that a busy machine keeps waiting has not failed, for who asks it only once, or counts
    failures.
    """
    set_timeouts(monkeypatch, redis=60, rabbitmq=60, sqlite=60)
    monkeypatch.setattr("streamll.brokers.rabbitmq.client.CONFIRM_TIMEOUT_S", 60.0)
    monkeypatch.setattr("streamll.brokers.rabbitmq.groups.REPLY_TIMEOUT_S", 60.0)
