"""X10, X11: the routes of Vercel's wire, as the ``ai`` package's own chat and transport use them."""

from __future__ import annotations

import json
from urllib.parse import quote

import dspy
import pytest
from profiles import THOROUGH

from serve.formats.test_vercel import USE_CHAT
from serve.formats.test_wire_formats import SHOWN_PARTS
from serve.npm import ai_packages, run_node
from serve.serving import wait_for_latest
from streamll.core.errors import ConfigurationError
from streamll.serve import create_app, run_token
from streamll.serve.routes import vercel
from streamll.testing import Reply

TOKEN = "secret-token-of-the-server"
VERSIONS = ["5.0.0", "5", "6", "7"] if THOROUGH else ["7"]
TALK = """
const {url, questions, body, headers} = read();
let posts = 0;
const transport = new DefaultChatTransport({api: url, body, headers, fetch: (...asked) => { posts++; return fetch(...asked); }});
const chat = new Chat({id: 'c1', transport, sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls});
for (const text of questions) await chat.sendMessage({text});
const message = lastOf(chat);
console.log(JSON.stringify({posts, error: chat.error?.message, messages: chat.messages,
                            shown: message ? shownParts(message) : []}));
"""


def talk(package, url, *questions, **options):
    given = {"url": url, "questions": questions, **options}
    script, place = USE_CHAT + SHOWN_PARTS + TALK, ai_packages(package)
    return run_node(script, given, timeout=300, place=place)


def search(query: str) -> str:
    """Search."""
    return f"about {query}"


AGENT = [
    {"next_thought": "Look.", "next_tool_name": "search", "next_tool_args": {"query": "sky"}},
    {"next_thought": "Done.", "next_tool_name": "finish", "next_tool_args": {}},
    {"reasoning": "r", "answer": "Because of the air."},
]


@pytest.mark.parametrize("package", VERSIONS)
def test_an_agent_answers_once(practice, lm, serve, log, package):
    """The helper of the package's documentation posts again whenever tools have their results."""
    agent = dspy.ReAct("question -> answer", tools=[search])
    version = None if package == "5.0.0" else int(package)
    server = serve(create_app({"agent": agent}, log=log, ai_version=version))
    practice.script(*AGENT)
    read = talk(package, f"{server.url}/ai/agent", "Why?")
    assert (read["posts"], read.get("error")) == (1, None)
    kinds = [part["type"].replace("dynamic-tool", "tool-") for part in read["shown"]]
    kinds = [kind.partition("-")[0] for kind in kinds]
    assert kinds == [*("step", "reasoning", "tool") * 2, *("step", "reasoning", "text")]
    assert [p["input"] for p in read["shown"] if "input" in p] == [{"query": "sky"}, {}]
    metadata = read["messages"][-1]["metadata"]
    assert metadata["runId"] == read["messages"][-1]["id"]
    assert metadata["model"] == "openai/practice-model"
    assert metadata["usage"]["totalTokens"] > 0
    assert len(practice.requests) == 3


@pytest.mark.parametrize("package", VERSIONS)
def test_a_program_sees_all_turns_of_a_conversation(practice, lm, serve, log, package):
    program = dspy.Predict("history: dspy.History, question -> answer")
    server = serve(create_app({"chat": program, "other": program}, log=log))
    practice.respond(lambda request: {"answer": f"answer to {request.inputs['question']}"})
    questions = [f"question {n}" for n in range(10)]
    read = talk(package, f"{server.url}/ai/chat", *questions)
    assert (read["posts"], read.get("error")) == (10, None)
    last = json.dumps(practice.requests[-1].body)
    for n in range(9):
        assert f"question {n}" in last
        assert f"answer to question {n}" in last


@pytest.fixture
def two(practice, lm, serve, log):
    """Two servers of one log, with two programs whose reply has a name of its own each."""
    practice.respond(lambda request: {"draft": "d", "answer": "a", "title": "t"})
    programs = {
        "qa": dspy.Predict("question -> draft, answer"),
        "name": dspy.Predict("question -> draft, title"),
    }
    return [serve(create_app(programs, log=log)) for _ in range(2)]


def asked(chat, **more):
    parts = [{"type": "text", "text": "q"}]
    return {"id": chat, "messages": [{"id": "m", "role": "user", "parts": parts}], **more}


def texts(answer):
    """The reply, as its chunks have it."""
    lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")]
    told = [json.loads(line) for line in lines]
    return "".join(each["delta"] for each in told if each["type"] == "text-delta")


@pytest.mark.parametrize("chat", ["c1", "é/50% x"])
def test_each_program_has_chats_of_its_own(two, chat):
    here, there = two
    place = quote(chat, safe="")
    with here.client() as client, there.client() as other:
        for program, reply in (("qa", "a"), ("name", "t")):
            assert texts(client.post(f"/ai/{program}", json=asked(chat))) == reply
        for program, reply in (("qa", "a"), ("name", "t")):
            answer = other.get(f"/ai/{program}/{place}/stream", params={"after": "-1"})
            assert texts(answer) == reply
        assert texts(other.get(f"/ai/{place}/stream", params={"after": "-1"})) == "t"  # the latest
        assert other.get(f"/ai/none/{place}/stream").status_code == 204
        assert other.delete(f"/ai/none/{place}/stream").status_code == 404
        assert client.post("/ai/none", json=asked(chat)).status_code == 404


