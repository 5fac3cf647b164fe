"""Real runs with one secret in every place where text can be, for the tests of guards.

The secret's characters are in no other text, and JSON and XML write some of them as escapes: a run
from which it is kept has none of its letters, in whatever form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import dspy
import pydantic
import pytest
from dspy_lines import HAS_ENGINES

import streamll
from streamll.core import wire
from streamll.core.events import FieldPartial, TokenEvent
from streamll.core.ordering import OrderCheck
from streamll.core.partials import Partials
from streamll.core.run_view import RunView
from streamll.guards import Pattern
from streamll.sinks import MemorySink
from streamll.testing import Citation, Fault, Reply, ToolCall

SECRET = 'Ω"Ψ&Ξ'
NUMBER = 918273645546
LETTERS = re.compile(r"[ΩΨΞ]|\\u03(?:a9|a8|9e)|918273645546", re.IGNORECASE)
MASK = "[~]"
GUARDS = (
    Pattern(name="secret", regex=re.escape(SECRET), mask=MASK),
    Pattern(name="number", regex=str(NUMBER), mask=MASK),
)
INERT = (Pattern(name="inert", regex="☃ 7{3}"),)
WITH = f"It is {SECRET}, I say."


class Item(pydantic.BaseModel):
    name: str
    tags: list[str] = []
    number: int | None = None


def lookup(city: str) -> str:
    """The weather of a city."""
    return f"Rain in {city}, says {SECRET}."


class Raising(dspy.Module):
    def __init__(self):
        super().__init__()
        self.generate = dspy.Predict("question -> answer")

    def forward(self, question):
        self.generate(question=question)
        raise ValueError(f"not with {SECRET}")


class Talking(dspy.Module):
    """Says the secret in every way in which a program can say something."""

    def __init__(self):
        super().__init__()
        self.generate = dspy.Predict("question -> answer")

    def forward(self, question):
        streamll.set_context(customer=SECRET, nested={"a": [SECRET, NUMBER]})
        streamll.status(WITH)
        with streamll.trace(f"look up {SECRET}"):
            streamll.emit("own", who=SECRET, by={SECRET: [NUMBER]})
        try:
            return self.generate(question=question)
        finally:
            streamll.clear_context()


def typed(annotation: Any) -> dspy.Predict:
    signature = dspy.Signature("question -> value: str, end: str")
    return dspy.Predict(signature.with_updated_fields("value", type_=annotation))


def react() -> dspy.ReAct:
    return dspy.ReAct("question -> answer", tools=[lookup], max_iters=2)


def native_calls() -> dspy.Predict:
    signature = dspy.Signature("question, tools: list[dspy.Tool] -> calls: dspy.ToolCalls")
    return dspy.Predict(signature)


ITEMS = [
    {"name": WITH, "tags": ["a", SECRET, "b"], "number": NUMBER},
    {"name": "plain", "tags": [], "number": 7},
]
CHAT = f"[[ ## reasoning ## ]]\n{WITH}\n\n[[ ## answer ## ]]\n{SECRET}\n\n[[ ## completed ## ]]\n"
ANSWER = f"[[ ## answer ## ]]\n{WITH}\n\n[[ ## completed ## ]]\n"
JSON = json.dumps({"value": ITEMS, "end": WITH})
CALLS = [ToolCall("lookup", {"city": WITH}), ToolCall("lookup", json.dumps({"city": SECRET}))]


def chat_of(value: str) -> str:
    return f"[[ ## value ## ]]\n{value}\n\n[[ ## end ## ]]\n{WITH}\n\n[[ ## completed ## ]]\n"


@dataclass
class Case:
    """A program with the replies of its model. ``escaped``: what these hold is written in escapes."""

    name: str
    program: Callable[[], Any]
    replies: Sequence[Any]
    adapter: Callable[[], dspy.Adapter] = dspy.ChatAdapter
    inputs: dict[str, Any] = field(default_factory=lambda: {"question": WITH})
    options: dict[str, Any] = field(default_factory=dict)
    wires: Sequence[str] = ("openai",)
    engine: str = "lm15" if HAS_ENGINES else "litellm"
    fails: bool = False
    escaped: bool = False


CASES = [
    Case("a chain of thought", lambda: dspy.ChainOfThought("question -> answer"), [CHAT]),
    Case(
        "through LiteLLM",
        lambda: dspy.ChainOfThought("question -> answer"),
        [CHAT],
        engine="litellm",
    ),
    Case("JSON", lambda: typed(list[Item]), [JSON], dspy.JSONAdapter, escaped=True),
    Case(
        "JSON that is repaired",
        lambda: typed(list[Item]),
        [JSON[:-1]],
        dspy.JSONAdapter,
        escaped=True,
    ),
    Case(
        "a dictionary",
        lambda: typed(dict[str, Any]),
        [chat_of(json.dumps({SECRET: ITEMS}))],
        escaped=True,
    ),
    Case(
        "a dictionary, not escaped",
        lambda: typed(dict[str, Any]),
        [chat_of(json.dumps({"a": {SECRET: NUMBER}}, ensure_ascii=False))],
    ),
    Case("a number", lambda: typed(int), [chat_of(str(NUMBER))]),
    Case("a text or nothing", lambda: typed(str | None), [chat_of(WITH)]),
    Case("a choice", lambda: typed(Literal[SECRET, "no"]), [chat_of(SECRET)]),
    Case(
        "XML",
        lambda: typed(list[Item]),
        [{"value": ITEMS, "end": "the end"}],
        dspy.XMLAdapter,
        escaped=True,
    ),
    Case(
        "an agent",
        react,
        [
            {
                "next_thought": WITH,
                "next_tool_name": "lookup",
                "next_tool_args": {"city": SECRET},
            },
            {"next_thought": "Done.", "next_tool_name": "finish", "next_tool_args": {}},
            {"reasoning": WITH, "answer": SECRET},
        ],
        escaped=True,
    ),
    Case(
        "thinking",
        lambda: dspy.Predict("question -> answer"),
        [Reply(ANSWER, thinking=f"Hm, {WITH} {SECRET}")],
        wires=("openai", "anthropic"),
    ),
    Case(
        "thinking as a field",
        lambda: dspy.Predict(
            dspy.Signature("question -> reasoning, answer").with_updated_fields(
                "reasoning", type_=dspy.Reasoning
            )
        ),
        [Reply(ANSWER, thinking=WITH)],
        lambda: dspy.ChatAdapter(native_response_types=[dspy.Reasoning]),
        options={
            "model": "claude-sonnet-4-5-20250929",
            "temperature": 1.0,
            "max_tokens": 20_000,
        },
        wires=("anthropic",),
    ),
    Case(
        "a refusal", lambda: dspy.Predict("question -> answer"), [Reply(refusal=WITH)], fails=True
    ),
    Case(
        "citations",
        lambda: dspy.Predict("question -> answer"),
        [Reply(ANSWER, citations=[Citation(WITH, SECRET, f"https://x.example/{SECRET}")])],
    ),
    Case(
        "native tool calls",
        native_calls,
        [Reply("", tool_calls=CALLS)],
        lambda: dspy.ChatAdapter(use_native_function_calling=True),
        {"question": WITH, "tools": [dspy.Tool(lookup)]},
        escaped=True,
    ),
    Case(
        "cut in the secret, then whole",
        lambda: dspy.Predict("question -> answer"),
        [Reply(ANSWER, fault=Fault(disconnect_after=30), chunk=1), ANSWER],
        options={"num_retries": 2},
    ),
    Case(
        "cut for good",
        lambda: dspy.Predict("question -> answer"),
        [Reply(ANSWER, fault=Fault(disconnect_after=30), chunk=1)],
        options={"num_retries": 0},
        fails=True,
    ),
    Case(
        "asked again as JSON",
        lambda: dspy.Predict("question -> answer"),
        [f"[[ ## other ## ]]\n{SECRET}", json.dumps({"answer": WITH})],
    ),
    Case(
        "two completions",
        lambda: dspy.Predict("question -> answer", n=2, temperature=1.0),
        [Reply(ANSWER, candidates=[ANSWER]), ANSWER],
    ),
    Case("an error", Raising, [ANSWER], fails=True),
    Case("a talking program", Talking, [ANSWER]),
    Case(
        "a bare call",
        lambda: dspy.settings.lm,
        [Reply(WITH, thinking=SECRET, tool_calls=CALLS)],
        inputs={"prompt": WITH},
        escaped=True,
    ),
]
if not HAS_ENGINES:
    CASES = [case for case in CASES if case.wires == ("openai",)]


CASES_AND_WIRES = {f"{case.name}, {wire}": (case, wire) for case in CASES for wire in case.wires}
EACH = pytest.mark.parametrize(
    ("case", "wire"),
    [pytest.param(*each, id=name) for name, each in CASES_AND_WIRES.items()],
)


def run(
    case: Case, practice: Any, chunk: Any = 1, guards: Sequence[Any] = GUARDS, wire: str = ""
) -> list[Any]:
    """The events of one run of the case, its replies in chunks of this size."""
    replies = [each if isinstance(each, Reply) else Reply(each) for each in case.replies]
    answers = iter([each if each.chunk else replace(each, chunk=chunk) for each in replies])
    practice.respond(lambda _: next(answers))
    options = {"engine": case.engine, "num_retries": 0, **case.options}
    dspy.configure(lm=practice.lm(wire or case.wires[0], **options), adapter=case.adapter())
    sink = MemorySink()
    with streamll.configure(include=["inputs", "outputs", "prompts", "tools", "errors"]):
        streamed = streamll.stream(case.program(), sinks=[sink], guards=guards)
        read = []
        try:
            with streamed(**case.inputs) as events:
                read += events
        except Exception:
            assert case.fails, case.name
        else:
            assert not case.fails
    assert read == sink.events
    return sink.events


def shown(events: Sequence[Any]) -> str:
    """All that readers can make of the events, as one text: each alone, and their pieces joined."""
    view, partials = RunView(keep_values=True), Partials()
    parts = []
    loose: dict[Any, list[str]] = {}
    for event in events:
        encoded = wire.encode(event).decode()
        parts += [encoded, json.dumps(json.loads(encoded), ensure_ascii=False), repr(event)]
        view.feed(event)
        if isinstance(event, FieldPartial):
            parts.append(repr(partials.whole(event)))
        elif isinstance(event, TokenEvent):
            loose.setdefault((event.call_id, event.attempt, event.field), []).append(event.token)
        elif event.event_type in ("thinking", "refusal", "tool_call.delta"):
            text = event.arguments if event.event_type == "tool_call.delta" else event.text
            loose.setdefault((event.call_id, event.event_type), []).append(text)
    joined = ["".join(pieces) for pieces in loose.values()]
    return "\n".join([*parts, *joined, *view.named_texts().values()])


def assert_hidden(events: Sequence[Any]) -> None:
    """No reader of the events sees any of the secret's letters."""
    text = shown(events)
    found = LETTERS.search(text)
    assert found is None, text[found.start() - 200 : found.end() + 200]


def masked(value: Any) -> Any:
    """The value as it has to be shown."""
    if isinstance(value, str):
        return value.replace(SECRET, MASK)
    if isinstance(value, dict):
        return {masked(key): masked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [masked(item) for item in value]
    return MASK if value == NUMBER else value


def checked(events: Sequence[Any]) -> Sequence[Any]:
    OrderCheck().check_all(events)
    return events
