"""Servers of these tests have the time that a busy machine needs."""

from __future__ import annotations

import pytest

from streamll.serve.log import run_log, search


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A log that is there has been connected to, listed and searched before anybody is answered."""
    monkeypatch.setattr(run_log, "START_S", 60)
    monkeypatch.setattr(run_log.RunLog.indexed, "__defaults__", (60,))
    monkeypatch.setattr(search, "SEARCH_S", 60)
    monkeypatch.setattr(search, "RUN_S", 60)
