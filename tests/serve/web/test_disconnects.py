"""X11: who leaves stops the provider at once: nothing on the way polls or waits for its turn."""

from __future__ import annotations

import json
import socket
import statistics

import dspy
import pytest
from fastapi import FastAPI
from patience import Stopwatch

import streamll
from streamll.serve import create_app

LEAVES = 9
SOON = 0.05
"""Measured: below a millisecond, at a load of eighteen on two cores. The median bears a busy
machine, and anything that looks every so often is seen in it."""

SIGNATURE = "question -> answer"
WORDS = " ".join(f"word{n}" for n in range(4000))
"""More than a reader on a busy machine leaves the time to say."""


class Blocking(dspy.Module):
    """A program without ``aforward``: it runs in a thread of its own."""

    def __init__(self):
        super().__init__()
        self.qa = dspy.Predict(SIGNATURE)

    def forward(self, question):
        return self.qa(question=question)


def own_route(program, log):
    app = FastAPI()

    @app.get("/ask")
    async def ask(question: str):
        return streamll.sse_response(program, question=question)

    return app, lambda client: ("GET", "/ask?question=q", None)


def run_of_a_server(program, log):
    def start(client):
        run = client.post("/runs", json={"inputs": {"question": "q"}}).json()
        return "GET", run["events"] + "?stop_on_leave=1", None

    return create_app(program, log=log), start


def openai_wire(program, log):
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "q"}]}
    return create_app(program, log=log), lambda client: ("POST", "/v1/chat/completions", body)


def open_until_tokens_come(server, method, path, body):
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    content = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"content-length: {len(content)}\r\n\r\n"
    )
    connection.sendall(head.encode() + content)
    seen = b""
    while seen.count(b"word") < 3:
        more = connection.recv(2**16)
        assert more, seen
        seen += more
    return connection


@pytest.mark.parametrize("program", [lambda: dspy.Predict(SIGNATURE), Blocking])
@pytest.mark.parametrize("way", [own_route, run_of_a_server, openai_wire])
def test_leaving_closes_the_providers_connection_at_once(practice, lm, serve, log, way, program):
    practice.pace = 0.02
    app, ask = way(program(), log)
    server = serve(app)
    took = []
    with server.client() as client:
        for number in range(LEAVES):
            practice.script({"answer": WORDS})
            connection = open_until_tokens_come(server, *ask(client))
            watch = Stopwatch()
            connection.close()
            practice.wait_for(lambda n=number: practice.requests[n].client_closed_at)
            took.append(watch.until(practice.requests[number].client_closed_at))
    assert statistics.median(took) < SOON