def test_who_was_cut_gets_the_end_and_who_had_it_does_not_get_it_twice(two):
    here, there = two
    with here.client() as client, there.client() as other:
        assert texts(client.post("/ai/qa", json=asked("c1"))) == "a"
        assert client.get("/ai/qa/c1/stream").status_code == 204
        wait_for_latest(other)  # before, it may read it in the log
        assert texts(other.get("/ai/qa/c1/stream")) == "a"  # for all it knows
        assert other.get("/ai/qa/c1/stream").status_code == 204
        assert texts(other.get("/ai/qa/c1/stream?after=-1")) == "a"
        run_id = wait_for_latest(client)["run_id"]
        last = client.get(f"/runs/{run_id}").json()["seq"]
        assert other.get(f"/ai/qa/c1/stream?after={last}").status_code == 204


def test_a_run_that_is_long_over_is_nothing_to_come_back_to(two, monkeypatch):
    monkeypatch.setattr(vercel, "RESUMABLE_S", 0.0)
    here, there = two
    with here.client() as client, there.client() as other:
        client.post("/ai/qa", json=asked("c1"))
        wait_for_latest(other)  # before, it may read it in the log
        assert other.get("/ai/qa/c1/stream").status_code == 204


def test_any_process_stops_the_run_of_a_chat(practice, two, monkeypatch):
    # The run's first event is in the log before the name of its chat is.
    monkeypatch.setattr("streamll.serve.runner.CHAT_APPEARS_S", 30)
    here, there = two
    practice.script(Reply({"draft": "d", "answer": "a"}, hold_after=0))
    with here.client() as client, there.client() as other:
        with client.stream("POST", "/ai/qa", json=asked("c1")) as response:
            coming = response.iter_text()
            assert '"start"' in next(coming) + next(coming)
            assert other.delete("/ai/qa/c1/stream").status_code == 202
            assert '"abort"' in "".join(coming)
        wait_for_latest(client, "cancelled")


def test_a_version_is_the_servers_or_the_requests_and_is_kept_for_who_comes_back(
    practice, lm, serve, log
):
    practice.respond(lambda _: {"answer": "a"})
    program = dspy.Predict("question -> answer")
    plain, newer = (serve(create_app(program, log=log, ai_version=n)) for n in (None, 7))

    def reason(answer):
        [finish] = [line for line in answer.text.splitlines() if '"type":"finish"' in line]
        return json.loads(finish[6:]).get("finishReason")

    with plain.client() as client, newer.client() as other:
        assert reason(client.post("/ai", json=asked("a"))) is None
        assert reason(other.get("/ai/a/stream?after=-1")) is None  # as it began
        assert reason(other.post("/ai", json=asked("b"))) == "stop"
        assert reason(client.get("/ai/b/stream?after=-1")) == "stop"
        assert reason(client.post("/ai", json=asked("c", ai_version=6))) == "stop"
        assert reason(client.post("/ai?ai_version=5", json=asked("d"))) == "stop"
        assert reason(client.get("/ai/a/stream?after=-1&ai_version=7")) == "stop"
        for wrong in (4, "x", "77", True, [7]):
            answer = client.post("/ai", json=asked("e", ai_version=wrong))
            assert answer.status_code == 400, wrong
            assert "ai_version is one of 5, 6, 7" in answer.json()["error"]
    with pytest.raises(ConfigurationError, match="ai_version is 5, 6, 7 or None, not 4"):
        create_app(program, log=log, ai_version=4)


def test_every_door_asks_for_the_token(practice, lm, serve, log):
    practice.respond(lambda _: {"answer": "a"})
    program = dspy.Predict("question -> answer")
    server = serve(create_app({"qa": program, "b": program}, log=log, tokens=[TOKEN], secret="s"))
    key = {"authorization": f"Bearer {TOKEN}"}
    with server.client() as client:
        started = client.post("/ai/qa", json=asked("c1"), headers=key)
        assert texts(started) == "a"
        client.headers.update(key)
        run = wait_for_latest(client)["run_id"]
        client.headers.pop("authorization")
        for headers in ({}, {"authorization": f"Bearer {run_token('s', run)}"}):
            doors = [
                client.post("/ai/qa", json=asked("c1"), headers=headers),
                client.get("/ai/qa/c1/stream?after=-1", headers=headers),
                client.get("/ai/c1/stream?after=-1", headers=headers),
                client.delete("/ai/qa/c1/stream", headers=headers),
                client.delete("/ai/c1/stream", headers=headers),
            ]
            assert {door.status_code for door in doors} == {401}
        assert texts(client.get("/ai/qa/c1/stream?after=-1", headers=key)) == "a"
    assert len(practice.requests) == 1


def test_a_page_brings_its_token_by_the_transports_headers(practice, lm, serve, log):
    practice.respond(lambda _: {"answer": "a"})
    program = dspy.Predict("question -> answer")
    server = serve(create_app({"qa": program, "b": program}, log=log, tokens=[TOKEN]))
    headers = {"authorization": f"Bearer {TOKEN}"}
    read = talk("6", f"{server.url}/ai/qa", "q", headers=headers, body={"ai_version": 6})
    assert (read.get("error"), read["shown"][-1]["text"]) == (None, "a")
    assert "valid token" in talk("6", f"{server.url}/ai/qa", "q")["error"]
