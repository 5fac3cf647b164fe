"""The programs of the program-level invisibility tests: DSPy's own kinds, and a user's."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import traceback
from collections.abc import Callable
from typing import Any, Literal

import dspy
import pydantic


class QA(dspy.Module):
    """Two predictors, one after the other, sync and async."""

    def __init__(self):
        super().__init__()
        self.draft = dspy.Predict("question -> draft")
        self.answer = dspy.ChainOfThought("question, draft -> answer")

    def forward(self, question):
        draft = self.draft(question=question).draft
        return self.answer(question=question, draft=draft)

    async def aforward(self, question):
        draft = (await self.draft.acall(question=question)).draft
        return await self.answer.acall(question=question, draft=draft)


class Gathering(dspy.Module):
    """One predictor, six tasks."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    async def aforward(self, question):
        calls = [self.predict.acall(question=f"{question} {number}") for number in range(6)]
        return await asyncio.gather(*calls)


class Threading(dspy.Module):
    """One predictor, own threads, each with a copy of the context."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question):
        answers = {}

        def ask(number):
            answers[number] = self.predict(question=f"{question} {number}").answer

        threads = [
            threading.Thread(target=contextvars.copy_context().run, args=(ask, number))
            for number in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return dspy.Prediction(answers=[answers[number] for number in sorted(answers)])


class Stubborn(dspy.Module):
    """Survives what its predictor raises."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question):
        try:
            return self.predict(question=question)
        except getattr(dspy, "LMError", Exception) as error:  # new in 3.3
            return dspy.Prediction(answer=f"none: {type(error).__name__}")


class Hasty(dspy.Module):
    """Gives up on its predictor, once a provider has been asked and says nothing."""

    asked = threading.Event()

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    async def aforward(self, question):
        asking = asyncio.ensure_future(self.predict.acall(question=question))
        await asyncio.to_thread(self.asked.wait, 60)
        self.asked.clear()
        try:
            return await asyncio.wait_for(asking, 0.1)
        except asyncio.TimeoutError:
            return dspy.Prediction(answer="too late")


class Broken(dspy.Module):
    """Fails after its predictor has answered."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question):
        answer = self.predict(question=question).answer
        raise LookupError(f"no use for {answer[:4]}")


class Telling(dspy.Module):
    """Shows where things went wrong, in its own words and those of DSPy."""

    def __init__(self):
        super().__init__()
        self.inner = Broken()

    def forward(self, question):
        try:
            return self.inner(question=question)
        except LookupError:
            return dspy.Prediction(told=traceback.format_exc())


class Plain(dspy.Module):
    """Returns what is no ``Prediction``, so that DSPy warns; asks a bare LM, a local model, and
    calls ``forward`` directly, so that DSPy warns again."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question):
        with dspy.context(adapter=dspy.JSONAdapter()):
            one = self.predict.forward(question=question, unknown="field").answer
        return [one, dspy.settings.lm(question), None]


class Weather(pydantic.BaseModel):
    city: str
    degrees: float
    sky: Literal["clear", "cloudy"]


class Forecast(dspy.Signature):
    """Tell the weather."""

    question: str = dspy.InputField()
    places: list[str] = dspy.OutputField()
    weather: Weather = dspy.OutputField()
    sure: bool = dspy.OutputField()


class Considered(dspy.Signature):
    """Native reasoning and history."""

    question: str = dspy.InputField()
    history: dspy.History = dspy.InputField()
    reasoning: dspy.Reasoning = dspy.OutputField()
    answer: str = dspy.OutputField()


class Tooled(dspy.Signature):
    """Native tool calls."""

    question: str = dspy.InputField()
    tools: list[dspy.Tool] = dspy.InputField()
    answer: str = dspy.OutputField()
    tool_calls: dspy.ToolCalls = dspy.OutputField()


class Shouting(dspy.ChatAdapter):
    """A user's own adapter, which changes what is asked and what is understood."""

    def format(self, signature, demos, inputs):
        return super().format(signature, demos, {k: f"{v}!" for k, v in inputs.items()})

    def parse(self, signature, completion):
        fields = super().parse(signature, completion)
        return {name: value.upper() for name, value in fields.items()}


class Lines(dspy.Adapter):
    """A user's own adapter from the ground up: one field per line."""

    def format(self, signature, demos, inputs):
        names = ", ".join(signature.output_fields)
        return [{"role": "user", "content": f"{inputs} -> {names}, one per line"}]

    def parse(self, signature, completion):
        return dict(zip(signature.output_fields, completion.splitlines(), strict=False))


def search(query: str) -> str:
    """Look something up."""
    return f"found {query}"


def failing(query: str) -> str:
    """Look something up in vain."""
    raise LookupError(f"nothing about {query}")


def asking_in_vain(query: str) -> str:
    """Ask another program, which fails."""
    return Broken()(question=query).answer


async def asearch(query: str) -> str:
    """Look something up without waiting."""
    await asyncio.sleep(0)
    return f"found {query}"


def react(*tools: Any) -> Callable[[], dspy.Module]:
    return lambda: dspy.ReAct("question -> answer", tools=list(tools), max_iters=4)


def cot() -> dspy.Module:
    return dspy.ChainOfThought("question -> answer")


def predict() -> dspy.Module:
    return dspy.Predict("question -> answer")


def long_is_better(inputs, prediction):
    return min(1.0, len(prediction.answer) / 1000)


class RefinedQA(QA):
    """``Refine`` reads the source of what it refines."""
