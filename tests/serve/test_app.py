"""X10, X11: a server of runs; the log decides, not the process."""

from __future__ import annotations

import functools
import json
import re
import threading
import time

import dspy
import httpx
import openai
import pytest
import websockets.sync.client as ws

import streamll
from serve.formats.test_wire_formats import READ_VERCEL
from serve.npm import run_node
from serve.routes.test_openai_chat import leave_once_it_has_asked
from serve.runs import RUNS
from serve.serving import events_of, frames, text_of, wait_for_latest, wait_until
from streamll.brokers.opening import open_sink
from streamll.core.errors import ConfigurationError
from streamll.guards import Words
from streamll.serve import Limits, create_app
from streamll.serve.programs import Served
from streamll.testing import Reply

WORDS = " ".join(f"word{n}" for n in range(60))
SIGNATURE = "question -> answer"
connect = functools.partial(ws.connect, open_timeout=60)


class Blocking(dspy.Module):
    def __init__(self):
        super().__init__()
        self.qa = dspy.Predict(SIGNATURE)

    def forward(self, question):
        return self.qa(question=question)


@pytest.fixture
def qa():
    return dspy.Predict(SIGNATURE)


def started(client, question="q", **options):
    answer = client.post("/runs", json={"inputs": {"question": question}, **options})
    assert answer.status_code == 202, answer.text
    return answer.json()


def status_of(client, run):
    return client.get(run["url"]).json()["status"]


def test_a_run_is_started_read_and_looked_at(practice, lm, serve, log, qa):
    practice.script({"answer": WORDS})
    with serve(create_app(qa, log=log)).client() as client:
        run = started(client)
        events = events_of(client, run["events"])
        assert text_of(events) == WORDS
        assert [e["seq"] for e in events][:2] == [0, 1]
        snapshot = client.get(run["url"]).json()
        assert snapshot["status"] == "ended"
        assert snapshot["fields"] == {"self.answer": WORDS} or WORDS in snapshot["fields"].values()
        assert snapshot["completion_tokens"] > 0
        assert [each["run_id"] for each in client.get("/runs").json()["runs"]] == [run["run_id"]]


def test_programs_are_listed_with_what_a_form_needs(lm, serve, log):
    signature = dspy.Signature("question, style: str -> reasoning, answer")
    programs = {"qa": dspy.Predict(SIGNATURE), "styled": dspy.Predict(signature)}
    with serve(create_app(programs, log=log)).client() as client:
        told = {each["name"]: each for each in client.get("/programs").json()["programs"]}
    assert [field["name"] for field in told["styled"]["inputs"]] == ["question", "style"]
    assert told["qa"]["reply"] == "answer"


def test_an_input_with_a_default_need_not_be_given(practice, lm, serve, log):
    class Hinted(dspy.Signature):
        question: str = dspy.InputField()
        hint: str = dspy.InputField(default="none")
        answer: str = dspy.OutputField()

    practice.script({"answer": "yes"})
    with serve(create_app({"qa": dspy.Predict(Hinted)}, log=log)).client() as client:
        [told] = client.get("/programs").json()["programs"]
        assert {each["name"]: each["required"] for each in told["inputs"]} == {
            "question": True,
            "hint": False,
        }
        assert client.post("/runs", json={"inputs": {"question": "?"}}).status_code == 202


def test_what_cannot_be_started_is_refused_with_the_reason(lm, serve, log, qa):
    with serve(create_app({"qa": qa, "other": Blocking()}, log=log)).client() as client:
        for body, status, reason in (
            ({"program": "nope", "inputs": {}}, 404, "there are other, qa"),
            ({"inputs": {}}, 404, "there are other, qa"),
            ({"program": "qa", "inputs": {"q": 1}}, 400, "no input 'q'; it has question"),
            ({"program": "qa", "inputs": {}}, 400, "needs the input 'question'"),
            ({"program": "qa", "inputs": []}, 400, "objects"),
            ({"program": "qa", "question": "?"}, 400, 'write {"inputs": {"question": …}}'),
            ([], 400, "a JSON object"),
        ):
            answer = client.post("/runs", json=body)
            assert (answer.status_code, reason in answer.json()["error"]) == (status, True), body
        for method, path in (
            ("GET", "/runs/none"),
            ("GET", "/runs/none/events"),
            ("DELETE", "/runs/none"),
        ):
            assert client.request(method, path).status_code == 404
        assert client.get("/runs/none/events?after=x").status_code == 400
        assert client.get("/runs/none/events?format=soap").status_code == 400
    with pytest.raises(ConfigurationError, match="not a program"):
        create_app({"a": 1})
    with pytest.raises(ConfigurationError, match=r"a class: serve an instance of it, Blocking\(\)"):
        create_app(Blocking)


