"""Questions whose schemas, defaults, answers or surroundings mean no good."""

from __future__ import annotations

import os
import sys
import textwrap
import time
from typing import Annotated, Literal

import dspy
import msgspec
import pydantic
import pytest
import warm
from dspy.utils.callback import BaseCallback

import streamll
from streamll.asking.answers import AnswerType, check
from streamll.asking.here import question_of
from streamll.asking.messages import hear, refusal_in
from streamll.asking.questions import NOT_TOLD
from streamll.compat.rust import SafeDSpyStream
from streamll.core.errors import (
    ConfigurationError,
    NobodyToAsk,
    QuestionClosed,
    WrongAnswer,
)
from streamll.core.ordering import OrderCheck
from streamll.core.wire import decode, encode
from streamll.flow.timers import timers
from streamll.guards import Check, Words


class Asks(dspy.Module):
    """Asks as it is told to."""

    def __init__(self, **options):
        super().__init__()
        self.options = options

    def forward(self, **_):
        return streamll.ask("Go on?", **self.options)


def run(program, deal=lambda events, question: None, **options):
    seen = []
    with streamll.stream(program, **options)() as events:
        for event in events:
            seen.append(event)
            if event.event_type == "question":
                deal(events, event)
        return seen, events.value


NOWHERE = "http://127.0.0.1:9/schema.json"


@pytest.mark.parametrize(
    ("schema", "missing"),
    [
        ({"$ref": NOWHERE}, NOWHERE),
        ({"properties": {"a": {"items": {"$ref": "file:///etc/hostname"}}}}, "file:"),
        ({"anyOf": [{"$dynamicRef": NOWHERE}]}, NOWHERE),
        ({"$ref": "#/$defs/a", "$defs": {"b": True}}, "#/"),
    ],
)
def test_a_schema_is_whole_and_nothing_is_fetched(schema, missing):
    with pytest.raises(ConfigurationError, match=f"'{missing}.*nothing is fetched"):
        AnswerType(schema)
    with pytest.raises(WrongAnswer, match="cannot be checked"):  # as it may come from a log
        check(schema, {"a": [1]})


def test_references_within_a_schema_hold():
    class Node(pydantic.BaseModel):
        name: str = pydantic.Field(pattern=r"^\p{L}+$")  # pydantic's regular expressions only
        below: list[Node] = []

    answers = AnswerType(Node)
    given = {"name": "é", "below": [{"name": "a"}]}
    assert answers.convert(given) == Node(name="é", below=[Node(name="a")])
    with pytest.raises(WrongAnswer, match=r"answer\.below\[0\]\.name"):
        answers.convert({"name": "é", "below": [{"name": "1"}]})
    here = {
        "$id": "https://example.org/a",
        "$ref": "b",
        "$defs": {"b": {"$id": "b", "type": "null"}},
    }
    assert AnswerType(here).convert(None) is None
    assert AnswerType({"enum": [{"$ref": NOWHERE}]}).convert({"$ref": NOWHERE})


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


circular = []
circular.append(circular)


@pytest.mark.parametrize(
    ("schema", "answer", "said"),
    [
        ({}, float("nan"), "not JSON"),
        ({}, object(), "not JSON"),
        ({"type": "array", "items": {"$ref": "#"}}, nested(900), "levels deep"),
        ({}, circular, "levels deep"),
        ({"$ref": "#"}, 1, "without an end"),
    ],
    ids=["nan", "an object", "deep", "circular", "circular schema"],
)
def test_what_is_no_json_is_no_answer(schema, answer, said):
    with pytest.raises(WrongAnswer, match=said):
        AnswerType(schema).convert(answer)
    assert AnswerType({}).convert(nested(40)) == nested(40)


def test_of_many_problems_some_are_told():
    with pytest.raises(WrongAnswer) as refused:
        check({"items": {"type": "string"}}, list(range(100_000)))
    assert len(refused.value.problems) == 100
    with pytest.raises(WrongAnswer) as refused:
        check({"type": "integer"}, "x" * 1_000_000)
    assert len(str(refused.value)) < 300


class Strict(pydantic.BaseModel, strict=True):
    when: pydantic.AwareDatetime


