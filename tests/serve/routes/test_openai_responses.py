"""X10, X11: OpenAI's Responses API, driven and resumed by the ``openai`` package."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time

import dspy
import httpx
import msgspec
import openai
import pytest

from serve.process import ServerProcess
from serve.routes.test_openai_chat import TOKEN, client_of, leave_once_it_has_asked
from serve.runs import RUNS
from serve.serving import wait_until
from streamll.brokers.opening import open_sink
from streamll.core import events as ev
from streamll.serve import Limits, create_app, run_token
from streamll.serve.routes.openai_responses import KEPT, Kept
from streamll.serve.web import sealing
from streamll.testing import Reply, Usage

SIGNATURE = "question -> answer"
WORDS = " ".join(f"word{n}" for n in range(30))
HELD = 24
"""Pieces of a reply, of which the first say which fields come: text has begun then."""
REPLY = {"reasoning": "because", "answer": "blue"}


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """No server gives up waiting for the log, or for another one, however busy the machine is."""
    monkeypatch.setattr("streamll.serve.runner.LOGGED_S", 60)
    monkeypatch.setattr("streamll.serve.routes.openai_responses.ENDS_S", 60)


@pytest.fixture
def server(practice, lm, serve, log):
    return serve(create_app({"qa": dspy.ChainOfThought(SIGNATURE)}, log=log))


@pytest.fixture
def other(practice, lm, serve, log):
    """Another server on the same log."""
    return serve(create_app({"qa": dspy.ChainOfThought(SIGNATURE)}, log=log))


@pytest.fixture
def client(server):
    return client_of(server)


@pytest.fixture
def elsewhere(other):
    return client_of(other)


def kinds(events):
    return [event.type for event in events]


# --- asking ---------------------------------------------------------------------------------------


def test_a_program_answers_as_a_response(practice, client):
    practice.respond(lambda request: {"reasoning": "r", "answer": request.inputs["question"] + "!"})
    response = client.responses.create(model="qa", input="why", metadata={"a": "b"}, user="u")
    assert (response.output_text, response.status) == ("why!", "completed")
    assert [item.type for item in response.output] == ["reasoning", "message"]
    assert response.output[0].content[0].text == "r"
    assert (
        response.usage.total_tokens
        == response.usage.input_tokens + response.usage.output_tokens
        > 0
    )
    assert (response.metadata, response.user, response.model) == ({"a": "b"}, "u", "qa")
    assert client.responses.retrieve(response.id) == response
    asked = [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "one "},
                {"type": "input_text", "text": "two"},
            ],
        }
    ]
    assert client.responses.create(model="qa", input=asked).output_text == "one two!"


def test_a_stream_ends_with_what_can_be_looked_up(practice, client, elsewhere):
    practice.script(REPLY, REPLY)
    events = list(client.responses.create(model="qa", input="q", stream=True))
    assert [e.sequence_number for e in events] == list(range(len(events)))
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == "blue"
    assert (
        "".join(e.delta for e in events if e.type == "response.reasoning_text.delta") == "because"
    )
    last = events[-1].response
    assert (last.output_text, last.status) == ("blue", "completed")
    assert elsewhere.responses.retrieve(last.id) == last
    with client.responses.stream(model="qa", input="q") as stream:
        assert "response.output_text.done" in kinds(stream)
        assert stream.get_final_response().output_text == "blue"


def test_reasoning_is_a_summary_for_clients_that_ask_for_one(practice, client, elsewhere):
    """They read nothing else."""
    practice.script(REPLY)
    asked = {"summary": "auto"}
    events = list(client.responses.create(model="qa", input="q", stream=True, reasoning=asked))
    told = [e.delta for e in events if e.type == "response.reasoning_summary_text.delta"]
    assert "".join(told) == "because"
    last = events[-1].response
    assert (last.output[0].summary[0].text, last.output[0].content) == ("because", None)
    assert last.reasoning.summary == "auto"
    rest = elsewhere.responses.retrieve(last.id, stream=True, starting_after=3)
    assert list(rest) == events[4:]


def test_the_asynchronous_client_asks_resumes_and_cancels(practice, server, other):
    practice.script(REPLY, Reply({"reasoning": "r", "answer": WORDS}, hold_after=HELD))

    async def converse():
        options = {"api_key": "none", "max_retries": 0, "timeout": 60}
        async with (
            openai.AsyncOpenAI(
                base_url=f"{server.url}/v1",
                http_client=httpx.AsyncClient(trust_env=False),
                **options,
            ) as here,
            openai.AsyncOpenAI(
                base_url=f"{other.url}/v1",
                http_client=httpx.AsyncClient(trust_env=False),
                **options,
            ) as there,
        ):
            async with here.responses.stream(model="qa", input="q") as stream:
                whole = await stream.get_final_response()
            assert whole.output_text == "blue"
            stream = await there.responses.retrieve(whole.id, stream=True, starting_after=3)
            numbers = [event.sequence_number async for event in stream]
            assert numbers == list(range(4, 4 + len(numbers)))
            events = []
            async for event in await here.responses.create(model="qa", input="q", stream=True):
                events.append(event)
                if event.type == "response.output_text.delta":
                    break
            cancelled = await there.responses.cancel(events[0].response.id)
            assert cancelled.status == "cancelled"
            assert cancelled.output_text.startswith("word0")
            async for event in await there.responses.retrieve(
                events[0].response.id, stream=True, starting_after=events[-1].sequence_number
            ):
                events.append(event)
            return events

    events = asyncio.run(converse())
    assert [e.sequence_number for e in events] == list(range(len(events)))
    assert (events[-1].type, events[-1].response.status) == ("response.incomplete", "cancelled")
    practice.release()


def test_a_response_in_the_background_is_looked_up_until_it_is_done(practice, client, elsewhere):
    practice.script(Reply({"reasoning": "r", "answer": WORDS}, hold_after=3))
    begun = client.responses.create(model="qa", input="q", background=True)
    assert (begun.status, begun.background) == ("in_progress", True)
    assert elsewhere.responses.retrieve(begun.id).status == "in_progress"
    practice.wait_for_requests(1)  # a release before that would be for nobody
    practice.release()
    wait_until(lambda: elsewhere.responses.retrieve(begun.id).status == "completed")
    assert elsewhere.responses.retrieve(begun.id).output_text == WORDS


def test_a_program_that_fails_is_a_failed_response(practice, client):
    practice.respond(lambda request: "nothing that the adapter could read")
    response = client.responses.create(model="qa", input="q")
    assert (response.status, response.error.code, response.output) == ("failed", "server_error", [])
    events = list(client.responses.create(model="qa", input="q", stream=True))
    assert events[-1].type == "response.failed"
    assert client.responses.cancel(response.id).status == "failed"


def test_several_programs_are_models(practice, lm, serve, log):
    practice.respond(lambda request: {"answer": "a", "summary": "s"})
    programs = {"qa": dspy.Predict(SIGNATURE), "sum": dspy.Predict("text -> summary")}
    client = client_of(serve(create_app(programs, log=log)))
    for name, text in (("qa", "a"), ("sum", "s")):
        response = client.responses.create(model=name, input="q")
        assert (response.output_text, response.model) == (text, name)
        assert client.responses.retrieve(response.id).output_text == text
    with pytest.raises(openai.NotFoundError) as error:
        client.responses.create(model="gpt", input="q")
    assert error.value.code == "model_not_found"


def test_a_tool_is_told_as_one_that_was_run_here(practice, lm, serve, log):
    def search(query: str) -> str:
        """Search."""
        return f"about {query}"

    practice.script(
        {"next_thought": "t", "next_tool_name": "search", "next_tool_args": {"query": "x"}},
        {"next_thought": "t", "next_tool_name": "finish", "next_tool_args": {}},
        {"reasoning": "r", "answer": "found"},
    )
    client = client_of(serve(create_app(dspy.ReAct(SIGNATURE, tools=[search]), log=log)))
    response = client.responses.create(model="m", input="q")
    assert [(i.type, i.name) for i in response.output if "call" in i.type] == [
        ("mcp_call", "search"),
        ("mcp_call", "finish"),
    ]
    assert response.output_text == "found"
    assert "about" not in response.to_json()  # results are in no log unless they are asked for


def counted(usage):
    """A chat's usage, in the words of a response's."""
    return (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)


def test_usage_is_what_the_model_has_counted(practice, client):
    own = Usage(input_tokens=40, output_tokens=9, cached_tokens=32, reasoning_tokens=4)
    ask = [{"role": "user", "content": "q"}]
    practice.script(*[Reply(REPLY, usage=own)] * 3)
    usage = client.responses.create(model="qa", input="q").usage
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (40, 9, 49)
    assert usage.input_tokens_details.cached_tokens == 32
    assert usage.output_tokens_details.reasoning_tokens == 4
    options = {"stream": True, "stream_options": {"include_usage": True}}
    *_, last = client.chat.completions.create(model="qa", messages=ask, **options)
    whole = client.chat.completions.create(model="qa", messages=ask).usage
    assert counted(last.usage) == counted(whole) == (40, 9, 49)
    assert whole.prompt_tokens_details.cached_tokens == 32
    assert whole.completion_tokens_details.reasoning_tokens == 4


def test_usage_of_a_response_that_was_cancelled_is_not_known(practice, client):
    practice.script(Reply({"reasoning": "r", "answer": WORDS}, hold_after=HELD))
    with client.responses.create(model="qa", input="q", stream=True) as stream:
        first = next(stream)
        next(event for event in stream if event.type == "response.output_text.delta")
        cancelled = client.responses.cancel(first.response.id)
    assert (cancelled.status, cancelled.usage) == ("cancelled", None)  # and not 0
    practice.release()


# --- resuming -------------------------------------------------------------------------------------


@pytest.fixture
def process(practice, log):
    """A server in a process of its own, on the same log."""
    running = ServerProcess(log, practice.openai_url)
    yield running
    running.stop()


def test_cut_behind_every_event_and_resumed_in_another_process(practice, client, process):
    """X10"""
    elsewhere = client_of(process)
    practice.script(Reply({"reasoning": "why", "answer": WORDS}, thinking="hm"))
    whole = list(client.responses.create(model="qa", input="q", stream=True))
    response_id = whole[0].response.id
    for had in range(len(whole)):
        rest = elsewhere.responses.retrieve(
            response_id, stream=True, starting_after=whole[had].sequence_number
        )
        assert [*whole[: had + 1], *rest] == whole
    with elsewhere.responses.stream(response_id=response_id, starting_after=4) as stream:
        assert [e.sequence_number for e in stream] == list(range(5, len(whole)))
        assert stream.get_final_response().output_text == WORDS
    assert list(elsewhere.responses.retrieve(response_id, stream=True)) == whole
    assert list(elsewhere.responses.retrieve(response_id, stream=True, starting_after=10**9)) == []


def test_a_reader_that_leaves_does_not_stop_the_response_and_resumes_it_while_it_runs(
    practice, client, elsewhere
):
    practice.script(Reply({"reasoning": "r", "answer": WORDS}, hold_after=HELD))
    events = []
    with client.responses.create(model="qa", input="q", stream=True) as stream:
        for event in stream:
            events.append(event)
            if event.type == "response.output_text.delta":
                break
    rest = elsewhere.responses.retrieve(
        events[0].response.id, stream=True, starting_after=events[-1].sequence_number
    )
    events.append(next(rest))
    practice.release()
    events += rest
    assert [e.sequence_number for e in events] == list(range(len(events)))
    assert events[-1].response.output_text == WORDS
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == WORDS


def test_a_server_that_stops_sends_its_readers_to_another_one(
    practice, serve, server, client, elsewhere
):
    practice.pace = 0.01
    practice.script(Reply({"reasoning": "r", "answer": WORDS * 4}, hold_after=60))
    events = []
    for event in client.responses.create(model="qa", input="q", stream=True):
        events.append(event)
        if len(events) == 20:
            server.drain()
    practice.release()
    assert events[-1].type != "response.completed"
    events += elsewhere.responses.retrieve(
        events[0].response.id, stream=True, starting_after=events[-1].sequence_number
    )
    assert [e.sequence_number for e in events] == list(range(len(events)))
    assert events[-1].response.output_text == WORDS * 4
    with pytest.raises(openai.InternalServerError, match="about to stop") as error:
        client.responses.create(model="qa", input="q")
    assert error.value.type == "server_error"


# --- conversations --------------------------------------------------------------------------------


class Chat(dspy.Signature):
    """Answer."""

    history: dspy.History = dspy.InputField()
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


class Remembers(dspy.Module):
    """Says what it knows of the conversation, without asking a model twice."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict(Chat)
        self.told = []

    async def aforward(self, history: dspy.History, question: str):
        self.told.append([(m["question"], m["answer"]) for m in history.messages])
        return await self.predict.acall(history=history, question=question)


