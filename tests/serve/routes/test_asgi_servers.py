"""X0b: own routes under the servers people use, started by their commands and stopped by SIGTERM."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import httpx
import pytest
import warm

from brokers.servers import free_port
from serve.routes.test_embedded import WORDS
from serve.routes.test_open_streams import CLOSING, until
from streamll.testing import Reply

TESTS = Path(__file__).parent.parent.parent
COMMANDS = {
    "uvicorn": "-m uvicorn --port {port}",
    "uvicorn, two processes": "-m uvicorn --port {port} --workers 2",
    "granian": "-m granian --interface asgi --port {port}",
    "hypercorn": "-m hypercorn --graceful-timeout 30 --bind 127.0.0.1:{port}",
    "hypercorn, one process": "-m hypercorn --graceful-timeout 30 --workers 0 --bind 127.0.0.1:{port}",
}
if sys.version_info >= (3, 12):
    # There its worker waits for its connections before it counts ``graceful_timeout`` (0.18; docs/fastapi.md).
    del COMMANDS["hypercorn"]
ENDS_S = 60
"""The programs would never end. By default hypercorn leaves its readers three seconds, which may be too
few on a busy machine; the others none."""


@pytest.fixture(params=COMMANDS)
def server(request, practice, log):
    port = free_port()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, sys.path)]),
        "PRACTICE_URL": practice.url,
        "PRACTICE_LOG": log,
    }
    command = COMMANDS[request.param].format(port=port).split()
    process = warm.Popen(
        [sys.executable, *command, "serve.routes.own_app:app"],
        env=environment,
        start_new_session=True,
    )
    base_url = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=base_url, timeout=60, trust_env=False) as client:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(httpx.TransportError):
                client.get("/nothing")
                break
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.05)
        yield process, client
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(60)


def test_sigterm_ends_open_streams_in_their_format(practice, server):
    process, client = server
    practice.script(*(Reply({"answer": WORDS}, hold_after=20) for _ in (*CLOSING, "kept")))
    with contextlib.ExitStack() as stack:
        readers = {}
        for form in (*CLOSING, "native?kept=True"):
            response = stack.enter_context(client.stream("GET", f"/qa/{form}"))
            readers[form] = response.iter_lines()
            until(readers[form], "word1")
        process.terminate()
        kept = "".join(readers.pop("native?kept=True"))
        assert "run.cancelled" in kept or "ServerStopping" in kept
        for form, lines in readers.items():
            assert CLOSING[form] in "".join(lines), form
        process.wait(ENDS_S)
