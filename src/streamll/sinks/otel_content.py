"""What a model is asked and answers, as the attributes of a span: messages of parts, in JSON.

The form is that of the conventions' schemas ``gen-ai-input-messages.json`` and
``gen-ai-output-messages.json``: ``[{"role": …, "parts": [{"type": "text", "content": …}]}]``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from streamll.core.jsonable import as_text
from streamll.sinks import otel_names as names

SYSTEM = ("system", "developer")


def of_prompt(messages: Any) -> dict[str, str]:
    """The attributes for the messages of an ``LMStart``: instructions apart from the conversation."""
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    if not isinstance(messages, (list, tuple)):
        return {}
    spoken, instructions = [], []
    for message in messages:
        if not isinstance(message, Mapping):
            continue
        if message.get("role") in SYSTEM:
            instructions += list(_parts(message))
        else:
            spoken.append({"role": str(message.get("role")), "parts": list(_parts(message))})
    attributes = {}
    if spoken:
        attributes[names.INPUT_MESSAGES] = as_text(spoken)
    if instructions:
        attributes[names.SYSTEM_INSTRUCTIONS] = as_text(instructions)
    return attributes


def _parts(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    content = message.get("content")
    if message.get("role") == "tool":
        yield {
            "type": "tool_call_response",
            "id": message.get("tool_call_id"),
            "response": content,
        }
        return
    for block in content if isinstance(content, (list, tuple)) else (content,):
        if isinstance(block, str):
            yield {"type": "text", "content": block}
        elif isinstance(block, Mapping) and isinstance(block.get("text"), str):
            yield {"type": "text", "content": block["text"]}
        elif isinstance(block, Mapping):
            yield {"type": str(block.get("type")), "content": dict(block)}
    for call in message.get("tool_calls") or ():
        function = call.get("function", {}) if isinstance(call, Mapping) else {}
        yield {
            "type": "tool_call",
            "id": call.get("id") if isinstance(call, Mapping) else None,
            "name": function.get("name"),
            "arguments": function.get("arguments"),
        }


def of_reply(text: str, finish_reason: str | None) -> dict[str, str]:
    """The attributes for what a call has said, as its reader saw it."""
    if not text:
        return {}
    message = {
        "role": "assistant",
        "parts": [{"type": "text", "content": text}],
        "finish_reason": finish_reason or "stop",
    }
    return {names.OUTPUT_MESSAGES: as_text([message])}


def of_values(inputs: Any, role: str, attribute: str) -> dict[str, str]:
    """The attribute for the inputs or outputs of a program, as one message of JSON."""
    if inputs is None:
        return {}
    part = {"type": "text", "content": inputs if isinstance(inputs, str) else as_text(inputs)}
    message = {"role": role, "parts": [part]}
    return {attribute: as_text([message])}
