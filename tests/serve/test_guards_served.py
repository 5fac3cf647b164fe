"""A guarded run as it is served: the secret is in no wire's bytes, and not in the log."""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import cycle

import dspy
import pytest
import websockets.sync.client as ws
from profiles import THOROUGH
from starlette.applications import Starlette
from starlette.routing import Route, WebSocketRoute

import streamll
from serve.serving import Frame, frames, wait_until
from streamll.core.errors import ConfigurationError, RunFailed, UnknownFieldError
from streamll.guards import Pattern, emails
from streamll.serve import Permit, Served, bearer_token, create_app
from streamll.serve.formats import FORMATS
from streamll.testing import Reply, chunkings

SECRET = "4111 1111 1111 1111"
TEXT = f"The card is {SECRET}, it seems."
REPLY = (
    f'[[ ## reasoning ## ]]\n{TEXT}\n\n[[ ## numbers ## ]]\n["{SECRET}"]\n\n'
    f"[[ ## answer ## ]]\n{TEXT}\n\n[[ ## completed ## ]]"
)
SIGNATURE = "question -> reasoning, numbers: list[str], answer"
CUTS = list(chunkings(REPLY))
INCLUDE = ["inputs", "outputs", "prompts", "tools", "errors"]
QUESTION = f"Is it {SECRET}?"
ASK = [{"role": "user", "content": QUESTION}]


def card(**options):
    return Pattern(r"\d{4} \d{4} \d{4} \d{4}", name="card rule", mask="[card]", **options)


def shows(data: bytes) -> bool:
    """Whether a wire's bytes have half of the secret, or its pieces at one place of the payloads."""
    places: dict[tuple[str, ...], list[str]] = defaultdict(list)

    def walk(value, place):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(item, str):
                places[(*place, str(key))].append(item)
            elif isinstance(item, dict | list):
                walk(item, (*place, str(key)))

    for line in data.decode().splitlines():
        text = line.removeprefix("data: ")
        if text.startswith(("{", "[{")):
            walk([json.JSONDecoder().raw_decode(text)[0]], ())  # a report has commas
    joined = map("".join, places.values())
    return b"1111 1111" in data or any("1111 1111" in text for text in joined)


def routes(program, **options):
    async def ask(request):
        return streamll.sse_response(
            program, question="q", format=request.query_params["format"], **options
        )

    async def talk(websocket):
        form = websocket.query_params["format"]
        await streamll.websocket_stream(websocket, program, question="q", format=form, **options)

    return Starlette(routes=[Route("/ask", ask), WebSocketRoute("/ws", talk)])


@pytest.mark.parametrize("name", FORMATS)
def test_no_format_has_the_secret_however_the_reply_is_cut(practice, lm, serve, name):
    """Over SSE and over a WebSocket, with all content that events can have."""
    cuts = CUTS if THOROUGH else CUTS[list(FORMATS).index(name) % len(CUTS) :][:1]
    server = serve(routes(dspy.Predict(SIGNATURE), guards=[card()]))
    with streamll.configure(include=INCLUDE), server.client() as client:
        for chunks in cuts:
            practice.script(*[Reply(REPLY, chunks=chunks)] * 2)
            over_http = client.get("/ask", params={"format": name}).content
            address = server.url.replace("http", "ws")
            with ws.connect(f"{address}/ws?format={name}", open_timeout=60) as socket:
                over_socket = "\n".join(socket).encode()
            for data in (over_http, over_socket):
                assert b"[card]" in data
                assert not shows(data)


def test_a_route_of_ones_own_says_once_which_rule_has_stopped_it(practice, lm, serve):
    practice.respond(lambda _: Reply(REPLY, chunk=3))
    server = serve(routes(dspy.Predict(SIGNATURE), guards=[card(action="stop")]))
    address = server.url.replace("http", "ws")
    with server.client() as client:
        for name in FORMATS:
            over_http = client.get("/ask", params={"format": name}).content
            with ws.connect(f"{address}/ws?format={name}", open_timeout=60) as socket:
                over_socket = "\n".join(socket).encode()
            for data in (over_http, over_socket):
                assert data.count(b"stopped the run") == 1, name
                assert b"card rule" in data
                assert not shows(data)


@pytest.fixture
def server(practice, lm, serve, log):
    programs = {"qa": dspy.Predict(SIGNATURE), "other": dspy.Predict("question -> note")}
    guards = [card(fields=["answer", "note", "numbers", "reasoning"]), card()]
    return serve(create_app(programs, log=log, guards=guards))


