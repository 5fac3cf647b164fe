"""X3: programs, values and errors of an unusual kind run captured as they run without."""

from __future__ import annotations

import asyncio
import logging
import threading
import time

import dspy
import pytest
from programs import QA, Heard

import streamll
from streamll.capture.frames import modules_of
from streamll.core.ordering import OrderCheck

EVERYTHING = ["inputs", "outputs", "prompts", "tools", "errors"]


@pytest.fixture(autouse=True)
def quiet_dspy(lm, caplog):
    """The practice model, and no word from DSPy: it logs what a callback raises."""
    logger = logging.getLogger("dspy")
    logger.addHandler(caplog.handler)
    yield
    logger.removeHandler(caplog.handler)
    assert [record for record in caplog.records if record.name.startswith("dspy")] == []


class Returning(dspy.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self):
        return self.value


class Unshowable:
    def __str__(self):
        raise ValueError("I have no text")

    __repr__ = __str__

    @property
    def toDict(self):  # noqa: N802 - DSPy's name
        raise KeyError("nor this")


class Evasive:
    def __getattr__(self, name):
        raise RuntimeError(f"no {name} here")


ENDLESS: list[object] = []
ENDLESS.append(ENDLESS)


@pytest.mark.parametrize(
    "value",
    [None, 1, "text", [1], {1: 2}, ENDLESS, Unshowable(), Evasive(), dspy.Prediction, object()],
    ids=lambda value: type(value).__name__,
)
def test_whatever_a_program_returns_is_returned(value, heard):
    """X3, X15: also what cannot be shown, when outputs were asked for."""
    with streamll.configure(include=EVERYTHING):
        assert streamll.instrument(Returning(value), sinks=[heard])() is value
        with streamll.stream(Returning(value))() as events:
            assert events.result() is value
    OrderCheck().check_all(heard.events)
    assert heard.types[-1] == "run.end"


class Unnameable(Exception):
    """An error whose every part raises another."""

    def __str__(self):
        raise ValueError("I have no text")

    @property
    def status(self):
        raise ValueError("nor a status")


class Failing(dspy.Module):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self):
        raise self.error


@pytest.mark.parametrize("include", [[], EVERYTHING], ids=["nothing", "everything"])
def test_an_error_that_cannot_be_shown_is_raised(include, heard):
    """X3: by type at least its end is told."""
    error = Unnameable()
    with streamll.configure(include=include):
        with pytest.raises(Unnameable) as raised:
            streamll.instrument(Failing(error), sinks=[heard])()
        assert raised.value is error
        with streamll.stream(Failing(error))() as events, pytest.raises(Unnameable):
            events.result()
    assert heard.events[-1].error_type == "Unnameable"


@pytest.mark.parametrize("error", [StopIteration(1), StopAsyncIteration()], ids=repr)
def test_an_error_that_means_the_end_to_an_iterator_is_an_error(error):
    """X3: a program that raises ``StopIteration`` has not ended well."""

    async def read():
        async with streamll.stream(Failing(error))() as events:
            await events.result()

    with streamll.stream(Failing(error))() as events, pytest.raises(RuntimeError) as raised:
        events.result()
    assert raised.value.__cause__ is error
    with pytest.raises(RuntimeError) as raised:
        asyncio.run(read())
    assert raised.value.__cause__ is error