class Fails(pydantic.BaseModel):
    name: str

    @pydantic.field_validator("name")
    @classmethod
    def look_up(cls, name):
        return {"a": "b"}[name]


def test_a_strict_model_takes_what_json_has_for_its_types():
    assert AnswerType(Strict).convert({"when": "2027-01-02T03:04:05Z"}).when.year == 2027


def test_a_validator_that_fails_is_a_wrong_answer():
    def deal(events, question):
        with pytest.raises(WrongAnswer, match=r"the program cannot take it \(KeyError\)"):
            events.answer(question, {"name": "c"})
        events.answer(question, {"name": "a"})

    assert run(Asks(schema=Fails), deal)[1] == Fails.model_construct(name="b")


def test_a_default_may_be_anything():
    default = object()
    seen, value = run(Asks(default=default, timeout=0))
    assert value is default
    assert [decode(encode(event)).event_type for event in seen].count("answer") == 1


@pytest.mark.parametrize("timeout", [1e12, float("inf")])
def test_a_timeout_may_be_longer_than_a_thread_can_wait(timeout):
    def deal(events, question):
        seconds = 0 if question.lapses_at is None else question.lapses_at - time.time()
        assert seconds == pytest.approx(0 if timeout == float("inf") else timeout)
        timers.at(0, lambda: events.answer(question, "yes"))  # behind it, on the same thread

    assert run(Asks(timeout=timeout), deal)[1] == "yes"
    with pytest.raises(ConfigurationError, match="nan"):
        run(Asks(timeout=float("nan")))


def test_who_sees_a_question_finds_it():
    """Also before the program's thread has gone on from saying it."""
    found = []

    class Sees:
        def put(self, event):
            if event.event_type == "question":
                found.append(question_of(event.run_id, event.question_id).id == event.question_id)

    run(Asks(), lambda events, question: events.answer(question, ""), sinks=[Sees()])
    assert found == [True]


def test_late_answers_keep_nothing_of_each_other():
    def late(events, question):
        with pytest.raises(QuestionClosed) as closed:
            events.answer(question, "again")
        return closed.value

    def deal(events, question):
        events.answer(question, "once", by="ada")
        first, second = late(events, question), late(events, question)
        assert first is not second
        assert (first.by, second.by) == ("ada", "ada")

    run(Asks(), deal)


def test_hostile_messages_of_a_log():
    refused = []

    def deal(events, question):
        about = {"run_id": question.run_id, "question_id": question.question_id}
        for data in (
            {}, {"run_id": [], "question_id": {}}, about | {"question_id": 3, "value": 1},
            about | {"run_id": "another", "value": 1},
        ):  # fmt: skip
            hear(data, refused.append)
        assert refused == []
        hear(about | {"value": list(range(1000)), "answer_id": "a1"}, refused.append)
        hear(about | {"question_id": "x", "value": 1, "answer_id": "a2"}, refused.append)
        hear(about | {"value": [], "by": {"name": "ada"}, "answer_id": [1]}, refused.append)
        hear(about | {"value": [], "answer_id": "a3"}, refused.append)

    seen, _ = run(Asks(schema=list[str]), deal)
    answer = next(event for event in seen if event.event_type == "answer")
    assert (answer.by, answer.answer_id) == (None, None)
    assert [decode(encode(event)) for event in seen] == seen
    errors = [refusal_in(decode(encode(event)).data) for event in refused]
    assert [type(e).__name__ for e in errors] == ["WrongAnswer", "NoSuchQuestion", "QuestionClosed"]
    assert len(errors[0].problems) == 20


def test_a_message_that_a_log_brings_twice_is_no_second_answer():
    refused = []

    def deal(events, question):
        about = {"run_id": question.run_id, "question_id": question.question_id}
        message = about if question.text == "1" else about | {"value": "x"}
        for answer_id in ("a", "a", "b"):
            hear({**message, "answer_id": answer_id}, refused.append)

    class Twice(dspy.Module):
        def forward(self):
            return [streamll.ask("1", default="declined"), streamll.ask("2")]

    seen, value = run(Twice(), deal)
    assert value == ["declined", "x"]
    assert [e.answer_id for e in seen if e.event_type == "answer"] == ["a", "a"]
    assert [event.data["answer_id"] for event in refused] == ["b", "b"]


