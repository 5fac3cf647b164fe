"""A conversation, in one shape for every wire: who said it, and of which parts it is made.

A wire's reader (``wires/``) makes these of its JSON, ``conversation.py`` a program's inputs of
them. Each part knows its ``place`` in the request, for errors: ``messages[2].content[1]``.
"""

from __future__ import annotations

import json
from typing import Any, Literal

import msgspec

Role = Literal["system", "user", "assistant", "tool"]
MediaKind = Literal["image", "audio", "file"]


class Text(msgspec.Struct, frozen=True):
    """Something said."""

    text: str
    place: str = ""


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """An image, a sound or a file.

    Attributes:
        kind: what it is shown as; a video is a ``"file"``.
        url: an address (``https://…``), or the data itself (``data:image/png;base64,…``).
        file_id: the provider's name of a file it has already, where there is no ``url``.
        filename: what the user calls it.
        place: where it is in the request.
    """

    kind: MediaKind
    url: str | None = None
    file_id: str | None = None
    filename: str | None = None
    place: str = ""


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """The assistant called a tool. ``arguments`` are JSON, as the model wrote them."""

    id: str
    name: str
    arguments: str = "{}"


class ToolResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a tool call gave."""

    id: str
    name: str | None = None
    value: Any = None
    failed: bool = False


class FieldValue(msgspec.Struct, frozen=True):
    """What the assistant's message says of one output field of the program, by name."""

    field: str
    value: Any


Part = Text | Attachment | ToolCall | ToolResult | FieldValue


class Message(msgspec.Struct, frozen=True):
    """One message: ``role``, ``parts`` in their order, and its ``place`` in the request."""

    role: Role
    parts: tuple[Part, ...] = ()
    place: str = ""

    @property
    def text(self) -> str:
        """What was said, without the other parts."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def attachments(self) -> list[Attachment]:
        """Images, sounds and files, in their order."""
        return [part for part in self.parts if isinstance(part, Attachment)]


def media_kind(media_type: str | None) -> MediaKind:
    """What a file of this type is shown as: ``image/png`` is an image."""
    family = (media_type or "").partition("/")[0].strip().lower()
    return "image" if family == "image" else "audio" if family == "audio" else "file"


def data_url(media_type: str, data: str) -> str:
    """The address that holds base64 ``data`` itself."""
    return f"data:{media_type};base64,{data}"


def as_openai(message: Message) -> list[dict[str, Any]]:
    """A message as OpenAI's chat completions have it; one for each of several tools' results.

    ``content`` is a text; with images, sounds or files it is a list of parts.
    """
    calls = [
        {
            "id": part.id,
            "type": "function",
            "function": {"name": part.name, "arguments": part.arguments},
        }
        for part in message.parts
        if isinstance(part, ToolCall)
    ]
    results = [
        {"role": "tool", "tool_call_id": part.id, "content": text_of_value(part.value)}
        for part in message.parts
        if isinstance(part, ToolResult)
    ]
    if message.role == "tool":
        return results
    content: Any = message.text
    if message.attachments:
        content = [
            {"type": "text", "text": part.text} if isinstance(part, Text) else _part(part)
            for part in message.parts
            if isinstance(part, (Text, Attachment))
        ]
    told: dict[str, Any] = {"role": message.role, "content": content}
    return [{**told, "tool_calls": calls} if calls else told, *results]


def _part(part: Attachment) -> dict[str, Any]:
    if part.kind == "image":
        return {"type": "image_url", "image_url": {"url": part.url}}
    if part.kind == "audio" and (part.url or "").startswith("data:"):
        head, _, data = (part.url or "").partition(";base64,")
        name = head.partition("/")[2].removeprefix("x-")
        return {"type": "input_audio", "input_audio": {"data": data, "format": name}}
    named = {"file_data": part.url, "file_id": part.file_id, "filename": part.filename}
    return {"type": "file", "file": {key: value for key, value in named.items() if value}}


def text_of_value(value: Any) -> str:
    """A tool's result as text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
