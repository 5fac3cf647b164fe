"""What the program-level invisibility tests run: DSPy's programs, and what befalls them, as a table.

A row is a program, how it is driven, and what the practice server answers (where that is not the
built-in practice model, which answers every prompt in its own format, always the same).
"""

from __future__ import annotations

import asyncio
import contextvars
import copy
import json
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import dspy
import pydantic
from dspy.adapters.baml_adapter import BAMLAdapter
from dspy.adapters.xml_adapter import XMLAdapter
from dspy.utils.callback import BaseCallback

from streamll.testing import Fault, Reply, ToolCall

QUESTION = "What is the capital of France?"
QUESTIONS = [f"What is the capital of country {number}?" for number in range(6)]
ASKED = {"question": QUESTION}


def call(program: Any, inputs: dict[str, Any]) -> Any:
    return program(**inputs)


async def acall(program: Any, inputs: dict[str, Any]) -> Any:
    return await program.acall(**inputs)


@dataclass
class Row:
    """``drives`` are the ways to call the program, sync and async; each is compared by itself.

    ``replies`` are the server's, in order, then the practice model's. ``concurrent``: the order of
    requests is not the program's. ``quiet``: nothing is streamed here, by design.
    """

    name: str
    program: Callable[[], Any]
    drives: Sequence[Callable[[Any, dict[str, Any]], Any]] = (call,)
    replies: Sequence[Any] = ()
    inputs: dict[str, Any] = field(default_factory=lambda: dict(ASKED))
    adapter: Callable[[Any], dspy.Adapter] = lambda server: dspy.ChatAdapter()
    settings: dict[str, Any] = field(default_factory=dict)
    lm: dict[str, Any] = field(default_factory=dict)
    concurrent: bool = False
    quiet: bool = False
    listening: bool = False  # the user has callbacks of their own


BOTH = (call, acall)


# --- programs -----------------------------------------------------------------------------------


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
        except dspy.LMError as error:
            return dspy.Prediction(answer=f"none: {type(error).__name__}")


class Hasty(dspy.Module):
    """Gives up on its predictor."""

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    async def aforward(self, question):
        try:
            return await asyncio.wait_for(self.predict.acall(question=question), 0.1)
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


# --- how they are driven ------------------------------------------------------------------------


def twice(program, inputs):
    return [program(**inputs), program(**inputs)]


async def atwice(program, inputs):
    return [await program.acall(**inputs), await program.acall(**inputs)]


def in_parallel(program, inputs):
    pairs = [(program, dspy.Example(question=q).with_inputs("question")) for q in QUESTIONS]
    return dspy.Parallel(num_threads=3, disable_progress_bar=True)(pairs)


def in_parallel_with_failures(program, inputs):
    pairs = [(program, {"question": q}) for q in QUESTIONS]
    parallel = dspy.Parallel(
        num_threads=1, disable_progress_bar=True, return_failed_examples=True, max_errors=5
    )
    return parallel(pairs)


def in_a_batch(program, inputs):
    examples = [dspy.Example(question=q).with_inputs("question") for q in QUESTIONS]
    return program.batch(examples, num_threads=3, disable_progress_bar=True)


async def asyncified(program, inputs):
    return await dspy.asyncify(program)(**inputs)


async def asyncified_together(program, inputs):
    run = dspy.asyncify(program)
    return await asyncio.gather(*(run(question=question) for question in QUESTIONS))


def syncified(program, inputs):
    return dspy.syncify(program)(**inputs)


async def gathered(program, inputs):
    return await asyncio.gather(*(program.acall(question=question) for question in QUESTIONS))


def deep_copied(program, inputs):
    return copy.deepcopy(program)(**inputs)


def saved_and_loaded(program, inputs):
    """The state as JSON, into another program and back; and the whole program."""
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state.json"
        program.save(state)
        again = type(program)()
        again.load(state)
        whole = Path(folder) / "whole"
        program.save(whole, save_program=True)
        loaded = dspy.load(str(whole), allow_pickle=True)
        program.load(state)
        asked = [each(**inputs) for each in (program, again, loaded)]
        return [json.loads(state.read_text()), *asked]