@pytest.fixture
def chats(practice, lm, serve, log):
    """Two clients, each of a server of its own on one log, and the program that they ask."""
    program = Remembers()
    clients = [client_of(serve(create_app({"chat": program}, log=log))) for _ in range(2)]
    numbers = iter(range(99))
    practice.respond(lambda request: {"answer": f"a{next(numbers)}"})
    return clients, program


def test_ten_turns_by_the_response_before(chats):
    clients, program = chats
    before = None
    for turn in range(10):
        response = clients[turn % 2].responses.create(
            model="chat",
            input=f"q{turn}",
            previous_response_id=before,
            instructions="be kind" if turn == 3 else None,
        )
        assert (response.output_text, response.previous_response_id) == (f"a{turn}", before)
        before = response.id
    assert program.told == [[(f"q{n}", f"a{n}") for n in range(turn)] for turn in range(10)]


def test_turns_by_the_items_that_the_client_keeps(chats):
    [client, _], program = chats
    items = []
    for turn in range(3):
        items.append({"role": "user", "content": f"q{turn}"})
        items += client.responses.create(model="chat", input=items).output
    assert program.told == [[(f"q{n}", f"a{n}") for n in range(turn)] for turn in range(3)]


def test_the_other_fields_of_a_turn_are_kept_with_it(practice, lm, serve, log):
    class Thoughtful(dspy.Module):
        def __init__(self):
            super().__init__()
            self.predict = dspy.ChainOfThought(Chat)
            self.told = []

        async def aforward(self, history: dspy.History, question: str):
            self.told.append(list(history.messages))
            return await self.predict.acall(history=history, question=question)

    practice.script(REPLY, REPLY)
    program = Thoughtful()
    client = client_of(serve(create_app(program, log=log)))
    first = client.responses.create(model="m", input="q0")
    client.responses.create(model="m", input="q1", previous_response_id=first.id)
    assert program.told == [[], [{"question": "q0", **REPLY}]]


