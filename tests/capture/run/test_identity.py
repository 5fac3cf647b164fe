"""X4: every event knows its run, path, predictor, candidate, attempt and turn."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import dspy
import pytest
from dspy.utils.callback import BaseCallback
from dspy_lines import LM_ERROR, NO_FALLBACK
from profiles import THOROUGH
from programs import QA, contiguous
from pydantic import AfterValidator

import streamll
from streamll.capture.inside_dspy import ACTIVE_CALL_ID
from streamll.core.ordering import OrderCheck
from streamll.flow.config import StreamConfig
from streamll.testing import Fault, Reply

MANY = 200 if THOROUGH else 60


class Echo(dspy.Module):
    """Answers with its question, by way of the practice server."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question):
        return self.predict(question=question)

    async def aforward(self, question):
        return await self.predict.acall(question=question)


@pytest.fixture
def echo(practice, lm):
    practice.respond(lambda request: {"answer": f"<{request.inputs['question']}> " * 20})
    return practice


def check_separate(heard, questions):
    runs = heard.runs()
    assert len(runs) == len(questions)
    answers = set()
    for events in runs.values():
        assert contiguous(events)
        answers.add("".join(e.token for e in events if e.event_type == "token"))
    assert answers == {(f"<{question}> " * 20).strip() for question in questions}


def test_many_concurrent_threads_on_one_decorated_module(echo, heard):
    program = streamll.instrument(Echo(), stream_fields=["answer"], sinks=[heard])
    questions = [f"thread question {i}" for i in range(MANY)]
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(program, questions))
    check_separate(heard, questions)


def test_many_concurrent_tasks_on_one_decorated_module(echo, heard):
    program = streamll.instrument(Echo(), stream_fields=["answer"], sinks=[heard])
    questions = [f"task question {i}" for i in range(MANY)]

    async def main():
        await asyncio.gather(*(program.acall(question) for question in questions))

    asyncio.run(main())
    check_separate(heard, questions)


def test_the_same_predictor_three_times_is_three_turns(lm, heard):
    class Thrice(dspy.Module):
        def __init__(self):
            super().__init__()
            self.predict = dspy.Predict("question -> answer")

        def forward(self, question):
            for _ in range(3):
                result = self.predict(question=question)
            return result

    result = streamll.instrument(Thrice(), stream_fields="*", sinks=[heard])("Why?")
    assert {t.turn for t in heard.of("token")} == {0, 1, 2}
    for turn in range(3):
        assert heard.text("answer", turn=turn) == result.answer


def test_gather_on_one_predictor_keeps_the_calls_apart(echo, heard):
    class Gathered(dspy.Module):
        def __init__(self):
            super().__init__()
            self.predict = dspy.Predict("question -> answer")

        async def aforward(self, question):
            return await asyncio.gather(
                *(self.predict.acall(question=f"{question} {i}") for i in range(10))
            )

    program = streamll.instrument(Gathered(), stream_fields="*", sinks=[heard])
    asyncio.run(program.acall("part"))
    assert len(heard.runs()) == 1
    calls = {t.call_id for t in heard.of("token")}
    assert len(calls) == 10
    assert {heard.text("answer", call_id=call) for call in calls} == {
        (f"<part {i}> " * 20).strip() for i in range(10)
    }
    assert {t.turn for t in heard.of("token")} == set(range(10))


@pytest.mark.since_3_4  # a request for each; older ones make one for all
def test_of_n_completions_candidate_0_streams(lm, practice, heard):
    practice.script({"answer": "first"}, {"answer": "second"})
    predict = dspy.Predict("question -> answer", n=2, temperature=1.0)
    result = streamll.instrument(predict, stream_fields="*", sinks=[heard])(question="Why?")
    assert [c.answer for c in result.completions] == ["first", "second"]
    assert heard.text("answer") == "first"
    assert {t.candidate for t in heard.of("token")} == {0}
    assert heard.of("lm.superseded") == []


FAILING = {
    "500": Fault(status=500),
    "429": Fault(status=429, retry_after=0),
    "cut": Reply({"number": "2", "answer": "Rome is"}, fault=Fault(disconnect_after=12)),
}


