"""X9, X10: readers of a server are told what its log has lost, wherever they begin."""

from __future__ import annotations

import signal

import pytest

from brokers.backends import BACKENDS, Backend
from brokers.contract.test_trimmed_logs import KEPT, TOKENS, append, count_missing, trim
from brokers.raw_log import RAW_LOGS
from brokers.sample_runs import make_run
from serve.process import ServerProcess
from serve.serving import events_of, frames
from streamll.brokers.opening import default_target
from streamll.core.wire import from_dict


@pytest.fixture(params=BACKENDS)
def backend(request, server_of, log):
    """A log under its default name, and bounded."""
    name = request.param
    url = log if name == "sqlite" else server_of(name).new_part()
    RAW_LOGS[name](url).bound(default_target(url))
    return Backend(name, url)


def test_readers_that_join_late_or_were_overtaken_are_told(backend, practice):
    target, run = default_target(backend.url), make_run("r1", TOKENS)
    append(backend, target, run[:5])
    process = ServerProcess(backend.url, practice.openai_url)
    with process.client() as client:
        got = []
        with client.stream("GET", "/runs/r1/events") as response:
            coming = frames(response)
            while len(got) < 5:
                got.append(next(coming).event)
            process.send(signal.SIGSTOP)
            append(backend, target, run[5:])
            trim(backend, target, len(run) - KEPT)
            process.send(signal.SIGCONT)
            got += [frame.event for frame in coming]
        resumed = events_of(client, "/runs/r1/events", headers={"last-event-id": "r1:2"})
        late = events_of(client, "/runs/r1/events")
    process.stop()
    for events in (got, got[:3] + resumed, late):
        assert count_missing(backend, [from_dict(event) for event in events]) > 500
        assert events[-1]["event_type"] == "run.end"
