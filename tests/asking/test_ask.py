"""A run asks a person: in the program, as events, and who answers."""

from __future__ import annotations

import asyncio
import datetime as dt
import enum
import threading
from typing import Literal

import dspy
import pydantic
import pytest

import streamll
from streamll.asking.answers import AnswerType
from streamll.capture import running
from streamll.core.errors import (
    ConfigurationError,
    NobodyToAsk,
    NoSuchQuestion,
    QuestionClosed,
    QuestionLapsed,
    QuestionWithdrawn,
    StreamCancelled,
    StreamllError,
    TotalTimeout,
    WrongAnswer,
)
from streamll.core.ordering import OrderCheck
from streamll.core.wire import decode, encode
from streamll.testing import RecordingSink


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


class Letter(pydantic.BaseModel):
    to: str
    copies: int = 1
    on: dt.date | None = None


class Asks(dspy.Module):
    """Asks as it is told to, and returns the answer."""

    def __init__(self, *questions, **options):
        super().__init__()
        self.questions = questions or ("Go on?",)
        self.options = options

    def forward(self, **_):
        answers = [streamll.ask(text, **self.options) for text in self.questions]
        return dspy.Prediction(answer=answers[-1], answers=answers)


class AsksAsync(Asks):
    async def aforward(self, **_):
        answers = [await streamll.ask_async(text, **self.options) for text in self.questions]
        return dspy.Prediction(answer=answers[-1], answers=answers)


BOTH = pytest.mark.parametrize("asks", [Asks, AsksAsync])


def run(program, on_question, **options):
    """The events of a run whose questions ``on_question(events, question)`` deals with, and its value."""
    seen = []
    if isinstance(program, AsksAsync):

        async def read():
            async with streamll.stream(program, **options)(topic="x") as events:
                async for event in events:
                    seen.append(event)
                    if event.event_type == "question":
                        on_question(events, event)
                return events.value

        return seen, asyncio.run(read())
    with streamll.stream(program, **options)(topic="x") as events:
        for event in events:
            seen.append(event)
            if event.event_type == "question":
                on_question(events, event)
        return seen, events.value


def outcomes(events):
    return [event.outcome for event in events if event.event_type == "answer"]


@BOTH
def test_a_question_is_answered_by_whoever_reads(asks):
    seen, value = run(
        asks("Which?", "And then?", schema=Literal["red", "blue"], to="ada"),
        lambda events, question: events.answer(question, "blue", by="ada"),
    )
    assert value.answers == ["blue", "blue"]
    OrderCheck().check_all(seen)
    question, answer = (next(e for e in seen if e.event_type == t) for t in ("question", "answer"))
    assert (question.text, question.to, question.tool) == ("Which?", "ada", None)
    assert question.schema == {"enum": ["red", "blue"], "type": "string"}
    assert question.path == (asks.__name__,)
    assert (answer.question_id, answer.value, answer.by) == (question.question_id, "blue", "ada")
    assert answer.waited > 0
    assert seen[-1].waited >= answer.waited
    assert seen[-1].duration >= seen[-1].waited
    assert [decode(encode(event)) for event in seen] == seen


@pytest.mark.parametrize(
    ("schema", "wrong", "place", "given", "value"),
    [
        (str, 3, "answer", "a", "a"),
        (bool, "yes", "answer", True, True),
        (int, "3", "answer", 3, 3),
        (Literal["a", 1], "b", "answer", 1, 1),
        (Size, "SMALL", "answer", "l", Size.LARGE),
        (dt.date, "tomorrow", "answer", "2027-01-02", dt.date(2027, 1, 2)),
        (list[int], [1, "a"], "answer[1]", [1, 2], [1, 2]),
        (dict[str, int], {"a": None}, "answer.a", {"a": 1}, {"a": 1}),
        (Letter, {"copies": 2}, "answer", {"to": "ada"}, Letter(to="ada")),
        (Letter, {"to": "a", "copies": "x"}, "answer.copies", {"to": "a", "copies": 2},
            Letter(to="a", copies=2)),
        (Letter, {"to": "a", "on": "soon"}, "answer.on", {"to": "a", "on": "2027-01-02"},
            Letter(to="a", on=dt.date(2027, 1, 2))),
        ({"type": "array", "maxItems": 1}, [1, 2], "answer", [1], [1]),
        ({"properties": {"a": {"type": "null"}}}, {"a": 1}, "answer.a", {"b": 1}, {"b": 1}),
    ],
)  # fmt: skip
def test_an_answer_is_what_the_schema_says(schema, wrong, place, given, value):
    answers = AnswerType(schema)
    with pytest.raises(WrongAnswer) as refused:
        answers.convert(wrong)
    assert refused.value.problems[0].place.startswith(place)
    assert answers.convert(given) == value
    assert answers.convert(answers.told(value)) == value