@pytest.mark.parametrize("config", [None, StreamConfig(retry_delay=0.01)], ids=["dspy", "config"])
@pytest.mark.parametrize("failing", FAILING)
@pytest.mark.since_3_4  # a request for each; older ones make one for all
def test_a_retry_of_another_candidate_takes_nothing_back(lm, practice, failing, config):
    practice.script(
        {"number": "1", "answer": "Paris"}, FAILING[failing], {"number": "2", "answer": "Rome"}
    )
    program = dspy.Predict("question -> number: int, answer", n=2, temperature=1.0)
    with streamll.stream(program, config=config)(question="?") as events:
        seen = list(events)
        assert [c.answer for c in events.result().completions] == ["Paris", "Rome"]
        assert events.text("answer") == "Paris"
    OrderCheck().check_all(seen)
    assert [e.field for e in seen if e.event_type == "field.start"] == ["number", "answer"]
    assert not [e for e in seen if e.event_type in {"lm.superseded", "field.corrected"}]


def test_react_shows_turns_tools_and_tokens_in_true_order(lm, practice, heard):
    def search(query: str) -> str:
        """Look something up."""
        return f"found {query}"

    practice.script(
        {"next_thought": "look", "next_tool_name": "search", "next_tool_args": '{"query": "x"}'},
        {"next_thought": "again", "next_tool_name": "search", "next_tool_args": '{"query": "y"}'},
        {"next_thought": "done", "next_tool_name": "finish", "next_tool_args": "{}"},
        {"reasoning": "because", "answer": "42"},
    )
    react = dspy.ReAct("question -> answer", tools=[search])
    result = streamll.instrument(react, stream_fields="*", sinks=[heard])(question="Why?")
    assert result.answer == "42"
    story = [
        f"{e.event_type}:{getattr(e, 'name', '')}" if e.event_type.startswith("tool")
        else f"{e.predictor}#{e.turn}.{e.field}"
        for e in heard.events
        if e.event_type in {"tool.start", "tool.end"}
        or (e.event_type == "field.start" and e.field in {"next_thought", "answer"})
    ]  # fmt: skip
    assert story == [
        "react#0.next_thought", "tool.start:search", "tool.end:search",
        "react#1.next_thought", "tool.start:search", "tool.end:search",
        "react#2.next_thought", "tool.start:finish", "tool.end:finish",
        "extract.predict#0.answer",
    ]  # fmt: skip
    assert heard.of("tool.start")[0].path == ("ReAct", "search")


def test_a_tool_and_a_model_call_are_of_the_turn_of_their_predictor(lm, practice, heard):
    """Not how often this tool was called: it may be the first time in a later turn."""

    def look() -> str:
        """Look something up."""
        return "found"

    def ask() -> str:
        """Ask somebody."""
        return dspy.Predict("question -> answer")(question="inside").answer

    calls = ["look", "ask", "look", "finish"]
    turns = [{"next_thought": "so", "next_tool_name": c, "next_tool_args": "{}"} for c in calls]
    practice.script(*turns[:2], {"answer": "asked"}, *turns[2:], {"reasoning": "b", "answer": "42"})
    react = dspy.ReAct("question -> answer", tools=[look, ask])
    assert streamll.instrument(react, sinks=[heard])(question="Why?").answer == "42"
    for kind in ("tool.start", "tool.end"):
        assert [(e.name, e.turn) for e in heard.of(kind)] == [*zip(calls, range(4), strict=True)]
    for kind in ("module.start", "lm.start", "lm.end"):
        own = [e.turn for e in heard.of(kind) if e.path == ("ReAct", "react")]
        assert own == [0, 1, 2, 3]
    inside = [e for e in heard.events if "Predict" in e.path]
    assert {e.turn for e in inside} == {0}


def test_best_of_n_copies_are_known_by_their_predictor(lm, heard):
    best = dspy.BestOfN(
        module=dspy.ChainOfThought("question -> answer"), N=3, threshold=2.0,
        reward_fn=lambda inputs, prediction: 1.0,
    )  # fmt: skip
    streamll.instrument(best, stream_fields=["answer"], sinks=[heard])(question="Why?")
    assert {t.predictor for t in heard.of("token")} == {"module.predict"}
    assert len({t.call_id for t in heard.of("token")}) == 3


class Copying(dspy.Module):
    """Its second predictor is a deep copy of the first."""

    def __init__(self):
        super().__init__()
        self.a = dspy.Predict("question -> answer")
        self.b = copy.deepcopy(self.a)

    def forward(self, question):
        return self.b(question=self.a(question=question).answer)