def test_two_turns_can_go_on_from_the_same_response(chats):
    [client, _], program = chats
    first = client.responses.create(model="chat", input="q0")
    for question in ("q1", "q2"):
        client.responses.create(model="chat", input=question, previous_response_id=first.id)
    assert program.told == [[], [("q0", "a0")], [("q0", "a0")]]


def test_a_response_that_cannot_be_continued_is_named(practice, client, elsewhere):
    practice.script(REPLY, REPLY, Reply(REPLY, hold_after=2))
    not_kept = client.responses.create(model="qa", input="q", store=False)
    running = None
    for before, code in (
        ("resp_" + "0" * 64, "previous_response_not_found"), ("x", "previous_response_not_found"),
        (not_kept.id, "previous_response_not_found"), (7, None),
    ):  # fmt: skip
        with pytest.raises(openai.BadRequestError) as error:
            client.responses.create(model="qa", input="q", previous_response_id=before)
        assert (error.value.param, error.value.code) == ("previous_response_id", code)
    client.responses.create(model="qa", input="q")
    running = client.responses.create(model="qa", input="q", background=True)
    with pytest.raises(openai.BadRequestError, match="still in progress"):
        elsewhere.responses.create(model="qa", input="q", previous_response_id=running.id)
    practice.wait_for_requests(3)
    practice.release()


