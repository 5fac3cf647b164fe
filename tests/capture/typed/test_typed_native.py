"""X5: what a model says besides text, on real wires: thinking, tool calls, citations, refusals.

Each on OpenAI chat, Responses, Anthropic and Gemini, on DSPy's own engine and on LiteLLM.
"""

from __future__ import annotations

import copy

import dspy
import pytest
from dspy_lines import ENGINES

import streamll
from streamll.core.events import ToolCallDelta
from streamll.core.ordering import OrderCheck
from streamll.core.partials import ArgumentsReader
from streamll.testing import Citation, Reply, ToolCall

ROUTES = [
    (wire, engine) for wire in ("openai", "responses", "anthropic", "gemini") for engine in ENGINES
]
NATIVE = dspy.ChatAdapter(use_native_function_calling=True)
THOUGHT = "First this. Then that."


class Reasoned(dspy.Signature):
    """Answer."""

    question: str = dspy.InputField()
    reasoning: dspy.Reasoning = dspy.OutputField()
    answer: str = dspy.OutputField()


class WithTools(dspy.Signature):
    """Use the tools."""

    question: str = dspy.InputField()
    tools: list[dspy.Tool] = dspy.InputField()
    answer: str = dspy.OutputField()
    calls: dspy.ToolCalls = dspy.OutputField()


def search(query: str, limit: int = 3) -> str:
    """Search for it."""
    return f"{limit} results for {query}"


@pytest.fixture(params=ROUTES, ids="-".join)
def route(request, practice):
    wire, engine = request.param
    models = {"anthropic": "claude-sonnet-4-5-20250929", "gemini": "gemini-2.5-pro"}
    model = models.get(wire, "o4-mini")
    options = {"engine": engine} if engine != "lm15" else {}
    lm = practice.lm(wire, model=model, temperature=1.0, max_tokens=20_000, **options)
    with dspy.context(lm=lm, adapter=NATIVE):
        yield practice


def told(program, **inputs):
    """All events, in a legal order, and the prediction."""
    with streamll.stream(program)(**inputs) as events:
        seen = list(events)
        prediction = events.result()
    OrderCheck().check_all(seen)
    return seen, prediction


def of(seen, event_type, /, **own):
    return [
        event
        for event in seen
        if event.event_type == event_type and all(event.data[key] == v for key, v in own.items())
    ]


def text(seen, field):
    return "".join(event.token for event in of(seen, "token", field=field))


def test_native_thinking_streams_as_the_reasoning_field(route):
    route.script(Reply("[[ ## answer ## ]]\nParis", thinking=THOUGHT, chunk=5))
    seen, prediction = told(dspy.Predict(Reasoned), question="?")
    assert str(prediction.reasoning) == text(seen, "reasoning") == THOUGHT
    assert text(seen, "answer") == "Paris"
    assert len(of(seen, "token", field="reasoning")) > 2
    assert [event.field for event in of(seen, "field.start")] == ["reasoning", "answer"]
    assert not of(seen, "thinking")
    assert not of(seen, "field.corrected")


def test_thinking_on_a_plain_signature_is_an_event(route):
    route.script(Reply("[[ ## answer ## ]]\nParis", thinking=THOUGHT, chunk=5))
    predict = dspy.Predict("question -> answer", reasoning_effort="low")
    seen, prediction = told(predict, question="?")
    thoughts = of(seen, "thinking")
    assert "".join(event.text for event in thoughts) == THOUGHT
    assert [event.index for event in thoughts] == list(range(len(thoughts)))
    assert prediction.answer == "Paris"


@pytest.mark.since_3_4  # older DSPys fail at such a reply on some wire, also without us
def test_native_tool_calls_type_their_arguments(route):
    calls = [
        ToolCall("search", {"query": "Paris", "limit": 12}),
        ToolCall("search", {"query": "x"}),
    ]
    route.script(Reply("", tool_calls=calls, chunk=4))
    program = dspy.Predict(WithTools)
    tools = [dspy.Tool(search)]
    with streamll.stream(program)(question="?", tools=tools) as events:
        seen = [copy.deepcopy(partial.value) for partial in events.partials("calls")]
        prediction = events.result()
    assert seen[-1] == prediction.calls
    assert [call.args for call in prediction.calls.tool_calls] == [
        {"query": "Paris", "limit": 12},
        {"query": "x"},
    ]
    queries = [
        value["tool_calls"][0]["args"]["query"]
        for value in seen[:-1]
        if value.get("tool_calls") and value["tool_calls"][0].get("args")
        if "query" in value["tool_calls"][0]["args"]
    ]
    in_pieces = "generateContent" not in route.requests[0].path.replace("streamG", "g")
    assert not in_pieces or len(set(queries)) > 1
    assert queries[-1] == "Paris"
    limits = {
        value["tool_calls"][0]["args"]["limit"]
        for value in seen[:-1]
        if value.get("tool_calls") and "limit" in value["tool_calls"][0].get("args", {})
    }
    assert limits == {12}