def asked(client, path, body):
    answer = client.post(path, json=body)
    assert answer.status_code in (200, 202), answer.text
    return answer.content


def test_runs_that_a_server_starts_are_guarded_on_every_wire(practice, server, tmp_path):
    """Where they are made: neither the log has the secret nor what is read of it."""
    cuts = cycle(CUTS)
    practice.respond(lambda _: Reply(REPLY, chunks=next(cuts)))
    message = {"id": "u", "role": "user", "parts": [{"type": "text", "text": QUESTION}]}
    agui = {"threadId": "t", "runId": "r", "messages": [{"id": "u", **ASK[0]}]}
    with streamll.configure(include=INCLUDE), server.client() as client:
        told = [
            asked(client, "/ai/qa", {"id": "c", "messages": [message]}),
            asked(client, "/agui/qa", agui),
            asked(client, "/v1/chat/completions", {"model": "qa", "messages": ASK}),
            asked(client, "/v1/chat/completions", {"model": "qa", "messages": ASK, "stream": True}),
            asked(client, "/v1/responses", {"model": "qa", "input": QUESTION, "stream": True}),
        ]
        run_id = client.post(
            "/runs", json={"program": "qa", "inputs": {"question": QUESTION}}
        ).json()["run_id"]
        address = f"{server.url.replace('http', 'ws')}/runs/{run_id}/ws"
        with ws.connect(address, open_timeout=60) as socket:
            told.append("\n".join(socket).encode())
        told += [
            client.get(path).content
            for path in (
                f"/runs/{run_id}/events",
                f"/runs/{run_id}/events?compact=1",
                f"/runs/{run_id}",
                f"/runs/{run_id}/report",
            )
        ]
        found = client.get("/runs", params={"q": "1111 1111"}).json()["runs"]
        assert [run for run in found if "1111" not in run["run_id"]] == []  # ids are searched, too
        with streamll.connect(server.url, run_id) as events:
            told.append("".join(events.tokens("answer")).encode())
    for data in told:
        assert b"[card]" in data
        assert not shows(data)
    for file in tmp_path.iterdir():
        assert b"1111 1111" not in file.read_bytes(), file.name


def test_every_wire_says_which_rule_has_stopped_a_run_and_not_what_it_found(
    practice, lm, serve, log
):
    guards = [card(action="stop", fields=["answer"])]
    app = create_app(dspy.Predict("question -> answer"), log=log, guards=guards)
    server = serve(app)
    practice.respond(
        lambda _: Reply({"answer": f"No. {SECRET}" + "!" * 3000}, chunk=3, hold_after=60)
    )
    message = {"id": "u", "role": "user", "parts": [{"type": "text", "text": QUESTION}]}
    agui = {"threadId": "t", "runId": "r", "messages": [{"id": "u", **ASK[0]}]}
    with server.client() as client:
        answers = [
            client.post("/ai", json={"id": "c", "messages": [message]}),
            client.post("/agui", json=agui),
            client.post("/v1/chat/completions", json={"model": "Predict", "messages": ASK}),
            client.post(
                "/v1/chat/completions", json={"model": "Predict", "messages": ASK, "stream": True}
            ),
            client.post("/v1/responses", json={"model": "Predict", "input": QUESTION}),
            client.post("/v1/responses", json={"model": "Predict", "input": "?", "stream": True}),
        ]
        run_id = client.post("/runs", json={"inputs": {"question": QUESTION}}).json()["run_id"]
        answers.append(client.get(f"/runs/{run_id}/events"))
        events = [frame.event for frame in map(Frame, answers[-1].text.split("\n\n")) if frame.data]
        with pytest.raises(RunFailed) as failed, streamll.connect(server.url, run_id) as remote:
            remote.result()
    for answer in answers:
        assert "card rule" in answer.text, answer.request.url
        assert not shows(answer.content), answer.request.url
        assert "4111 1" not in answer.text
    assert [e["event_type"] for e in events].count("run.error") == 1
    assert events[-1]["partial"] == {"self.answer": "No. "} or events[-1]["partial"]
    assert failed.value.error_type == "GuardStopped"
    assert "1111 1" not in repr(failed.value)
    for request in practice.requests:
        request.wait_closed(60)
        assert request.finished_at is None