def test_more_runs_than_there_may_be_are_a_rate_limit(practice, lm, serve, log):
    practice.script(Reply({"answer": "a"}, hold_after=1))
    limits = Limits(runs=1)
    client = client_of(serve(create_app(dspy.Predict(SIGNATURE), log=log, limits=limits)))
    client.responses.create(model="m", input="q", background=True)
    with pytest.raises(openai.RateLimitError) as error:
        client.responses.create(model="m", input="q")
    assert (error.value.type, error.value.code) == ("rate_limit_error", "rate_limit_exceeded")
    practice.wait_for_requests(1)
    practice.release()


def test_a_conversation_is_bounded(practice, lm, serve, log):
    practice.respond(lambda request: {"answer": "a"})
    limits = Limits(body_bytes=2000)
    client = client_of(serve(create_app(dspy.Predict(SIGNATURE), log=log, limits=limits)))
    response = client.responses.create(model="m", input="q" * 1500)
    with pytest.raises(openai.BadRequestError, match="2000 bytes") as error:
        client.responses.create(model="m", input="q" * 500, previous_response_id=response.id)
    assert error.value.code == "context_length_exceeded"


# --- privacy, access, hostile requests --------------------------------------------------------------


def rows_of(log):
    with sqlite3.connect(log.removeprefix("sqlite:///")) as connection:
        return [body for (body,) in connection.execute("SELECT body FROM streamll_entries")]