def test_a_misspelt_key_starts_nothing(lm, serve, log):
    asked = []
    with serve(
        create_app({"g": lambda question="default": asked.append(question)}, log=log)
    ).client() as client:
        for body, told in (
            ({"input": {"question": "mine"}}, "did you mean inputs?"),
            ({"programm": "g", "inputs": {"question": "mine"}}, "did you mean program?"),
            ({"stuff": 1}, "there are context, inputs, program"),
        ):
            answer = client.post("/runs", json=body)
            assert answer.status_code == 400
            assert told in answer.json()["error"]
        posted = {"messages": [{"role": "user", "parts": [{"type": "text", "text": "q"}]}]}
        answer = client.post("/ai/g", json={**posted, "answers": ["x"]})
        assert answer.status_code == 400
        assert answer.json()["problems"][0]["place"] == "answers"
    assert asked == []


def test_a_reader_that_leaves_does_not_stop_the_run_unless_it_asks_to(practice, lm, serve, log, qa):
    practice.pace = 0.01
    # The last one does not end by itself before its reader has left.
    stays = ("", "?stop_on_leave=False", "?stop_on_leave=no")
    practice.script(*[{"answer": WORDS}] * len(stays), Reply({"answer": WORDS}, hold_after=20))
    with serve(create_app(qa, log=log)).client() as client:
        for query in (*stays, "?stop_on_leave=True"):
            status = "ended" if query in stays else "cancelled"
            run = started(client)
            assert client.get(run["events"] + "?stop_on_leave=perhaps").status_code == 400
            with client.stream("GET", run["events"] + query) as response:
                next(f for f in frames(response) if f.event["event_type"] == "token")
            wait_until(lambda run=run: status_of(client, run) != "running")
            assert status_of(client, run) == status


@pytest.mark.parametrize("program", [lambda: dspy.Predict(SIGNATURE), Blocking])
def test_any_process_cancels_any_run(practice, lm, serve, log, program):
    # They do not end by themselves before they are cancelled.
    practice.script(*[Reply({"answer": WORDS}, hold_after=20)] * 2)
    here, there = (serve(create_app(program(), log=log)) for _ in range(2))
    for canceller in (here, there):
        with here.client() as client, canceller.client() as other:
            run = started(client)
            with client.stream("GET", run["events"]) as response:
                coming = frames(response)
                while next(coming).event["event_type"] != "token":
                    pass
                assert other.delete(run["url"]).status_code == 202
                assert [f.event for f in coming][-1]["event_type"] == "run.cancelled"
            practice.wait_for(lambda: practice.requests[-1].client_closed_at is not None)
            # The log has the end a moment before the process knows it that other requests are sent to.
            wait_until(
                lambda other=other, run=run: other.delete(run["url"]).json()["status"] == "over"
            )


def test_a_browser_that_had_everything_gets_204(practice, lm, serve, log, qa):
    practice.script({"answer": "yes"})
    with serve(create_app(qa, log=log)).client() as client:
        run = started(client)
        last = events_of(client, run["events"])[-1]
        for place in (f"{run['run_id']}:{last['seq']}", str(last["seq"])):
            answer = client.get(run["events"], headers={"last-event-id": place})
            assert answer.status_code == 204
        other = client.get(run["events"], headers={"last-event-id": f"{'b' * 32}:1"})
        assert other.status_code == 400


def test_a_process_that_never_saw_the_run_serves_it(practice, lm, serve, log, qa):
    practice.script({"answer": WORDS})
    with serve(create_app(qa, log=log)).client() as client:
        run = started(client)
        events_of(client, run["events"])
    with serve(create_app(qa, log=log)).client() as client:
        assert text_of(events_of(client, run["events"])) == WORDS
        assert status_of(client, run) == "ended"


