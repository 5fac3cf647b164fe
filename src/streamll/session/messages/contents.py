"""What a message can hold. One class per kind; plain data, ready for JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

Ending = Literal["complete", "cancelled", "failed"]


class SystemContent(msgspec.Struct, frozen=True, tag="system", tag_field="kind"):
    """How the model is to behave."""

    system_message: str

    @property
    def text(self) -> str:
        return self.system_message


class InstructionContent(msgspec.Struct, frozen=True, tag="instruction", tag_field="kind"):
    """What the user says; ``context`` is shown to the model in front of it."""

    instruction: str
    context: Mapping[str, Any] | None = None

    @property
    def text(self) -> str:
        if not self.context:
            return self.instruction
        shown = "\n".join(
            f"{name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
            for name, value in self.context.items()
        )
        return f"{shown}\n\n{self.instruction}"


class AssistantResponseContent(
    msgspec.Struct, frozen=True, tag="assistant_response", tag_field="kind"
):
    """What the model says. ``ending`` tells a partial reply: it was stopped, or it broke off.

    ``error`` is the type of what broke it off.
    """

    assistant_response: str
    ending: Ending = "complete"
    error: str | None = None
    model: str | None = None

    @property
    def partial(self) -> bool:
        return self.ending != "complete"

    @property
    def text(self) -> str:
        return self.assistant_response


class ToolRequestContent(msgspec.Struct, frozen=True, tag="tool_request", tag_field="kind"):
    """The model wants a tool called. ``request_id`` is the provider's, the response names it."""

    function: str
    request_id: str
    arguments: Mapping[str, Any] = msgspec.field(default_factory=dict)

    @property
    def text(self) -> str:
        return f"{self.function}({json.dumps(dict(self.arguments), ensure_ascii=False)})"


class ToolResponseContent(msgspec.Struct, frozen=True, tag="tool_response", tag_field="kind"):
    """What a tool returned, or why it failed."""

    request_id: str
    result: Any = None
    error: str | None = None

    @property
    def text(self) -> str:
        if self.error is not None:
            return f"Error: {self.error}"
        if isinstance(self.result, str):
            return self.result
        return json.dumps(self.result, ensure_ascii=False)


Content = (
    SystemContent
    | InstructionContent
    | AssistantResponseContent
    | ToolRequestContent
    | ToolResponseContent
)