def test_what_was_asked_is_in_no_log(practice, client, log, caplog):
    caplog.set_level("INFO", "streamll.access")
    practice.script(REPLY, REPLY)
    secret = "my number is 555-0100"
    first = client.responses.create(
        model="qa", input=secret, instructions=secret, metadata={"m": secret}, user=secret
    )
    client.responses.create(model="qa", input=secret, previous_response_id=first.id)
    told = b"".join(bytes(row, "utf-8") if isinstance(row, str) else row for row in rows_of(log))
    assert b"server.response" in told
    assert b"blue" in told
    for hidden in (secret, first.id, first.id[-32:]):
        assert hidden.encode() not in told
    shown = client.responses.retrieve(first.id)
    line = f"GET /v1/responses/{first.id[:37]}… 200"
    wait_until(lambda: line in caplog.text, what=line)  # written once the response is sent
    assert first.id[-32:] not in caplog.text
    assert (shown.instructions, shown.metadata) == (secret, {"m": secret})


def test_a_response_that_is_not_kept_cannot_be_found(practice, client, log):
    practice.script(REPLY)
    response = client.responses.create(model="qa", input="q", store=False)
    assert response.output_text == "blue"
    for ask in (client.responses.retrieve, client.responses.cancel):
        with pytest.raises(openai.NotFoundError, match="no response with the id"):
            ask(response.id)
    assert not any("server.response" in str(row) for row in rows_of(log))


def test_who_does_not_wait_for_a_plain_response_stops_it(practice, server):
    """Nobody knows its id."""
    practice.script(Reply({"reasoning": "r", "answer": WORDS}, hold_after=3))
    leave_once_it_has_asked(practice, server, "/v1/responses", {"model": "qa", "input": "q"})
    practice.wait_for(lambda: practice.requests[0].client_closed_at)


def test_leaving_a_response_that_is_not_kept_stops_it(practice, client):
    practice.script(Reply({"reasoning": "r", "answer": WORDS}, hold_after=HELD))
    with client.responses.create(model="qa", input="q", stream=True, store=False) as stream:
        next(event for event in stream if event.type == "response.output_text.delta")
    practice.wait_for(lambda: practice.requests[0].client_closed_at is not None)


def test_a_token_is_needed_at_every_door(practice, lm, serve, log):
    practice.script({"answer": "yes"}, {"answer": "yes"})
    app = create_app(
        dspy.Predict(SIGNATURE), log=log, tokens=TOKEN, secret="s" * 32, hosts=["127.0.0.1"]
    )
    server = serve(app)
    owner = client_of(server, api_key=TOKEN)
    one, two = (owner.responses.create(model="m", input="q") for _ in range(2))
    run = one.id[5:37]
    guest = client_of(server, api_key=run_token("s" * 32, run))
    assert guest.responses.retrieve(one.id) == one
    assert guest.responses.cancel(one.id) == one
    assert guest.responses.retrieve(one.id, stream=True)
    expired = client_of(server, api_key=run_token("s" * 32, run, seconds=-1))
    for client, doors in (
        (guest, [lambda c: c.responses.retrieve(two.id), lambda c: c.responses.cancel(two.id),
                 lambda c: c.responses.create(model="m", input="q", previous_response_id=one.id)]),
        (expired, [lambda c: c.responses.retrieve(one.id)]),
        (client_of(server, api_key="wrong"), [
            lambda c: c.responses.create(model="m", input="q"), lambda c: c.responses.retrieve(one.id),
            lambda c: c.responses.retrieve(one.id, stream=True), lambda c: c.responses.cancel(one.id),
            lambda c: c.responses.delete(one.id)]),
    ):  # fmt: skip
        for door in doors:
            with pytest.raises(openai.AuthenticationError) as error:
                door(client)
            assert error.value.code == "invalid_api_key"
    other = one.id[:37] + "0" * 32  # who knows only the run's id
    with pytest.raises(openai.NotFoundError):
        owner.responses.retrieve(other)
    assert len(practice.requests) == 2


