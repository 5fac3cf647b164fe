"""The practice model under real DSPy programs: whatever is asked for, it answers in shape."""

from __future__ import annotations

import datetime as dt
import enum
import logging
import re
from typing import Any, Literal

import dspy
import pytest
from dspy.adapters.baml_adapter import BAMLAdapter
from dspy.adapters.xml_adapter import XMLAdapter
from pydantic import BaseModel, Field

from streamll.testing.model.field_types import schema_of, type_expression
from streamll.testing.prompts import PromptField

ADAPTERS = {
    "chat": lambda: dspy.ChatAdapter(use_json_adapter_fallback=False),
    "json": dspy.JSONAdapter,
    "xml": lambda: XMLAdapter(use_json_adapter_fallback=False),
    "baml": BAMLAdapter,
}
QUESTION = "Why do lighthouses near Brest blink at night?"


@pytest.fixture(params=ADAPTERS)
def adapter(request):
    with dspy.context(adapter=ADAPTERS[request.param]()):
        yield request.param


@pytest.fixture
def lm(practice):
    """No request may have to be asked twice."""
    with dspy.context(lm=practice.lm(num_retries=0)):
        yield


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Address(BaseModel):
    """Where someone lives."""

    street: str = Field(description="the street, with number")
    city: str


class Person(BaseModel):
    name: str
    age: int
    address: Address
    tags: list[str]
    nickname: str | None = None


class Node(BaseModel):
    label: str = Field(min_length=30)
    children: list[Node]


class Bounded(BaseModel):
    grade: int = Field(ge=1, le=5)
    share: float = Field(ge=0, le=1)
    pair: tuple[int, str]
    three: list[int] = Field(min_length=3, max_length=3)
    day: dt.date
    kind: Literal["only"]
    parent: Node | None


def test_a_chain_of_thought_gets_sentences_and_an_answer_about_the_question(practice, lm, adapter):
    said = dspy.ChainOfThought("question -> answer")(question=QUESTION)
    assert len(re.findall(r"[.?] ", said.reasoning)) >= 4
    assert "practice model" in said.answer
    assert "lighthouses" in said.answer
    assert "Brest" in said.answer
    assert len(practice.requests) == 1


def test_every_type_that_a_prompt_describes_is_answered_with_a_value_of_it(practice, lm, adapter):
    class Everything(dspy.Signature):
        question: str = dspy.InputField()
        title: str = dspy.OutputField()
        count: int = dspy.OutputField()
        share: float = dspy.OutputField()
        sure: bool = dspy.OutputField()
        kind: Literal["long (er)", "short; or not"] = dspy.OutputField()
        digit: Literal[1, 2] = dspy.OutputField()
        maybe: int | None = dspy.OutputField()
        tags: list[str] = dspy.OutputField()
        kinds: list[Literal["x", "y"]] = dspy.OutputField()
        person: Person = dspy.OutputField()
        anything: Any = dspy.OutputField()

    said = dspy.Predict(Everything)(question=QUESTION)
    assert "lighthouses" in said.title
    assert type(said.count) is int
    assert type(said.share) is float
    assert type(said.sure) is bool
    assert said.kind in {"long (er)", "short; or not"}
    assert said.digit in {1, 2}
    assert type(said.maybe) is int
    assert said.tags
    assert set(said.kinds) <= {"x", "y"}
    assert isinstance(said.person, Person)
    assert len(practice.requests) == 1


@pytest.mark.parametrize("adapter", ["chat", "json"])
def test_values_satisfy_the_json_schema_of_the_prompt(practice, lm, adapter):
    class Everything(dspy.Signature):
        question: str = dspy.InputField()
        bounded: Bounded = dspy.OutputField()
        color: Color = dspy.OutputField()
        when: dt.datetime = dspy.OutputField()
        table: dict[str, int] = dspy.OutputField()
        nested: list[list[int]] = dspy.OutputField()

    with dspy.context(adapter=ADAPTERS[adapter]()):
        said = dspy.Predict(Everything)(question=QUESTION)
    assert 1 <= said.bounded.grade <= 5
    assert isinstance(said.color, Color)
    assert said.table
    assert said.nested[0]


