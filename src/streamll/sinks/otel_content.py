"""What a model is asked and answers, as the attributes of a span: messages of parts, in JSON.

The form is that of the conventions' schemas ``gen-ai-input-messages.json`` and
``gen-ai-output-messages.json``: ``[{"role": …, "parts": [{"type": "text", "content": …}]}]``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
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


def of_reply(texts: Iterable[str], finish_reason: str | None) -> dict[str, str]:
    """The attributes for what a call has said, as its reader saw it: a part for each field."""
    said = [text for text in texts if text]
    if not said:
        return {}
    message = _said("assistant", *said) | {"finish_reason": finish_reason or "stop"}
    return {names.OUTPUT_MESSAGES: as_text([message])}


def of_inputs(inputs: Any) -> dict[str, str]:
    """The attributes for what a program or module was given."""
    return _of_values(inputs, names.INPUT, names.INPUT_TYPE)


def of_outputs(outputs: Any) -> dict[str, str]:
    """The attributes for what a program or module has returned."""
    return _of_values(outputs, names.OUTPUT, names.OUTPUT_TYPE)


def as_messages(attributes: dict[str, str]) -> dict[str, str]:
    """Of the same attributes those of a workflow or agent, which has messages: one, with all of it."""
    messages = {}
    if (given := attributes.get(names.INPUT)) is not None:
        messages[names.INPUT_MESSAGES] = as_text([_said("user", given)])
    if (returned := attributes.get(names.OUTPUT)) is not None:
        message = _said("assistant", returned) | {"finish_reason": "stop"}
        messages[names.OUTPUT_MESSAGES] = as_text([message])
    return attributes | messages


def _of_values(values: Any, attribute: str, mime_type: str) -> dict[str, str]:
    if values is None:
        return {}
    if isinstance(values, str):
        return {attribute: values, mime_type: "text/plain"}
    return {attribute: as_text(values), mime_type: "application/json"}


def _said(role: str, *texts: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text} for text in texts]}