@pytest.mark.since_3_4  # older DSPys fail at such a reply on some wire, also without us
def test_tool_call_events_show_arguments_only_when_asked(route):
    route.script(Reply("", tool_calls=[ToolCall("search", {"query": "Paris"})], chunk=4))
    with streamll.configure(include=["tools"]):
        seen, _ = told(dspy.Predict(WithTools), question="?", tools=[dspy.Tool(search)])
    reader = ArgumentsReader()
    for event in seen:
        reader.feed(event)
    assert [(call.name, call.arguments, call.state) for call in reader] == [
        ("search", {"query": "Paris"}, "complete")
    ]
    route.script(Reply("", tool_calls=[ToolCall("search", {"query": "Paris"})], chunk=4))
    seen, _ = told(dspy.Predict(WithTools), question="?", tools=[dspy.Tool(search)])
    deltas = [event for event in seen if isinstance(event, ToolCallDelta)]
    assert [event.name for event in deltas] == ["search"]
    assert {event.arguments for event in deltas} == {""}


def test_citations_are_events(route):
    atlas = Citation("Paris", "Atlas", "https://atlas.example/paris")
    route.script(Reply("[[ ## answer ## ]]\nParis is big.", citations=[atlas]))
    seen, _ = told(dspy.Predict("question -> answer"), question="?")
    assert [(event.title, event.url) for event in of(seen, "citation")] == [
        ("Atlas", "https://atlas.example/paris")
    ]


@pytest.mark.parametrize("route", ROUTES[:4], ids="-".join, indirect=True)
@pytest.mark.since_3_4  # older DSPys fail at such a reply on some wire, also without us
def test_a_refusal_is_an_event(route):
    """On Anthropic's wire it is ordinary text with a finish reason of its own."""
    route.script(Reply(refusal="I will not say.", chunk=4))
    with streamll.stream(dspy.Predict("question -> answer"))(question="?") as events:
        seen = []
        try:
            seen.extend(events)
        except Exception:
            seen.append(None)
    said = [event.text for event in seen if event is not None and event.event_type == "refusal"]
    assert "".join(said) == "I will not say."


@pytest.mark.skipif(not hasattr(dspy, "ReActV2"), reason="ReActV2 came with DSPy 3.3")
def test_react_v2_turns_and_tools(route):
    route.script(
        Reply("", tool_calls=[ToolCall("search", {"query": "Paris"})]),
        Reply("", tool_calls=[ToolCall("submit", {"answer": "Big"})]),
    )
    seen, prediction = told(dspy.ReActV2("question -> answer", tools=[search]), question="?")
    assert prediction.answer == "Big"
    assert [event.name for event in of(seen, "tool.start")][:1] == ["search"]
    ends = of(seen, "tool.end")
    assert ends
    assert all(event.duration >= 0 for event in ends)
    turns = {event.turn for event in seen if event.event_type == "field.start"}
    assert turns == {0, 1}


# --- programs that run code -----------------------------------------------------------------------


@pytest.fixture
def plain(practice):
    with dspy.context(lm=practice.lm(), adapter=dspy.ChatAdapter()):
        yield practice


@pytest.mark.since_3_4  # a LocalInterpreter; others need Deno
def test_program_of_thought_publishes_its_interpreter_steps(plain):
    plain.script(
        {"reasoning": "r", "generated_code": "1/0"},
        {"reasoning": "r", "generated_code": "SUBMIT({'answer': 42})"},
        {"reasoning": "ok", "answer": "42"},
    )
    program = dspy.ProgramOfThought("question -> answer", interpreter_factory=dspy.LocalInterpreter)
    with streamll.configure(include=["tools"]):
        seen, prediction = told(program, question="6 * 7")
    assert prediction.answer == "42"
    assert [event.arguments for event in of(seen, "tool.start", kind="interpreter")] == [
        {"code": "1/0"},
        {"code": "SUBMIT({'answer': 42})"},
    ]
    steps = [event for event in seen if event.event_type.startswith("tool.")]
    assert [(event.event_type, event.kind) for event in steps] == [
        ("tool.start", "interpreter"),
        ("tool.error", "interpreter"),
        ("tool.start", "interpreter"),
        ("tool.end", "interpreter"),
    ]


