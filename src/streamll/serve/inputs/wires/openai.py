"""Messages of OpenAI's chat completions.

https://platform.openai.com/docs/api-reference/chat/create: ``content`` is a text or parts (``text``,
``image_url``, ``input_audio``, ``file``, ``refusal``); an assistant's ``tool_calls`` are answered by
messages with the role ``tool``.
"""

from __future__ import annotations

from typing import Any

from streamll.serve.inputs.messages import (
    Attachment,
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
    read_messages,
    text_in,
    unknown,
    unknown_role,
    unreadable,
)


def messages_of(body: dict[str, Any]) -> list[Message]:
    """The messages of a request; ``InvalidInputs`` where they are none."""
    return read_messages(body.get("messages"), _message)


def _message(message: dict[str, Any], place: str) -> Message:
    role = message["role"]
    parts = list(content_parts(message.get("content"), f"{place}.content", _part))
    if role in ("tool", "function"):
        key = "tool_call_id" if role == "tool" else "name"
        text = "".join(part.text for part in parts if isinstance(part, Text))
        name = optional_text(message, "name", place)
        result = ToolResult(id=text_in(message, key, place), name=name, value=text)
        return Message("tool", (result,), place)
    if role not in ROLES:
        raise unknown_role(message, place)
    return Message(ROLES[role], (*parts, *tool_calls(message, "tool_calls", place)), place)


def tool_calls(message: dict[str, Any], key: str, place: str) -> list[ToolCall]:
    """An assistant's calls: ``{"id", "function": {"name", "arguments"}}``, as AG-UI has them, too."""
    calls = message.get(key) or []
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise unreadable(f"{place}.{key}", "must be a list of objects")
    made = []
    for number, call in enumerate(calls):
        inside = f"{place}.{key}[{number}]"
        if call.get("type") == "custom":
            function, given = object_in(call, "custom", inside), "input"
        else:
            function, given = object_in(call, "function", inside), "arguments"
        made.append(
            ToolCall(
                id=text_in(call, "id", inside),
                name=text_in(function, "name", inside),
                arguments=optional_text(function, given, inside) or "{}",
            )
        )
    return made


def _part(part: dict[str, Any], place: str) -> Part | None:
    kind = part["type"]
    if kind == "refusal":
        return Text(text_in(part, "refusal", place), place)
    if kind == "image_url":
        image = object_in(part, "image_url", place)
        url = text_in(image, "url", f"{place}.image_url")
        return Attachment(kind="image", url=url, place=place)
    if kind == "input_audio":
        audio, inside = object_in(part, "input_audio", place), f"{place}.input_audio"
        name = text_in(audio, "format", inside)
        url = data_url(f"audio/{name}", text_in(audio, "data", inside))
        return Attachment(kind="audio", url=url, place=place)
    if kind == "file":
        file, inside = object_in(part, "file", place), f"{place}.file"
        data = optional_text(file, "file_data", inside)
        if data is not None and not data.startswith("data:"):
            data = data_url("application/octet-stream", data)
        return Attachment(
            kind=media_kind((data or "").removeprefix("data:")),
            url=data,
            file_id=optional_text(file, "file_id", inside),
            filename=optional_text(file, "filename", inside),
            place=place,
        )
    raise unknown(part, place)
