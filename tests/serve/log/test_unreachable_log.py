"""X0b, X10: the log's broker is down, goes down in the middle, and comes back."""

from __future__ import annotations

import contextlib
import functools
import json
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor

import dspy
import httpx
import openai
import pytest
import websockets.sync.client as ws
from fastapi import FastAPI
from starlette.websockets import WebSocket
from websockets.exceptions import ConnectionClosedError

import streamll
from brokers import servers
from serve.serving import Frame, events_of, frames, text_of, wait_until
from streamll.serve import Limits, create_app
from streamll.serve.log import run_log
from streamll.serve.routes import open_streams
from streamll.testing import Reply

WORDS = " ".join(f"word{n}" for n in range(60))
SIGNATURE = "question -> answer"
AWAY_SECONDS = 0.5
connect = functools.partial(ws.connect, open_timeout=60)


@pytest.fixture
def broker(tmp_path):
    """Not started yet; keeps what it was told when it is stopped."""
    server = servers.RedisServer(tmp_path, servers.redis_binary())
    yield server
    if server.process is None:
        server.start()
    for streams in list(
        open_streams._of_loops.values()
    ):  # what still waits to be written is written
        for runner in streams.runners.values():
            assert runner.run_log.sink.stop(60)
    server.stop()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(open_streams, "AWAY_S", AWAY_SECONDS)
    monkeypatch.setattr(run_log, "START_S", 60)  # a busy machine connects late


def rest_of(socket):
    """What a WebSocket still says before it is closed, whatever the code."""
    messages = []
    with contextlib.suppress(ConnectionClosedError):
        for message in socket:
            messages.append(message)
    return messages


def routes(log, **options):
    program, app = dspy.Predict(SIGNATURE), FastAPI()

    @app.get("/ask")
    async def ask(form: str = "native"):
        return streamll.sse_response(program, question="q", log=log, format=form, **options)

    @app.websocket("/ws")
    async def socket(websocket: WebSocket):
        await streamll.websocket_stream(websocket, program, question="q", log=log)

    return app


def refused(answer):
    assert answer.status_code == 503, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["retry-after"] == "1"
    return answer.json()["error"]


def test_a_log_that_is_down_is_503_and_one_that_came_back_serves(
    practice, lm, broker, serve, monkeypatch
):
    monkeypatch.setattr(run_log, "START_S", 0.2)
    practice.script({"answer": WORDS})
    server = serve(routes(broker.url))
    with server.client() as client:
        assert refused(client.get("/ask")) == "the log cannot be read"
        again = {"last-event-id": f"{'a' * 32}:3"}
        assert refused(client.get("/ask", headers=again)) == "the log cannot be read"
        with connect(f"ws://127.0.0.1:{server.port}/ws") as socket:
            assert rest_of(socket) == []
            assert (socket.protocol.close_code, socket.protocol.close_reason) == (
                1013,
                "the log cannot be read",
            )
        assert practice.requests == [], "nobody could have followed it"
        broker.start()
        wait_until(lambda: client.get("/ask", headers=again).status_code == 404)
        assert text_of(events_of(client, "/ask")) == WORDS
        broker.stop()
        wait_until(lambda: client.get("/ask").status_code == 503)
        refused(client.get("/ask", headers=again))


def test_a_finished_reader_gets_204_and_an_unknown_run_404(practice, lm, log, serve):
    practice.script({"answer": "yes"})
    with serve(routes(log)).client() as client:
        with client.stream("GET", "/ask") as response:
            *_, last = frames(response)
        assert client.get("/ask", headers={"last-event-id": last.id}).status_code == 204
        answer = client.get("/ask", headers={"last-event-id": f"{'a' * 32}:3"})
        assert (answer.status_code, answer.json()) == (404, {"error": "there is no such run"})
        assert client.get("/ask", headers={"last-event-id": "?"}).status_code == 400


def held(practice):
    practice.script(Reply({"answer": WORDS}, hold_after=30))


def read_until_held(coming, had):
    for frame in coming:
        had.append(frame)
        if "word5" in text_of([f.event for f in had]):
            return


def test_a_stream_whose_log_goes_away_ends_with_an_error_and_is_resumed(
    practice, lm, broker, serve
):
    held(practice)
    broker.start()
    had = []
    with serve(routes(broker.url)).client() as client:
        with client.stream("GET", "/ask") as response:
            coming = frames(response)
            read_until_held(coming, had)
            broker.stop()
            *_, error = coming
        assert error.id is None, "who comes back must come back to the last real event"
        told = error.event
        assert told["event_type"] == "stream.error"
        assert told["data"] == {"error_type": "LogAway", "message": "the log cannot be read"}
        back = {"last-event-id": had[-1].id}
        refused(client.get("/ask", headers=back))
        practice.release()
        broker.start()
        wait_until(lambda: client.get("/ask", headers={"last-event-id": "b:1"}).status_code == 404)
        rest = events_of(client, "/ask", headers=back)
    assert text_of([*(frame.event for frame in had), *rest]) == WORDS
    assert rest[-1]["event_type"] == "run.end"
    assert len(practice.requests) == 1


def test_a_log_that_is_away_for_a_moment_is_waited_for(practice, lm, broker, serve, monkeypatch):
    monkeypatch.setattr(open_streams, "AWAY_S", 300.0)  # a broker may take its time to start
    held(practice)
    broker.start()
    had = []
    with serve(routes(broker.url)).client() as client:
        with client.stream("GET", "/ask") as response:
            coming = frames(response)
            read_until_held(coming, had)
            broker.stop()
            practice.release()
            broker.start()
            had += coming
    events = [frame.event for frame in had]
    assert text_of(events) == WORDS
    assert events[-1]["event_type"] == "run.end"