@pytest.mark.since_3_4
def test_code_is_published_only_when_asked_for(plain):
    plain.script(
        {"reasoning": "r", "generated_code": "SUBMIT({'answer': 42})"},
        {"reasoning": "ok", "answer": "42"},
    )
    program = dspy.ProgramOfThought("question -> answer", interpreter_factory=dspy.LocalInterpreter)
    seen, _ = told(program, question="6 * 7")
    assert [event.arguments for event in of(seen, "tool.start", kind="interpreter")] == [None]
    assert [event.result for event in of(seen, "tool.end", kind="interpreter")] == [None]


@pytest.mark.since_3_4
def test_rlm_publishes_turns_code_and_the_tools_the_code_calls(plain):
    plain.script(
        {"reasoning": "r", "code": "found = search(query='x')\nprint(found)"},
        {"reasoning": "r", "code": "SUBMIT(found)"},
    )
    program = dspy.RLM(
        "question -> answer", tools=[search], interpreter_factory=dspy.LocalInterpreter
    )
    with streamll.configure(include=["tools"]):
        seen, prediction = told(program, question="?")
    assert prediction.answer == "3 results for x"
    (tool,) = of(seen, "tool.start", kind="tool")
    assert tool.path[-2:] == ("LocalInterpreter", "search")
    assert [event.result for event in of(seen, "tool.end", kind="tool")] == ["3 results for x"]
    assert {event.turn for event in of(seen, "module.start", name="generate_action")} == {0, 1}


@pytest.mark.since_3_4
def test_code_act_publishes_its_interpreter_steps(plain):
    plain.script(
        {"generated_code": "print(search('x'))", "finished": True},
        {"reasoning": "r", "answer": "3 results"},
    )
    program = dspy.CodeAct(
        "question -> answer", tools=[search], interpreter_factory=dspy.LocalInterpreter
    )
    seen, prediction = told(program, question="?")
    assert prediction.answer == "3 results"
    assert of(seen, "tool.end", kind="interpreter")
    assert [event.value for event in of(seen, "field.partial", field="finished")] == [True, True]


def test_react_s_typed_fields_fill_in_every_turn(plain):
    plain.script(
        {"next_thought": "t", "next_tool_name": "search", "next_tool_args": {"query": "x"}},
        {"next_thought": "t", "next_tool_name": "finish", "next_tool_args": {}},
        {"reasoning": "r", "answer": "3 results"},
    )
    seen, _ = told(dspy.ReAct("question -> answer", tools=[search]), question="?")
    last = {}
    for event in of(seen, "field.partial", field="next_tool_args"):
        last[event.turn] = event.value
    assert last == {0: {"query": "x"}, 1: {}}
    assert [event.name for event in of(seen, "tool.end")] == ["search", "finish"]


# --- two calls --------------------------------------------------------------------------------------


def test_two_step_s_second_call_streams_its_fields(plain):
    """X3: both calls are visible; the one that extracts is the one whose fields stream."""
    plain.script("Paris and Rome, I say.", {"cities": ["Paris", "Rome"], "count": 2})
    lm = plain.lm()

    class Cities(dspy.Signature):
        """Find the cities."""

        question: str = dspy.InputField()
        cities: list[str] = dspy.OutputField()
        count: int = dspy.OutputField()

    with dspy.context(lm=lm, adapter=dspy.TwoStepAdapter(lm)):
        with streamll.stream(dspy.Predict(Cities))(question="?") as events:
            seen = []
            for event in events:
                seen.append(event)
            prediction = events.result()
    assert len(of(seen, "lm.start")) == len(of(seen, "lm.end")) == 2
    assert (prediction.cities, prediction.count) == (["Paris", "Rome"], 2)
    values = [event.value for event in of(seen, "field.partial", field="cities")]
    assert values[-1] == ["Paris", "Rome"]
    assert len(values) > 2
    first = of(seen, "field.start")[0]
    assert first.seq > of(seen, "lm.end")[0].seq