HOSTILE_IDS = [
    "resp_",
    "resp_x",
    "resp_" + "0" * 63,
    "resp_" + "G" * 64,
    "..%2F..",
    "%00",
    "resp_%0a" + "0" * 64,
    "é" * 50,
    "r" * 4000,
]


@pytest.mark.parametrize("path", ["", "?stream=true", "?stream=true&starting_after=1", "/cancel"])
def test_an_id_that_is_none_is_not_found(server, path):
    with server.client() as client:
        for response_id in HOSTILE_IDS:
            method = "POST" if path == "/cancel" else "GET"
            answer = client.request(method, f"/v1/responses/{response_id}{path}")
            assert answer.status_code == 404, response_id
            assert answer.json()["error"]["type"] == "invalid_request_error"
            assert len(answer.text) < 500


HOSTILE = [
    ({"input": 3}, "input"), ({"input": {}}, "input"), ({"input": [3]}, "input[0]"), ({"input": []}, "input"),
    ({}, "input"), ({"input": [{"role": "user"}]}, "input[0]"), ({"input": [{"role": "king", "content": "q"}]}, "input[0].role"),
    ({"input": [{"type": ["message"]}]}, "input[0]"), ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
    ({"input": [{"role": "user", "content": [{"type": "input_text", "text": 3}]}]}, "input[0].content[0].text"),
    ({"input": [{"role": "user", "content": [{"type": "own"}]}]}, "input[0].content[0]"),
    ({"input": [{"type": "function_call", "name": "f"}]}, "input[0].call_id"),
    ({"input": "q", "instructions": 3}, "instructions"), ({"input": "q", "stream": "yes"}, "stream"),
    ({"input": "q", "store": 1}, "store"), ({"input": "q", "background": True, "store": False}, "background"),
    ({"input": "q", "metadata": []}, "metadata"), ({"input": "q", "metadata": {"a": 1}}, "metadata"),
    ({"input": "q", "metadata": {str(n): "v" for n in range(17)}}, "metadata"),
    ({"input": "q", "metadata": {"a": "v" * 513}}, "metadata"), ({"input": "q", "user": 3}, "user"),
    ({"input": "q", "temperature": 0.3}, "temperature"), ({"input": "q", "own": 1}, "own"),
    ({"input": "q", "tools": [{"type": "web_search"}]}, "tools"), ({"input": "q", "text": {"format": {"type": "json_object"}}}, "text"),
    ({"input": "q", "conversation": "c"}, "conversation"), ({"input": "q", "reasoning": {"effort": "low"}}, "reasoning.effort"), ({"input": "q", "reasoning": {"summary": []}}, "reasoning.summary"), ({"input": "q", "reasoning": 1}, "reasoning"),
    ({"input": "q", "stream_options": {"include_obfuscation": True}}, "stream_options"),
    ({"input": "q", "inputs": 3}, None), ({"input": "q", "inputs": {"nobody": 3}}, "inputs.nobody"),
]  # fmt: skip


def test_a_request_that_cannot_be_answered_is_refused_with_its_place(practice, server):
    with server.client() as client:
        for body, place in HOSTILE:
            answer = client.post("/v1/responses", json={"model": "qa", **body})
            assert answer.status_code == 400, body
            error = answer.json()["error"]
            assert error["type"] == "invalid_request_error"
            assert place is None or error["param"] == place, body
        for body in ("[]", "{", "3", '"' + "x" * 9, '{"input": ' + "[" * 5000):
            headers = {"content-type": "application/json"}
            answer = client.post("/v1/responses", content=body, headers=headers)
            assert answer.status_code == 400
            assert answer.json()["error"]["message"]
        assert client.post("/v1/responses", content="{}").status_code == 415
    assert practice.requests == []


