"""X4: programs in programs, and predictors that ask more than once: who says what, under which name."""

from __future__ import annotations

import asyncio

import dspy
import pytest
from programs import QA

import streamll
from streamll.core.ordering import OrderCheck

pytestmark = pytest.mark.usefixtures("lm")


class Outer(dspy.Module):
    """Streams an inner program while it is streamed itself."""

    def __init__(self, fields):
        super().__init__()
        self.inner = QA()
        self.fields = fields

    def forward(self, question):
        with streamll.stream(self.inner, fields=self.fields)(question=question) as events:
            tokens = "".join(events.tokens("generate.predict.answer"))
            answer = events.result().answer
            return dspy.Prediction(
                tokens=tokens,
                text=events.text("answer"),
                qualified_name=events.text("generate.predict.answer"),
                answer=answer,
            )


@pytest.mark.parametrize("fields", ["*", ["answer"], ["generate.predict.answer"]], ids=str)
def test_an_inner_program_calls_its_predictors_as_it_would_alone(fields, heard):
    """X4: in ``fields``, ``text`` and ``tokens``; the events' names are those in the whole run."""
    outer = streamll.instrument(Outer(fields), sinks=[heard])
    said = outer(question="Why?")
    assert said.tokens == said.text == said.qualified_name == said.answer
    assert {t.predictor for t in heard.of("token")} == {"inner.generate.predict"}


def test_names_of_an_instrumented_module_hold_wherever_it_is_used(heard):
    """A1: ``"predictor.name"`` is the declaring module's own spelling."""

    class Caller(dspy.Module):
        def __init__(self, qa):
            super().__init__()
            self.parts = {"qa": qa}

        def forward(self, question):
            return self.parts["qa"](question=question)

    qa = streamll.instrument(QA(), stream_fields=["generate.predict.answer"], sinks=[heard])
    answer = streamll.instrument(Caller(qa), sinks=[])(question="Why?").answer
    assert heard.text("answer") == answer
    assert heard.text("reasoning") == ""
    assert {t.predictor for t in heard.of("token")} == {"parts['qa'].generate.predict"}


# --- predictors that ask more than once -----------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_an_lm_call_made_while_parsing_belongs_to_the_predictor(asynchronous, practice, heard):
    """X2, X4: of ``TwoStepAdapter`` the second call's fields stream, the first call has none."""
    practice.script("It is Paris, I think.")
    program = streamll.instrument(QA(), stream_fields="*", sinks=[heard])
    predict = program.generate
    streamll.instrument(predict, stream_fields="*", sinks=[heard])
    with dspy.context(adapter=dspy.TwoStepAdapter(practice.lm())):
        call = predict.acall(question="Why?") if asynchronous else predict(question="Why?")
        answer = (asyncio.run(call) if asynchronous else call).answer
    OrderCheck().check_all(heard.events)
    assert len(heard.of("lm.start")) == 2
    assert {(t.predictor, t.field) for t in heard.of("token")} == {
        ("predict", "reasoning"), ("predict", "answer"),
    }  # fmt: skip
    assert heard.text("answer") == answer
    assert len(heard.of("token")) > 10


class Again(dspy.Predict):
    """A predictor that asks twice, one after the other or at once."""

    def forward(self, **inputs):
        super().forward(**inputs)
        return super().forward(**inputs)

    async def aforward(self, **inputs):
        forward = super().aforward
        return (await asyncio.gather(forward(**inputs), forward(**inputs)))[1]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_predictor_that_asks_twice_in_one_call(asynchronous, practice, heard):
    """X4: each of its LM calls has an identity of its own, and is the predictor's.

    Of calls one after the other the later one replaces the earlier.
    """
    practice.respond(
        lambda request: {"answer": "first " * 9 if request is practice.requests[0] else "second"}
    )
    predict = streamll.instrument(Again("question -> answer"), stream_fields="*", sinks=[heard])
    call = predict.acall(question="Why?") if asynchronous else predict(question="Why?")
    if asynchronous:
        asyncio.run(call)
    OrderCheck().check_all(heard.events)
    assert {t.predictor for t in heard.of("token")} == {"self"}
    calls = {(t.call_id, t.attempt) for t in heard.of("token")}
    texts = {heard.text("answer", call_id=call, attempt=attempt) for call, attempt in calls}
    assert texts == {("first " * 9).strip(), "second"}
    superseded = [event.reason for event in heard.of("lm.superseded")]
    assert superseded == ([] if asynchronous else ["asked again"])


class Adapting(dspy.Module):
    """A module that uses an adapter and no predictor."""

    def forward(self, questions):
        return [self.adapt(dspy.ChatAdapter(), question) for question in questions]

    async def aforward(self, questions):
        return await asyncio.gather(
            *(self.adapt(dspy.ChatAdapter().acall, question) for question in questions)
        )

    def adapt(self, adapter, question):
        signature = dspy.Signature("question -> answer")
        return adapter(dspy.settings.lm, {}, signature, [], {"question": question})


def test_an_adapter_without_a_predictor_streams_fields(practice, heard):
    """X2: its format and signature tell how to read the reply."""
    practice.respond(
        lambda request: {"answer": f"About {request.inputs['question']}: " + "words " * 9}
    )
    program = streamll.instrument(Adapting(), stream_fields=["answer"], sinks=[heard])
    asked = ["one", "two", "three"]
    for perform in (program, lambda questions: asyncio.run(program.acall(questions))):
        outputs = perform(asked)
        texts = [heard.text("answer", call_id=e.call_id) for e in heard.of("field.start")]
        assert sorted(texts) == sorted(output[0]["answer"] for output in outputs)
        OrderCheck().check_all(heard.events)
        heard.events.clear()


# --- what optimizers do ---------------------------------------------------------------------------


class Fan(dspy.Module):
    """Asks in parallel."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question):
        pairs = [(self.predict, {"question": f"{question} {number}"}) for number in range(2)]
        return dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)[0]


@pytest.mark.since_3_4  # before 3.3 nothing tells of an optimizer
def test_no_tokens_inside_an_optimizer_nor_in_its_threads(practice, heard):
    """X15: a compiling program streams nothing, the compiled one does."""
    examples = [dspy.Example(question="Why?", answer="").with_inputs("question")]
    optimizer = dspy.BootstrapFewShot(metric=lambda *_: True, max_labeled_demos=0)
    with streamll.watch(sinks=[heard]):
        compiled = optimizer.compile(Fan(), trainset=examples)
        assert heard.of("lm.end")
        assert not heard.of("token")
        assert not any(request.streaming for request in practice.requests)
        heard.events.clear()
        answer = compiled(question="Why?").answer
    assert answer in {heard.text("answer", call_id=t.call_id) for t in heard.of("token")}
