"""A message: an identity, a role, a time and a content. Never changed once it is made."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from enum import Enum
from typing import Any

import msgspec

from streamll.session.messages.contents import (
    AssistantResponseContent,
    Content,
    InstructionContent,
    SystemContent,
    ToolRequestContent,
    ToolResponseContent,
)


class Role(str, Enum):
    """Who speaks, in the providers' words."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


ROLES: Mapping[type, Role] = {
    SystemContent: Role.SYSTEM,
    InstructionContent: Role.USER,
    AssistantResponseContent: Role.ASSISTANT,
    ToolRequestContent: Role.ASSISTANT,
    ToolResponseContent: Role.TOOL,
}


def new_id() -> str:
    return uuid.uuid4().hex


class Message(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One message. Two messages are the same if their ``id`` is, whatever branch they are in."""

    content: Content
    id: str = msgspec.field(default_factory=new_id)
    created_at: float = msgspec.field(default_factory=time.time)
    metadata: Mapping[str, Any] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if type(self.content) not in ROLES:
            names = ", ".join(kind.__name__ for kind in ROLES)
            raise TypeError(f"a message holds one of {names}, not {type(self.content).__name__}")

    @property
    def role(self) -> Role:
        return ROLES[type(self.content)]

    @property
    def text(self) -> str:
        return self.content.text

    def to_chat(self) -> dict[str, Any]:
        """As chat completions have it."""
        content = self.content
        if isinstance(content, ToolRequestContent):
            return {"role": "assistant", "content": None, "tool_calls": [tool_call(content)]}
        if isinstance(content, ToolResponseContent):
            return {"role": "tool", "tool_call_id": content.request_id, "content": content.text}
        return {"role": self.role.value, "content": content.text}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)


def tool_call(content: ToolRequestContent) -> dict[str, Any]:
    arguments = msgspec.json.encode(dict(content.arguments)).decode()
    return {
        "id": content.request_id,
        "type": "function",
        "function": {"name": content.function, "arguments": arguments},
    }
