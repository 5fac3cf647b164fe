"""LiteLLM's SDKs move from httpx to httpx2: what goes through it is streamed and recorded alike."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest
from scenarios import TEXT
from tapping import Notes, tapped

from streamll.capture.hooks.places import HTTP_CLIENTS
from streamll.capture.tap import below_litellm, interrupt
from streamll.capture.tap.listener import Guarded
from streamll.core.errors import Unwind
from streamll.patching import SiteState
from streamll.testing import Reply

pytestmark = pytest.mark.since_3_4

httpx2 = pytest.importorskip("httpx2")

QUESTION = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def notes(practice):
    """A listener inside whose calls every request through httpx2 is streamed."""
    notes = Notes()
    notes.begin()
    with tapped(), below_litellm.Tee(Guarded(notes), practice, "openai/m").entered():
        yield notes


@pytest.fixture
def address(practice):
    practice.script(TEXT)
    return f"{practice.openai_url}/chat/completions"


def test_a_request_is_streamed_and_its_plain_reply_rebuilt(practice, notes, address):
    reply = httpx2.post(address, json=QUESTION, timeout=60)
    assert practice.requests[-1].streaming
    assert isinstance(reply, httpx2.Response)
    assert reply.json()["choices"][0]["message"]["content"] == notes.text_so_far == TEXT
    assert reply.elapsed.total_seconds() > 0


async def ask_async(address):
    async with httpx2.AsyncClient(timeout=60) as client:
        return await client.post(address, json=QUESTION)


def test_asynchronous_requests_as_well(practice, notes, address):
    reply = asyncio.run(ask_async(address))
    assert practice.requests[-1].streaming
    assert reply.json()["choices"][0]["message"]["content"] == notes.text_so_far == TEXT


def test_requests_of_others_are_not_touched(practice, address):
    with tapped():
        reply = httpx2.post(address, json=QUESTION, timeout=60)
    assert reply.headers["content-type"] == "application/json"
    assert not practice.requests[-1].streaming


def test_cancelling_ends_a_blocked_read(practice):
    practice.script(Reply(TEXT, hold_after=4))
    notes, errors = Notes(), []

    def ask():
        inside = interrupt.InterruptScope(Guarded(notes))
        with inside, below_litellm.Tee(Guarded(notes), practice, "openai/m").entered():
            try:
                httpx2.post(f"{practice.openai_url}/chat/completions", json=QUESTION, timeout=None)
            except (httpx2.TransportError, Unwind) as error:
                errors.append(error)
            inside.disconnected()

    with tapped():
        thread = threading.Thread(target=ask)
        thread.start()
        practice.wait_for_requests()[0].wait_held()
        notes.cancel()
        thread.join(60)  # nothing else would end it: the reply is held, and httpx2 has no limit
    assert not thread.is_alive()
    assert len(errors) == 1


def test_every_site_is_restored():
    before = (httpx2.Client.send, httpx2.AsyncClient.send)
    HTTP_CLIENTS.install()
    assert httpx2.Client.send is not before[0]
    HTTP_CLIENTS.uninstall()
    assert (httpx2.Client.send, httpx2.AsyncClient.send) == before
    assert {state for _, state in HTTP_CLIENTS.states()} == {SiteState.OFF}


PROGRAM = """
import asyncio, math, os, sys
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import httpx2
httpx2.alias_httpx()  # before anything imports httpx: LiteLLM and its SDKs send through httpx2
import dspy, streamll
from streamll.sinks import MemorySink
from streamll.testing import PracticeServer, record, replay

path, sink = sys.argv[1], MemorySink()
qa = streamll.instrument(
    dspy.Predict("question -> answer"), stream_fields=["answer"], sinks=[sink]
)
with PracticeServer() as server:
    server.respond(lambda request: {"answer": "one two three"})
    dspy.configure(lm=server.lm(engine="litellm"), adapter=dspy.ChatAdapter())
    with record(path):
        assert qa(question="Why?").answer == "one two three"
        assert asyncio.run(qa.acall(question="Why not?")).answer == "one two three"
    assert all(request.streaming for request in server.requests)
assert sys.modules["httpx"] is httpx2
tokens = [e.token for e in sink.events if e.event_type == "token" and e.token]
assert tokens == ["one", " two", " three"] * 2, tokens
with replay(path, speed=math.inf) as played:
    assert qa(question="Why?").answer == "one two three"
    assert asyncio.run(qa.acall(question="Why not?")).answer == "one two three"
assert played.unused == []
"""


def test_a_program_whose_litellm_sends_through_httpx2(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "run.jsonl")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
