"""``POST /runs/{id}/answers``: at any process of a server, by who may."""

from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor

import dspy
import pytest
import warm

import streamll
from brokers.backends import BACKENDS, Backend, backend_of, script
from serve.serving import events_of, wait_until
from streamll.brokers.opening import default_target
from streamll.core.ordering import OrderCheck
from streamll.core.wire import from_dict
from streamll.serve import Limits, Permit, bearer_token, create_app, run_token

SECRET = "the secret of all processes"


class Asks(dspy.Module):
    """Asks for a date, and returns it."""

    async def aforward(self, what):
        on = await streamll.ask_async(f"When {what}?", schema=dt.date, to="ada")
        return dspy.Prediction(answer=f"{on:%d.%m.%Y}")


async def auth(connection):
    token = bearer_token(connection)
    if token in ("anna", "bert"):
        return Permit(token)
    if token == "answers":
        return Permit("clara", see="all", answer="all", start="none")
    return None


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """No server gives up waiting for another one, or for the log, however busy the machine is."""
    monkeypatch.setattr("streamll.serve.routes.answers.HEARD_S", 60)
    monkeypatch.setattr("streamll.serve.runner.LOGGED_S", 60)


@pytest.fixture
def fleet(serve, log):
    """Three servers of one log."""
    options = {"log": log, "secret": SECRET, "auth": auth}
    return [serve(create_app({"asks": Asks()}, **options)) for _ in range(3)]


def as_(name):
    return {"authorization": f"Bearer {name}"}


def ask(client, who="anna"):
    body = {"program": "asks", "inputs": {"what": "shall we meet"}}
    return client.post("/runs", headers=as_(who), json=body).json()


def open_question(client, url, who="anna"):
    def asked():
        return client.get(url, headers=as_(who)).json().get("questions")

    return wait_until(asked, what="the question")[0]


def test_asked_at_one_process_answered_at_another_read_at_a_third(fleet):
    one, two, three = (server.client() for server in fleet)
    run = ask(one)
    question = open_question(two, run["url"])
    assert (question["text"], question["to"]) == ("When shall we meet?", "ada")
    assert question["schema"] == {"type": "string", "format": "date"}

    def answer(client, value, who="anna", **more):
        body = {"question_id": question["question_id"], "value": value, **more}
        return client.post(f"{run['url']}/answers", headers=as_(who), json=body)

    for client in (one, two):  # where it runs, and where it does not
        for wrong in (7, "tomorrow"):
            refused = answer(client, wrong)
            assert refused.status_code == 422
            assert refused.json()["problems"][0]["place"] == "answer"
    assert answer(two, "2027-01-02", who="clara").status_code == 401
    assert answer(two, "2027-01-02", by="somebody else").json()["status"] == "given"
    for client in (one, two, three):
        late = answer(client, "2027-01-03", who="answers")
        assert (late.status_code, "answered by anna" in late.text) == (409, True)
    events = events_of(three, run["events"], headers=as_("anna"))
    OrderCheck().check_all(map(from_dict, events))
    answered = next(event for event in events if event["event_type"] == "answer")
    assert (answered["value"], answered["by"]) == ("2027-01-02", "anna")
    assert events[-1]["event_type"] == "run.end"
    assert "questions" not in three.get(run["url"], headers=as_("anna")).json()


def test_reading_is_one_right_and_answering_another(fleet):
    one, two, _ = (server.client() for server in fleet)
    run = ask(one)
    question = open_question(two, run["url"])
    body = {"question_id": question["question_id"], "decline": True}

    def status(token):
        return two.post(f"{run['url']}/answers", headers=as_(token), json=body).status_code

    assert status("bert") == 404  # who does not see the run
    assert status(run["token"]) == 403
    assert two.get(run["url"], headers=as_(run["token"])).status_code == 200
    run_id = run["run_id"]
    assert status(run_token(SECRET, run_id)) == 403
    assert status(run_token(SECRET, "f" * 32, answer=True)) == 401
    assert status(run_token(SECRET, run_id, seconds=-1, answer=True)) == 401
    assert two.get(run["url"], headers=as_(run["answer_token"])).status_code == 200
    assert status(run["answer_token"]) == 200
    events = events_of(two, run["events"], headers=as_("anna"))
    assert events[-1]["error_type"] == "QuestionWithdrawn"


