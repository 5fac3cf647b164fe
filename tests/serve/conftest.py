"""Fixtures of the server's tests: the practice model, a log of one's own, real uvicorn."""

from __future__ import annotations

import dspy
import pytest

from serve.patient import patient_servers  # noqa: F401 - for all tests here
from serve.serving import Server


@pytest.fixture
def lm(practice):
    """The practice model as DSPy's default LM."""
    model = practice.lm()
    dspy.configure(lm=model, adapter=dspy.ChatAdapter())
    return model


@pytest.fixture
def log(tmp_path):
    return f"sqlite:///{tmp_path}/log.db"


@pytest.fixture
def serve():
    """``serve(app)``: the application on a real uvicorn; gives its ``Server``."""
    running = []

    def start(app, **options):
        running.append(Server(app, **options))
        return running[-1]

    yield start
    for server in running:
        server.stop()