def compiled(program, inputs):
    examples = [dspy.Example(question=q, answer="").with_inputs("question") for q in QUESTIONS[:3]]
    optimizer = dspy.BootstrapFewShot(
        metric=lambda example, prediction, trace=None: "country 1" not in example.question,
        max_bootstrapped_demos=2,
        max_labeled_demos=1,
    )
    better = optimizer.compile(program, trainset=examples)
    demos = {name: [dict(d) for d in p.demos] for name, p in better.named_predictors()}
    return [demos, better(**inputs)]


def evaluated(program, inputs):
    examples = [dspy.Example(question=q).with_inputs("question") for q in QUESTIONS]
    evaluate = dspy.Evaluate(
        devset=examples,
        metric=lambda example, prediction: len(prediction.answer) % 7,
        num_threads=2,
        display_progress=False,
    )
    result = evaluate(program)
    return [result.score, [(dict(e), p, s) for e, p, s in result.results]]


def compared(program, inputs):
    completions = dspy.ChainOfThought("question -> answer", n=3, temperature=1.0)(**inputs)
    return program(list(completions.completions), **inputs)


def counted(program, inputs):
    with dspy.track_usage() as tracker:
        prediction = program(**inputs)
    return [prediction, tracker.get_total_tokens()]


class Calls(BaseCallback):
    """A user's own callbacks: which were called, on what, with what."""

    def __init__(self, calls: list[Any]) -> None:
        self._calls = calls

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("on_"):
            return super().__getattribute__(name)
        return lambda call_id, **values: self._calls.append([name, values])


def under_own_callbacks(program, inputs):
    calls: list[Any] = []
    with dspy.context(callbacks=[Calls(calls)]):
        return [program(**inputs), calls]


def with_own_callbacks(program, inputs):
    calls: list[Any] = []
    program.answer.callbacks.append(Calls(calls))
    dspy.settings.lm.callbacks.append(Calls(calls))
    return [program(**inputs), calls]


# --- what the server says -----------------------------------------------------------------------

CHAT = "[[ ## answer ## ]]\n{}\n\n[[ ## completed ## ]]"
MALFORMED = "no fields at all"
PARIS = {"answer": "Paris"}


def step(thought: str, tool: str, arguments: str = "{}") -> dict[str, str]:
    return {"next_thought": thought, "next_tool_name": tool, "next_tool_args": arguments}


STEPS = [
    step("Look it up.", "search", '{"query": "x"}'),
    step("Again.", "search", '{"query": "y"}'),
    step("Done.", "finish"),
    {"reasoning": "Because.", "answer": "42"},
]
STRAY_STEPS = [
    step("Wrong arguments.", "search", '{"nonsense": 1}'),
    step("Unknown.", "missing"),  # a malformed reply: the model is asked again
    *STEPS[2:],
]
FAILING_STEPS = [step("Fail.", "failing", '{"query": "x"}'), *STEPS[2:]]
INNER_STEPS = [step("Ask.", "asking_in_vain", '{"query": "x"}'), PARIS, *STEPS[2:]]
CODE = [
    {"reasoning": "Divide.", "generated_code": "```python\n1 / 0\n```"},
    {"reasoning": "Add.", "generated_code": '```python\nSUBMIT({"answer": 1 + 1})\n```'},
    {"reasoning": "It was computed.", "answer": "2"},
]
SUBMITTED = [
    Reply(tool_calls=[ToolCall("search", {"query": "x"})]),
    Reply(tool_calls=[ToolCall("submit", {"answer": "42"})]),
]
QUERIED = [
    {"reasoning": "Ask.", "code": "```python\nprint(llm_query('What is x?'))\n```"},
    "It is y.",
    {"reasoning": "Done.", "code": '```python\nSUBMIT(answer="y")\n```'},
]
ACTS = [
    {"generated_code": "```python\nprint(search('x'))\n```", "finished": False},
    {"generated_code": "```python\nprint(search('y'))\n```", "finished": True},
    {"reasoning": "It was found.", "answer": "y"},
]
CUT = Reply(CHAT.format("Paris"), fault=Fault(disconnect_after=3))
FIVE_HUNDRED = [Fault(status=500)] * 3


