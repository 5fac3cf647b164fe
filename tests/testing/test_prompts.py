"""What the practice server reads from prompts, checked against the prompts DSPy really makes."""

from __future__ import annotations

import doctest
import sys
from typing import Any, Literal

import dspy
import pytest
from dspy.adapters.baml_adapter import BAMLAdapter
from dspy.adapters.xml_adapter import XMLAdapter
from pydantic import BaseModel

from streamll.testing.prompts import PromptField, PromptMessage, as_text, read_prompt, render

ADAPTERS = {
    "chat": dspy.ChatAdapter,
    "json": dspy.JSONAdapter,
    "xml": XMLAdapter,
    "baml": BAMLAdapter,
}


class Person(BaseModel):
    name: str
    age: int


class Everything(dspy.Signature):
    """Say everything.

    In two paragraphs.
    """

    question: str = dspy.InputField()
    context: list[str] = dspy.InputField(desc="what (1) is known: `facts`")
    text: str = dspy.OutputField(desc="a text (str): short")
    number: int = dspy.OutputField()
    kind: Literal["a) b", "c"] = dspy.OutputField()
    tags: list[str] = dspy.OutputField()
    person: Person = dspy.OutputField()


def messages_of(adapter, signature=Everything, demos=(), **inputs) -> list[PromptMessage]:
    inputs = inputs or {"question": "What\nis `it`?", "context": ["a", "b"]}
    return [
        PromptMessage(each["role"], each["content"])
        for each in adapter.format(signature, list(demos), inputs)
    ]


@pytest.mark.parametrize(
    ("adapter", "asked"), [("chat", "chat"), ("json", "json"), ("xml", "xml"), ("baml", "json")]
)
def test_format_fields_and_inputs_are_read_from_the_prompt(adapter, asked):
    prompt = read_prompt(messages_of(ADAPTERS[adapter]()))
    assert prompt.format == asked
    assert [(field.name, field.type) for field in prompt.fields] == [
        ("text", "str"),
        ("number", "int"),
        ("kind", "Literal['a) b', 'c']"),
        ("tags", "list[str]"),
        ("person", "Person"),
    ]
    assert prompt.inputs == {"question": "What\nis `it`?", "context": '["a", "b"]'}
    assert "Say everything." in prompt.objective
    assert "In two paragraphs." in prompt.objective


@pytest.mark.parametrize("adapter", ["chat", "json", "xml"])
def test_demonstrations_and_history_before_the_question_are_skipped(adapter):
    class Turn(dspy.Signature):
        history: dspy.History = dspy.InputField()
        question: str = dspy.InputField()
        answer: str = dspy.OutputField()

    past = dspy.History(messages=[{"question": "First?", "answer": "One."}])
    demo = dspy.Example(question="Demo?", answer="Shown.")
    messages = messages_of(ADAPTERS[adapter](), Turn, [demo], history=past, question="Second?")
    prompt = read_prompt(messages)
    assert prompt.format == adapter
    assert [field.name for field in prompt.fields] == ["answer"]
    assert prompt.inputs["question"] == "Second?"


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_the_adapter_parses_rendered_fields_back(adapter):
    values: dict[str, Any] = {
        "text": 'Lines,\n"quotes", <tags> & [[0]]',
        "number": 3,
        "kind": "a) b",
        "tags": ["x & y", "é"],
        "person": Person(name="Ada", age=36),
    }
    made = ADAPTERS[adapter]()
    prompt = read_prompt(messages_of(made))
    assert made.parse(Everything, render(values, prompt.format, prompt.fields)) == values


def test_a_prompt_without_an_adapter_is_a_plain_question():
    prompt = read_prompt([PromptMessage("system", "Be brief."), PromptMessage("user", " Why? ")])
    assert (prompt.format, prompt.fields, prompt.inputs) == ("text", (), {"question": "Why?"})
    assert read_prompt([]).inputs == {}


def test_a_two_step_prompt_is_a_plain_question():
    adapter = dspy.TwoStepAdapter(dspy.LM("openai/practice"))
    prompt = read_prompt(
        messages_of(adapter, dspy.Signature("question -> answer"), question="Why?")
    )
    assert prompt.format == "text"
    assert prompt.fields == ()


def test_an_xml_field_that_is_asked_for_as_json_is_written_as_json():
    """So asks the XML adapter before DSPy 3.3, which has no nested elements."""
    note = 'the value you produce must adhere to the JSON schema: {"type": "array"}'
    asked = [PromptField("tags", "list[str]", note), PromptField("more", "list[str]")]
    written = render({"tags": ["a", "b"], "more": ["c"]}, "xml", asked)
    assert written == '<tags>\n["a", "b"]\n</tags>\n\n<more>\n<item>c</item>\n</more>'


def test_values_are_rendered_as_models_write_them():
    assert [as_text(value) for value in (True, None, 3)] == ["True", "None", "3"]
    assert as_text(["é", 1]) == '["é", 1]'
    assert render({"a": "one", "b": 2}, "text") == "one\n\n2"
    with pytest.raises(TypeError, match="cannot write a object"):
        as_text(object())


def test_docstring_examples_of_prompts_and_replies_hold():
    assert doctest.testmod(sys.modules["streamll.testing.prompts"]).failed == 0
    assert doctest.testmod(sys.modules["streamll.testing.replies"]).failed == 0
