"""Messages of a branch as a provider takes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from streamll.session.messages.contents import (
    AssistantResponseContent,
    InstructionContent,
    SystemContent,
    ToolRequestContent,
    ToolResponseContent,
)
from streamll.session.messages.message import Message, tool_call


def prepare_messages_for_chat(
    messages: Iterable[Message],
    progression: Iterable[str] | None = None,
    new_instruction: Message | InstructionContent | str | None = None,
) -> list[dict[str, Any]]:
    """Dictionaries with ``role`` and ``content``, in the order that providers accept.

    ``messages`` are taken in the order of ``progression`` (a branch, or ids) where one is given.
    The last system message comes first; tool calls join the assistant message before them; a
    reply that broke off before its first word is left out, and so is a tool call that nobody
    answered (providers refuse both).
    """
    chosen = list(messages)
    if progression is not None:
        by_id = {message.id: message for message in chosen}
        chosen = [by_id[id_] for id_ in progression if id_ in by_id]
    if new_instruction is not None:
        chosen.append(_as_message(new_instruction))
    answered = {
        message.content.request_id
        for message in chosen
        if isinstance(message.content, ToolResponseContent)
    }
    requested = {
        message.content.request_id
        for message in chosen
        if isinstance(message.content, ToolRequestContent)
    }
    system: list[dict[str, Any]] = []
    chat: list[dict[str, Any]] = []
    for message in chosen:
        content = message.content
        if isinstance(content, SystemContent):
            system = [message.to_chat()]
        elif isinstance(content, AssistantResponseContent) and not content.text:
            continue
        elif isinstance(content, ToolRequestContent):
            if content.request_id in answered:
                _add_tool_call(chat, message, content)
        elif not isinstance(content, ToolResponseContent) or content.request_id in requested:
            chat.append(message.to_chat())
    return system + chat


def _add_tool_call(
    chat: list[dict[str, Any]], message: Message, content: ToolRequestContent
) -> None:
    if chat and chat[-1]["role"] == "assistant":
        chat[-1].setdefault("tool_calls", []).append(tool_call(content))
    else:
        chat.append(message.to_chat())


def _as_message(instruction: Message | InstructionContent | str) -> Message:
    if isinstance(instruction, Message):
        return instruction
    if isinstance(instruction, str):
        instruction = InstructionContent(instruction=instruction)
    return Message(content=instruction)