def fails_for_country_2(request: Any) -> Any:
    return Fault(status=400) if "country 2" in request.prompt.inputs["question"] else None


# --- the table ----------------------------------------------------------------------------------

PROGRAMS = [
    Row("Predict", predict, BOTH),
    Row("ChainOfThought", cot, BOTH),
    Row("two predictors", QA, BOTH),
    Row("n=2", lambda: dspy.Predict("question -> answer", n=2, temperature=1.0), BOTH),
    Row("typed fields", lambda: dspy.Predict(Forecast), BOTH),
    Row("ReAct", react(search), BOTH, STEPS),
    Row("ReAct with an async tool", react(asearch), (acall,), [
        step("Look it up.", "asearch", '{"query": "x"}'), *STEPS[2:],
    ]),
    Row("ReAct with an async tool, sync", react(asearch), (call,), [
        step("Look it up.", "asearch", '{"query": "x"}'), *STEPS[2:],
    ], settings={"allow_tool_async_sync_conversion": True}),
    Row("ProgramOfThought", lambda: dspy.ProgramOfThought(
        "question -> answer", interpreter_factory=dspy.LocalInterpreter,
    ), replies=CODE),
    Row("CodeAct", lambda: dspy.CodeAct(
        "question -> answer", tools=[search], interpreter_factory=dspy.LocalInterpreter,
    ), replies=ACTS),
    Row("ReActV2", lambda: dspy.ReActV2("question -> answer", tools=[search]), BOTH, SUBMITTED),
    Row("RLM", lambda: dspy.RLM(
        "question -> answer", interpreter_factory=dspy.LocalInterpreter,
    ), BOTH, QUERIED),
    Row("BestOfN", lambda: dspy.BestOfN(cot(), N=3, reward_fn=long_is_better, threshold=2.0)),
    Row("Refine", lambda: dspy.Refine(RefinedQA(), N=2, reward_fn=long_is_better, threshold=2.0)),
    Row("MultiChainComparison", lambda: dspy.MultiChainComparison("question -> answer", M=3),
        (compared,)),
    Row("native tool calls", lambda: dspy.Predict(Tooled), BOTH,
        [Reply(tool_calls=[ToolCall("search", {"query": "x"})])],
        inputs={**ASKED, "tools": [dspy.Tool(search)]},
        adapter=lambda server: dspy.ChatAdapter(use_native_function_calling=True)),
    Row("native reasoning", lambda: dspy.Predict(Considered), BOTH,
        [Reply(CHAT.format("Paris"), thinking="Let me think.\nIt is Paris.")],
        inputs={**ASKED, "history": dspy.History(messages=[{"question": "?", "answer": "!"}])}),
    Row("what is no Prediction", Plain),
]  # fmt: skip

TOGETHER = [
    Row("Parallel", predict, (in_parallel,), concurrent=True),
    Row("Parallel, some fail", predict, (in_parallel_with_failures,), [fails_for_country_2] * 6),
    Row("batch", cot, (in_a_batch,), concurrent=True),
    Row("own threads", Threading, concurrent=True),
    Row("gather inside", Gathering, (acall,), concurrent=True),
    Row("gather outside", QA, (gathered,), concurrent=True),
    Row("asyncify", QA, (asyncified,)),
    Row("asyncify, six at once", predict, (asyncified_together,), concurrent=True),
    Row("syncify", Gathering, (syncified,), concurrent=True),
]