def test_a_run_whose_id_was_returned_is_known_to_every_process(
    practice, lm, serve, log, qa, monkeypatch
):
    """Also where the log takes longer to have its first event than others wait for news."""
    from streamll.brokers.sqlite import sink as sqlite

    send = sqlite.SQLiteTransport.send

    def slowly(writer, parcels):
        time.sleep(0.8)
        return send(writer, parcels)

    monkeypatch.setattr(sqlite.SQLiteTransport, "send", slowly)
    monkeypatch.setattr("streamll.serve.runner.LOGGED_S", 60)  # a second may be too short here
    practice.script({"answer": WORDS})
    here, there = (serve(create_app(qa, log=log)) for _ in range(2))
    with here.client() as client, there.client() as other:
        run = started(client)
        assert text_of(events_of(other, run["events"])) == WORDS


def test_a_run_whose_process_died_comes_to_an_end(lm, serve, log, qa):
    """Who would read it for ever is told that nothing more comes, and the log says so, too."""
    sink = open_sink(log)
    for event in RUNS["plain"]()[:5]:
        sink.put(event)
    assert sink.stop(60)
    limits = Limits(lost_seconds=0.5)
    with serve(create_app(qa, log=log, limits=limits)).client() as client:
        told = events_of(client, "/runs/r1/events")
        *_, end, error, last = [event for event in told if "seq" in event]  # no notice of silence
        assert (end["event_type"], end["seq"]) == ("field.end", 5)
        assert (error["event_type"], error["seq"]) == ("module.error", 6)
        assert (last["event_type"], last["error_type"], last["seq"]) == ("run.error", "RunLost", 7)
        assert last["partial"] == {"predict.answer": "Machine"}
        assert client.get("/runs/r1").json()["status"] == "lost"


def test_silence_is_filled_and_a_run_that_lives_is_not_given_up(practice, lm, serve, log, qa):
    practice.script(Reply({"answer": "yes"}, hold_after=0))
    limits = Limits(heartbeat_seconds=0.2, lost_seconds=0.5)
    with serve(create_app(qa, log=log, limits=limits)).client() as client:
        run = started(client)
        with client.stream("GET", run["events"]) as response:
            body = ""
            for text in response.iter_text():
                body += text
                if body.count("\n: \n\n") >= 6:
                    practice.release()
        assert '"run.end"' in body


# --- the other wires ----------------------------------------------------------------------------


def openai_at(server, **options):
    return openai.OpenAI(
        api_key="none", base_url=f"{server.url}/v1", max_retries=0,
        http_client=httpx.Client(trust_env=False), **options,
    )  # fmt: skip


