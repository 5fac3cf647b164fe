"""X0b: one line in a route of one's own; leaving stops the provider, a log lets one come back."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from urllib.parse import quote

import dspy
import httpx
import pytest
import websockets.sync.client as ws
from fastapi import FastAPI
from patience import Stopwatch
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from starlette.websockets import WebSocket
from websockets.exceptions import ConnectionClosed

import streamll
from serve.npm import run_node
from serve.serving import events_of, frames, text_of, wait_until
from streamll.core.ordering import OrderCheck
from streamll.core.wire import from_dict
from streamll.testing import Reply

WORDS = " ".join(f"word{n}" for n in range(60))
SIGNATURE = "question -> answer"
connect = functools.partial(ws.connect, open_timeout=60)


def app_for(program, **options):
    app = FastAPI()

    @app.get("/ask")
    async def ask(question: str):
        return streamll.sse_response(program, question=question, **options)

    @app.websocket("/ws")
    async def socket(websocket: WebSocket, question: str):
        await streamll.websocket_stream(websocket, program, question=question, **options)

    return app


class Blocking(dspy.Module):
    """A program without ``aforward``: it runs in a thread of its own."""

    def __init__(self):
        super().__init__()
        self.qa = dspy.Predict(SIGNATURE)

    def forward(self, question):
        return self.qa(question=question)


def test_a_route_streams_a_program(practice, lm, serve):
    """X0b"""
    practice.script({"answer": WORDS})
    server = serve(app_for(dspy.Predict(SIGNATURE)))
    with server.client() as client, client.stream("GET", "/ask?question=q") as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["cache-control"] == "no-cache, no-transform"
        assert response.headers["x-accel-buffering"] == "no"
        got = list(frames(response))
    assert text_of([frame.event for frame in got]) == WORDS
    assert [frame.event["event_type"] for frame in got][:: len(got) - 1] == ["run.start", "run.end"]
    run_id = got[0].event["run_id"]
    assert all(frame.id.startswith(f"{run_id}:") for frame in got)


def test_starlette_does_too_and_tokens_come_while_the_model_talks(practice, lm, serve):
    practice.script(Reply({"answer": WORDS}, hold_after=20))  # it has not said everything
    program = Blocking()
    app = Starlette(
        routes=[Route("/ask", lambda request: streamll.sse_response(program, question="q"))]
    )
    server = serve(app)
    with server.client() as client, client.stream("GET", "/ask") as response:
        first = next(f for f in frames(response) if f.event["event_type"] == "token")
        assert first.event["token"]
        assert practice.requests[0].finished_at is None


@pytest.mark.parametrize("program", [lambda: dspy.Predict(SIGNATURE), Blocking])
@pytest.mark.parametrize("kind", ["sse", "ws"])
def test_leaving_stops_the_provider(practice, lm, serve, program, kind):
    """X0b, X7: within 100 ms, measured in ``test_disconnects.py``; here with room."""
    practice.pace = 0.02
    practice.script(Reply({"answer": WORDS * 100}))  # it does not end by itself before that
    server = serve(app_for(program()))
    if kind == "sse":
        with server.client() as client, client.stream("GET", "/ask?question=q") as response:
            next(f for f in frames(response) if f.event["event_type"] == "token")
        watch = Stopwatch()
    else:
        with connect(f"ws://127.0.0.1:{server.port}/ws?question=q") as socket:
            while json.loads(socket.recv(timeout=60))["event_type"] != "token":
                pass
        watch = Stopwatch()
    request = practice.requests[0]
    practice.wait_for(lambda: request.client_closed_at is not None)
    assert watch.until(request.client_closed_at) < 1.0


def test_a_silent_provider_is_stopped_as_well(practice, lm, serve):
    """X7: nothing comes, so nobody would notice by sending."""
    practice.script(Reply({"answer": WORDS}, hold_after=0))
    server = serve(app_for(Blocking()))
    with server.client() as client, client.stream("GET", "/ask?question=q") as response:
        coming = frames(response)  # kept: a generator that is dropped closes the response
        while next(coming).event["event_type"] != "lm.start":
            pass
        practice.wait_for(lambda: practice.requests)
    watch = Stopwatch()
    practice.wait_for(lambda: practice.requests[0].client_closed_at is not None)
    assert watch.until(practice.requests[0].client_closed_at) < 1.0


def test_a_reader_that_takes_nothing_stops_the_reading_of_the_provider(practice, lm, serve):
    """B7 over HTTP: what waits is bounded."""
    practice.script(Reply({"answer": "x" * 80 + " " + " ".join(["word"] * 400_000)}))
    server = serve(app_for(Blocking()))
    with server.client() as client, client.stream("GET", "/ask?question=q") as response:
        coming = frames(response)
        next(coming)
        sent = -1
        [request] = practice.wait_for_requests(1)
        while sent != request.frames_sent or not sent:  # until nothing moves any more
            sent, _ = request.frames_sent, time.sleep(1.0)
        assert request.finished_at is None
        assert sent < 200_000
        coming.close()


@pytest.mark.parametrize("form", ["vercel", "agui", "openai", "responses"])
def test_every_format_can_be_asked_for(practice, lm, serve, form):
    """X11"""
    practice.script({"reasoning": "because", "answer": WORDS})
    server = serve(app_for(dspy.ChainOfThought(SIGNATURE), format=form))
    with server.client() as client, client.stream("GET", "/ask?question=q") as response:
        headers = response.headers
        body = "".join(response.iter_text())
    assert ("x-vercel-ai-ui-message-stream" in headers) == (form == "vercel")
    assert ("[DONE]" in body) == (form in {"vercel", "openai"})
    assert ("event: response.completed\n" in body) == (form == "responses")
    assert "word59" in body


# --- what the client's own request says -----------------------------------------------------------


def posted_app(program, **options):
    """Routes for clients that post requests of their own."""
    app = FastAPI()

    @app.post("/{form}")
    async def ask(form: str, request: Request):
        body = json.loads(await request.body())
        return streamll.sse_response(
            program, format=form, request_body=body, question="q", **options
        )

    @app.websocket("/{form}")
    async def talk(websocket: WebSocket, form: str, body: str):
        await streamll.websocket_stream(
            websocket, program, format=form, request_body=json.loads(body), question="q"
        )

    return app


AGUI_ASK = {
    "threadId": "th",
    "runId": "r1",
    "messages": [{"id": "u", "role": "user", "content": "q"}],
}

AGUI_CLIENT = """
import fs from 'fs';
import {HttpAgent} from '@ag-ui/client';
const url = JSON.parse(fs.readFileSync(0, 'utf8')), seen = [];
const agent = new HttpAgent({url, threadId: 'th', initialState: {kept: 1},
  initialMessages: [{id: 'u', role: 'user', content: 'q'}]});
