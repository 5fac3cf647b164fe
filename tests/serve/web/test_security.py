"""What must not get in, and what must not get out."""

from __future__ import annotations

import functools
import json
import logging
import math
import os
import socket
import sys

import dspy
import httpx
import pytest
import warm
import websockets
import websockets.sync.client as ws

import streamll
from serve.runs import RUNS
from serve.serving import events_of, frames, text_of, wait_until
from streamll.brokers.opening import open_sink
from streamll.core.errors import ConfigurationError
from streamll.serve import Limits, create_app, run_token
from streamll.serve.web.access import Access
from streamll.testing import Reply

TOKEN = "secret-token-of-the-server"
RESPONSE = f"/v1/responses/resp_{64 * '0'}"
FULL = {"authorization": f"Bearer {TOKEN}"}
SIGNATURE = "question -> answer"
connect = functools.partial(ws.connect, open_timeout=60)


@pytest.fixture
def qa():
    return dspy.Predict(SIGNATURE)


@pytest.fixture
def recorded(log):
    """A log with one finished run, ``r1``."""
    sink = open_sink(log)
    for event in RUNS["plain"]():
        sink.put(event)
    assert sink.stop(60)
    return log


@pytest.fixture
def guarded(serve, recorded, qa):
    return serve(create_app(qa, log=recorded, tokens=[TOKEN], secret="s"))


def statuses(client, **options):
    """What every route answers that reads or does anything."""
    json_body = {"json": {"inputs": {"question": "q"}, "messages": [], "model": "x"}}
    asked = [
        ("GET", "/runs"), ("GET", "/programs"), ("GET", "/runs/r1"), ("GET", "/runs/r1/events"),
        ("DELETE", "/runs/r1"), ("POST", "/runs"), ("POST", "/v1/chat/completions"),
        ("GET", "/v1/models"), ("POST", "/ai"), ("GET", "/ai/c/stream"), ("DELETE", "/ai/c/stream"),
        ("POST", "/ai/Predict"), ("GET", "/ai/Predict/c/stream"), ("DELETE", "/ai/Predict/c/stream"),
        ("POST", "/agui"), ("POST", "/agui/connect"), ("POST", "/agui/Predict"),
        ("POST", "/agui/Predict/connect"), ("DELETE", "/agui"), ("GET", "/metrics"),
        ("POST", "/v1/responses"), ("GET", RESPONSE), ("POST", f"{RESPONSE}/cancel"),
        ("GET", f"{RESPONSE}?stream=true"), ("GET", "/v1/models/x"), ("DELETE", RESPONSE),
    ]  # fmt: skip
    return {
        (method, path): client.request(
            method, path, **(json_body if method == "POST" else {}), **options
        ).status_code
        for method, path in asked
    }


def test_without_the_token_nothing_is_answered_but_health(guarded):
    with guarded.client() as client:
        for headers in (
            {},
            {"authorization": "Bearer wrong-token-of-the-server"},
            {"authorization": f"Basic {TOKEN}"},
            {"authorization": f"Bearer {TOKEN}x"},
            {"authorization": "Bearer"},
            {"authorization": "Bearer \u00e9".encode()},
        ):
            assert set(statuses(client, headers=headers).values()) == {401}, headers
        assert client.get("/healthz").status_code == 200
        answers = statuses(client, headers=FULL)
        assert 401 not in answers.values()
        assert answers["GET", "/runs/r1/events"] == 200


def test_a_runs_token_opens_that_run_alone_and_not_for_ever(guarded):
    own, other, late = (
        run_token("s", "r1"),
        run_token("s", "r2"),
        run_token("s", "r1", seconds=-1),
    )
    forged = own.replace(own.split(".")[1], str(int(own.split(".")[1]) + 999))
    stolen = own.replace("r1.", "r2.")
    with guarded.client() as client:
        assert text_of(events_of(client, f"/runs/r1/events?token={own}")) == "Machine learning"
        assert client.get("/runs/r1", headers={"authorization": f"Bearer {own}"}).status_code == 200
        assert client.get(f"/runs?token={own}").status_code == 401
        assert client.post(f"/runs?token={own}", json={}).status_code == 401
        for token in (other, late, forged, stolen, run_token("t", "r1"), "r1..", "..", "r1.9.é"):
            for path in ("/runs/r1", "/runs/r1/events"):
                assert client.get(path, params={"token": token}).status_code == 401, token
        assert client.get("/runs/r2", params={"token": stolen}).status_code == 401