def test_of_answers_at_all_processes_at_once_one_is_given(fleet):
    """The others are told so, also where the program does not run, and also who would have declined."""
    clients = [server.client() for server in fleet]
    run = ask(clients[0])
    question = {"question_id": open_question(clients[1], run["url"])["question_id"]}
    said = [{**question, "value": f"2027-01-0{day}"} for day in range(1, 8)]
    said += [{**question, "decline": True}] * 2

    def give(number):
        url = f"{run['url']}/answers"
        return clients[number % 3].post(url, headers=as_("anna"), json=said[number])

    with ThreadPoolExecutor(len(said)) as pool:
        statuses = [each.status_code for each in pool.map(give, range(len(said)))]
    assert sorted(statuses) == [200] + [409] * (len(said) - 1)
    events = events_of(clients[2], run["events"], headers=as_("anna"))
    answers = [event for event in events if event["event_type"] == "answer"]
    assert len(answers) == 1
    assert answers[0].get("value") == said[statuses.index(200)].get("value")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"question_id": 3, "value": 1}, 400),
        ({"question_id": "q"}, 400),
        ({"question_id": "q", "value": 1, "decline": True}, 400),
        ({"question_id": "q", "value": 1, "by": 3}, 400),
        ({"question_id": "q", "value": 1, "answer": 3}, 400),
        ({"question_id": "q", "value": 1}, 404),
    ],
)
def test_what_is_no_answer(fleet, body, status):
    one, two, _ = (server.client() for server in fleet)
    run = ask(one)
    for client in (one, two):
        refused = client.post(f"{run['url']}/answers", headers=as_("anna"), json=body)
        assert refused.status_code == status, refused.text
    one.delete(run["url"], headers=as_("anna"))
    events = events_of(two, run["events"], headers=as_("anna"))
    ended = [event["outcome"] for event in events if event["event_type"] == "answer"]
    assert ended in ([], ["withdrawn"])  # [], if it was cancelled before it had asked
    assert events[-1]["event_type"] == "run.cancelled"


PROGRAM = """
    import dspy, streamll

    class Asks(dspy.Module):
        def forward(self):
            return streamll.ask("How many?", schema=int)

    sink = open_sink(url, target=target)
    print("ready", flush=True)
    with streamll.stream(Asks(), sinks=[sink], read=False)() as run:
        print(json.dumps(run.result()), flush=True)
    sink.stop()
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_program_that_no_server_runs(backend, serve, server_of, tmp_path):
    """A server of its log takes the answer, and the program hears it there."""
    broker = backend_of(backend, server_of, tmp_path)
    if broker.server is not None:
        broker = Backend(backend, broker.server.new_part())
    server = serve(create_app(None, log=broker.url))
    process = warm.Popen(
        script(broker, default_target(broker.url), PROGRAM), stdout=subprocess.PIPE, text=True
    )
    with server.client() as client:
        runs = wait_until(lambda: client.get("/runs").json().get("runs"), what="the run")
        url = f"/runs/{runs[0]['run_id']}"
        question = wait_until(lambda: client.get(url).json().get("questions"), what="the question")
        body = {"question_id": question[0]["question_id"], "value": 7, "by": "ada"}
        assert client.post(f"{url}/answers", json=body).json()["status"] == "given"
    out, _ = process.communicate(timeout=60)
    assert out.split() == ["ready", "7"]


def test_a_run_that_is_lost_while_it_waits_has_its_question_withdrawn(serve, log):
    server = serve(create_app(None, log=log, limits=Limits(lost_seconds=3)))
    process = warm.Popen(
        script(Backend("sqlite", log), "streamll:events", PROGRAM),
        stdout=subprocess.PIPE,
        text=True,
    )
    with server.client() as client:
        runs = wait_until(lambda: client.get("/runs").json().get("runs"), what="the run")
        url = f"/runs/{runs[0]['run_id']}"
        question = wait_until(lambda: client.get(url).json().get("questions"), what="the question")
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        events = events_of(client, f"{url}/events")
        assert [e["event_type"] for e in events][-2:] == ["module.error", "run.error"]
        assert [e["outcome"] for e in events if e["event_type"] == "answer"] == ["withdrawn"]
        OrderCheck().check_all(from_dict(event) for event in events if "seq" in event)
        body = {"question_id": question[0]["question_id"], "value": 7}
        assert client.post(f"{url}/answers", json=body).status_code == 409
