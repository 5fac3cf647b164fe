"""Servers of tests have the time that a busy machine needs."""

from __future__ import annotations

import pytest

from streamll.serve import runner
from streamll.serve.log import run_log, search

BOUND = 60


@pytest.fixture(autouse=True, scope="module")
def patient_servers():
    """A log that is there has been connected to, has a run that was started, and is listed and searched
    before anybody is answered. For servers that a whole module shares, too.
    """
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(run_log, "START_S", BOUND)
        patched.setattr(runner, "LOGGED_S", BOUND)
        patched.setattr(run_log.RunLog.indexed, "__defaults__", (BOUND,))
        patched.setattr(search, "SEARCH_S", BOUND)
        patched.setattr(search, "RUN_S", BOUND)
        yield