def test_a_run_gives_its_starter_a_token_for_the_page(guarded, practice, lm):
    practice.script({"answer": "yes"})
    with guarded.client() as client:
        run = client.post("/runs", headers=FULL, json={"inputs": {"question": "q"}}).json()
        assert text_of(events_of(client, f"{run['events']}?token={run['token']}")) == "yes"


def refused(server, path, **headers):
    with pytest.raises(websockets.exceptions.InvalidStatus) as caught:
        connect(f"ws://127.0.0.1:{server.port}{path}", additional_headers=headers)
    return caught.value.response.status_code == 403


def test_websockets_ask_for_the_token_too(guarded):
    assert refused(guarded, "/runs/r1/ws")
    assert refused(guarded, f"/runs/r1/ws?token={run_token('s', 'r2')}")
    with connect(f"ws://127.0.0.1:{guarded.port}/runs/r1/ws?token={run_token('s', 'r1')}") as it:
        assert json.loads(it.recv(timeout=60))["event_type"] == "run.start"


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://127.0.0.1:1", "https://page.example.evil.example"],
)
def test_pages_of_other_origins_get_nowhere(serve, recorded, qa, origin):
    """Cross-origin requests and WebSockets, with and without tokens."""
    for tokens in ((), (TOKEN,)):
        server = serve(
            create_app(qa, log=recorded, tokens=tokens, origins=["https://page.example"])
        )
        with server.client(headers=FULL) as client:
            assert set(statuses(client, headers={"origin": origin}).values()) == {403}
            allowed = client.get("/runs/r1", headers={"origin": "https://page.example"})
            assert allowed.headers["access-control-allow-origin"] == "https://page.example"
            own = client.get("/runs/r1", headers={"origin": server.url})
            assert (own.status_code, "origin" in own.headers["vary"].lower()) == (200, True)
            preflight = {"origin": origin, "access-control-request-method": "POST"}
            assert client.options("/runs", headers=preflight).status_code == 403
            preflight["origin"] = "https://page.example"
            answer = client.options("/runs", headers=preflight)
            assert "authorization" in answer.headers["access-control-allow-headers"]
        assert refused(server, "/runs/r1/ws", Origin=origin, Authorization=f"Bearer {TOKEN}")


def test_a_form_of_another_page_starts_nothing(serve, recorded, qa):
    """What a browser sends across origins without asking first."""
    with serve(create_app(qa, log=recorded)).client() as client:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
            answer = client.post("/runs", content="{}", headers={"content-type": kind})
            assert answer.status_code == 415


def test_without_a_token_only_this_machines_names_are_answered(serve, recorded, qa):
    """DNS rebinding: a foreign name that points here."""
    open_server = serve(create_app(qa, log=recorded))
    named = serve(create_app(qa, log=recorded, hosts=["llm.example"]))
    with open_server.client() as client, named.client() as other:
        assert client.get("/runs", headers={"host": "evil.example"}).status_code == 421
        assert (
            client.get("/runs", headers={"host": f"localhost:{open_server.port}"}).status_code
            == 200
        )
        assert client.get("/runs", headers={"host": "127.0.0.1.evil.example"}).status_code == 421
        assert client.get("/runs", headers={"host": "a]b"}).status_code in {400, 421}
        assert other.get("/runs", headers={"host": "llm.example"}).status_code == 200
        assert other.get("/runs").status_code == 421


def test_a_public_address_without_a_token_is_refused(lm, recorded, qa):
    """By the command before it listens, and by the application under any server."""
    command = [sys.executable, "-m", "streamll", "serve", "dspy:Predict", "--host", "0.0.0.0"]
    environment = {k: v for k, v in os.environ.items() if k != "STREAMLL_TOKENS"}
    told = warm.run(command, capture_output=True, text=True, env=environment, check=False)
    assert (told.returncode, "STREAMLL_TOKENS" in told.stderr) == (2, True)

    async def ask(server, **options):
        transport = httpx.ASGITransport(create_app(qa, log=recorded, viewer=False, **options))
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{server}") as client:
            return (await client.get("/healthz", headers={"host": "localhost"})).status_code

    import asyncio

    assert asyncio.run(ask("10.1.2.3")) == 403
    assert asyncio.run(ask("10.1.2.3", tokens=[TOKEN])) in {200, 503}


