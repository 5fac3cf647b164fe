"""X3: programs, values and errors of an unusual kind run captured as they run without."""

from __future__ import annotations

import asyncio
import logging
import threading
import time

import dspy
import pytest
from profiles import THOROUGH
from programs import QA, Heard

import streamll
from streamll.capture.run.frames import modules_of
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
def test_programs_may_return_any_value(value, heard):
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


def test_a_modules_own_getattr_is_never_called(heard):
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


def test_a_module_that_contains_and_calls_itself(heard):
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


def through_the_data(program) -> float:
    """CPU seconds in which one can look at each thing that it holds."""
    started = time.thread_time()
    for held in (program.corpus, program.vectors, program.index.values()):
        for each in held:
            for item in each:
                isinstance(item, dspy.Module)
    return time.thread_time() - started


def test_large_containers_are_not_searched_for_modules(heard):
    """X3: what a call costs does not depend on what the program holds; predictors are found."""
    program = Holding()
    needed = []
    for _ in range(3):
        started = time.thread_time()
        names = {name for name, _ in modules_of(program)}
        needed.append(time.thread_time() - started)
    assert min(needed) < through_the_data(program) / 2
    assert {"steps['first'][0]", "many[150]"} < names
    assert set(dict(program.named_predictors())) <= names
    streamll.instrument(program, stream_fields="*", sinks=[heard])(question="Why?")
    assert [e.predictor for e in heard.of("field.start")] == ["many[150]", "steps['first'][0]"]


def test_modules_may_change_in_other_threads_during_a_call(lm):
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
        for _ in range(200 if THOROUGH else 40):
            assert ("many[150]", program.many[150]) in list(modules_of(program))
    finally:
        stopped.set()
        changing.join()