ADAPTERS = [
    Row("JSONAdapter", QA, BOTH, adapter=lambda server: dspy.JSONAdapter()),
    Row("JSONAdapter, typed fields", lambda: dspy.Predict(Forecast), BOTH,
        adapter=lambda server: dspy.JSONAdapter()),
    Row("XMLAdapter", QA, BOTH, adapter=lambda server: XMLAdapter()),
    Row("BAMLAdapter", lambda: dspy.Predict(Forecast), BOTH, adapter=lambda server: BAMLAdapter()),
    Row("TwoStepAdapter", cot, BOTH, ["It is Paris, surely."],
        adapter=lambda server: dspy.TwoStepAdapter(server.lm())),
    Row("a subclass of ChatAdapter", QA, BOTH, adapter=lambda server: Shouting()),
    Row("an adapter of the user's own", cot, BOTH, ["Because.\nParis"],
        adapter=lambda server: Lines()),
    Row("Chat falls back to JSON", cot, BOTH, [MALFORMED]),
    Row("both formats fail", cot, BOTH, [MALFORMED, MALFORMED]),
    Row("JSON, malformed", cot, BOTH, [MALFORMED, MALFORMED],
        adapter=lambda server: dspy.JSONAdapter()),
]  # fmt: skip

FAULTS = [
    Row("429, then success", predict, BOTH, [Fault(status=429, retry_after=0), PARIS]),
    Row("500 until retries end", QA, BOTH, FIVE_HUNDRED),
    Row("500 in the second predictor", QA, BOTH, [{"draft": "Paris?"}, *FIVE_HUNDRED]),
    Row("500s survived", Stubborn, replies=FIVE_HUNDRED),
    Row("cut in the middle, then success", predict, BOTH, [CUT, PARIS]),
    Row("401", predict, BOTH, [Fault(status=401)]),
    Row("the program itself fails", Broken),
    Row("the program gives up", Hasty, (acall,), [Reply(PARIS, fault=Fault(silent=True))]),
    Row("cut by length", predict, BOTH, [Reply(CHAT.format("Par"), finish_reason="length")]),
    Row("no inputs", cot, BOTH, inputs={}),
]

LIVES = [
    Row("called twice, cached", QA, (twice, atwice)),
    Row("deep-copied", QA, (deep_copied,)),
    Row("saved and loaded", QA, (saved_and_loaded,)),
    Row("compiled by BootstrapFewShot", cot, (compiled,)),
    Row("evaluated", cot, (evaluated,), concurrent=True, quiet=True),
    Row("usage tracked from outside", QA, (counted,)),
    Row("no history kept", QA, BOTH, settings={"disable_history": True}),
    Row("no trace kept", QA, BOTH, settings={"trace": None}),
]

WIRES = [
    Row("Responses", QA, BOTH, lm={"wire": "responses"}),
    Row("Anthropic", QA, BOTH, lm={"wire": "anthropic"}),
    Row("LiteLLM", QA, BOTH, lm={"engine": "litellm"}),
    Row("LiteLLM, a fallback", cot, BOTH, [MALFORMED], lm={"engine": "litellm"}),
    Row("LiteLLM, retries", QA, BOTH, [CUT, *FIVE_HUNDRED], lm={"engine": "litellm"}),
]

LISTENED_TO = [
    Row("own callbacks: two predictors", QA, BOTH, listening=True),
    Row("own callbacks: ReAct", react(search), BOTH, STRAY_STEPS, listening=True),
    Row("own callbacks: a tool fails", react(failing), BOTH, FAILING_STEPS, listening=True),
    Row("own callbacks: a fallback", cot, BOTH, [MALFORMED], listening=True),
    Row("own callbacks: retries", QA, BOTH, [CUT, *FIVE_HUNDRED], listening=True),
    Row("own callbacks: in a context", QA, (under_own_callbacks,)),
    Row("own callbacks: of one module and of the LM", QA, (with_own_callbacks,)),
]

# What tells of a traceback: the model, which is shown a failed tool's, or the program itself.
TRACEBACKS = [
    Row("a tool's wrong arguments", react(search), BOTH, STRAY_STEPS),
    Row("a tool fails", react(failing), BOTH, FAILING_STEPS),
    Row("a module in a tool fails", react(asking_in_vain), BOTH, INNER_STEPS),
    Row("a program tells what failed", Telling),
]

TABLE = [*PROGRAMS, *TOGETHER, *ADAPTERS, *WIRES, *FAULTS, *LIVES, *LISTENED_TO]
if sys.version_info >= (3, 11):  # before, a traceback cannot be put right (``tracebacks``)
    TABLE += TRACEBACKS
