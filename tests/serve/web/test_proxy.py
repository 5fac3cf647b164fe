"""docs/proxy.md: through nginx, tokens still arrive one by one, whatever its settings."""

from __future__ import annotations

import json
import re
from pathlib import Path

import dspy
import httpx
import pytest
import websockets.sync.client as ws
from fastapi import FastAPI

import streamll
from serve.nginx import Nginx
from serve.serving import frames, text_of
from streamll.serve import create_app
from streamll.testing import Reply

WORDS = " ".join(f"word{n}" for n in range(30))
DOCS = Path(__file__).parents[3] / "docs" / "proxy.md"
HEADER_CHUNKS = 7
"""So many chunks come before the first word of an answer."""
GZIP = "gzip on; gzip_types *; gzip_proxied any; gzip_min_length 0;"


@pytest.fixture
def proxied(tmp_path):
    running = []

    def start(upstream, **settings):
        folder = tmp_path / f"nginx{len(running)}"
        folder.mkdir()
        running.append(Nginx(folder, upstream, **settings))
        return running[-1]

    yield start
    for each in running:
        each.stop()


def documented():
    """The location block that the docs recommend."""
    block = re.search(r"```nginx\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)[1]
    inside = re.search(r"location / \{(.*?)\n    \}", block, re.DOTALL)[1]
    return re.sub(r"proxy_pass [^;]*;", "", inside)


@pytest.mark.parametrize(
    "settings",
    [{}, {"server": GZIP}, {"location": "proxy_buffering on; proxy_buffers 16 64k;"}, "documented"],
    ids=["default", "gzip", "buffering", "documented"],
)
def test_tokens_arrive_one_by_one(practice, lm, serve, proxied, settings):
    program = dspy.Predict("question -> answer")
    app = FastAPI()

    @app.get("/ask")
    async def ask():
        return streamll.sse_response(program, question="q")

    settings = {"location": documented()} if settings == "documented" else settings
    proxy = proxied(serve(app).port, **settings)
    for words in (1, 2, 3, 12):
        practice.script(Reply({"answer": WORDS}, hold_after=HEADER_CHUNKS + words))
        with (
            httpx.Client(trust_env=False, timeout=60) as client,
            client.stream("GET", f"{proxy.url}/ask") as response,
        ):
            coming, events = frames(response), []
            for frame in coming:
                events.append(frame.event)
                if len(text_of(events).split()) == words:
                    break  # it is here although nothing comes behind it
            assert practice.requests[-1].finished_at is None
            practice.release()
            events += [frame.event for frame in coming]
        assert text_of(events) == WORDS
        assert ("content-encoding" in response.headers) == (settings.get("server") == GZIP)


def test_leaving_reaches_through_the_proxy(practice, lm, serve, proxied):
    """X7"""
    practice.pace = 0.02
    practice.script({"answer": WORDS * 200})  # it does not end by itself before that
    program = dspy.Predict("question -> answer")
    app = FastAPI()

    @app.get("/ask")
    async def ask():
        return streamll.sse_response(program, question="q")

    proxy = proxied(serve(app).port)
    with (
        httpx.Client(trust_env=False, timeout=60) as client,
        client.stream("GET", f"{proxy.url}/ask") as response,
    ):
        next(f for f in frames(response) if f.event["event_type"] == "token")
    practice.wait_for(lambda: practice.requests[0].client_closed_at is not None)


def test_the_documented_settings_carry_websockets(practice, lm, serve, proxied, log):
    practice.script({"answer": WORDS})
    app = create_app(dspy.Predict("question -> answer"), log=log, hosts=["127.0.0.1"])
    proxy = proxied(serve(app).port, location=documented())
    with httpx.Client(base_url=proxy.url, trust_env=False, timeout=60) as client:
        run = client.post("/runs", json={"inputs": {"question": "q"}}).json()
    address = f"ws://127.0.0.1:{proxy.port}{run['websocket']}"
    with ws.connect(address, open_timeout=60) as socket:
        assert text_of([json.loads(message) for message in socket]) == WORDS