def best_of(module, kind=dspy.BestOfN):
    return kind(module=module, N=2, threshold=2.0, reward_fn=lambda inputs, prediction: 1.0)


@pytest.mark.parametrize("kind", [dspy.BestOfN, dspy.Refine])
def test_predictors_that_are_copies_of_one_another_are_told_apart(lm, practice, kind):
    practice.respond(lambda request: {"answer": f"<{request.inputs.get('question')}>"})
    program = best_of(Copying(), kind)
    with streamll.stream(program, fields=["module.b.answer"])(question="Why?") as events:
        tokens = [event for event in events if event.event_type == "token"]
        assert {event.predictor for event in tokens} == {"module.b"}
        assert events.text("module.b.answer").startswith("<<Why?>>")


def test_a_copied_predictor_is_known_by_the_module_that_calls_it(lm):
    class Program(dspy.Module):
        def __init__(self):
            super().__init__()
            original = dspy.Predict("question -> answer")
            self.one, self.two = best_of(original), best_of(copy.deepcopy(original))

        def forward(self, question):
            self.two(question=question)
            return self.one(question=question)

    with streamll.stream(Program())(question="Why?") as events:
        called = [event.predictor for event in events if event.event_type == "field.start"]
    assert called == ["two.module"] * 2 + ["one.module"] * 2


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_forward_that_is_called_directly_is_its_predictors(lm, practice, heard, asynchronous):
    class Direct(dspy.Module):
        def __init__(self):
            super().__init__()
            self.parts = [dspy.Predict("question -> answer"), dspy.Predict("question -> answer")]

        def forward(self, question):
            return self.parts[1].forward(question=question)

        async def aforward(self, question):
            return await self.parts[1].aforward(question=question)

    practice.script({"answer": "Paris"})
    program = streamll.instrument(Direct(), fields=["parts[1].answer"], sinks=[heard])
    call = program.acall(question="?") if asynchronous else program(question="?")
    assert (asyncio.run(call) if asynchronous else call).answer == "Paris"
    OrderCheck().check_all(heard.events)
    assert {event.predictor for event in heard.of("token")} == {"parts[1]"}
    assert heard.text("answer") == "Paris"
    with streamll.stream(Direct())(question="?") as events:
        assert events.result().answer == events.text("parts[1].answer")


class Counted(dspy.Signature):
    """Its numbers are other ones than the model's."""

    question: str = dspy.InputField()
    answer: str = dspy.OutputField()
    numbers: list[Annotated[int, AfterValidator(lambda number: number + 1)]] = dspy.OutputField()


class Repairing(dspy.Module):
    """Calls a ``forward`` itself, and returns what comes of it."""

    def __init__(self):
        super().__init__()
        self.p = dspy.Predict(Counted)

    def forward(self, question):
        return self.p.forward(question=question)

    async def aforward(self, question):
        return await self.p.aforward(question=question)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_the_fields_of_a_direct_forward_are_compared_with_its_value(
    lm, practice, heard, asynchronous
):
    practice.script({"answer": "Paris", "numbers": "[0, 1]"})
    program = streamll.instrument(Repairing(), fields="*", sinks=[heard])
    call = program.acall(question="?") if asynchronous else program(question="?")
    result = asyncio.run(call) if asynchronous else call
    assert result.numbers == [1, 2]
    [corrected] = heard.of("field.corrected")
    assert (corrected.field, corrected.value) == ("numbers", [1, 2])
    assert [e.path for e in heard.of("module.start")] == [("Repairing",), ("Repairing", "p")]
    assert [e.predictor for e in heard.of("module.end")] == ["p", None]
    OrderCheck().check_all(heard.events)


def test_a_direct_forward_that_asks_again_takes_its_text_back(lm, practice, heard):
    practice.script("no fields at all", {"answer": "Paris", "numbers": "[]"})
    program = streamll.instrument(Repairing(), fields=["answer"], sinks=[heard])
    assert program(question="?").answer == "Paris" == heard.text("answer")
    assert [e.reason for e in heard.of("lm.superseded")] == ["fallback"]
    OrderCheck().check_all(heard.events)