@pytest.mark.parametrize("wire", ["openai", "responses", "gemini"])
def test_a_structured_output_schema_supplies_what_baml_leaves_out(practice, wire):
    class Colored(dspy.Signature):
        question: str = dspy.InputField()
        color: Color = dspy.OutputField()

    lm = practice.lm(wire, model="gemini-2.5-flash" if wire == "gemini" else "gpt-4o-mini")
    with dspy.context(lm=lm, adapter=BAMLAdapter()):
        assert isinstance(dspy.Predict(Colored)(question=QUESTION).color, Color)
    assert practice.requests[0].schema["properties"]


def test_the_same_request_gets_the_same_answer(practice, lm):
    predict = dspy.Predict("question -> answer, number: int")
    assert predict(question=QUESTION).toDict() == predict(question=QUESTION).toDict()
    assert predict(question="Something else?").toDict() != predict(question=QUESTION).toDict()


def test_a_plain_question_gets_a_plain_answer(practice):
    [text] = practice.lm()("What is a lighthouse?")
    assert text.startswith("This is the practice model speaking, and you asked about lighthouse.")


def test_a_question_without_words_is_answered(practice, lm):
    assert "asked about this" in dspy.Predict("question -> answer")(question="?").answer


def test_candidates_of_n_differ(ask):
    outputs = ask(n=2).json["choices"]
    assert len({choice["message"]["content"] for choice in outputs}) == 2


