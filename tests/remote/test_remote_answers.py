"""``connect``'s runs ask, too: answers and refusals over HTTP, with the errors of a run that is here."""

from __future__ import annotations

import asyncio
from typing import Literal

import dspy
import pytest

import streamll
from serve.serving import Server
from streamll.core import errors
from streamll.serve import Permit, bearer_token, create_app, run_token

BOUND = 60
SECRET = "the secret of a server" * 2


class Paint(dspy.Module):
    async def aforward(self, room):
        color = await streamll.ask_async(
            f"Which colour for the {room}?", schema=Literal["red", "blue"]
        )
        return dspy.Prediction(answer=f"a {color} {room}")


async def auth(connection):
    """``anna`` may answer what is hers; who has only signed in may not be asked for a token again."""
    if connection.headers.get("x-signed-in"):
        return Permit("bert")
    return Permit("anna") if bearer_token(connection) == "anna" else None


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    log = f"sqlite:///{tmp_path_factory.mktemp('answers')}/log.db"
    server = Server(create_app({"paint": Paint()}, log=log, auth=auth, secret=SECRET))
    yield server
    server.stop()


def first_question(events):
    return next(event for event in events if event.event_type == "question")


def test_wrong_answers_are_named_and_the_first_right_one_wins(server):
    with streamll.connect(server.url, token="anna").start("paint", room="hall") as events:
        question = first_question(events)
        with pytest.raises(errors.WrongAnswer) as wrong:
            events.answer(question, "green")
        assert [each.place for each in wrong.value.problems] == ["answer"]
        with pytest.raises(errors.NoSuchQuestion):
            events.answer("another", "red")
        with streamll.connect(
            server.url, events.run_id, token=run_token(SECRET, events.run_id)
        ) as reader:
            assert first_question(reader) == question
            with pytest.raises(errors.TokenRefused, match="may not answer"):
                reader.answer(question, "red")
        assert events.answer(question.question_id, "blue", by="not anna") is True
        with pytest.raises(errors.QuestionClosed) as closed:
            events.decline(question)
        assert (closed.value.outcome, closed.value.by) == ("answered", "anna")
        answered = next(event for event in events if event.event_type == "answer")
        assert (answered.value, answered.by) == ("blue", "anna")
        assert list(events)[-1].event_type == "run.end"


def test_who_starts_a_run_can_decline_to_answer_it_on_a_loop(server):
    """With the token that the server has given for that: the start's own header is not sent again."""

    async def read():
        headers = {"x-signed-in": "yes"}
        connection = streamll.connect(server.url, http={"headers": headers})
        async with connection.start("paint", room="hall") as events:
            question = await anext(e async for e in events if e.event_type == "question")
            headers.clear()
            assert await events.decline(question, by=7) is True
            with pytest.raises(errors.RunFailed, match="QuestionWithdrawn"):
                await events.result()

    asyncio.run(asyncio.wait_for(read(), BOUND))


def test_an_answer_needs_a_run_and_a_server(server):
    with streamll.connect(server.url, token="anna").start("paint", room="hall") as events:
        question = first_question(events)
        events.cancel()
        with pytest.raises(streamll.StreamCancelled):
            events.result()
        with pytest.raises(errors.QuestionClosed) as closed:
            events.answer(question, "red")
        assert closed.value.outcome == "withdrawn"
    with (
        streamll.connect("http://127.0.0.1:9", "run") as nowhere,
        pytest.raises(errors.RunUnavailable),
    ):
        nowhere.answer("q", 1)
