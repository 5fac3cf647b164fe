"""Messages and what they hold."""

from __future__ import annotations

from streamll.session.messages.chat import prepare_messages_for_chat
from streamll.session.messages.contents import (
    AssistantResponseContent,
    Content,
    InstructionContent,
    SystemContent,
    ToolRequestContent,
    ToolResponseContent,
)
from streamll.session.messages.message import Message, Role

__all__ = [
    "AssistantResponseContent",
    "Content",
    "InstructionContent",
    "Message",
    "Role",
    "SystemContent",
    "ToolRequestContent",
    "ToolResponseContent",
    "prepare_messages_for_chat",
]