def test_openais_client_chats_with_a_program(practice, lm, serve, log):
    """X11"""
    practice.respond(lambda request: {"reasoning": "r", "answer": request.inputs["question"] + "!"})
    server = serve(create_app({"qa": dspy.ChainOfThought(SIGNATURE)}, log=log))
    client = openai_at(server)
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    asked = [{"role": "user", "content": parts}]
    chunks = list(
        client.chat.completions.create(
            model="qa", messages=asked, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "one two!"
    assert chunks[-1].usage.total_tokens > 0
    whole = client.chat.completions.create(model="qa", messages=asked)
    assert whole.choices[0].message.content == "one two!"
    assert [model.id for model in client.models.list()] == ["qa"]
    with pytest.raises(openai.BadRequestError, match="no user message"):
        client.chat.completions.create(model="qa", messages=[{"role": "system", "content": "s"}])


@pytest.mark.parametrize("stream", [True, False])
def test_leaving_an_openai_chat_stops_its_run(practice, lm, serve, log, qa, stream):
    practice.script(Reply({"answer": WORDS}, hold_after=20))  # it does not end by itself
    server = serve(create_app(qa, log=log))
    body = {"model": "qa", "messages": [{"role": "user", "content": "q"}], "stream": stream}

    def ask():
        with (
            server.client() as client,
            client.stream("POST", "/v1/chat/completions", json=body) as got,
        ):
            coming = got.iter_text()
            while "word" not in next(coming):
                pass

    if stream:
        ask()
    else:
        leave_once_it_has_asked(practice, server, "/v1/chat/completions", body)
    practice.wait_for(lambda: practice.requests[0].client_closed_at)


def read_vercel(body):
    return run_node(READ_VERCEL, {"x": {"sse": body}})["x"]


def test_vercels_chat_streams_resumes_anywhere_and_stops(practice, lm, serve, log, qa):
    """X10, X11"""
    # They do not end by themselves before somebody has come back, or they are stopped.
    practice.script(*[Reply({"answer": WORDS * 2}, hold_after=30)] * 2)
    here, there = (serve(create_app(qa, log=log)) for _ in range(2))
    asked = {
        "id": "chat/1 é",
        "trigger": "submit-message",
        "messages": [{"id": "m", "role": "user", "parts": [{"type": "text", "text": "q"}]}],
    }
    place = "/ai/chat%2F1%20%C3%A9/stream".replace("%2F", "%252F")
    asked["id"] = "chat%2F1 é"
    with here.client() as client, there.client() as other:
        assert other.get(place).status_code == 204
        with client.stream("POST", "/ai", json=asked) as response:
            assert response.headers["x-vercel-ai-ui-message-stream"] == "v1"
            coming = response.iter_text()
            body = ""
            while "word9" not in body:
                body += next(coming)
            coming.close()
        with other.stream("GET", place) as response:
            assert response.status_code == 200
            practice.release()
            resumed = response.read().decode()
        read = read_vercel(resumed)
        assert read["errors"] == []
        assert read["message"]["parts"][-1]["text"] == WORDS * 2
        # It may have been read from the log, with the list of runs a moment behind.
        wait_for_latest(other)
        assert other.get(place).status_code == 204
        assert other.delete(place).json()["status"] == "over"
        with client.stream("POST", "/ai", json=asked) as response:
            coming = response.iter_text()
            body = ""
            while "word9" not in body:
                body += next(coming)
            assert other.delete(place).status_code == 202
            body += "".join(coming)
        assert '"abort"' in body


def test_aguis_route_answers_a_run_agent_input(practice, lm, serve, log, qa):
    """X11"""
    practice.script({"answer": WORDS})
    server = serve(create_app(qa, log=log))
    script = """
    import {HttpAgent} from '@ag-ui/client'; import fs from 'fs';
    const url = JSON.parse(fs.readFileSync(0, 'utf8'));
    const agent = new HttpAgent({url, threadId: 'th',
      initialMessages: [{id: 'u', role: 'user', content: 'q'}]});
    let parts = 0;
    await agent.runAgent({runId: 'mine'}, {onTextMessageContentEvent: () => { parts++; }});
    console.log(JSON.stringify([agent.messages.map(m => m.content), parts]));
    """
    messages, parts = run_node(script, f"{server.url}/agui")
    assert messages == ["q", WORDS]
    assert parts > 1


def test_own_inputs_from_messages_and_the_field_that_is_the_reply(practice, lm, serve, log):
    practice.respond(lambda request: {"draft": "d", "answer": request.inputs["topic"]})
    program = Served(
        name="p",
        program=dspy.Predict("topic -> draft, answer"),
        reply="draft",
        from_messages=lambda messages: {"topic": f"{len(messages)} messages"},
    )
    client = openai_at(serve(create_app({"p": program}, log=log)))
    asked = [{"role": "user", "content": "x"}] * 2
    assert (
        client.chat.completions.create(model="p", messages=asked).choices[0].message.content == "d"
    )
    assert practice.requests[0].inputs["topic"] == "2 messages"


IMAGE = [{"type": "image_url", "image_url": {"url": "https://example.org/i.png"}}]


@pytest.mark.parametrize("last", ["", " ", None, IMAGE])
def test_a_last_message_without_text_is_not_answered_as_the_one_before(
    practice, serve, log, qa, last
):
    messages = [{"role": "user", "content": "first"}, {"role": "user", "content": last}]
    with serve(create_app(qa, log=log)).client() as client:
        for path in ("/v1/chat/completions", "/ai", "/agui"):
            answer = client.post(path, json={"messages": messages})
            assert answer.status_code == 400
            if last is not IMAGE or path.startswith("/v1"):  # the other wires know no such part
                assert "the last user message has no text" in answer.text
    assert practice.requests == []


def test_a_switch_that_is_text_is_refused(practice, serve, log, qa):
    """``"false"`` would be true."""
    messages = [{"role": "user", "content": "q"}]
    with serve(create_app(qa, log=log)).client() as client:
        for wrong in ({"stream": "false"}, {"stream_options": {"include_usage": 0}}):
            answer = client.post("/v1/chat/completions", json={"messages": messages, **wrong})
            assert answer.status_code == 400
            assert "is true or false, not" in answer.json()["error"]["message"]
    assert practice.requests == []


# --- websocket ----------------------------------------------------------------------------------


def test_a_websocket_reads_resumes_and_cancels(practice, lm, serve, log, qa):
    practice.pace = 0.01
    practice.script({"answer": WORDS}, Reply({"answer": WORDS}, hold_after=20))
    server = serve(create_app(qa, log=log))
    with server.client() as client:
        run = started(client)
        address = f"ws://127.0.0.1:{server.port}{run['websocket']}"
        with connect(address) as socket:
            had = [json.loads(socket.recv(timeout=60)) for _ in range(12)]
        last = had[-1]["seq"] + had[-1].get("count", 1) - 1
        with connect(f"{address}?after={last}") as socket:
            rest = [json.loads(message) for message in socket]
        assert text_of([*had, *rest]) == WORDS
        run = started(client)
        with connect(f"ws://127.0.0.1:{server.port}{run['websocket']}") as socket:
            socket.recv(timeout=60)
            socket.send('{"type": "cancel"}')
            events = [json.loads(message) for message in socket]
        assert events[-1]["event_type"] == "run.cancelled"


def test_a_websocket_that_is_left_stops_the_run_if_it_asks_to(practice, lm, serve, log, qa):
    practice.script(Reply({"answer": WORDS}, hold_after=20))
    server = serve(create_app(qa, log=log))
    with server.client() as client:
        run = started(client)
        address = f"ws://127.0.0.1:{server.port}{run['websocket']}?stop_on_leave=1"
        with connect(address) as socket:
            socket.recv(timeout=60)
        wait_until(lambda: status_of(client, run) == "cancelled")


# --- operations ---------------------------------------------------------------------------------


def test_health_and_metrics(practice, lm, serve, log, qa):
    """X14"""
    practice.script({"answer": "yes"})
    with serve(create_app(qa, log=log, guards=[Words(["yes"])])).client() as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        events_of(client, started(client)["events"])
        answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")
    found = dict(re.findall(r"^(streamll_\S+) (\S+)$", answer.text, re.MULTILINE))
    assert found["streamll_runs_started_total"] == "1"
    assert found['streamll_runs_ended_total{how="end"}'] == "1"
    assert found['streamll_guarded_total{outcome="mask"}'] == "1"
    assert found['streamll_requests_total{method="POST",status="202"}'] == "1"


def test_a_drain_sends_readers_away_lets_runs_end_and_takes_no_more(practice, lm, serve, log, qa):
    """What SIGTERM does; the command line's test sends a real one."""
    practice.pace = 0.01
    practice.script(Reply({"answer": WORDS * 2}, hold_after=60))  # what was said by then is half
    # Readers leave in time, however late this busy machine lets them, and are not cut off.
    options = {"timeout_graceful_shutdown": 60}
    old, new = (serve(create_app(qa, log=log), **options) for _ in range(2))
    had = []
    with old.client() as client:
        run = started(client)
        with client.stream("GET", run["events"]) as response:
            for frame in frames(response):
                had.append(frame)
                if len(had) == 20:
                    stopping = threading.Thread(target=old.stop)
                    old.drain()
                    stopping.start()
    practice.release()
    assert had[-1].event["event_type"] != "run.end"
    with new.client() as client:
        rest = events_of(client, run["events"], headers={"last-event-id": had[-1].id})
    assert text_of([*(f.event for f in had), *rest]) == WORDS * 2
    assert rest[-1]["event_type"] == "run.end"
    stopping.join(60)


def test_an_application_that_is_mounted_without_a_lifespan_works(practice, lm, serve, log, qa):
    from fastapi import FastAPI

    practice.script({"answer": "yes"})
    app = FastAPI()
    app.mount("/llm", create_app(qa, log=log))
    with serve(app).client() as client:
        run = client.post("/llm/runs", json={"inputs": {"question": "q"}}).json()
        assert run["events"].startswith("/llm/runs/")
        assert text_of(events_of(client, run["events"])) == "yes"


def test_context_of_a_run_is_on_its_events(practice, lm, serve, log, qa):
    """D6"""
    practice.script({"answer": "yes"})
    with serve(create_app(qa, log=log)).client() as client:
        run = started(client, context={"request_id": "r-7"})
        events = events_of(client, run["events"])
    assert {e["context"]["request_id"] for e in events} == {"r-7"}
    assert "request_id" not in streamll.get_context()