def test_a_nested_stream_leaves_its_questions_to_whoever_answers():
    """Its own reader may, and so may the reader of the whole run."""

    class Outer(dspy.Module):
        def forward(self):
            with streamll.stream(Asks())() as events:
                for event in events:
                    if event.event_type == "question" and inner_answers:
                        events.answer(event, "inside")
                first = events.value
            with streamll.stream(Asks(default="nobody"), questions=False)() as events:
                return [first, events.result()]

    inner_answers = True
    assert run(Outer())[1] == ["inside", "nobody"]
    inner_answers = False
    seen, value = run(Outer(), lambda events, question: events.answer(question, "outside"))
    assert value == ["outside", "nobody"]
    OrderCheck().check_all(seen)


def test_a_callback_asks():
    class Asking(BaseCallback):
        def on_module_start(self, call_id, instance, inputs):
            said.append(streamll.ask(f"Start {type(instance).__name__}?", schema=bool))

    def deal(events, question):
        if question.text.startswith("Start"):
            events.answer(question, value=True)

    said = []
    with dspy.context(callbacks=[Asking()]):
        seen, value = run(Asks(default=1, timeout=0), deal)
    assert said == [True]
    assert value == 1
    OrderCheck().check_all(seen)


def test_a_stream_that_shows_no_questions_waits_for_none():
    error = [event.error for event in SafeDSpyStream(Asks()) if hasattr(event, "error")]
    assert len(error) == 1
    assert "nobody" in str(error[0])
    list(streamll.streamify(Asks(default="fallback"), async_streaming=False)())
    with pytest.raises(NobodyToAsk):
        list(streamll.streamify(Asks(), async_streaming=False)())


FORKS = """
    import os, sys
    from streamll.asking import through_log
    from streamll.asking.here import asked_here

    place = through_log.Place("sqlite:///log.db", "streamll:events")
    through_log._take(place).ready.result(30)
    asked_here["a run of the parent"] = None
    if child := os.fork():
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    listener = through_log._take(place)
    listener.ready.result(30)
    os._exit(0 if listener._thread.is_alive() and not asked_here else 7)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_forked_process_hears_answers_itself(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(FORKS)]
    done = warm.run(command, cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr


def no_ravens(name):
    if name == "Raven":
        raise ValueError("that is no Bluebird")
    return name


def masked(event):
    if event.event_type == "question":
        return msgspec.structs.replace(event, schema={"type": "string"})
    return event


WRONG = [
    (Literal["Bluebird", "Raven"], "x"),
    ({"const": "Bluebird"}, "x"),
    ({"properties": {"Bluebird": True}, "required": ["Bluebird"]}, {}),
    ({"enum": [f"{'x ' * 59}Bluebird{' x' * 50}"]}, 1),  # where a long message is cut
    (Annotated[str, pydantic.AfterValidator(no_ravens)], "Raven"),
]


@pytest.mark.parametrize(("schema", "answer"), WRONG)
@pytest.mark.parametrize("action", ["mask", "drop"])
def test_a_wrong_answer_tells_nothing_that_guards_have_masked(schema, answer, action):
    told = []

    def deal(events, question):
        with pytest.raises(WrongAnswer) as refused:
            events.answer(question, answer)
        told.extend(refused.value.problems)
        events.decline(question)

    guards = [Words(["Bluebird"], action=action)]
    run(Asks(schema=schema, default=None), deal, guards=guards)
    assert [each.place for each in told] == ["answer"]
    assert "Blue" not in repr(told)
    if action == "drop":
        assert told[0].message == NOT_TOLD


@pytest.mark.parametrize("by", ["check", "redact"])
def test_a_wrong_answer_tells_nothing_that_cannot_be_masked(by):
    """A check would have to be waited for, and ``redact`` knows events alone."""
    told = []

    def deal(events, question):
        with pytest.raises(WrongAnswer) as refused:
            events.answer(question, "x")
        told.append(str(refused.value))
        events.answer(question, "Bluebird")

    guards = [Check(lambda text: True)] if by == "check" else []
    with streamll.configure(redact=masked if by == "redact" else None):
        _, value = run(Asks(schema=Literal["Bluebird", "Raven"]), deal, guards=guards)
    assert value == "Bluebird"
    assert told == [f"answer: {NOT_TOLD}"]