def test_short_tokens_are_no_tokens():
    with pytest.raises(ConfigurationError, match="16 characters"):
        create_app(print, tokens=["short"])
    assert Access("one-token-as-a-text-is-one-token").permit_of("o", None) is None


# --- limits ---------------------------------------------------------------------------------------


def test_bodies_are_bounded_in_size(serve, recorded, qa):
    server = serve(create_app(qa, log=recorded, limits=Limits(body_bytes=1000)))
    with server.client() as client:
        big = json.dumps({"inputs": {"question": "x" * 2000}})
        json_type = {"content-type": "application/json"}
        assert client.post("/runs", content=big, headers=json_type).status_code == 413

        def pieces():
            for _ in range(20):
                yield b"x" * 100

        assert client.post("/runs", content=pieces(), headers=json_type).status_code == 413
        deep = "[" * 900
        assert client.post("/runs", content=deep, headers=json_type).status_code == 400


def test_bodies_are_bounded_in_time(serve, recorded, qa):
    server = serve(create_app(qa, log=recorded, limits=Limits(body_seconds=0.5)))
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.settimeout(60)
        head = "POST /runs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        raw.sendall(f"{head}content-length: 500\r\n\r\n{{".encode())
        assert b" 408 " in raw.recv(1000)


def test_a_flood_of_headers_is_cut_off(serve, recorded, qa):
    server = serve(create_app(qa, log=recorded))
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.settimeout(60)
        raw.sendall(b"GET /runs HTTP/1.1\r\nhost: localhost\r\n")
        try:
            for n in range(10_000):
                raw.sendall(b"x-%d: %s\r\n" % (n, b"y" * 100))
            answer = raw.recv(100)
        except OSError:
            answer = b""
        assert answer == b"" or b" 400 " in answer or b" 431 " in answer
    with server.client() as client:
        assert client.get("/healthz").status_code == 200


def test_no_more_runs_and_readers_than_may(practice, lm, serve, recorded, qa):
    practice.respond(lambda _: Reply({"answer": "yes"}, hold_after=0))
    limits = Limits(runs=2, readers=2)
    with serve(create_app(qa, log=recorded, limits=limits)).client() as client:
        asked = {"inputs": {"question": "q"}}
        runs = [client.post("/runs", json=asked).json() for _ in range(2)]
        answer = client.post("/runs", json=asked)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        with (
            client.stream("GET", runs[0]["events"]) as a,
            client.stream("GET", runs[0]["events"]) as b,
        ):
            coming = [a.iter_text(), b.iter_text()]  # kept: one that is dropped closes its response
            assert [next(each) for each in coming]
            assert client.get(runs[0]["events"]).status_code == 503
        wait_until(lambda: "streamll_readers 0\n" in client.get("/metrics").text)
        practice.wait_for_requests(2)
        practice.respond(None)
        practice.release()
        wait_until(lambda: client.get(runs[1]["url"]).json()["status"] == "ended")
        wait_until(lambda: client.post("/runs", json=asked).status_code == 202)


@pytest.fixture
def long_log(log):
    """A run of 20,000 tokens, 5 MB as frames."""
    from serve.runs import Scribe

    sink = open_sink(log, buffer_size=100_000)
    for event in Scribe().start().text("answer", *(["word " * 20] * 20_000)).end().events:
        sink.put(event)
    assert sink.stop(60)
    return log


def test_a_reader_that_takes_nothing_is_disconnected_and_costs_no_memory(serve, long_log, qa):
    limits = Limits(stall_seconds=0.5)
    server = serve(create_app(qa, log=long_log, limits=limits))
    with socket.create_connection(("127.0.0.1", server.port)) as raw, server.client() as client:
        raw.sendall(b"GET /runs/r1/events HTTP/1.1\r\nhost: localhost\r\n\r\n")
        wait_until(lambda: "streamll_readers_seen_total 1\n" in client.get("/metrics").text)
        wait_until(lambda: "streamll_readers 0\n" in client.get("/metrics").text)
        with client.stream("GET", "/runs/r1/events") as response:
            # Not all of it: on a busy machine this client, too, may take nothing for half a second.
            token = next(f.event for f in frames(response) if f.event["event_type"] == "token")
        assert token["token"].startswith("word ")


# --- what gets out ------------------------------------------------------------------------------


def test_no_file_but_the_viewers_is_served(serve, recorded, qa, tmp_path):
    with serve(create_app(qa, log=recorded)).client() as client:
        for path in (
            "/../app.py", "/..%2fapp.py", "/%2e%2e/app.py", "/..%5capp.py", "/app.py", "//etc/passwd",
            "/etc/passwd", "/viewer/../../app.py", "/%00", "/.git/config", "/log.db",
        ):  # fmt: skip
            answer = client.get(path)
            assert (
                answer.status_code in {400, 404, 405}
                or "text/html" in answer.headers["content-type"]
            )
            assert "def " not in answer.text
            assert "root:" not in answer.text


def test_answers_forbid_sniffing_and_framing(guarded):
    with guarded.client() as client:
        for path in ("/healthz", "/runs", "/"):
            headers = client.get(path).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"


def test_secrets_and_questions_are_in_no_log_line(guarded, practice, lm, caplog):
    caplog.set_level(logging.DEBUG, "streamll")
    caplog.set_level(logging.DEBUG, "streamll.access")
    practice.script({"answer": "the-answer-text"})
    token = run_token("s", "r1")
    with guarded.client() as client:
        client.get(f"/runs/r1?token={token}")
        client.get("/runs", headers=FULL)
        run = client.post(
            "/runs", headers=FULL, json={"inputs": {"question": "my-question"}}
        ).json()
        events_of(client, f"{run['events']}?token={run['token']}")
        client.post("/runs", headers=FULL, json={"inputs": {"nope": "my-question"}})
    lines = [
        r.getMessage() + repr(getattr(r, "request", ""))
        for r in caplog.records
        if r.name.startswith("streamll")
    ]
    assert any("GET /runs/r1 200" in line for line in lines)
    for secret in (TOKEN, token, run["token"], "my-question", "the-answer-text"):
        assert not [line for line in lines if secret in line], secret


def test_errors_of_the_program_do_not_show_their_messages(practice, lm, serve, log):
    """X15: an exception's message can quote anything."""

    class Failing(dspy.Module):
        def forward(self, question):
            raise ValueError(f"cannot read password=hunter2 of {question}")

    with serve(create_app(Failing(), log=log)).client() as client:
        run = client.post("/runs", json={"inputs": {"question": "q"}}).json()
        with client.stream("GET", run["events"]) as response:
            body = "".join(frame.data for frame in frames(response))
        assert "ValueError" in body
        assert "hunter2" not in body + client.get(run["url"]).text


def test_limits_that_cannot_work_are_refused():
    Limits(runs=0, readers=0, drain_seconds=0, lost_seconds=math.inf, heartbeat_seconds=1)
    for wrong in (
        {"heartbeat_seconds": 0},
        {"heartbeat_seconds": None},
        {"stall_seconds": "5"},
        {"lost_seconds": -5},
        {"away_seconds": math.nan},
        {"runs": "5"},
        {"readers": 1.5},
        {"body_bytes": -1},
    ):
        with pytest.raises(ConfigurationError, match=f"{next(iter(wrong))} must be a"):
            Limits(**wrong)
    for heartbeat in (0, None, "5"):
        with pytest.raises(ConfigurationError, match="heartbeat_seconds"):
            streamll.sse_response(str, heartbeat=heartbeat)


def test_origins_and_hosts_are_texts_that_can_match():
    access = Access(origins="https://app.example.com", hosts="LOCALHOST")
    assert (access.origins, access.hosts) == ({"https://app.example.com"}, {"localhost"})
    Access(origins=["*", "null", "capacitor://localhost"], hosts=["::1", "[::1]", "my_host", "*"])
    for hosts in (["localhost:8000"], ["http://localhost"]):
        with pytest.raises(ConfigurationError, match=r"no port: hosts=\['localhost'\]"):
            Access(hosts=hosts)
    with pytest.raises(ConfigurationError, match="https://app.example.com"):
        Access(origins=["app.example.com"])
