"""Messages of a branch as a provider takes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from streamll.session.messages.contents import (
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
    The last system message comes first; tool calls join the assistant message before them. What
    providers refuse is left out: messages without a word, such as a reply that broke off before
    its first; tool calls that nobody answered, and answers that nobody asked for.
    """
    chosen = list(messages)
    if progression is not None:
        by_id = {message.id: message for message in chosen}
        chosen = [by_id[id_] for id_ in progression if id_ in by_id]
    if new_instruction is not None:
        chosen.append(_as_message(new_instruction))
    answers = Counter(
        message.content.request_id
        for message in chosen
        if isinstance(message.content, ToolResponseContent)
    )
    asked: set[str] = set()
    system: list[dict[str, Any]] = []
    chat: list[dict[str, Any]] = []
    for message in chosen:
        content = message.content
        if isinstance(content, ToolRequestContent):
            if answers[content.request_id] and content.request_id not in asked:
                asked.add(content.request_id)
                _add_tool_call(chat, message, content)
        elif isinstance(content, ToolResponseContent):
            answers[content.request_id] -= 1
            if content.request_id in asked:
                asked.remove(content.request_id)
                chat.append(message.to_chat())
        elif not content.text:
            continue
        elif isinstance(content, SystemContent):
            system = [message.to_chat()]
        else:
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