def test_a_direct_forward_that_fails_has_an_end_and_the_traceback_it_always_has(practice, heard):
    practice.script(*[Fault(status=400)] * 2)
    asked_once = practice.lm(num_retries=0)
    plain, program = Repairing(), streamll.instrument(Repairing(), sinks=[heard])
    errors = []
    for each in (plain, program):
        with dspy.context(lm=asked_once, adapter=NO_FALLBACK), pytest.raises(LM_ERROR) as raised:
            each(question="?")
        errors.append([(entry.name, entry.lineno) for entry in raised.traceback])
    if sys.version_info >= (3, 11):  # before, a traceback cannot be put right
        assert errors[0] == errors[1]
    assert [e.predictor for e in heard.of("module.error")] == ["p", None]


def test_parallel_direct_forwards_are_told_apart_and_a_programs_own_callbacks_see_no_difference(
    lm, practice, heard
):
    practice.respond(lambda request: {"answer": request.inputs["question"], "numbers": "[]"})

    class Both(Repairing):
        async def aforward(self, question):
            calls = [self.p.aforward(question=f"{question}{n}") for n in range(4)]
            return dspy.Prediction(answers=[each.answer for each in await asyncio.gather(*calls)])

    class Parents(BaseCallback):
        def __init__(self):
            self.seen = []

        def on_lm_start(self, call_id, instance, inputs):
            self.seen.append(ACTIVE_CALL_ID.get() in self.modules)

        def on_module_start(self, call_id, instance, inputs):
            self.modules = {call_id}

    own = Parents()
    program = streamll.instrument(Both(), fields=["answer"], sinks=[heard])
    with dspy.context(callbacks=[own]):
        result = asyncio.run(program.acall(question="q"))
    assert sorted(result.answers) == ["q0", "q1", "q2", "q3"]
    assert own.seen == [True] * 4
    assert {e.turn for e in heard.of("token")} == {0, 1, 2, 3}
    for turn in range(4):
        assert heard.text("answer", turn=turn) in result.answers
    OrderCheck().check_all(heard.events)


def test_parallel_inside_a_program_joins_its_run(echo, heard):
    class Fan(dspy.Module):
        def __init__(self):
            super().__init__()
            self.predict = dspy.Predict("question -> answer")

        def forward(self, questions):
            pairs = [(self.predict, {"question": q}) for q in questions]
            return dspy.Parallel(num_threads=4, disable_progress_bar=True)(pairs)

    questions = [f"q{i}" for i in range(8)]
    program = streamll.instrument(Fan(), stream_fields=["answer"], sinks=[heard])
    results = program(questions)
    assert all(results)
    assert len(heard.runs()) == 1
    assert contiguous(heard.events)
    calls = {t.call_id for t in heard.of("token")}
    assert {heard.text("answer", call_id=c) for c in calls} == {r.answer for r in results}


def test_a_thread_with_a_copied_context_joins_and_one_without_does_not(echo, heard):
    class Threaded(dspy.Module):
        def __init__(self, copied):
            super().__init__()
            self.predict = dspy.Predict("question -> answer")
            self.copied = copied

        def forward(self, question):
            def work():
                with dspy.context(lm=lm):
                    self.answer = self.predict(question=question).answer

            lm = dspy.settings.lm
            target = contextvars.copy_context().run if self.copied else work
            thread = threading.Thread(target=target, args=(work,) if self.copied else ())
            thread.start()
            thread.join()
            return dspy.Prediction(answer=self.answer)

    with streamll.configure(sinks=[heard]):
        joined = streamll.instrument(Threaded(copied=True), stream_fields="*")("q")
        assert len(heard.runs()) == 1
        assert heard.text("answer") == joined.answer
        heard.events.clear()
        streamll.instrument(Threaded(copied=False), stream_fields="*")("q")
    assert len(heard.runs()) == 2  # a run of its own: it neither joins nor disappears
    assert all(contiguous(events) for events in heard.runs().values())


def test_programs_own_callbacks_setting_does_not_blind_the_run(lm, heard):
    class Blinded(QA):
        def forward(self, question):
            with dspy.context(callbacks=[]):
                return super().forward(question)

    result = streamll.instrument(Blinded(), stream_fields=["answer"], sinks=[heard])("Why?")
    assert heard.text("answer") == result.answer
    assert heard.of("token")[0].predictor == "generate.predict"