def test_the_reply_has_thinking_only_if_the_request_enables_it(practice, ask):
    on = {
        "openai": {"reasoning_effort": "low"},
        "responses": {"reasoning": {"summary": "auto"}},
        "anthropic": {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        "gemini": {"generationConfig": {"thinkingConfig": {"includeThoughts": True}}},
    }
    key = {
        "openai": "reasoning_content",
        "responses": "summary_text",
        "anthropic": "thinking",
        "gemini": "thought",
    }
    for wire, options in on.items():
        assert f'"{key[wire]}"' in ask(wire, **options).body.decode()
        assert f'"{key[wire]}"' not in ask(wire).body.decode()


# --- tools --------------------------------------------------------------------------------------


def search_archive(query: str, limit: int = 3) -> str:
    """Search the archive for a topic."""
    return f"archive: {query}"


def weather(city: str) -> str:
    """Get the weather of a city."""
    return f"It is sunny in {city}"


def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


def calculate(expression: str) -> str:
    """Calculate a formula."""
    return f"calculated {expression}"


def trajectory(question: str, *tools, **options) -> tuple[dict, str]:
    said = dspy.ReAct("question -> answer", tools=list(tools), **options)(question=question)
    return said.trajectory, said.answer


def test_a_react_agent_uses_the_best_matching_tool_then_another_then_finishes(
    practice, lm, adapter
):
    steps, answer = trajectory("What is the weather in Paris?", search_archive, weather, multiply)
    assert (steps["tool_name_0"], steps["tool_args_0"]) == ("weather", {"city": "Paris"})
    assert steps["observation_0"] == "It is sunny in Paris"
    assert steps["tool_name_1"] == "search_archive"
    assert steps["tool_name_2"] == "finish"
    assert "It is sunny in Paris" in answer
    assert len(practice.requests) == 4


def test_tool_arguments_are_taken_from_the_question(practice, lm):
    steps, answer = trajectory("Multiply 12 by 7, please", search_archive, multiply)
    assert (steps["tool_args_0"], steps["observation_0"]) == ({"a": 12, "b": 7}, 84)
    assert "84" in answer
    steps, _ = trajectory("Calculate 3 * (4 + 5) now", calculate)
    assert steps["tool_args_0"] == {"expression": "3 * (4 + 5)"}


def test_an_agent_without_tools_finishes(practice, lm):
    steps, _ = trajectory("Anything?")
    assert steps["tool_name_0"] == "finish"


def test_an_agent_with_a_tool_that_fails_finishes(practice, lm):
    def broken(topic: str) -> str:
        raise ValueError("out of order")

    with_warnings = logging.getLogger("dspy.predict.react")
    with_warnings.disabled = True
    steps, _ = trajectory(QUESTION, broken)
    with_warnings.disabled = False
    assert "out of order" in steps["observation_0"]
    assert steps["tool_name_1"] == "finish"


@pytest.mark.parametrize(
    ("wire", "model"),
    [
        ("openai", "gpt-4o-mini"),
        ("responses", "gpt-4o-mini"),
        ("anthropic", "claude-sonnet-4-5"),
        ("gemini", "gemini-2.5-flash"),
        ("openai", "one-without-native-tools"),
    ],
)
def test_tools_in_a_signature_are_called_natively_or_in_text(practice, wire, model):
    class Agent(dspy.Signature):
        question: str = dspy.InputField()
        tools: list[dspy.Tool] = dspy.InputField()
        answer: str = dspy.OutputField()
        calls: dspy.ToolCalls = dspy.OutputField()

    adapter = dspy.ChatAdapter(use_native_function_calling=True)
    with dspy.context(lm=practice.lm(wire, model), adapter=adapter):
        tools = [dspy.Tool(search_archive), dspy.Tool(weather)]
        said = dspy.Predict(Agent)(question="What is the weather in Oslo?", tools=tools)
    [call] = said.calls.tool_calls
    assert (call.name, call.args) == ("weather", {"city": "Oslo"})
    assert ("tools" in practice.requests[0].body) == (model != "one-without-native-tools")


def test_the_practice_model_answers_after_a_tool_result(ask, practice):
    tool = {"type": "function", "function": {"name": "clock", "parameters": {}}}
    result = {"role": "tool", "tool_call_id": "c", "content": "It is noon"}
    asked = {"role": "user", "content": "What time is it?"}
    first = ask(tools=[tool]).json["choices"][0]
    assert (first["finish_reason"], first["message"]["content"]) == ("tool_calls", None)
    second = ask(tools=[tool], messages=[asked, first["message"], result]).json["choices"][0]
    assert "It is noon" in second["message"]["content"]
    assert ask(tools=[tool], tool_choice="none").json["choices"][0]["finish_reason"] == "stop"


# --- notations ----------------------------------------------------------------------------------


def test_unreadable_type_notations_are_unknown_types_not_errors():
    assert type_expression("list[") == {"type": "unknown"}
    assert type_expression("Person") == {"type": "unknown"}
    assert type_expression("lambda: 0") == {"type": "unknown"}
    broken = "must adhere to the JSON schema: {nonsense"
    assert schema_of(PromptField("x", "Person", broken)) == {}
    assert schema_of(PromptField("x", "Person", "should be of type: {")) == {"type": "unknown"}


TUPLE = {
    "type": "array",
    "prefixItems": [{"type": "integer"}, {"type": "string"}],
    "minItems": 2,
    "maxItems": 2,
}


@pytest.mark.parametrize(
    ("text", "schema"),
    [
        ("str", {"type": "string"}),
        ("None", {"type": "null"}),
        ("int | str", {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
        ("typing.Literal['a', 2]", {"enum": ["a", 2]}),
        ("tuple[int, str]", TUPLE),
        ("dict[str, int]", {"type": "object", "additionalProperties": {"type": "integer"}}),
        ("set[int]", {"type": "array", "items": {"type": "integer"}}),
    ],
)
def test_python_types_become_schemas(text, schema):
    assert type_expression(text) == schema


def test_bamls_notation_becomes_a_schema():
    written = """should be of type: [
  {
    # who, "in full"
    name: string,
    kind: "home" or "work",
    scores: dict[string, float],
    born: date or null,
    grid: int[][],
  }
]"""
    schema = schema_of(PromptField("people", "list[Person]", written))
    assert schema["type"] == "array"
    assert schema["items"]["properties"] == {
        "name": {"type": "string"},
        "kind": {"enum": ["home", "work"]},
        "scores": {"type": "object", "additionalProperties": {"type": "number"}},
        "born": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
        "grid": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
    }