await agent.runAgent({runId: 'r1'}, {onEvent: ({event}) => { seen.push(event); }});
console.log(JSON.stringify({seen, messages: agent.messages, state: agent.state}));
"""


def test_ag_uis_own_client_gets_its_ids_state_and_version_in_a_route_of_ones_own(
    practice, lm, serve
):
    practice.script({"answer": "in a word"})
    server = serve(posted_app(dspy.Predict(SIGNATURE)))
    read = run_node(AGUI_CLIENT, f"{server.url}/agui")
    first, *_, last = read["seen"]
    for event in (first, last):
        assert (event["threadId"], event["runId"]) == ("th", "r1")
    assert last["outcome"] == {"type": "success"}
    assert [message.get("content") for message in read["messages"]] == ["q", "in a word"]
    assert read["state"]["kept"] == 1


@pytest.mark.parametrize("version", [None, "0.9", "1.0"])
def test_the_version_that_an_ag_ui_client_declares_is_minded(practice, lm, serve, version):
    """A cancelled run is an outcome since 1.0; before, it is an error."""
    practice.script(Reply({"answer": WORDS}, hold_after=20))  # it does not end by itself
    body = AGUI_ASK if version is None else {**AGUI_ASK, "protocolVersion": version}
    server = serve(posted_app(dspy.Predict(SIGNATURE)))
    address = f"ws://127.0.0.1:{server.port}/agui?body={quote(json.dumps(body))}"
    with connect(address) as socket:
        told = [json.loads(socket.recv(timeout=60))]
        while told[-1]["type"] != "TEXT_MESSAGE_CONTENT":
            told.append(json.loads(socket.recv(timeout=60)))
        socket.send(json.dumps({"type": "cancel"}))
        while not told[-1]["type"].startswith("RUN_") or len(told) == 1:
            told.append(json.loads(socket.recv(timeout=60)))
    assert told[0]["threadId"] == "th"
    assert (told[-1]["type"] == "RUN_FINISHED") == (version == "1.0")


def test_each_wire_is_asked_in_its_own_words(practice, lm, serve):
    server = serve(posted_app(dspy.ChainOfThought(SIGNATURE)))
    with server.client() as client:

        def told(form, body):
            practice.script({"reasoning": "because", "answer": "yes"})
            answer = client.post(f"/{form}", json=body)
            assert answer.status_code == 200, answer.text
            return answer.text

        chat = {"model": "mine", "messages": []}
        assert '"model":"mine"' in told("openai", chat)
        assert '"prompt_tokens"' not in told("openai", chat)
        assert '"prompt_tokens"' in told(
            "openai", {**chat, "stream_options": {"include_usage": True}}
        )
        assert "reasoning_content" in told("openai", {**chat, "include_reasoning": True})
        assert '"obfuscation"' not in told("responses", {"input": "q"})
        assert '"obfuscation"' in told(
            "responses", {"input": "q", "stream_options": {"include_obfuscation": True}}
        )
        assert '"finishReason"' in told("vercel", {"ai_version": 7}).rpartition('"finish"')[2]
        assert '"event_type":"run.end"' in told("native", {"anything": 1})


@pytest.mark.parametrize(
    ("form", "body", "what"),
    [
        ("agui", {"threadId": 5, "messages": []}, "threadId"),
        ("agui", [], "must be an object"),
        ("vercel", {"ai_version": 4}, "ai_version is one of 5, 6, 7"),
        ("openai", {"stream_options": 5}, "stream_options is an object"),
    ],
)
def test_a_body_that_is_none_of_the_wire_is_refused(practice, lm, serve, form, body, what):
    server = serve(posted_app(dspy.Predict(SIGNATURE)))
    with server.client() as client:
        answer = client.post(f"/{form}", json=body)
    assert answer.status_code == 400
    assert what in answer.json()["error"]
    address = f"ws://127.0.0.1:{server.port}/{form}?body={quote(json.dumps(body))}"
    with connect(address) as socket, pytest.raises(ConnectionClosed) as closed:
        socket.recv(timeout=60)
    assert closed.value.rcvd.code == 1008
    assert not practice.requests


def test_the_programs_error_is_reported(practice, lm, serve):
    class Failing(dspy.Module):
        def forward(self, question):
            raise KeyError("no such thing")

    server = serve(app_for(Failing()))
    with server.client() as client:
        *_, last = events_of(client, "/ask?question=q")
    assert (last["event_type"], last["error_type"]) == ("run.error", "KeyError")


def test_an_unknown_field_fails_in_the_route(lm):
    with pytest.raises(streamll.UnknownFieldError, match="answer"):
        streamll.sse_response(dspy.Predict(SIGNATURE), fields=["nope"], question="q")
    with pytest.raises(streamll.UnknownFieldError, match="Did you mean 'answer'"):
        streamll.sse_response(dspy.Predict(SIGNATURE), reply="anwser", question="q")
    streamll.sse_response(lambda question: question, reply="anwser", question="q")  # it may have


def test_inputs_may_have_the_names_of_options(practice, lm, serve):
    practice.script({"answer": "yes"})
    program = dspy.Predict("format, log -> answer")
    app = FastAPI()

    @app.get("/ask")
    async def ask():
        return streamll.sse_response(program, inputs={"format": "a", "log": "b"})

    with serve(app).client() as client:
        assert text_of(events_of(client, "/ask")) == "yes"


def test_silence_is_filled_with_comments(practice, lm, serve):
    practice.script(Reply({"answer": "yes"}, hold_after=0))
    server = serve(app_for(dspy.Predict(SIGNATURE), heartbeat=0.1))
    with server.client() as client, client.stream("GET", "/ask?question=q") as response:
        body = ""
        for text in response.iter_text():
            body += text
            if body.count("\n: \n\n") >= 3:
                practice.release()
    assert body.count(": \n\n") >= 3


def test_without_a_log_a_browser_that_comes_back_does_not_start_anew(practice, lm, serve):
    server = serve(app_for(dspy.Predict(SIGNATURE)))
    with server.client() as client:
        answer = client.get("/ask?question=q", headers={"last-event-id": f"{'a' * 32}:3"})
    assert answer.status_code == 204
    assert practice.requests == []


def test_with_a_log_the_run_goes_on_and_another_process_resumes_it(practice, lm, serve, log):
    """X0b, X10"""
    practice.pace = 0.01
    practice.script({"answer": WORDS * 3})
    program = dspy.Predict(SIGNATURE)
    first, second = (serve(app_for(program, log=log)) for _ in range(2))
    had = []
    with first.client() as client, client.stream("GET", "/ask?question=q") as response:
        for frame in frames(response):
            had.append(frame)
            if sum(f.event["event_type"] == "token" for f in had) == 10:
                break
    with second.client() as client:
        back = {"last-event-id": had[-1].id}
        rest = events_of(client, "/ask?question=q", headers=back)
    assert text_of([*(f.event for f in had), *rest]) == " ".join([WORDS * 3])
    assert rest[-1]["event_type"] == "run.end"
    assert len(practice.requests) == 1
    seqs = [e["seq"] for e in [*(f.event for f in had), *rest]]
    assert seqs == sorted(set(seqs))


def test_a_websocket_streams_closes_and_resumes(practice, lm, serve, log):
    """X10, X11"""
    practice.pace = 0.005
    practice.script({"answer": WORDS})
    server = serve(app_for(dspy.Predict(SIGNATURE), log=log))
    address, had = f"ws://127.0.0.1:{server.port}/ws?question=q", []
    with connect(address) as socket:
        while sum(e["event_type"] == "token" for e in had) < 5:
            had.append(json.loads(socket.recv(timeout=60)))
    last = had[-1]
    place = f"{last['run_id']}:{last['seq'] + last.get('count', 1) - 1}"
    with connect(f"{address}&after={place}") as socket:
        rest = [json.loads(message) for message in socket]
        assert socket.protocol.close_code == 1000
    assert text_of([*had, *rest]) == WORDS


@pytest.mark.parametrize("program", [lambda: dspy.Predict(SIGNATURE), Blocking])
@pytest.mark.parametrize("silent", [False, True])
def test_a_websocket_client_that_cancels_gets_the_end_of_the_run(
    practice, lm, serve, program, silent
):
    """X11: without a log, too; nothing of what was said before is missing."""
    practice.pace = 0.02
    text = WORDS * 100  # it does not end by itself before that
    practice.script(Reply({"answer": text}, hold_after=20 if silent else ()))
    server = serve(app_for(program()))
    with connect(f"ws://127.0.0.1:{server.port}/ws?question=q") as socket:
        events = []
        while not events or events[-1]["event_type"] != "token":
            events.append(json.loads(socket.recv(timeout=60)))
        if silent:
            practice.requests[0].wait_held()
        with socket.send_context():  # both at once: the first one may end the connection
            for _ in range(2):
                socket.protocol.send_text(b'{"type": "cancel"}')
        events += [json.loads(message) for message in socket]
        assert socket.protocol.close_code == 1000
    OrderCheck().check_all(from_dict(event) for event in events)
    assert events[-1]["event_type"] == "run.cancelled"
    assert text.startswith(text_of(events))
    practice.wait_for(lambda: practice.requests[0].client_closed_at is not None)


@pytest.mark.parametrize(
    ("form", "end"),
    [
        ("vercel", '"abort"'),
        ("agui", '"outcome":{"type":"cancelled"}'),
        ("openai", "the run was cancelled"),
        ("responses", '"status":"cancelled"'),
    ],
)
def test_a_cancelled_websocket_ends_in_its_format(practice, lm, serve, form, end):
    practice.script(Reply({"answer": WORDS}, hold_after=20))  # it does not end by itself
    server = serve(app_for(dspy.Predict(SIGNATURE), format=form))
    with connect(f"ws://127.0.0.1:{server.port}/ws?question=q") as socket:
        while "word1" not in socket.recv(timeout=60):
            pass
        socket.send('{"type": "cancel"}')
        messages = list(socket)
    *_, last = [message for message in messages if message != "[DONE]"]
    assert end in last


def test_many_readers_at_once_each_get_their_own(practice, lm, serve):
    practice.respond(lambda request: {"answer": request.inputs["question"] * 20})
    server = serve(app_for(dspy.Predict(SIGNATURE)))

    async def ask(client, number):
        text = ""
        async with client.stream("GET", f"/ask?question=q{number}") as response:
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    text += json.loads(line[6:]).get("token", "")
        assert text == f"q{number}" * 20

    async def all_of_them():
        async with httpx.AsyncClient(base_url=server.url, timeout=60, trust_env=False) as client:
            await asyncio.gather(*(ask(client, number) for number in range(20)))

    asyncio.run(all_of_them())
    wait_until(lambda: len(practice.requests) == 20)


@pytest.mark.parametrize("kept", [False, True])
def test_settings_and_context_are_those_of_the_route(practice, serve, log, kept):
    """The response is sent when the route has returned."""
    practice.script({"answer": "yes"})
    app, program = FastAPI(), dspy.Predict(SIGNATURE)

    @app.get("/ask")
    async def ask():
        with dspy.context(lm=practice.lm(), adapter=dspy.ChatAdapter()):
            return streamll.sse_response(
                program, question="q", context={"chat": "c1"}, log=log if kept else None
            )

    with serve(app).client() as client:
        events = events_of(client, "/ask")
    assert text_of(events) == "yes"
    assert {event["context"]["chat"] for event in events} == {"c1"}


def test_the_context_of_a_websocket_is_on_its_events(practice, lm, serve):
    practice.script({"answer": "yes"})
    server = serve(app_for(dspy.Predict(SIGNATURE), context={"chat": "c1"}))
    with connect(f"ws://127.0.0.1:{server.port}/ws?question=q") as socket:
        events = [json.loads(message) for message in socket]
    assert {event["context"]["chat"] for event in events} == {"c1"}


def test_a_context_that_cannot_be_is_told_in_the_route(lm):
    with pytest.raises(streamll.ConfigurationError, match="cannot use the name 'seq'"):
        streamll.sse_response(dspy.Predict(SIGNATURE), context={"seq": 1}, question="q")


def test_a_socket_may_be_accepted_already_to_read_the_question_from_it(practice, lm, serve, log):
    """What is in an address gets into access logs."""
    app, program = FastAPI(), dspy.Predict(SIGNATURE)

    @app.websocket("/ws")
    async def talk(websocket: WebSocket):
        await websocket.accept()
        asked = await websocket.receive_json()
        options = {"log": log} if asked["kept"] else {}
        await streamll.websocket_stream(websocket, program, question=asked["q"], **options)

    server = serve(app)
    for kept in (False, True):
        practice.script({"answer": WORDS})
        with connect(f"ws://127.0.0.1:{server.port}/ws") as socket:
            socket.send(json.dumps({"q": "Why?", "kept": kept}))
            told = [json.loads(message) for message in socket]
        assert told[-1]["event_type"] == "run.end"
    assert [request.inputs["question"] for request in practice.requests] == ["Why?", "Why?"]


@pytest.mark.parametrize("form", ["native", "vercel", "agui", "openai"])
def test_coarse_text_is_sent_in_small_pieces(practice, lm, serve, form):
    """A14: one chunk of the provider, word by word, in every format and over both transports."""
    practice.respond(lambda request: Reply({"answer": WORDS}, chunk=10_000))
    server = serve(app_for(dspy.Predict(SIGNATURE), format=form, smooth="word"))
    with server.client() as client, client.stream("GET", "/ask?question=q") as response:
        body = "".join(response.iter_text())
    with connect(f"{server.url.replace('http', 'ws')}/ws?question=q") as socket:
        messages = "".join(f"{message}\n" for message in socket)
    for said in (body, messages):
        said = said.partition('"RUN_FINISHED"')[0]  # which has the whole result once more
        assert sum(f"word{n} " in said or f'word{n}"' in said for n in range(60)) == 60
        assert "word1 word2" not in said
    if form == "native":
        events = [from_dict(json.loads(line)) for line in messages.splitlines()]
        OrderCheck().check_all(events)


def test_smoothing_is_refused_where_it_cannot_be(tmp_path):
    program = dspy.Predict(SIGNATURE)
    for options in ({"smooth": "word", "log": f"sqlite:///{tmp_path}/log.db"}, {"smooth": "line"}):
        with pytest.raises(streamll.ConfigurationError):
            streamll.sse_response(program, question="q", **options)


def test_a_class_in_place_of_an_instance_is_told_in_the_route():
    with pytest.raises(TypeError, match=r"Blocking\("):
        streamll.sse_response(Blocking, question="q")
