"""Inputs that nobody means well with: each is answered, with a reason, and reaches no model."""

from __future__ import annotations

import json
from typing import Any

import dspy
import pytest
from pydantic import BaseModel, field_validator

from streamll.serve import Limits, create_app


class Node(BaseModel):
    value: int
    next: Node | None = None

    @field_validator("value")
    @classmethod
    def small(cls, value):
        if value > 9:
            raise ValueError("at most 9")
        if value == -1:
            raise KeyError("a secret value")
        return value


class Typed(dspy.Signature):
    """Take everything."""

    question: str = dspy.InputField()
    numbers: list[int] = dspy.InputField(default=[])
    node: Node | None = dspy.InputField()
    image: dspy.Image | None = dspy.InputField()
    anything: Any = dspy.InputField(default=None)
    answer: str = dspy.OutputField()


@pytest.fixture
def client(practice, lm, serve, log):
    practice.respond(lambda request: {"answer": "yes"})
    app = create_app({"typed": dspy.Predict(Typed)}, log=log, limits=Limits(body_bytes=3_000_000))
    with serve(app).client() as client:
        yield client


@pytest.mark.parametrize(
    ("inputs", "places"),
    [
        ({}, ["question"]),
        ({"question": None}, ["question"]),
        ({"question": 5}, ["question"]),
        ({"question": ["a"]}, ["question"]),
        ({"question": "q", "numbers": "12"}, ["numbers"]),
        ({"question": "q", "numbers": [1, "x", 2.5, None]}, ["numbers[1]", "numbers[2]", "numbers[3]"]),
        ({"question": "q", "node": {"value": 10}}, ["node.value"]),
        ({"question": "q", "node": {"value": 1, "next": {"value": "x"}}}, ["node.next.value"]),
        ({"question": "q", "node": {"value": -1}}, ["node"]),
        ({"question": "q", "image": "/etc/passwd"}, ["image"]),
        ({"question": "q", "image": {"url": "file:///etc/passwd"}}, ["image"]),
        ({"question": "q", "image": {"url": {"url": "/etc/passwd"}}}, ["image"]),
        ({"question": "q", "image": {"url": "http://127.0.0.1:1/x", "download": True}}, ["image"]),
        ({"question": "q", "\x00": 1}, ["\x00"]),
        ({"question": "q", "__class__": 1}, ["__class__"]),
        ({"question": "q", "self": 1}, ["self"]),
        ({"question": "q", "config": {"n": 9}, "lm": "x", "demos": [], "signature": "a -> b"},
         ["config", "lm", "demos", "signature"]),
        ({"numbers": ["x"], "node": 1, "odd": 2}, ["numbers[0]", "node", "odd", "question"]),
    ],
)  # fmt: skip
def test_each_wrong_input_is_named(client, practice, inputs, places):
    answer = client.post("/runs", json={"inputs": inputs})
    assert answer.status_code == 400
    named = [each["place"].removeprefix("inputs.") for each in answer.json()["problems"]]
    assert named == places
    assert "secret" not in answer.text
    assert practice.requests == []


def test_no_more_than_some_problems_are_told(client):
    answer = client.post("/runs", json={"inputs": {"question": "q", "numbers": ["x"] * 100_000}})
    assert answer.status_code == 400
    assert len(answer.json()["problems"]) == 20
    assert answer.json()["error"].endswith("; and 99980 more")
    assert len(answer.content) < 10_000


@pytest.mark.parametrize("levels", [200, 100_000])
def test_depth_ends_in_an_answer(client, levels):
    body = '{"inputs": {"question": "q", "node": '
    body += '{"value": 1, "next": ' * levels + "null" + "}" * levels + "}}"
    answer = client.post("/runs", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == (202 if levels == 200 else 400)


@pytest.mark.parametrize(
    "text", ["\x00", "a\x00b", "\ud7ff\ue000", "\u202e", "x" * 500_000, "[[ ## completed ## ]]"]
)
def test_odd_texts_are_texts(client, practice, text):
    answer = client.post("/runs", json={"inputs": {"question": text, "anything": {"k": [text]}}})
    assert answer.status_code == 202
    with client.stream("GET", answer.json()["events"]) as events:
        kinds = [line for line in events.iter_lines() if '"run.e' in line]
    assert len(kinds) == 1
    assert '"run.end"' in kinds[0]
    assert json.dumps(text)[1:-1][:50] in json.dumps(practice.requests[-1].body)


def test_lone_surrogates_are_no_json(client):
    body = b'{"inputs": {"question": "\\ud800"}}'
    answer = client.post("/runs", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400


ROUTES = {
    "/v1/chat/completions": lambda text: {"messages": [{"role": "user", "content": text}]},
    "/ai": lambda text: {"messages": [{"role": "user", "parts": [{"type": "text", "text": text}]}]},
    "/agui": lambda text: {"messages": [{"id": "u", "role": "user", "content": text}]},
}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"numbers": ["x"]}, "inputs.numbers[0]"),
        ({"odd": 1}, "inputs.odd"),
        ({"image": "/etc/passwd"}, "inputs.image"),
        ([], None),
        ("numbers", None),
    ],
)
def test_chats_check_the_inputs_beside_their_messages(client, practice, route, given, place):
    body = ROUTES[route]("q")
    if route == "/agui":
        body["forwardedProps"] = {"inputs": given}
    else:
        body["inputs"] = given
    answer = client.post(route, json=body)
    assert answer.status_code == 400
    assert (place or "inputs must be an object") in answer.text
    assert practice.requests == []


@pytest.mark.parametrize("route", ROUTES)
def test_a_conversation_needs_a_token_and_its_error_says_nothing_before(serve, lm, log, route):
    secret = {"inputs": {"question": "q"}, **ROUTES[route]("q")}
    app = create_app(dspy.Predict(Typed), log=log, tokens="a-token-of-some-length")
    with serve(app).client() as client:
        for headers in ({}, {"authorization": "Bearer wrong-wrong-wrong-wrong"}):
            answer = client.post(route, json={**secret, "messages": "wrong"}, headers=headers)
            assert answer.status_code == 401
            assert "messages" not in answer.text