@pytest.mark.parametrize("schema", [object(), {"type": "nothing"}, threading.Lock, {"enum": 3}])
def test_what_no_answer_can_be_is_told_where_it_is_asked(schema):
    with pytest.raises(ConfigurationError):
        streamll.ask("?", schema=schema)


@BOTH
def test_a_wrong_answer_leaves_the_question_open_and_the_first_right_one_wins(asks):
    def answer(events, question):
        with pytest.raises(WrongAnswer, match="answer: 'no' is not of type 'integer'"):
            events.answer(question, "no")
        events.answer(question.question_id, 1, by="ada")
        with pytest.raises(QuestionClosed, match="answered by ada") as late:
            events.answer(question, 2, by="bob")
        assert (late.value.outcome, late.value.by) == ("answered", "ada")
        with pytest.raises(QuestionClosed):
            streamll.answer(question.run_id, question, 2)
        with pytest.raises(QuestionClosed):
            events.decline(question)
        with pytest.raises(NoSuchQuestion, match="'other'; open: none"):
            events.answer("other", 1)

    seen, value = run(asks(schema=int), answer)
    assert value.answer == 1
    assert outcomes(seen) == ["answered"]


def test_who_asks_whom_and_who_answers_is_text_in_events():
    """An id that is a number is written as one reads it; a log must not lose the event."""
    asks = Asks(7, schema=bool, to=42)
    seen, value = run(asks, lambda events, question: events.answer(question, value=True, by=43))
    assert value.answer is True
    (question,) = (event for event in seen if event.event_type == "question")
    (answer,) = (event for event in seen if event.event_type == "answer")
    assert (question.text, question.to, answer.by) == ("7", "42", "43")
    assert [decode(encode(event)) for event in seen] == seen