class Guarded(dspy.Module):
    """A module that does not like to be asked for what it has not got."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")
        self.supports_decision_requests = False  # DSPy asks for it

    def __getattr__(self, name):
        raise RuntimeError(f"no {name} here")

    def forward(self, question):
        return self.predict(question=question)


def test_a_modules_own_getattr_is_left_alone(heard):
    """X3: capture asks a module for nothing that DSPy would not."""
    with streamll.watch(sinks=[heard]):
        answer = Guarded()(question="Why?").answer
    assert heard.text("answer") == answer
    with streamll.stream(Guarded(), fields=["predict.answer"])(question="Why?") as events:
        assert events.result().answer == events.text("answer") == answer


class Family(dspy.Module):
    """A module that holds itself, calls itself, and hides predictors in tuples and dicts."""

    def __init__(self):
        super().__init__()
        self.me = self
        self.kept = {"a": (dspy.Predict("question -> answer"), [self])}

    def forward(self, question, depth=3):
        if depth:
            return self.me(question, depth=depth - 1)
        return self.kept["a"][0](question=question)


def test_a_module_that_holds_and_calls_itself(heard):
    """A1: one run, four levels deep."""
    answer = streamll.instrument(Family(), stream_fields="*", sinks=[heard])("Why?").answer
    OrderCheck().check_all(heard.events)
    assert len(heard.runs()) == 1
    assert heard.text("answer") == answer
    assert heard.of("token")[0].path == ("Family",) * 4 + ("kept['a'][0]",)


# --- listeners that fail --------------------------------------------------------------------------


class Refusing(Heard):
    def put(self, event):
        raise OSError("disk full")


def test_a_sink_whose_put_raises_is_logged_once_and_hurts_nobody(heard, caplog):
    """X3: neither the program nor the other sinks."""
    program = streamll.instrument(QA(), stream_fields="*", sinks=[Refusing(), heard])
    answer = program(question="Why?").answer
    assert heard.text("answer") == answer
    told = [r for r in caplog.records if r.name == "streamll"]
    assert len(told) == 1
    assert "OSError" in told[0].getMessage()
    assert "disk full" not in told[0].getMessage()


# --- programs in programs -------------------------------------------------------------------------


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
                spelt=events.text("generate.predict.answer"),
                answer=answer,
            )


@pytest.mark.parametrize("fields", ["*", ["answer"], ["generate.predict.answer"]], ids=str)
def test_an_inner_program_calls_its_predictors_as_it_would_alone(fields, heard):
    """X4: in ``fields``, ``text`` and ``tokens``; the events' names are those in the whole run."""
    outer = streamll.instrument(Outer(fields), sinks=[heard])
    said = outer(question="Why?")
    assert said.tokens == said.text == said.spelt == said.answer
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


def test_what_is_saved_has_no_listeners_and_loading_it_takes_nobodys_away(heard, tmp_path):
    """A1, X15: a class pickled by value meets its own self where it is loaded."""

    @streamll.instrument(stream_fields="*", sinks=[heard])
    class Captured(QA):
        pass

    program = streamll.instrument(Captured(), stream_fields="*", sinks=[heard])
    program.save(tmp_path, save_program=True)
    assert b"streamll." not in (tmp_path / "program.pkl").read_bytes()
    loaded = dspy.load(str(tmp_path), allow_pickle=True)
    for each in (program, loaded, Captured()):
        heard.events.clear()
        assert each(question="Why?").answer == heard.text("answer")


# --- predictors that ask more than once -----------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_what_an_adapter_asks_while_it_parses_is_the_predictors(asynchronous, practice, heard):
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
    """X4: each of its LM calls has an identity of its own, and is the predictor's."""
    practice.respond(
        lambda request: {"answer": "first " * 9 if request is practice.requests[0] else "second"}
    )
    predict = streamll.instrument(Again("question -> answer"), stream_fields="*", sinks=[heard])
    call = predict.acall(question="Why?") if asynchronous else predict(question="Why?")
    if asynchronous:
        asyncio.run(call)
    OrderCheck().check_all(heard.events)
    assert {t.predictor for t in heard.of("token")} == {"self"}
    texts = {heard.text("answer", call_id=t.call_id) for t in heard.of("token")}
    assert texts == {("first " * 9).strip(), "second"}


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


# --- programs that block their event loop ---------------------------------------------------------


class Blocking(dspy.Module):
    """An async program that does not await what it waits for, as many do."""

    def __init__(self, way):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")
        self.way = way

    async def aforward(self, question):
        return self.way(self.predict, question)


def directly(predict, question):
    return predict(question=question)


def in_parallel(predict, question):
    pairs = [(predict, {"question": f"{question} {number}"}) for number in range(3)]
    return dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)[0]


def in_a_stream(predict, question):
    with streamll.stream(predict)(question=question) as events:
        return events.result()


