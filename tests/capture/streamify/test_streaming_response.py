"""A global streamified object in a web application, under a real server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading

import anyio
import dspy
import pytest
import uvicorn
from patience import BOUND
from profiles import THOROUGH
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

import streamll
from streamll.testing import Reply


@pytest.fixture
def served(practice, lm):
    """The address of an application with one streamified object for all requests."""
    streaming = streamll.streamify(
        dspy.Predict("question -> answer"), stream_listeners=[streamll.StreamListener("answer")]
    )
    asynchronous = streamll.streamify(
        dspy.Predict("question -> answer"),
        stream_listeners=[streamll.StreamListener("answer")],
        is_async_program=True,
    )

    async def ask(request):
        question = request.query_params["q"]
        each = asynchronous if request.query_params.get("async") else streaming
        with dspy.context(lm=practice.lm(), adapter=dspy.JSONAdapter()):
            frames = streamll.streaming_response(each(question=question))
        return StreamingResponse(frames, media_type="text/event-stream")

    def ask_in_a_thread(request):
        frames = streamll.streaming_response(streaming(question=request.query_params["q"]))
        return StreamingResponse(frames, media_type="text/event-stream")

    app = Starlette(routes=[Route("/ask", ask), Route("/thread", ask_in_a_thread)])
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(256)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(60)


async def get(url: str, path: str) -> list[dict]:
    """What a browser would have made of the events."""
    host, port = url.removeprefix("http://").split(":")
    async with await anyio.connect_tcp(host, int(port)) as connection:
        await connection.send(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        received = b""
        with contextlib.suppress(anyio.EndOfStream):
            while True:
                received += await connection.receive()
    frames = received.decode().partition("\r\n\r\n")[2].split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""], frames
    return [json.loads(frame.removeprefix("data: ")) for frame in frames[:-2]]


def echo(request):
    word = request.inputs["question"]
    return Reply({"answer": " ".join([word] * 30)}, packets=True, pace=0.002)


@pytest.mark.parametrize("path", ["/ask?q={}", "/ask?async=1&q={}", "/thread?q={}"])
def test_many_requests_at_once(practice, served, path):
    """B9, C2: each gets its own answer, whole, in pieces."""
    practice.respond(echo)

    async def main():
        words = [f"w{number}" for number in range(100 if THOROUGH else 15)]
        return words, await asyncio.gather(*(get(served, path.format(word)) for word in words))

    words, answers = asyncio.run(asyncio.wait_for(main(), 5 * BOUND))
    for word, events in zip(words, answers, strict=True):
        expected = " ".join([word] * 30)
        chunks = [event["response"]["chunk"] for event in events if "response" in event]
        assert "".join(chunks) == expected
        assert len(chunks) > 10
        assert events[-1] == {"prediction": {"answer": expected}}


def test_a_client_that_leaves_stops_its_provider(practice, served):
    """X7."""
    practice.respond(
        lambda request: Reply({"answer": "on and on " * 2000}, packets=True, pace=0.01)
    )

    async def main():
        host, port = served.removeprefix("http://").split(":")
        async with await anyio.connect_tcp(host, int(port)) as connection:
            await connection.send(f"GET /ask?q=x HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
            await connection.receive()
            await connection.receive()

    asyncio.run(asyncio.wait_for(main(), 60))
    (request,) = practice.wait_for_requests(1)
    request.wait_closed()
    assert request.finished_at is None
