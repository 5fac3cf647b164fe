"""``communicate``: turns on branches, streamed and not; partial replies are kept."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading

import pytest
from dspy import lm15

from brokers.servers import wait_until
from streamll import services
from streamll.chat.turns import tool_request
from streamll.core.errors import ConfigurationError, StreamCancelled, StreamTimeout
from streamll.operations import (
    StreamingChat,
    communicate,
    communicate_stream,
    communicate_sync,
)
from streamll.services import StreamConfig, iModel
from streamll.session import Session, UnknownNameError
from streamll.session.messages import Message, ToolRequestContent, ToolResponseContent
from streamll.testing import Fault, RecordingSink, Reply, ToolCall

pytestmark = pytest.mark.since_3_4

LIMIT = 60
PRICE = {
    "type": "function",
    "function": {
        "name": "price",
        "parameters": {"type": "object", "properties": {"fruit": {"type": "string"}}},
    },
}
TEXT = "one two three four"


@pytest.fixture
def model(practice):
    config = StreamConfig(max_retries=0, breaker=None)
    with iModel("openai", "m", name="it", base_url=practice.openai_url, config=config) as model:
        yield model


@pytest.fixture
def session(model):
    session = Session()
    session.services.register(model)
    session.create_branch("main")
    return session


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, LIMIT))


def kept(session, branch="main"):
    """Role, text and ending of each message."""
    return [
        (m.role.value, m.text, getattr(m.content, "ending", None)) for m in session.history(branch)
    ]


def test_a_turn_adds_the_instruction_and_the_reply(session, practice):
    """E5."""
    practice.script("first reply", "second reply")
    parameters = {"instruction": "Hello", "imodel": "it", "temperature": 0.5}
    assert run(communicate(session=session, branch="main", parameters=parameters)) == "first reply"
    assert communicate_sync(session, "main", {"instruction": "Again"}) == "second reply"
    assert kept(session) == [
        ("user", "Hello", None),
        ("assistant", "first reply", "complete"),
        ("user", "Again", None),
        ("assistant", "second reply", "complete"),
    ]
    first, second = practice.requests
    assert first.body["temperature"] == 0.5
    assert [message["content"] for message in second.body["messages"]] == [
        "Hello", "first reply", "Again",
    ]  # fmt: skip


def test_a_streamed_turn_adds_the_same_messages(session, practice):
    practice.script(TEXT, TEXT)

    async def read():
        turn = communicate_stream(session, "main", {"instruction": "Hello"})
        chunks = [chunk async for chunk in turn]
        assert [chunk async for chunk in turn] == []  # it is read once
        await turn.aclose()
        assert turn.stream.finish_reason == "stop"
        assert turn.turn.reply.content.model == "m"
        return chunks

    assert "".join(run(read())) == TEXT
    assert not session.branch("main").turns._slots.taken
    assert "".join(communicate_stream(session, "main", {"instruction": "Sync"})) == TEXT
    assert [entry[1:] for entry in kept(session)] == [
        ("Hello", None), (TEXT, "complete"), ("Sync", None), (TEXT, "complete"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"stream": True}, "invoke_stream and communicate_stream"),
        ({"context": "text"}, "context is a mapping of names to values, not str"),
        ({"context": {"when": object()}}, "a message holds what JSON can"),
        ({"contxt": {"a": 1}}, "'contxt' is no option of a question; did you mean 'context'"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_named(session, practice, parameters, says):
    parameters = {"instruction": "Hello", **parameters}
    for way in (communicate_sync, lambda *turn: run(communicate(*turn))):
        with pytest.raises(ConfigurationError, match=says):
            way(session, "main", parameters)
    with pytest.raises(ConfigurationError):
        list(communicate_stream(session, "main", {"stream": False} | parameters | {"n": 2}))
    assert practice.requests == []
    assert kept(session) == []
    practice.script("still works")
    assert communicate_sync(session, "main", {"instruction": "Hello"}) == "still works"


@pytest.mark.parametrize("way", ["whole", "streamed"])
def test_tool_calls_of_a_reply_are_kept_and_answered(session, practice, way):
    call = ToolCall("price", {"fruit": "apples"}, id="call_1")
    practice.script(Reply("Let me see.", tool_calls=[call]), "They are 2.40.")
    parameters = {"instruction": "What are apples?", "tools": [PRICE]}
    if way == "whole":
        assert communicate_sync(session, "main", parameters) == "Let me see."
    else:
        assert "".join(communicate_stream(session, "main", parameters)) == "Let me see."
    request = session.history("main")[-1]
    assert request.role.value == "assistant"
    assert request.content == ToolRequestContent("price", "call_1", {"fruit": "apples"})
    session.add_message(
        Message(content=ToolResponseContent(request_id="call_1", result=2.4)), branches="main"
    )
    assert communicate_sync(session, "main", {"instruction": "Well?"}) == "They are 2.40."
    sent = practice.requests[1].body["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "user"]
    assert sent[1]["tool_calls"][0]["id"] == sent[2]["tool_call_id"] == "call_1"


@pytest.mark.parametrize("arguments", ["", "[1]", '{"a": '])
def test_arguments_that_are_not_an_object_are_dropped(arguments):
    found = tool_request(services.ModelToolCall(name="price", arguments=arguments))
    assert found.arguments == {}
    assert found.request_id


@pytest.mark.parametrize(
    ("fault", "error", "came"),
    [
        (Fault(disconnect_after=2), lm15.TransportError, "one two"),
        (Fault(error_after=2), lm15.ServerError, "one two"),
        (Fault(stall_after=2), StreamTimeout, "one two"),
        (Fault(status=401), lm15.AuthError, ""),
    ],
)
@pytest.mark.parametrize("way", ["async", "sync"])
def test_a_failed_stream_keeps_the_partial_reply(session, practice, fault, error, came, way):
    practice.script(Reply(TEXT, fault=fault), "better")
    patience = 1.5 if error is StreamTimeout else LIMIT  # a busy machine is silent, too
    impatient = StreamConfig(max_retries=0, idle_timeout=patience, breaker=None)
    turn = communicate_stream(session, "main", {"instruction": "Hello", "config": impatient})

    async def read():
        return [chunk async for chunk in turn]

    with pytest.raises(error) as caught:
        run(read()) if way == "async" else list(turn)
    assert kept(session) == [("user", "Hello", None), ("assistant", came, "failed")]
    reply = session.history("main")[-1].content
    assert reply.partial
    assert reply.error == type(caught.value).__name__
    assert communicate_sync(session, "main", {"instruction": "Go on"}) == "better"
    sent = [message["content"] for message in practice.requests[-1].body["messages"]]
    assert sent == ["Hello", *([came] if came else []), "Go on"]


@pytest.mark.parametrize("ask", ["async", "sync"])
def test_a_failed_answer_is_marked_as_failed(session, practice, ask):
    practice.script(Fault(status=500))
    with pytest.raises(lm15.ServerError):
        if ask == "async":
            run(communicate(session, "main", {"instruction": "Hello"}))
        else:
            communicate_sync(session, "main", {"instruction": "Hello"})
    assert kept(session)[-1] == ("assistant", "", "failed")


async def break_out(turn):
    async for _ in turn:
        break


async def close(turn):
    await turn.__anext__()
    await turn.aclose()


async def leave_the_block(turn):
    async with turn:
        await turn.__anext__()


async def cancel(turn):
    got = asyncio.Event()

    async def read():
        async for _ in turn:
            got.set()

    task = asyncio.create_task(read())
    await got.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("through", [lambda turn: turn, aiter])
@pytest.mark.parametrize("what", ["question", "turn"])
def test_a_stream_survives_cancelled_reads(session, model, practice, what, through):
    practice.script(Reply(TEXT, hold_after=(0, 2), packets=True))
    stream = (
        model.invoke_stream("Hello")
        if what == "question"
        else communicate_stream(session, "main", {"instruction": "Hello"})
    )

    async def read():
        iterator, words, waited = through(stream), [], 0
        while True:
            try:
                words.append(await asyncio.wait_for(anext(iterator), 0.01))
            except asyncio.TimeoutError:
                waited += 1
                if waited in (2, 4):
                    await asyncio.to_thread(practice.wait_for_requests, 1)
                    practice.requests[0].release()
            except StopAsyncIteration:
                return words, waited

    words, waited = run(read())
    assert "".join(words) == stream.text == TEXT
    assert waited >= 4
    if what == "turn":
        assert kept(session)[-1] == ("assistant", TEXT, "complete")


@pytest.mark.parametrize("way", [break_out, close, leave_the_block, cancel])
def test_a_stream_that_is_left_keeps_what_was_read(session, practice, way):
    practice.script(Reply(TEXT, hold_after=1), "afterwards")

    async def leave():
        await way(communicate_stream(session, "main", {"instruction": "Hello"}))
        gc.collect()
        assert kept(session)[-1] == ("assistant", "one", "cancelled")
        return await communicate(session, "main", {"instruction": "Next"})  # the turn is free

    assert run(leave()) == "afterwards"
    practice.requests[0].wait_closed()


class UntilTwo(RecordingSink):
    """Tells when the second token is there. The tokens come on the loop that waits for them."""

    def put(self, event):
        super().put(event)
        if len(self.tokens) == 2:
            self.two.set()


@pytest.mark.parametrize("through", [lambda stream: stream, aiter], ids=["itself", "aiter"])
@pytest.mark.parametrize("what", ["question", "turn"])
def test_a_stream_is_read_by_an_event_loop_for_each_item(session, model, practice, what, through):
    practice.script(Reply(TEXT, packets=True, pace=0.01))
    stream = (
        model.invoke_stream("Hello")
        if what == "question"
        else communicate_stream(session, "main", {"instruction": "Hello"})
    )
    iterator, words = through(stream), []

    async def read_one():
        words.append(await anext(iterator))

    while True:
        try:
            asyncio.run(read_one())
        except (StopAsyncIteration, RuntimeError):
            break
    assert "".join(words) == stream.text == TEXT
    assert len(words) > 2


@pytest.mark.parametrize("heard", [False, True])
def test_a_cancelled_answer_keeps_the_partial_text(session, practice, heard):
    """Where somebody listens the reply is streamed, so there is something of it."""
    practice.script(Reply(TEXT, hold_after=2), "afterwards")
    sink = UntilTwo()

    async def cancel():
        sink.two = asyncio.Event()
        options = {"sinks": [sink]} if heard else {}
        task = asyncio.create_task(communicate(session, "main", {"instruction": "Hi", **options}))
        await asyncio.to_thread(practice.wait_for_requests, 1)
        if heard:
            await asyncio.to_thread(practice.requests[0].wait_chunks, 2)
            await asyncio.wait_for(sink.two.wait(), LIMIT)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await communicate(session, "main", {"instruction": "Next"})

    assert run(cancel()) == "afterwards"
    assert kept(session)[1] == ("assistant", "one two" if heard else "", "cancelled")


@pytest.mark.parametrize("heard", [False, True])
def test_ctrl_c_keeps_the_partial_text(session, practice, heard):
    practice.script(Reply(TEXT, hold_after=2), "afterwards")
    sink = RecordingSink()

    def press():
        practice.wait_for_requests(1)
        if heard:
            practice.requests[0].wait_chunks(2)
            wait_until(lambda: len(sink.tokens) == 2, LIMIT, "two tokens")
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        communicate_sync(session, "main", {"instruction": "Hi", "sinks": [sink] if heard else []})
    thread.join(LIMIT)
    assert kept(session)[1] == ("assistant", "one two" if heard else "", "cancelled")
    assert communicate_sync(session, "main", {"instruction": "Next"}) == "afterwards"


def test_a_stream_that_was_never_begun_leaves_no_trace(session, practice):
    turn = communicate_stream(session, "main", {"instruction": "Hello"})
    turn.close()
    assert list(turn) == []
    assert kept(session) == []
    assert practice.requests == []


def test_a_branch_has_one_turn_at_a_time(session, practice):
    """Asked at once, they follow one another; each sees the whole of the turns before."""
    practice.respond(lambda request: f"re {request.body['messages'][-1]['content']}")

    async def many():
        asked = [communicate(session, "main", {"instruction": str(n)}) for n in range(10)]
        return await asyncio.gather(*asked)

    assert run(many()) == [f"re {n}" for n in range(10)]
    texts = [text for _, text, _ in kept(session)]
    assert texts == [text for n in range(10) for text in (str(n), f"re {n}")]
    assert [len(r.body["messages"]) for r in practice.requests] == [2 * n + 1 for n in range(10)]


def test_branches_run_side_by_side(session, practice):
    practice.respond(
        lambda request: Reply(f"re {request.body['messages'][-1]['content']}", pace=0.005)
    )
    names = [session.create_branch(f"b{n}").name for n in range(20)]

    async def talk(name):
        for turn in range(3):
            said = f"{name} {turn}"
            if turn % 2:
                assert await communicate(session, name, {"instruction": said}) == f"re {said}"
            else:
                stream = communicate_stream(session, name, {"instruction": said})
                assert "".join([chunk async for chunk in stream]) == f"re {said}"

    async def all_of_them():
        await asyncio.gather(*map(talk, names))

    run(all_of_them())
    for name in names:
        texts = [text for _, text, _ in kept(session, name)]
        assert texts == [t for n in range(3) for t in (f"{name} {n}", f"re {name} {n}")]


def test_threads_and_tasks_take_turns(session, practice):
    practice.respond(lambda _: TEXT)
    threads = [
        threading.Thread(
            target=communicate_sync, args=(session, "main", {"instruction": f"thread {n}"})
        )
        for n in range(5)
    ]
    for thread in threads:
        thread.start()

    async def many():
        await asyncio.gather(
            *(communicate(session, "main", {"instruction": f"task {n}"}) for n in range(5))
        )

    run(many())
    for thread in threads:
        thread.join(LIMIT)
    roles = [role for role, _, _ in kept(session)]
    assert roles == ["user", "assistant"] * 10


def test_a_cancelled_wait_for_a_turn_leaves_no_trace(session, practice):
    practice.script(Reply(TEXT, hold_after=1), "third")

    async def three():
        first = communicate_stream(session, "main", {"instruction": "first"})
        await first.__anext__()
        second = asyncio.create_task(communicate(session, "main", {"instruction": "second"}))
        third = asyncio.create_task(communicate(session, "main", {"instruction": "third"}))
        await asyncio.sleep(0)  # both are in line now
        second.cancel()
        await asyncio.sleep(0)
        await first.aclose()
        return await third

    assert run(three()) == "third"
    assert [text for _, text, _ in kept(session)] == ["first", "one", "third", "third"]


def test_a_stream_that_is_closed_in_line_leaves_no_trace(session, practice):
    turns = session.branch("main").turns
    turns.take()
    turn = communicate_stream(session, "main", {"instruction": "Hello"})
    raised = []

    def read():
        try:
            next(turn)
        except StreamCancelled as error:
            raised.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    wait_until(lambda: turns._slots._waiting, LIMIT, "a reader in line")
    turn.close()
    turns.give()
    reader.join(LIMIT)
    assert len(raised) == 1
    assert kept(session) == []
    assert practice.requests == []
    practice.script("free")
    assert communicate_sync(session, "main", {"instruction": "Next"}) == "free"


def test_a_stream_that_another_task_closes_in_line_leaves_no_trace(session, practice):
    turns = session.branch("main").turns

    async def close_in_line():
        turns.take()
        turn = communicate_stream(session, "main", {"instruction": "Hello"})
        reading = asyncio.ensure_future(turn.__anext__())
        await asyncio.sleep(0)  # it is in line now
        await turn.aclose()
        turns.give()
        with pytest.raises(StreamCancelled):
            await reading

    run(close_in_line())
    assert kept(session) == []
    assert practice.requests == []


def test_a_branch_that_is_removed_during_a_turn_is_free_afterwards(session, practice):
    practice.script(TEXT)
    turn = communicate_stream(session, "main", {"instruction": "Hello"})
    next(turn)
    branch = session.branches.unregister("main")
    with pytest.raises(UnknownNameError):
        turn.close()
    assert branch.turns._slots.taken == 0


@pytest.mark.parametrize(
    ("parameters", "error", "says"),
    [
        ({}, ConfigurationError, '"instruction"'),
        ({"instruction": "x", "imodel": "itt"}, UnknownNameError, "did you mean 'it'"),
        ({"instruction": "x", "api_key": "k"}, ConfigurationError, "api_key"),
        (
            {"instruction": "x", "messages": []},
            ConfigurationError,
            'no "messages": those of the branch',
        ),
    ],
)
def test_missing_parameters_are_named(session, parameters, error, says):
    with pytest.raises(error, match=says):
        communicate_sync(session, "main", parameters)
    with pytest.raises(error, match=says):
        list(communicate_stream(session, "main", parameters))
    assert kept(session) == []


def test_without_a_single_model_one_must_be_named(session, model):
    session.services.register(model, name="other")
    with pytest.raises(ConfigurationError, match="one of it, other"):
        communicate_sync(session, "main", {"instruction": "x"})
    with pytest.raises(ConfigurationError, match="no models yet"):
        empty = Session()
        empty.create_branch("main")
        communicate_sync(empty, "main", {"instruction": "x"})


def test_context_is_shown_before_the_instruction(session, practice):
    communicate_sync(session, "main", {"instruction": "How big?", "context": {"city": "Rome"}})
    assert practice.requests[0].body["messages"][0]["content"] == "city: Rome\n\nHow big?"


# --- StreamingChat --------------------------------------------------------------------------------


def test_a_chat_prints_the_notebook_s_formats(model, practice, capsys):
    """E7."""
    practice.script(TEXT, "\x1b[2Jharmless", "x" * 150)
    chat = StreamingChat(model, system="Be brief.")
    assert run(chat.chat("Hello")) == TEXT
    printed = capsys.readouterr().out
    assert printed.startswith(
        f"\n👤 User: Hello\n🤖 Assistant: {TEXT}\n\n📊 Stats: 4 chunks | First"
    )
    chat.chat_sync("And?", show_stats=False)
    printed = capsys.readouterr().out
    assert "\x1b" not in printed  # nothing a model says steers the terminal
    assert "Stats" not in printed
    chat.chat_sync("Long?")
    capsys.readouterr()
    chat.history()
    printed = capsys.readouterr().out
    assert printed.count("👤 user: ") == 3
    assert f"🤖 assistant: {'x' * 100}...\n" in printed
    assert [m["role"] for m in practice.requests[1].body["messages"]] == [
        "system", "user", "assistant", "user",
    ]  # fmt: skip


def test_a_chat_continues_a_session(model, practice):
    practice.script("first", "second")
    chat = StreamingChat(model)
    run(chat.chat("one"))
    again = Session.from_json(chat.session.to_json())
    run(StreamingChat(model, session=again).chat("two"))
    assert len(practice.requests[1].body["messages"]) == 3


def test_a_chat_survives_a_failed_reply(model, practice):
    practice.script(Reply(TEXT, fault=Fault(disconnect_after=2)), "better")
    chat = StreamingChat(model)
    with pytest.raises(lm15.TransportError):
        run(chat.chat("one"))
    assert run(chat.chat("two")) == "better"
