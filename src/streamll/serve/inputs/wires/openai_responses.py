"""The input of OpenAI's responses: a text, or items.

https://platform.openai.com/docs/api-reference/responses/create: an item is a message, whose
``content`` is a text or parts (``input_text``, ``input_image``, ``input_file``, ``input_audio``,
``output_text``, ``refusal``), or something the assistant did: a tool call, its output, a thought.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from streamll.core.errors import InvalidInputs
from streamll.core.problems import Problem
from streamll.serve.inputs.messages import (
    Attachment,
    FieldValue,
    Message,
    Part,
    Text,
    ToolCall,
    ToolResult,
    data_url,
    media_kind,
)
from streamll.serve.inputs.wires.reading import (
    ROLES,
    content_parts,
    object_in,
    optional_text,
    text_in,
    unknown,
    unknown_role,
    unreadable,
)

CALLS = {"function_call": "arguments", "custom_tool_call": "input", "mcp_call": "arguments"}
"""What calls a tool, and where it has the arguments."""
OUTPUTS = frozenset({"function_call_output", "custom_tool_call_output"})
LEFT = frozenset(
    {"reasoning", "web_search_call", "file_search_call", "code_interpreter_call", "mcp_list_tools"}
)
"""How the assistant came to what it said."""


def messages_of(body: dict[str, Any]) -> list[Message]:
    """The messages of a request; ``InvalidInputs`` with all that cannot be read."""
    instructions = optional_text(body, "instructions", "request")
    found: list[Message] = []
    problems: list[Problem] = []
    if instructions:
        found.append(Message("system", (Text(instructions, "instructions"),), "instructions"))
    for number, item in enumerate(items_of(body)):
        place = "input" if isinstance(body["input"], str) else f"input[{number}]"
        try:
            found += _messages(item, place)
        except InvalidInputs as error:
            problems += error.problems
    if problems:
        raise InvalidInputs(problems)
    return found


def items_of(body: dict[str, Any]) -> list[Any]:
    """The input as a list of items."""
    given = body.get("input")
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if not isinstance(given, (list, type(None))):
        raise InvalidInputs([Problem("input", "must be a text or a list of items")])
    return given or []


def as_input(
    output: Iterable[dict[str, Any]], fields: Mapping[str, Any] = MappingProxyType({})
) -> list[dict[str, Any]]:
    """What a response said and called, as items of the next request's input.

    ``fields``: the program's other output fields, which belong to the turn as well.
    """
    kept = []
    for item in output:
        if item["type"] == "message" and item["content"]:
            texts = [
                {key: part[key] for key in ("type", "text", "refusal") if key in part}
                for part in item["content"]
            ]
            said = {"type": "message", "role": "assistant", "content": texts}
            kept.append({**said, "fields": dict(fields)} if fields else said)
        elif item["type"] in CALLS:
            kept.append(item)
    return kept


def _messages(item: Any, place: str) -> list[Message]:
    if not isinstance(item, dict):
        raise unreadable(place, "an item is an object")
    kind = item.get("type", "message")
    if kind == "message":
        return [_message(item, place)]
    if isinstance(kind, str) and kind in CALLS:
        return _call(item, kind, place)
    if isinstance(kind, str) and kind in OUTPUTS:
        parts = content_parts(item.get("output"), f"{place}.output", _part)
        text = "".join(part.text for part in parts if isinstance(part, Text))
        return [
            Message("tool", (ToolResult(id=text_in(item, "call_id", place), value=text),), place)
        ]
    if isinstance(kind, str) and kind in LEFT:
        return []
    raise unknown({"type": str(kind)}, place)


def _message(item: dict[str, Any], place: str) -> Message:
    role = text_in(item, "role", place)
    if role not in ROLES:
        raise unknown_role(item, place)
    parts = list(content_parts(item.get("content"), f"{place}.content", _part))
    if item.get("fields") is not None:  # as ``as_input`` keeps them
        fields = object_in(item, "fields", place)
        parts += [FieldValue(name, value) for name, value in fields.items()]
    return Message(ROLES[role], tuple(parts), place)


def _call(item: dict[str, Any], kind: str, place: str) -> list[Message]:
    key = "id" if kind == "mcp_call" else "call_id"
    call = ToolCall(
        id=text_in(item, key, place),
        name=text_in(item, "name", place),
        arguments=optional_text(item, CALLS[kind], place) or "{}",
    )
    found = [Message("assistant", (call,), place)]
    if kind == "mcp_call":  # it has been run already
        failed = item.get("error") is not None
        value = item["error"] if failed else item.get("output")
        result = ToolResult(id=call.id, name=call.name, value=value, failed=failed)
        found.append(Message("tool", (result,), place))
    return found


def _part(part: dict[str, Any], place: str) -> Part | None:
    kind = part["type"]
    if kind in ("input_text", "output_text"):
        return Text(text_in(part, "text", place), place)
    if kind == "refusal":
        return Text(text_in(part, "refusal", place), place)
    if kind == "input_audio":
        audio, inside = object_in(part, "input_audio", place), f"{place}.input_audio"
        name = text_in(audio, "format", inside)
        url = data_url(f"audio/{name}", text_in(audio, "data", inside))
        return Attachment(kind="audio", url=url, place=place)
    if kind == "input_image":
        address = optional_text(part, "image_url", place)
        file_id = optional_text(part, "file_id", place)
        return Attachment(kind="image", url=address, file_id=file_id, place=place)
    if kind == "input_file":
        data = optional_text(part, "file_data", place)
        if data is not None and not data.startswith("data:"):
            data = data_url("application/octet-stream", data)
        return Attachment(
            kind=media_kind((data or "").removeprefix("data:")),
            url=data or optional_text(part, "file_url", place),
            file_id=optional_text(part, "file_id", place),
            filename=optional_text(part, "filename", place),
            place=place,
        )
    raise unknown(part, place)
