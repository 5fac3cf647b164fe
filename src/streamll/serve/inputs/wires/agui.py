"""Messages of AG-UI (``RunAgentInput.messages``), as protocol 1.0 and 0.x have them.

A user's ``content`` is a text or parts: ``text``, and ``image``, ``audio``, ``video`` and
``document`` with a ``source`` (``data``, ``url`` or a provider's ``file``); ``binary`` before 1.0.
Messages with the roles ``activity`` and ``reasoning`` tell how the assistant came to its answer; what
``AGUIFormat`` sent as reasoning is another output field of the message that follows it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from streamll.serve.inputs.messages import (
    Attachment,
    FieldValue,
    MediaKind,
    Message,
    Part,
    ToolResult,
    data_url,
    media_kind,
)
from streamll.serve.inputs.wires.openai import tool_calls
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

_MEDIA: dict[str, MediaKind] = {
    "image": "image",
    "audio": "audio",
    "video": "file",
    "document": "file",
}


def messages_of(body: dict[str, Any]) -> list[Message]:
    """The messages of a request; ``InvalidInputs`` where they are none."""
    found: list[Message] = []
    fields: tuple[Part, ...] = ()
    for message in read_messages(body.get("messages"), _message):
        if message.parts and all(isinstance(part, FieldValue) for part in message.parts):
            fields += message.parts
            continue
        own = fields if message.role == "assistant" else ()
        found.append(msgspec.structs.replace(message, parts=(*message.parts, *own)))
        fields = ()
    return found


def _field(message: dict[str, Any]) -> Message | None:
    """A reasoning message that is a field of the program."""
    metadata, text = message.get("metadata"), message.get("content")
    own = metadata.get("streamll") if isinstance(metadata, dict) else None
    field = own.get("field") if isinstance(own, dict) else None
    if not (isinstance(field, str) and isinstance(text, str)):
        return None
    return Message("assistant", (FieldValue(field, text),))


def _message(message: dict[str, Any], place: str) -> Message | None:
    role = message["role"]
    if role in ("activity", "reasoning"):
        return _field(message) if role == "reasoning" else None
    if role != "tool" and role not in ROLES:
        raise unknown_role(message, place)
    parts = list(content_parts(message.get("content"), f"{place}.content", _part))
    if role == "tool":
        error = optional_text(message, "error", place)
        said = Message("tool", tuple(parts)).text
        result = ToolResult(
            id=text_in(message, "toolCallId", place),
            value=said if error is None else error,
            failed=error is not None,
        )
        return Message("tool", (result,), place)
    return Message(ROLES[role], (*parts, *tool_calls(message, "toolCalls", place)), place)


def _part(part: dict[str, Any], place: str) -> Attachment:
    if part["type"] == "binary":
        kind = text_in(part, "mimeType", place)
        data = optional_text(part, "data", place)
        return Attachment(
            kind=media_kind(kind),
            url=optional_text(part, "url", place) if data is None else data_url(kind, data),
            file_id=optional_text(part, "id", place),
            filename=optional_text(part, "filename", place),
            place=place,
        )
    if part["type"] not in _MEDIA:
        raise unknown(part, place)
    source, inside = object_in(part, "source", place), f"{place}.source"
    value, how = text_in(source, "value", inside), source.get("type")
    if how not in ("data", "url", "file"):
        raise unreadable(f"{inside}.type", "must be 'data', 'url' or 'file'")
    if how == "data":
        value = data_url(text_in(source, "mimeType", inside), value)
    metadata = part.get("metadata")
    name = metadata.get("filename") if isinstance(metadata, dict) else None
    return Attachment(
        kind=_MEDIA[part["type"]],
        url=None if how == "file" else value,
        file_id=value if how == "file" else None,
        filename=name if isinstance(name, str) else None,
        place=place,
    )