@pytest.mark.parametrize("name", FORMATS)
def test_a_reply_that_no_model_wrote_is_shown_guarded(serve, name):
    def program(question):
        return dspy.Prediction(reasoning=TEXT, answer=TEXT)

    server = serve(routes(program, guards=[card()], reply="answer"))
    with streamll.configure(include=["outputs"]), server.client() as client:
        told = client.get("/ask", params={"format": name}).content
    assert b"The card is [card], it seems." in told
    assert not shows(told)


def test_a_servers_guards_are_checked_when_it_is_made(log):
    programs = {"a": dspy.Predict("question -> answer"), "b": dspy.Predict("question -> note")}
    with pytest.raises(ConfigurationError, match="str is not a guard"):
        create_app(programs, log=log, guards=["card"])
    with pytest.raises(UnknownFieldError, match="no program here has an output field 'anser'"):
        create_app(programs, log=log, guards=[card(fields=["note", "anser"])])
    create_app(programs, log=log, guards=[card(fields=["note", "answer"])])
    create_app(None, log=log, guards=[card(fields=["anything"])])


def test_each_program_gets_the_guards_of_its_own_fields(practice, lm, serve, log):
    """Whatever ``Served`` calls it: its name is its key."""
    programs = {
        name: Served(name="p", program=dspy.Predict(f"question -> {name}"))
        for name in ("free", "answer", "note")
    }
    server = serve(create_app(programs, log=log, guards=[card(fields=["note", "answer"])]))
    with server.client() as client:
        assert [each["name"] for each in client.get("/programs").json()["programs"]] == [*programs]
        for name, shown in [("free", SECRET), ("answer", "[card]"), ("note", "[card]")]:
            practice.script({name: SECRET})
            body = {"program": name, "inputs": {"question": QUESTION}}
            run_id = client.post("/runs", json=body).json()["run_id"]
            with client.stream("GET", f"/runs/{run_id}/events") as response:
                events = [frame.event for frame in frames(response)]
            tokens = [e["token"] for e in events if e["event_type"] == "token"]
            assert "".join(tokens) == shown


def test_a_guard_does_not_change_whose_run_it_is(practice, lm, serve, log):
    """Who may see it is in the context of its events; the rest of that is guarded."""
    people = {"a": Permit("anna@example.com"), "b": Permit("bert@example.com")}
    app = create_app(
        dspy.Predict("question -> answer"),
        log=log,
        auth=lambda connection: people.get(bearer_token(connection)),
        guards=[emails()],
    )
    practice.script({"answer": "Ask carl@example.com."})
    body = {"inputs": {"question": QUESTION}, "context": {"asked_by": "dora@example.com"}}
    with serve(app).client() as client:
        anna, bert = ({"authorization": f"Bearer {name}"} for name in people)
        run_id = client.post("/runs", json=body, headers=anna).json()["run_id"]
        told = client.get(f"/runs/{run_id}/events", headers=anna)
        assert (told.status_code, "run.end" in told.text) == (200, True)
        assert "carl@" not in told.text
        assert "dora@" not in told.text
        assert [run["run_id"] for run in client.get("/runs", headers=anna).json()["runs"]] == [
            run_id
        ]
        assert client.get("/runs", headers=bert).json()["runs"] == []
        assert client.get(f"/runs/{run_id}", headers=bert).status_code == 404


def test_an_own_route_keeps_only_guarded_runs_in_its_log(practice, lm, serve, log, tmp_path):
    practice.script(Reply(REPLY, chunk=3))
    server = serve(routes(dspy.Predict(SIGNATURE), guards=[card()], log=log))
    with server.client() as client:
        data = client.get("/ask", params={"format": "native"}).content
    assert b"[card]" in data
    assert not shows(data)
    for file in tmp_path.iterdir():
        assert b"1111 1111" not in file.read_bytes(), file.name


def test_a_failed_run_is_not_quoted_in_the_servers_own_log(practice, lm, serve, log, caplog):
    """At level DEBUG, at which the traceback of an unguarded one is."""

    class Failing(dspy.Module):
        def forward(self, question):
            raise ValueError(f"no {SECRET}")

    for guards, shown in [([card()], False), ((), True)]:
        caplog.clear()
        server = serve(create_app(Failing(), log=log, guards=guards))
        with caplog.at_level("DEBUG", "streamll"), server.client() as client:
            run_id = client.post("/runs", json={"inputs": {"question": QUESTION}}).json()["run_id"]
            client.get(f"/runs/{run_id}/events")
            # The run's last event is out a moment before its program's thread has ended.
            wait_until(lambda: "failed: ValueError at" in caplog.text, what="the log's line")
        assert (SECRET in caplog.text) == shown
