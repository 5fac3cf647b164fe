"""How the practice model picks a tool and its arguments: by the words they share with the question."""

from __future__ import annotations

import ast
import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from streamll.testing.model.samples import Sampler
from streamll.testing.prompts import PromptMessage, PromptTool

TOOL_TEXT = re.compile(
    r"([^,\n]+?)(?:, whose description is <desc>(.*?)</desc>)?\. It takes arguments (\{.*\})\.",
    re.DOTALL,
)
USED = re.compile(r"(?:\[\[ ## tool_name_\d+ ## \]\]|<tool_name_\d+>)\s*(\w+)")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
FORMULA = re.compile(r"[\d(][\d\s.()]*(?:[-+*/^%]+[\d\s.()]+)+")


def offered(objective: str) -> list[PromptTool]:
    """The tools that a ReAct prompt lists in its objective."""
    return described(re.split(r"^\s*\(\d+\) ", objective, flags=re.MULTILINE)[1:])


def given(inputs: Mapping[str, str]) -> list[PromptTool]:
    """The tools of an input field of type ``list[dspy.Tool]``."""
    for text in inputs.values():
        if "It takes arguments" in text:
            with contextlib.suppress(ValueError):  # the text only mentions tools
                return described(json.loads(text))
    return []


def described(texts: Sequence[str]) -> list[PromptTool]:
    """Tools as ``str(dspy.Tool)`` describes them."""
    matches = filter(None, (TOOL_TEXT.match(str(text)) for text in texts))
    return [
        PromptTool(name, description or "", {"properties": arguments_of(arguments)})
        for name, description, arguments in (match.groups() for match in matches)
    ]


def arguments_of(text: str) -> dict[str, Any]:
    """A Python ``dict`` of schemas, as ReAct prints it."""
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def used_tools(messages: Sequence[PromptMessage]) -> list[str]:
    """The tools that the trajectory has used so far."""
    return USED.findall(messages[-1].text) if messages else []


def choose(
    tools: Sequence[PromptTool], question: str, words: Sequence[str]
) -> tuple[PromptTool, dict[str, Any]]:
    """The tool that shares most words with the question, else the first, and its arguments."""
    asked = {stem(word) for word in words}

    def shared(tool: PromptTool) -> int:
        described = re.findall(r"[^\W_]+", f"{tool.name.replace('_', ' ')} {tool.description}")
        return len(asked & {stem(word) for word in described})

    best = max(tools, key=shared)
    return best, arguments_for(best.parameters, question, words)


def stem(word: str) -> str:
    return word.lower()[:5]


def arguments_for(
    parameters: Mapping[str, Any], question: str, words: Sequence[str]
) -> dict[str, Any]:
    """Arguments with numbers and names from the question where a parameter takes them."""
    numbers = [float(found) for found in NUMBER.findall(question)]
    sampler = Sampler(list(words), definitions=dict(parameters.get("$defs", {})))
    required = parameters.get("required")
    arguments: dict[str, Any] = {}
    for name, schema in parameters.get("properties", {}).items():
        if "default" in schema or (required is not None and name not in required):
            continue
        kind = schema.get("type")
        if kind in {"integer", "number"} and numbers:
            number = numbers.pop(0)
            arguments[name] = int(number) if kind == "integer" else number
        elif kind == "string" and not {"enum", "format"} & schema.keys():
            arguments[name] = text_for(name, question, words)
        else:
            arguments[name] = sampler.sample(schema, name)
    return arguments


def text_for(name: str, question: str, words: Sequence[str]) -> str:
    formula = FORMULA.search(question)
    if formula and re.search(r"expr|formula|calc|equation", name):
        return formula[0].strip()
    proper = [word for word in words if word[:1].isupper()]
    if proper and re.search(r"city|place|location|name|country|person|title", name):
        return proper[-1]
    return " ".join(words[:5]) or question
