"""``create_app(auth=…)``: who may see, start and stop which runs, at every address and every process."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import dspy
import pytest
import websockets
import websockets.sync.client as ws

from serve.serving import events_of, frames, wait_until
from streamll.core.errors import ConfigurationError
from streamll.serve import Permit, bearer_token, create_app
from streamll.serve.log.run_log import APPEARS_S
from streamll.serve.permits import RunFacts
from streamll.serve.routes.openapi import operations_in
from streamll.serve.web import requests
from streamll.testing import Reply

TOKEN = "secret-token-of-the-server"
WORDS = " ".join(f"word{n}" for n in range(60))
connect = functools.partial(ws.connect, open_timeout=60)
NOBODY = frozenset({"GET /healthz"})
"""Answered to anybody."""


class Unknown(Exception):
    """Quotes what the request said."""


async def auth(connection):
    match bearer_token(connection):
        case "anna" | "bert" as name:
            return Permit(name)
        case "reader":
            return Permit("reader", see="all", start="none", stop="none")
        case "guest":
            return Permit(None, start="all", see="none", stop="none")
        case "broken":
            raise Unknown(bearer_token(connection))
        case "yes":
            return True
        case "slow":
            await asyncio.Event().wait()
    return None


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """A run is in the log when its id is returned, however long a busy machine takes for that."""
    monkeypatch.setattr("streamll.serve.runner.LOGGED_S", 60)


def as_(name):
    return {"authorization": f"Bearer {name}"}


@pytest.fixture
def fleet(lm, practice, serve, log):
    """Two servers of one log."""
    practice.respond(lambda request: {"answer": "yes"})
    options = {"log": log, "tokens": [TOKEN], "secret": "s", "auth": auth}
    qa = dspy.Predict("question -> answer")
    return [serve(create_app({"qa": qa, "other": qa}, **options)) for _ in range(2)]


def start(client, name="anna", program="qa", **options):
    body = {"program": program, "inputs": {"question": "q"}, **options}
    answer = client.post("/runs", headers=as_(name), json=body)
    assert answer.status_code == 202, answer.text
    return answer.json()


class Row(NamedTuple):
    """What one operation answers to the owner of the run, to another person, and to one who may see
    all runs and no more. ``unknown`` is the same about a run that is not there.
    """

    path: str
    owner: int
    other: int
    reader: int
    body: dict | None = None
    unknown: str = ""


CHAT = [{"id": "m", "role": "user", "content": "q", "parts": [{"type": "text", "text": "q"}]}]


def agent(thread):
    return {"threadId": thread, "runId": "r", "messages": CHAT, "state": {}, "tools": [],
            "context": [], "forwardedProps": {}}  # fmt: skip


def rows(run, response):
    """Every operation of the server; those that look or stop are about what anna has started."""
    none, no_response = "/runs/" + 32 * "0", f"resp_{64 * '0'}"
    ask = {"model": "qa", "messages": CHAT[:1]}
    return {
        "GET /healthz": Row("/healthz", 200, 200, 200),
        "GET /metrics": Row("/metrics", 403, 403, 200),
        "GET /programs": Row("/programs", 200, 200, 200),
        "GET /openapi.json": Row("/openapi.json", 200, 200, 200),
        "GET /runs": Row("/runs", 200, 200, 200),
        "POST /runs": Row("/runs", 202, 202, 403, {"program": "qa", "inputs": {"question": "q"}}),
        "GET /runs/{run_id}": Row(run, 200, 404, 200, None, none),
        "DELETE /runs/{run_id}": Row(run, 200, 404, 403, None, none),
        "GET /runs/{run_id}/events": Row(f"{run}/events", 200, 404, 200, None, f"{none}/events"),
        "POST /runs/{run_id}/answers": Row(f"{run}/answers", 404, 404, 403, {"question_id": "q", "value": 1}, f"{none}/answers"),
        "GET /runs/{run_id}/report": Row(f"{run}/report", 200, 404, 200, None, f"{none}/report"),
        "POST /ai/{program}": Row("/ai/qa", 200, 200, 403, {"id": "new", "messages": CHAT}),
        "POST /ai": Row("/ai?program=qa", 200, 200, 403, {"id": "new", "messages": CHAT}),
        "GET /ai/{chat}/stream": Row("/ai/c/stream?after=-1", 200, 204, 200, None, "/ai/no/stream"),
        "GET /ai/{program}/{chat}/stream": Row("/ai/qa/c/stream?after=-1", 200, 204, 200, None, "/ai/qa/no/stream"),
        "DELETE /ai/{chat}/stream": Row("/ai/c/stream", 200, 404, 403, None, "/ai/no/stream"),
        "DELETE /ai/{program}/{chat}/stream": Row("/ai/qa/c/stream", 200, 404, 403, None, "/ai/qa/no/stream"),
        "POST /agui": Row("/agui?program=qa", 200, 200, 403, agent("new")),
        "POST /agui/{program}": Row("/agui/qa", 200, 200, 403, agent("new")),
        "POST /agui/connect": Row("/agui/connect", 200, 404, 200, agent("t")),
        "POST /agui/{program}/connect": Row("/agui/qa/connect", 200, 404, 200, agent("t")),
        "DELETE /agui": Row("/agui?threadId=t", 200, 404, 403, None, "/agui?threadId=no"),
        "DELETE /agui/{program}": Row("/agui/qa?threadId=t&runId=r", 200, 404, 403, None, "/agui/qa?threadId=no"),
        "POST /v1/chat/completions": Row("/v1/chat/completions", 200, 200, 403, ask),
        "POST /v1/responses": Row("/v1/responses", 200, 200, 403, {"model": "qa", "input": "q"}),
        "GET /v1/responses/{response_id}": Row(f"/v1/responses/{response}", 200, 404, 200, None, f"/v1/responses/{no_response}"),
        "POST /v1/responses/{response_id}/cancel": Row(f"/v1/responses/{response}/cancel", 200, 404, 200, {}, f"/v1/responses/{no_response}/cancel"),
        "GET /v1/models": Row("/v1/models", 200, 200, 200),
        "GET /v1/models/{model}": Row("/v1/models/qa", 200, 200, 200),
    }  # fmt: skip


WEBSOCKETS = {"GET /runs/{run_id}/ws"}


def test_every_operation_is_for_those_whom_its_rule_names(fleet):
    """A new route has no row here, and fails until it has one."""
    here, there = fleet
    with here.client(headers=as_("anna")) as client:
        run = start(client)["url"]
        assert client.post("/ai/qa", json={"id": "c", "messages": CHAT}).status_code == 200
        assert client.post("/agui/qa", json=agent("t")).status_code == 200
        response = client.post("/v1/responses", json={"model": "qa", "input": "q"}).json()["id"]
        assert events_of(client, f"{run}/events")[-1]["event_type"] == "run.end"
    with there.client(headers=as_("reader")) as client:

        def knows_their_ends():
            runs = client.get("/runs").json()["runs"]
            return [each["status"] for each in runs] == ["ended"] * 4

        wait_until(knows_their_ends, what="the end of all runs at the other process")
    table = rows(run, response)
    routes = there._uvicorn.config.app.app.router.routes
    assert {*table} | WEBSOCKETS == {" ".join(each) for each in operations_in(routes)}

    def ask(asked):
        operation, name, path = asked
        with there.client() as client:
            body = table[operation].body
            options = {} if body is None else {"json": body}
            method = operation.partition(" ")[0]
            answer = client.request(method, path, headers=as_(name), **options)
            return answer.status_code, answer.text

    def all_of(name, paths):
        asked = [(operation, name, path) for operation, path in paths.items()]
        with ThreadPoolExecutor(8) as pool:
            return dict(zip(paths, pool.map(ask, asked), strict=True))

    paths = {operation: row.path for operation, row in table.items()}
    for name, wanted in (
        ("reader", {operation: row.reader for operation, row in table.items()}),
        ("bert", {operation: row.other for operation, row in table.items()}),
        ("anna", {operation: row.owner for operation, row in table.items()}),
        ("nobody", {operation: 200 if operation in NOBODY else 401 for operation in table}),
        ("broken", {operation: 200 if operation in NOBODY else 500 for operation in table}),
    ):
        told = all_of(name, paths)
        assert {each: status for each, (status, _) in told.items()} == wanted, name
        if name == "bert":  # what is hidden is not there
            unknown = {each: row.unknown for each, row in table.items() if row.unknown}
            for each, answer in all_of(name, unknown).items():
                assert told[each] == answer, each
            assert run.removeprefix("/runs/") not in json.dumps(told)


def refused(server, path, name):
    with pytest.raises(websockets.exceptions.InvalidStatus) as caught:
        connect(f"ws://127.0.0.1:{server.port}{path}", additional_headers=as_(name))
    return caught.value.response.status_code == 403


def test_who_may_only_see_a_run_cannot_stop_it_by_any_way(fleet, practice):
    here, there = fleet
    practice.respond(lambda request: Reply({"answer": WORDS}, hold_after=8))
    with here.client() as client, there.client() as other:
        run = start(client)
        with client.stream("GET", run["events"], headers=as_("anna")) as response:
            coming = frames(response)
            while next(coming).event["event_type"] != "token":
                pass
            assert other.delete(run["url"], headers=as_("reader")).status_code == 403
            leaving = f"{run['events']}?stop_on_leave=1"
            with other.stream("GET", leaving, headers=as_("reader")) as left:
                assert left.status_code == 403
            for name in ("bert", "nobody", "broken"):
                assert refused(there, f"/runs/{run['run_id']}/ws", name)
            socket = f"ws://127.0.0.1:{there.port}/runs/{run['run_id']}/ws"
            with connect(socket, additional_headers=as_("reader")) as reading:
                assert json.loads(reading.recv(timeout=60))["event_type"] == "run.start"
                reading.send('{"type": "cancel"}')
                reading.send("what comes behind it has been heard as well")
            assert other.get(run["url"], headers=as_("anna")).json()["status"] == "running"
            with connect(f"{socket}?token={run['token']}") as holding:
                holding.send('{"type": "cancel"}')
                assert [each.event for each in coming][-1]["event_type"] == "run.cancelled"


def test_runs_are_listed_for_those_who_see_them_before_any_limit(fleet):
    here, there = fleet
    with here.client() as client, there.client() as other:
        first = start(client, "bert")
        runs = [start(client) for _ in range(3)]
        for run in (first, *runs):
            with client.stream("GET", run["events"], headers=as_("reader")) as response:
                assert [*frames(response)][-1].event["event_type"] == "run.end"

        def listed(name, query=""):
            told = other.get(f"/runs{query}", headers=as_(name)).json()
            return [each["run_id"] for each in told["runs"]]

        own = [run["run_id"] for run in runs[::-1]]
        wait_until(lambda: len(listed("reader")) == 4)
        assert listed("bert", "?limit=1") == listed("bert", "?q=qa") == [first["run_id"]]
        assert sorted(listed("anna")) == sorted(own)
        assert listed("guest") == []
        assert sorted(listed(TOKEN)) == sorted([first["run_id"], *own])
        # The same, where the process does not know the run by its list.
        for server in fleet:
            server._uvicorn.config.app.service.run_log.index.forget(first["run_id"])
            server._uvicorn.config.app.service.rights._known.clear()
        began = time.monotonic()
        assert other.get(first["url"], headers=as_("anna")).status_code == 404
        assert time.monotonic() - began >= APPEARS_S  # as where there may be one in a moment
        assert other.get(first["url"], headers=as_("bert")).status_code == 200
        context = events_of(other, first["events"], headers=as_("bert"))[0]["context"]
        assert context == {"streamll_owner": "bert", "streamll_program": "qa"}


def test_no_client_says_whose_a_run_is_and_tokens_permit_no_more_than_their_owner_may(fleet, log):
    here, there = fleet
    with here.client() as client, there.client() as other:
        for name in ("anna", TOKEN):
            forged = {
                "program": "qa",
                "inputs": {"question": "q"},
                "context": {"streamll_owner": "bert"},
            }
            told = client.post("/runs", headers=as_(name), json=forged)
            assert (told.status_code, "the server sets" in told.text) == (400, True)
        assert start(client, "guest")["token"] is None
        run = start(client, "anna", context={"team": "red"})
        for server in (client, other):
            assert server.get(f"{run['url']}?token={run['token']}").status_code == 200
        assert other.get(f"/runs?token={run['token']}").status_code == 401
        mine = client.post("/v1/responses", headers=as_("anna"), json={"model": "qa", "input": "q"})
        turn = {"model": "qa", "input": "q", "previous_response_id": mine.json()["id"]}
        assert other.post("/v1/responses", headers=as_("anna"), json=turn).status_code == 200
        told = other.post("/v1/responses", headers=as_("bert"), json=turn)
        assert (told.status_code, told.json()["error"]["code"]) == (
            400,
            "previous_response_not_found",
        )
        both = {"id": "shared", "messages": CHAT}  # two people may call their chats the same
        said = {
            name: client.post("/ai/qa", headers=as_(name), json=both).headers["x-streamll-run"]
            for name in ("anna", "bert")
        }
        for name, run_id in said.items():
            told = other.get("/ai/shared/stream?after=-1", headers=as_(name))
            assert told.headers["x-streamll-run"] == run_id


def test_an_auth_that_fails_lets_nobody_in_and_says_nothing_of_the_request(
    fleet, caplog, monkeypatch
):
    monkeypatch.setattr(requests, "AUTH_S", 0.05)
    with fleet[0].client() as client:
        for name in ("broken", "yes", "slow"):
            told = client.get("/runs", headers=as_(name))
            assert (told.status_code, told.json()) == (
                500,
                {"error": "who asks could not be found out"},
            )
            assert refused(fleet[0], "/runs/r/ws", name)
        assert client.get("/runs", headers=as_("someone")).status_code == 401
    lines = [each.getMessage() for each in caplog.records if "auth failed" in each.getMessage()]
    assert [line.split()[7] for line in lines[::2]] == ["Unknown", "TypeError", "TimeoutError"]
    assert "broken" not in "".join(line.rpartition(" at ")[0] for line in lines)


@pytest.mark.parametrize("is_async", [True, False])
def test_a_rule_is_a_function_of_the_run_and_permits_nothing_when_it_fails(
    is_async, lm, practice, serve, log, caplog
):
    """Also an ``auth`` that is not async, or only returns what has to be awaited."""
    practice.respond(lambda request: {"answer": "yes"})

    def team(run):
        return run.program == "qa" and run.context.get("team") == "red"

    async def never(run):
        return True

    permits = {
        "anna": Permit("anna", see=team, start=team),
        "bert": Permit("bert", see=lambda run: run.run_id == 1 / 0, start="none"),
        "late": Permit("late", see=never, start="none"),
    }

    async def later(permit):
        return permit

    def who(connection):
        permit = permits.get(bearer_token(connection))
        return later(permit) if is_async else permit

    qa = dspy.Predict("question -> answer")
    with serve(create_app({"qa": qa, "other": qa}, log=log, auth=who)).client() as client:
        red = start(client, context={"team": "red"})
        for body in ({"program": "qa"}, {"program": "other", "context": {"team": "red"}}):
            told = client.post(
                "/runs", headers=as_("anna"), json={**body, "inputs": {"question": "q"}}
            )
            assert (told.status_code, told.json()["error"][:17]) == (403, "you may not start")
        for name, status in (("anna", 200), ("bert", 404), ("late", 404)):
            assert client.get(red["url"], headers=as_(name)).status_code == status
            known = client.get("/runs", headers=as_(name)).json()["runs"]
            assert len(known) == (status == 200)
    said = [each.getMessage() for each in caplog.records if "the rule 'see'" in each.getMessage()]
    assert "ZeroDivisionError" in said[0]
    assert "it returned coroutine, not True or False" in said[-1]


def test_what_cannot_be_a_permit_is_refused():
    for made in ({"who": ""}, {"who": 1}, {"who": "x" * 201}, {"who": "a", "see": "mine"}):
        with pytest.raises(ConfigurationError, match="of a Permit is"):
            Permit(**made)
    with pytest.raises(ConfigurationError, match="auth is a function of a request"):
        create_app(None, auth="module:function")
    nobody = Permit(None)
    run = RunFacts("r", "qa", {}, None)
    assert [nobody.may(right, run) for right in ("see", "start", "stop")] == [False] * 3