def telling(predict, question):
    for number in range(2_000):
        streamll.emit("step", number=number)
    return in_parallel(predict, question)


@pytest.mark.parametrize("way", [directly, in_parallel, in_a_stream, telling])
def test_a_program_that_blocks_its_loop_does_not_wait_for_its_reader(way, practice):
    """X3, B9: the reader shares the loop, so it cannot make space in the buffer."""
    practice.respond(lambda request: {"answer": "word " * 500})

    async def main():
        async with streamll.stream(Blocking(way))(question="Why?") as events:
            return await asyncio.wait_for(events.result(), 10)  # reads only after it has begun

    assert asyncio.run(main()).answer == ("word " * 500).strip()


def test_a_slow_reader_still_slows_a_program_in_a_thread(practice):
    """B7: a loop that turns is waited for, however long its reader takes."""
    practice.script({"reasoning": "r", "answer": "word " * 3000})

    async def main():
        async with streamll.stream(QA())(question="Why?") as events:
            channel = events._performance.channel
            async for event in events:
                if event.event_type == "token":
                    break
            await asyncio.sleep(0.5)  # much longer than a loop that is alive needs to come round
            waited = channel.statistics()
            await events.result()
            return waited

    waited = asyncio.run(asyncio.wait_for(main(), 20))
    assert waited.buffered <= waited.capacity + 10
    assert waited.received < 3000


class AsyncForward(dspy.Module):
    """Spelt ``forward``, so that calling the module gives a coroutine."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    async def forward(self, question):
        return await self.predict.acall(question=question)


async def ask(question):
    return await dspy.Predict("question -> answer").acall(question=question)


@pytest.mark.parametrize("program", [ask, AsyncForward()], ids=["a function", "a module"])
def test_a_coroutine_is_run_where_nobody_awaits_it(program):
    """X3: read from a thread, an async function has an event loop of its own."""
    with streamll.stream(program)(question="Why?") as events:
        assert events.result().answer == events.text("answer")

    async def main():
        async with streamll.stream(program)(question="Why?") as events:
            return (await events.result()).answer == events.text("answer")

    assert asyncio.run(main())


# --- programs that hold a lot ---------------------------------------------------------------------


class Holding(dspy.Module):
    """A program with data, and predictors among it."""

    def __init__(self):
        super().__init__()
        self.corpus = [f"text {number}" for number in range(100_000)]
        self.vectors = [[0.5] * 100 for _ in range(10_000)]
        self.index = {number: ["text"] for number in range(100_000)}
        self.steps = {"first": [dspy.Predict("question -> answer")], "data": self.corpus}
        self.many = [dspy.Predict("question -> answer") for _ in range(200)]

    def forward(self, question):
        self.many[150](question=question)
        return self.steps["first"][0](question=question)


def test_a_programs_data_is_not_looked_through(heard):
    """X3: what a call costs does not depend on what the program holds; predictors are found."""
    program = Holding()
    started = time.process_time()
    names = {name for name, _ in modules_of(program)}
    assert time.process_time() - started < 0.1
    assert {"steps['first'][0]", "many[150]"} < names
    assert set(dict(program.named_predictors())) <= names
    streamll.instrument(program, stream_fields="*", sinks=[heard])(question="Why?")
    assert [e.predictor for e in heard.of("field.start")] == ["many[150]", "steps['first'][0]"]


def test_a_program_that_changes_while_it_is_called(lm):
    """X4: modules and data come and go in other threads."""
    program = Holding()
    stopped = threading.Event()

    def change():
        number = 0
        while not stopped.is_set():
            number += 1
            setattr(program, f"attribute_{number % 500}", dspy.Predict("question -> answer"))
            program.steps[str(number % 300)] = [number]
            program.__dict__.pop(f"attribute_{number * 7 % 500}", None)
            program.steps.pop(str(number * 7 % 300), None)

    changing = threading.Thread(target=change)
    changing.start()
    try:
        for _ in range(200):
            assert ("many[150]", program.many[150]) in list(modules_of(program))
    finally:
        stopped.set()
        changing.join()