def test_of_many_who_answer_at_once_one_wins():
    barrier = threading.Barrier(8)
    won = []

    def answer(events, question):
        def one(number):
            barrier.wait()
            try:
                streamll.answer(question.run_id, question, number)
            except (QuestionClosed, NoSuchQuestion):  # the run may be over by now
                return
            won.append(number)

        threads = [threading.Thread(target=one, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    seen, value = run(Asks(schema=int), answer)
    assert won == [value.answer]
    assert outcomes(seen) == ["answered"]


@BOTH
@pytest.mark.parametrize(
    ("options", "deal", "error", "outcome"),
    [
        ({"timeout": 0}, lambda events, question: None, QuestionLapsed, "lapsed"),
        ({}, lambda events, question: events.decline(question), QuestionWithdrawn, "withdrawn"),
    ],
    ids=["lapsed", "declined"],
)
def test_without_an_answer_there_is_the_default_or_an_error(asks, options, deal, error, outcome):
    def dealt(events, question):
        try:
            deal(events, question)
        except QuestionClosed as closed:
            assert closed.outcome == outcome  # noqa: PT017

    seen, value = run(asks(schema=bool, default=None, **options), dealt)
    assert value.answer is None
    assert outcomes(seen) == [outcome]
    with pytest.raises(error):
        run(asks(schema=bool, **options), dealt)


@BOTH
def test_where_nobody_can_answer_nobody_waits(asks):
    program, fallback = asks(schema=bool), asks(schema=bool, default=False)
    call = (lambda p: asyncio.run(p.acall(x=1))) if asks is AsksAsync else (lambda p: p(x=1))
    with pytest.raises(NobodyToAsk, match="outside any captured run"):
        call(program)
    assert call(fallback).answer is False
    for options in ({"read": False}, {"questions": False}):
        with pytest.raises(NobodyToAsk, match=r"'Go on\?'"):
            result(program, **options)
        assert result(fallback, **options).answer is False
    instrumented = streamll.instrument(asks(schema=bool), sinks=[sink := RecordingSink()])
    with pytest.raises(NobodyToAsk, match="streamll.stream"):
        call(instrumented)
    sink.stop()
    assert "question" not in [event.event_type for event in sink.events]


def result(program, **options):
    if isinstance(program, AsksAsync):

        async def read():
            async with streamll.stream(program, **options)(topic="x") as events:
                return await events.result()

        return asyncio.run(read())
    with streamll.stream(program, **options)(topic="x") as events:
        return events.result()


def test_evaluations_and_optimizers_wait_for_nobody():
    examples = [dspy.Example(topic="a").with_inputs("topic")] * 2
    evaluate = dspy.Evaluate(devset=examples, metric=lambda e, p, t=None: p.answer, num_threads=1)
    with streamll.stream(evaluate)(Asks(schema=bool, default=True)) as events:
        kinds = [event.event_type for event in events]
        assert events.value.score == 100
    assert "question" not in kinds


@BOTH
def test_a_run_that_is_cancelled_withdraws_its_questions(asks, monkeypatch):
    monkeypatch.setattr(running, "CANCEL_GRACE_S", 60)  # a busy machine's program ends late
    sink = RecordingSink()
    with pytest.raises(StreamCancelled):
        run(asks(default="x"), lambda events, _: events.cancel(), sinks=[sink])
    sink.stop()
    kinds = [event.event_type for event in sink.events]
    assert outcomes(sink.events) == ["withdrawn"]
    assert kinds[-1] == "run.cancelled"
    OrderCheck().check_all(sink.events)
    run_id = sink.events[0].run_id
    with pytest.raises(NoSuchQuestion):
        streamll.answer(run_id, sink.events[kinds.index("question")], "y")


def test_a_straggler_does_not_keep_its_question():
    """A thread of the program's own asks, and the program ends without it."""
    failed = []

    class Leaves(dspy.Module):
        def forward(self, **_):
            import contextvars

            context = contextvars.copy_context()
            self.thread = threading.Thread(target=context.run, args=(self.ask,))
            self.thread.start()
            asked.wait(60)
            return dspy.Prediction(answer="done")

        def ask(self):
            try:
                streamll.ask("Still there?")
            except QuestionWithdrawn as error:
                failed.append(error)

    asked, program = threading.Event(), Leaves()
    seen, value = run(program, lambda events, question: asked.set())
    program.thread.join(60)
    assert value.answer == "done"
    assert outcomes(seen) == ["withdrawn"]
    OrderCheck().check_all(seen)
    assert len(failed) == 1


def test_branches_ask_at_the_same_time():
    both = threading.Barrier(2)
    asked = []

    def answer(events, question):
        asked.append(question)
        if len(asked) == 2:
            for each in reversed(asked):
                events.answer(each, each.text.upper())

    class Branches(dspy.Module):
        def forward(self, **_):
            parallel = dspy.Parallel(num_threads=2, disable_progress_bar=True)
            return parallel([(self.branch, {"name": "a"}), (self.branch, {"name": "b"})])

        def branch(self, name):
            both.wait(60)
            return streamll.ask(name)

    seen, value = run(Branches(), answer)
    assert value == ["A", "B"]
    assert seen[-1].waited <= sum(e.waited for e in seen if e.event_type == "answer")
    OrderCheck().check_all(seen)


def test_waiting_counts_in_no_timeout_of_the_stream():
    """The timer of the whole stream fires while a question is open, and again when it is answered."""

    def answer(events, question):
        events._program_run._too_late(60)
        events.answer(question, "in time")

    config = streamll.StreamConfig(timeout=60)
    _, value = run(Asks(), answer, config=config)
    assert value.answer == "in time"

    over = threading.Event()

    class Hangs(dspy.Module):
        def forward(self, **_):
            streamll.ask("?", timeout=0, default="late")
            over.wait(60)

    config = streamll.StreamConfig(timeout=0.2)
    with pytest.raises(TotalTimeout), streamll.stream(Hangs(), config=config)(topic="x") as events:
        events.result()
    over.set()


def test_many_runs_wait_in_no_thread_of_their_own(new_threads):
    async def main():
        streams = [streamll.stream(AsksAsync())(topic=str(n)) for n in range(200)]
        opened = [await stream.__aenter__() for stream in streams]
        questions = []
        for events in opened:
            async for event in events:
                if event.event_type == "question":
                    questions.append(event)
                    break
        threads = new_threads()
        for question in questions:
            streamll.answer(question.run_id, question, question.run_id)
        values = [(await events.result()).answer for events in opened]
        for stream in streams:
            await stream.__aexit__()
        return threads, values, [question.run_id for question in questions]

    threads, values, expected = asyncio.run(main())
    assert threads == []
    assert values == expected


def test_on_an_event_loop_ask_says_what_to_use():
    class Blocks(dspy.Module):
        async def aforward(self, **_):
            return streamll.ask("?")

    async def main():
        async with streamll.stream(Blocks())(topic="x") as events:
            return await events.result()

    with pytest.raises(StreamllError, match="ask_async"):
        asyncio.run(main())