def test_a_wrong_query_is_refused_with_its_place(practice, client, server):
    practice.script(REPLY)
    place = f"/v1/responses/{client.responses.create(model='qa', input='q').id}"
    with server.client() as raw:
        for query, param in (
            ("stream=maybe", "stream"), ("starting_after=1", "starting_after"),
            ("stream=true&starting_after=-1", "starting_after"), ("stream=true&starting_after=x", "starting_after"),
            ("stream=true&starting_after=" + "9" * 30, "starting_after"), ("include[]=reasoning.encrypted_content", "include"),
            ("include_obfuscation=2", "include_obfuscation"),
        ):  # fmt: skip
            answer = raw.get(f"{place}?{query}")
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), query
        told = raw.get(f"{place}?stream=true&include_obfuscation=true").text
        assert told.count('"obfuscation"') == told.count('"delta"') > 1
        names = [line[7:] for line in told.splitlines() if line.startswith("event: ")]
        data = [
            json.loads(line[6:])["type"] for line in told.splitlines() if line.startswith("data: ")
        ]
        assert names == data


def test_who_looks_for_a_response_whose_process_is_gone_is_told(lm, serve, log):
    """Also if nobody reads it, which would bring it to its end."""
    run, key = "0" * 32, sealing.new_key()
    kept = Kept(run, "answer", "qa", {"id": f"resp_{run}{key}"}, [])
    sealed = {"sealed": sealing.seal(kept, key)}
    about = ev.Identity(run_id=f"response-{run}")
    sink = open_sink(log)
    for event in RUNS["plain"]()[:5]:
        own = msgspec.structs.replace(event.identity, run_id=run)
        sink.put(msgspec.structs.replace(event, identity=own))
    sink.put(ev.StreamllEvent(event_type=KEPT, data=sealed, identity=about, timestamp=time.time()))
    assert sink.stop(60)
    limits = Limits(lost_seconds=0.5)
    client = client_of(serve(create_app(dspy.Predict(SIGNATURE), log=log, limits=limits)))
    wait_until(lambda: client.responses.retrieve(kept.echo["id"]).status == "failed")
    failed = client.responses.retrieve(kept.echo["id"])
    assert (failed.error.type, failed.output_text) == ("RunLost", "Machine")
    assert failed.output[0].status == "incomplete"


# --- the log --------------------------------------------------------------------------------------


def test_a_run_that_the_log_has_lost_is_not_found(practice, client, elsewhere, log):
    practice.script(REPLY, Reply(REPLY, hold_after=3))
    gone = client.responses.create(model="qa", input="q")
    coming = client.responses.create(model="qa", input="q", stream=True)
    cut = next(coming).response
    with sqlite3.connect(log.removeprefix("sqlite:///"), timeout=60) as connection:
        written = "SELECT 1 FROM streamll_entries WHERE run_id = ?"
        wait_until(lambda: connection.execute(written, (cut.id[5:37],)).fetchone())
        practice.wait_for_requests(2)[1].wait_held()  # a release before that would be for nobody
        practice.release()
        list(coming)  # the rest is in entries of its own
        connection.execute("DELETE FROM streamll_entries WHERE run_id = ?", (gone.id[5:37],))
        connection.execute("DELETE FROM streamll_places WHERE run_id = ?", (gone.id[5:37],))
        connection.execute(
            "DELETE FROM streamll_entries WHERE run_id = ? AND first_seq = 0", (cut.id[5:37],)
        )
    for response, why in ((gone, "not have this response"), (cut, "the beginning")):
        for ask in (
            elsewhere.responses.retrieve, elsewhere.responses.cancel,
            lambda given: elsewhere.responses.retrieve(given, stream=True, starting_after=2),
        ):  # fmt: skip
            with pytest.raises(openai.NotFoundError, match=why) as error:
                ask(response.id)
            assert error.value.type == "invalid_request_error"
        with pytest.raises(openai.BadRequestError, match=why):
            elsewhere.responses.create(model="qa", input="q", previous_response_id=response.id)
    assert len(practice.requests) == 2
