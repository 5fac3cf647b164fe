"""What the program-level invisibility tests run, as a table.

A row is a program, how it is driven, and what the practice server answers (where that is not the
built-in practice model, which answers every prompt in its own format, always the same).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import dspy
from driving import (
    acall,
    asyncified,
    asyncified_together,
    atwice,
    call,
    compared,
    compiled,
    counted,
    deep_copied,
    evaluated,
    gathered,
    in_a_batch,
    in_parallel,
    in_parallel_with_failures,
    saved_and_loaded,
    syncified,
    twice,
    under_own_callbacks,
    with_own_callbacks,
)
from dspy.adapters.baml_adapter import BAMLAdapter
from dspy.adapters.xml_adapter import XMLAdapter
from whole_programs import (
    QA,
    Broken,
    Considered,
    Forecast,
    Gathering,
    Hasty,
    Lines,
    Plain,
    RefinedQA,
    Shouting,
    Stubborn,
    Telling,
    Threading,
    Tooled,
    asearch,
    asking_in_vain,
    cot,
    failing,
    long_is_better,
    predict,
    react,
    search,
)

from streamll.testing import Fault, Reply, ToolCall

ASKED = {"question": "What is the capital of France?"}
BOTH = (call, acall)


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
    needs: str = ""  # a name that not every DSPy has


# --- what the server says -----------------------------------------------------------------------

CHAT = "[[ ## answer ## ]]\n{}\n\n[[ ## completed ## ]]"
MALFORMED = "no fields at all"
PARIS = {"answer": "Paris"}


def silent_once_asked(request: Any) -> Reply:
    Hasty.asked.set()
    return Reply(PARIS, fault=Fault(silent=True))


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
    ), replies=CODE, needs="LocalInterpreter"),
    Row("CodeAct", lambda: dspy.CodeAct(
        "question -> answer", tools=[search], interpreter_factory=dspy.LocalInterpreter,
    ), replies=ACTS, needs="LocalInterpreter"),
    Row("ReActV2", lambda: dspy.ReActV2("question -> answer", tools=[search]), BOTH, SUBMITTED,
        needs="ReActV2"),
    Row("RLM", lambda: dspy.RLM(
        "question -> answer", interpreter_factory=dspy.LocalInterpreter,
    ), BOTH, QUERIED, needs="LocalInterpreter"),
    Row("Flex", lambda: dspy.Flex(
        "question -> answer", interpreter_factory=dspy.LocalInterpreter,
    ), (call,), needs="LocalInterpreter"),  # it has no aforward
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
    Row("the program gives up", Hasty, (acall,), [silent_once_asked]),
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
    Row("Gemini", QA, BOTH, lm={"wire": "gemini"}),
    Row("LiteLLM", QA, BOTH, lm={"engine": "litellm"}),
    Row("LiteLLM, a fallback", cot, BOTH, [MALFORMED], lm={"engine": "litellm"}),
    Row("LiteLLM, retries", QA, BOTH, [CUT, *FIVE_HUNDRED], lm={"engine": "litellm"}),
]

LISTENED_TO = [
    Row("own callbacks: two predictors", QA, BOTH, listening=True),
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
    Row("own callbacks: ReAct", react(search), BOTH, STRAY_STEPS, listening=True),
    Row("own callbacks: a tool fails", react(failing), BOTH, FAILING_STEPS, listening=True),
]

TABLE = [*PROGRAMS, *TOGETHER, *ADAPTERS, *WIRES, *FAULTS, *LIVES, *LISTENED_TO]
TABLE = [row for row in TABLE if not row.needs or hasattr(dspy, row.needs)]
if sys.version_info >= (3, 11):  # before, a traceback cannot be put right (``tracebacks``)
    TABLE += TRACEBACKS
