"""Messages and what they hold: the names of ``streamll.chat.messages`` at the notebook's path."""

from streamll.chat.messages import (
    AssistantResponseContent,
    Content,
    InstructionContent,
    Message,
    Role,
    SystemContent,
    ToolRequestContent,
    ToolResponseContent,
    prepare_messages_for_chat,
)

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