@pytest.mark.parametrize(
    ("form", "closing", "error"),
    [
        ("vercel", '"type":"text-end"', '"errorText":"the log cannot be read"'),
        ("agui", '"type":"TEXT_MESSAGE_END"', '"code":"LogAway"'),
        ("openai", "word5", '"type":"LogAway"'),
        ("responses", "word5", '"type":"error","sequence_number"'),
    ],
)
def test_the_other_wires_close_what_is_open_and_tell_their_error(
    practice, lm, broker, serve, form, closing, error
):
    held(practice)
    broker.start()
    with serve(routes(broker.url)).client() as client:
        with client.stream("GET", f"/ask?form={form}") as response:
            body = ""
            for text in response.iter_text():
                body += text
                if broker.process is not None and "word5" in body:
                    broker.stop()
    told = [frame.data for frame in map(Frame, body.split("\n\n")) if frame.data]
    if form in {"vercel", "openai"}:
        assert told.pop() == "[DONE]"
    assert error in told[-1]
    assert any(closing in each for each in told[:-1])
    practice.release()


def test_a_websocket_closes_with_try_again_later_while_the_log_is_away(practice, lm, broker, serve):
    held(practice)
    broker.start()
    server = serve(routes(broker.url))
    with connect(f"ws://127.0.0.1:{server.port}/ws") as socket:
        while "word5" not in socket.recv(timeout=60):
            pass
        broker.stop()
        *_, last = rest_of(socket)
        assert json.loads(last)["event_type"] == "stream.error"
        assert socket.protocol.close_code == 1013
    practice.release()


def test_every_route_answers_503_while_the_log_is_away(practice, lm, broker, serve):
    held(practice)
    broker.start()
    limits = Limits(away_seconds=AWAY_SECONDS, lost_seconds=1.0)
    server = serve(create_app(dspy.Predict(SIGNATURE), log=broker.url, limits=limits))
    had = []
    with server.client() as client:
        run = client.post("/runs", json={"inputs": {"question": "q"}}).json()
        with client.stream("GET", run["events"]) as response:
            coming = frames(response)
            read_until_held(coming, had)
            broker.stop()
            *_, error = coming
        assert error.event["event_type"] == "stream.error"
        refused(client.get(run["events"], headers={"last-event-id": had[-1].id}))
        refused(client.get(run["url"]))
        with connect(f"ws://127.0.0.1:{server.port}{run['websocket']}") as socket:
            assert rest_of(socket) == []
            assert socket.protocol.close_code == 1013, "a browser that reads this comes back later"
        refused(client.post("/runs", json={"inputs": {"question": "q"}}))
        chat = {"messages": [{"role": "user", "content": "q"}]}
        refused(client.post("/ai", json=chat))
        refused(client.post("/agui", json=chat))
        sdk = openai.OpenAI(
            api_key="none", base_url=f"{server.url}/v1", max_retries=0,
            http_client=httpx.Client(trust_env=False),
        )  # fmt: skip
        with pytest.raises(openai.InternalServerError, match="the log cannot be read"):
            sdk.chat.completions.create(model="m", **chat)
        for ask in (
            lambda: sdk.responses.create(model="m", input="q"),
            lambda: sdk.responses.retrieve("resp_" + "0" * 64),
            lambda: sdk.responses.cancel("resp_" + "0" * 64),
        ):
            with pytest.raises(openai.InternalServerError, match="the log cannot be read"):
                ask()
        time.sleep(1.5 * limits.lost_seconds)  # nothing heard meanwhile is nobody's fault
        practice.release()
        broker.start()
        wait_until(lambda: client.get("/healthz").status_code == 200)
        rest = events_of(client, run["events"], headers={"last-event-id": had[-1].id})
        assert text_of([*(frame.event for frame in had), *rest]) == WORDS
        assert rest[-1]["event_type"] == "run.end"


def test_a_run_that_the_log_takes_late_is_there_for_who_asks(practice, lm, log, serve, monkeypatch):
    """It was accepted, so nobody is told that there is no such run."""
    monkeypatch.setattr("streamll.serve.runner.LOGGED_S", 0.01)
    monkeypatch.setattr("streamll.serve.runner.APPEARS_S", 0.01)
    practice.script({"answer": WORDS}, {"answer": WORDS})
    app = create_app(dspy.Predict(SIGNATURE), log=log)
    with serve(app).client() as client, ThreadPoolExecutor(1) as pool:
        first = client.post("/runs", json={"inputs": {"question": "q"}}).json()
        assert text_of(events_of(client, first["events"])) == WORDS
        path = log.removeprefix("sqlite:///")
        with contextlib.closing(sqlite3.connect(path, timeout=60)) as other:
            other.execute("BEGIN IMMEDIATE")  # nobody else writes
            late = client.post("/runs", json={"inputs": {"question": "q"}}).json()
            wait_until(lambda: late["run_id"] not in app.service.runner.running, what="its end")
            reading = pool.submit(events_of, client, late["events"])
            wait_until(lambda: late["run_id"] in app.service.run_log.buffers or reading.done())
            other.rollback()
        assert text_of(reading.result()) == WORDS
