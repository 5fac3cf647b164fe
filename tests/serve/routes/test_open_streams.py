"""Streams of own routes when their process is asked to stop; nobody waits for the program's end."""

from __future__ import annotations

import asyncio
import threading

import dspy
import pytest
from profiles import THOROUGH

import streamll
from serve.process import ServerProcess
from serve.routes import own_routes
from serve.routes.test_embedded import SIGNATURE, WORDS, app_for
from serve.serving import events_of, frames, wait_until
from streamll.testing import Reply

CLOSING = {
    "native": "run.cancelled",
    "vercel": '"type":"abort"',
    "agui": '"outcome":{"type":"cancelled"}',
    "openai": "the run was cancelled",
}


@pytest.fixture
def process(request, practice, log):
    signals = getattr(request, "param", "python")
    running = ServerProcess(log, practice.url, signals, script=own_routes.__file__)
    yield running
    running.kill()


def until(lines, what):
    for line in lines:
        if what in line:
            return
    raise AssertionError(f"the stream ended before {what}")


@pytest.mark.parametrize(
    ("form", "kept", "process"),
    [  # each format under each server: test_asgi_servers.py
        *((form, False, "python") for form in (CLOSING if THOROUGH else ["openai"])),
        ("vercel", True, "python"),
        ("agui", False, "loop"),
    ],
    indirect=["process"],
)
def test_sigterm_ends_streams_in_their_format(practice, process, form, kept):
    practice.script(Reply({"answer": WORDS}, hold_after=20))  # which says no more by itself
    with process.client() as client, client.stream("GET", f"/qa/{form}?kept={kept}") as response:
        lines = response.iter_lines()
        until(lines, "word1")
        process.stop()  # waits for its end
        assert CLOSING[form] in "".join(lines)
    practice.wait_for(lambda: practice.requests[0].client_closed_at is not None)


def test_a_tool_that_blocks_does_not_hold_its_reader(practice, process):
    practice.script({"answer": "yes"})
    with process.client() as client, client.stream("GET", "/blocking/vercel") as response:
        lines = response.iter_lines()
        until(lines, '"text-end"')
        process.stop()
        rest = "".join(lines)
    assert '"type":"error"' in rest
    assert rest.endswith("data: [DONE]")


@pytest.mark.parametrize("kind", ["own", "foreign"])
def test_a_process_that_is_told_by_hand_serves_on_elsewhere(practice, lm, serve, log, kind):
    """Without signals: the loop of a thread. A run of another process goes on, and is resumed."""
    practice.script(Reply({"answer": WORDS}, hold_after=20))
    server = serve(app_for(dspy.Predict(SIGNATURE), log=log))
    with server.client() as client:
        if kind == "own":
            run_id, headers = None, {}
        else:
            other = ServerProcess(log, practice.url)
            with other.client() as at_other:
                run = at_other.post("/runs", json={"inputs": {"question": "q"}}).json()
                run_id = run["run_id"]
                wait_until(lambda: "started_at" in at_other.get(run["url"]).json())  # in the log
            headers = {"last-event-id": f"{run_id}:-1"}
        with client.stream("GET", "/ask?question=q", headers=headers) as response:
            got = frames(response)
            until((frame.data for frame in got), "word1")
            threading.Thread(target=streamll.serve.shutdown).start()
            last = list(got)[-1]
        assert last.event["event_type"] == {"own": "run.cancelled", "foreign": "stream.error"}[kind]
        assert client.get("/ask?question=q").status_code == 503
        if kind == "foreign":
            assert last.event["data"]["error_type"] == "ServerStopping"
            practice.release()
            with other.client() as at_other:
                *_, end = events_of(at_other, f"/runs/{run_id}/events")
            assert end["event_type"] == "run.end"
            other.kill()


def test_loops_that_have_ended_are_no_trouble():
    async def stream():
        from streamll.serve.routes.open_streams import open_streams

        open_streams()

    asyncio.run(stream())
    streamll.serve.shutdown()
