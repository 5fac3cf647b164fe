"""Questions where a page reads them: over a WebSocket, in routes of one's own, and on OpenAI's wires."""

from __future__ import annotations

import functools
import json
from contextlib import contextmanager
from typing import Annotated, Any

import dspy
import openai
import pytest
import websockets.sync.client as ws
from fastapi import Body, FastAPI

import streamll
from serve.serving import Frame
from streamll.serve import create_app, run_token

TOKEN = "secret-token-of-the-server"
connect = functools.partial(ws.connect, open_timeout=60)


class Asks(dspy.Module):
    """Asks twice: the first question may be declined, the second may not."""

    async def aforward(self, question):
        first = await streamll.ask_async("How many?", schema=int, default=0)
        second = await streamll.ask_async("Sure?", schema=bool)
        return dspy.Prediction(answer=f"{first} {second}")


def until(socket, kind):
    """The next message of this kind."""
    while (event := json.loads(socket.recv(timeout=60)))["event_type"] != kind:
        pass
    return event


def test_a_websocket_answers_at_any_process_for_who_may(serve, log, monkeypatch):
    # However busy the machine: the other process knows the run, and hears what came of an answer.
    monkeypatch.setattr("streamll.serve.runner.LOGGED_S", 60)
    monkeypatch.setattr("streamll.serve.routes.answers.HEARD_S", 60)
    options = {"log": log, "secret": "s", "tokens": [TOKEN]}
    one, two = (serve(create_app({"asks": Asks()}, **options)) for _ in range(2))
    key = {"authorization": f"Bearer {TOKEN}"}
    with one.client() as client:
        run = client.post("/runs", json={"inputs": {"question": "q"}}, headers=key).json()
    address = f"ws://127.0.0.1:{two.port}/runs/{run['run_id']}/ws?token="

    def say(socket, **message):
        socket.send(json.dumps(message))
        told = until(socket, "stream.answer")
        assert "seq" not in told
        return told["data"]

    with connect(address + run_token("s", run["run_id"])) as socket:
        asked = until(socket, "question")["question_id"]
        refused = say(socket, type="answer", question_id=asked, value=3)
        assert (refused["status"], refused["error"]) == (403, "you may not answer this run")
    with connect(address + run["answer_token"]) as socket:
        asked = until(socket, "question")["question_id"]
        named = {"question_id": asked}
        for wrong in (
            {"type": "answer", **named},
            {"type": "decline", "value": 3, **named},
            {"type": "answer", "value": 3},
        ):
            assert say(socket, **wrong)["status"] == 400
        for nonsense in ("[]", "{", '{"type": []}', '"answer"'):
            socket.send(nonsense)
        wrong = say(socket, type="answer", question_id=asked, value="many")
        assert (wrong["status"], wrong["problems"][0]["place"]) == (422, "answer")
        assert say(socket, type="answer", question_id="none", value=3)["status"] == 404
        assert say(socket, type="decline", question_id=asked)["status"] == 200
        late = say(socket, type="answer", question_id=asked, value=3)
        assert (late["status"], late["outcome"]) == (409, "withdrawn")
        with connect(f"ws://127.0.0.1:{one.port}/runs/{run['run_id']}/ws?token={TOKEN}") as here:
            until(here, "answer")
            sure = until(here, "question")["question_id"]
            here.send(json.dumps({"type": "answer", "question_id": sure, "value": True}))
            assert until(here, "answer")["value"] is True
            until(here, "run.end")
        until(socket, "run.end")


@pytest.mark.parametrize("logged", [False, True])
@pytest.mark.parametrize("form", ["native", "agui", "vercel-7"])
def test_a_route_of_ones_own_answers_by_another(serve, log, form, logged):
    app, place = FastAPI(), {"log": log} if logged else {}

    @app.post("/ask")
    async def ask():
        return streamll.sse_response(Asks(), format=form, question="q", **place)

    @app.post("/answer/{run_id}/{question_id}")
    async def answer(run_id: str, question_id: str, value: Annotated[Any, Body(embed=True)]):
        streamll.answer(run_id, question_id, value)

    def question_in(frame):
        told = json.loads(frame.data) if (frame.data or "")[:1] == "{" else {}
        kinds = told.get("event_type"), told.get("name"), told.get("type")
        found = told.get({"agui": "value", "vercel-7": "data"}.get(form), told)
        asks = "question" in kinds or "data-question" in kinds
        return found if asks and found.get("state", "open") == "open" else None

    with serve(app).client() as client, client.stream("POST", "/ask") as response:
        answers, ended = [7, True], ""
        text = ""
        for piece in response.iter_text():
            *frames, text = (text + piece).split("\n\n")
            for frame in map(Frame, frames):
                ended = frame.data or ended
                if question := question_in(frame):
                    path = f"/answer/{question['run_id']}/{question['question_id']}"
                    assert client.post(path, json={"value": answers.pop(0)}).status_code == 200
        assert answers == []
    assert {"native": "run.end", "agui": "RUN_FINISHED", "vercel-7": "[DONE]"}[form] in ended


def test_openais_wires_have_no_place_for_a_question(serve, log):
    class Once(dspy.Module):
        async def aforward(self, question):
            default = {"default": 3} if question == "default" else {}
            count = await streamll.ask_async("How many?", schema=int, **default)
            return dspy.Prediction(answer=f"{count}")

    streamll.configure(include=["outputs"])
    server = serve(create_app({"qa": Once()}, log=log))
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)

    @contextmanager
    def fails():
        with pytest.raises(openai.APIError, match="no place for questions"):
            yield

    def ask(text, **more):
        messages = [{"role": "user", "content": text}]
        return client.chat.completions.create(model="qa", messages=messages, **more)

    try:
        ask("default")
        list(ask("default", stream=True))
        with fails():
            ask("q")
        with fails():
            list(ask("q", stream=True))
        response = client.responses.create(model="qa", input="q")
        assert (response.status, "no place for questions" in str(response.error)) == (
            "failed",
            True,
        )
        assert client.responses.create(model="qa", input="default").status == "completed"
    finally:
        streamll.configure(include=[])
