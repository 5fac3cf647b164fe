"""The built-in practice model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .formats import Message, Prompt
from .wires import Tool


def practise(
    prompt: Prompt, messages: Sequence[Message], tools: Sequence[Tool]
) -> Mapping[str, Any]:
    """The options of the reply that the practice model gives."""
    if not prompt.fields:
        return {"text": "I am a practice model."}
    return {"text": {field.name: value(field.type) for field in prompt.fields}}


def value(kind: str) -> Any:
    if kind == "int":
        return 3
    if kind == "bool":
        return True
    if kind.startswith("list"):
        return ["one", "two"]
    return "This is what a practice model says."
