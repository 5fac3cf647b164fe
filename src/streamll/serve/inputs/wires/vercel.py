"""UI messages of Vercel's AI SDK (``UIMessage`` of the ``ai`` package, version 5 and later).

``parts``: ``text``, ``file`` (``mediaType``, ``url``, ``filename``), ``tool-<name>`` and
``dynamic-tool`` with a ``state``. ``data-<name>`` and ``reasoning`` of the assistant are other fields
than the reply, as ``VercelFormat`` sends them. Parts that ``data-superseded`` lists do not count, and
``data-corrected`` has the right text of others: the package itself only adds parts to a message.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
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
    media_kind,
)
from streamll.serve.inputs.wires.reading import (
    ROLES,
    content_parts,
    optional_text,
    read_messages,
    text_in,
    unknown,
    unknown_role,
    unreadable,
)

_OWN = frozenset(
    {"reasoning", "reasoning-file", "step-start", "source-url", "source-document", "custom"}
)
"""How the assistant came to its answer. What a page's own ``data-`` parts say is its own, too."""


def messages_of(body: dict[str, Any]) -> list[Message]:
    """The messages of a request; ``InvalidInputs`` where they are none."""
    return read_messages(body.get("messages"), _message)


def answers_in(body: dict[str, Any]) -> dict[str, Any]:
    """What the person has answered since the last request, by the client's ids of questions.

    Responses to approvals are in the last message, if it is the assistant's; ``answers`` of the body, an
    object, has others, and arguments to change; ``InvalidInputs`` where that is none.
    """
    own = body.get("answers") or {}
    if not isinstance(own, dict):
        what = "must be an object: answers, by the questions' ids"
        raise InvalidInputs([Problem("answers", what)])
    messages = body.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    parts = last.get("parts") if isinstance(last, dict) and last.get("role") == "assistant" else ()
    answers: dict[str, Any] = {}
    for part in parts if isinstance(parts, list) else ():
        if isinstance(part, dict) and part.get("state") == "approval-responded":
            said = part.get("approval")
            if isinstance(said, dict) and isinstance(said.get("id"), str):
                reason = said.get("reason")
                because = {"reason": reason} if isinstance(reason, str) else {}
                answers[said["id"]] = {"allow": said.get("approved"), **because}
    return {**answers, **own}


def reached_in(body: dict[str, Any]) -> int | None:
    """The number of the run's event up to which the last message has it, if it says so."""
    messages = body.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    metadata = last.get("metadata") if isinstance(last, dict) else None
    seq = metadata.get("seq") if isinstance(metadata, dict) else None
    return seq if isinstance(seq, int) and seq >= 0 else None


def _message(message: dict[str, Any], place: str) -> Message:
    role = message["role"]
    if role not in ROLES:
        raise unknown_role(message, place)
    key = "parts" if "parts" in message else "content"  # which ``ai`` 4 has
    inside = f"{place}.{key}"
    if key == "content" or not isinstance(message["parts"], list):
        content = message.get(key)
        return Message(ROLES[role], tuple(content_parts(content, inside, _file)), place)
    parts = message["parts"]
    if role == "assistant":
        parts = _shown(parts)
    return Message(ROLES[role], tuple(_parts(parts, inside, role)), place)


def _shown(parts: list[Any]) -> list[Any]:
    """The parts that count: without those of superseded attempts, with corrected text."""
    objects = [part for part in parts if isinstance(part, dict)]
    gone: set[str] = set()
    right: dict[str, Any] = {}
    for part in objects:
        data = part.get("data")
        if isinstance(data, dict) and part.get("type") == "data-superseded":
            gone.update(name for name in data.get("parts") or () if isinstance(name, str))
        elif isinstance(data, dict) and part.get("type") == "data-corrected":
            right[str(data.get("part"))] = data.get("text")
    shown: list[Any] = []
    places: dict[str, int] = {}  # of the parts that have a name and text
    for part in parts:
        name, text = _name(part), part.get("text") if isinstance(part, dict) else None
        if name in gone:
            continue
        if name is None or not isinstance(text, str):
            shown.append(part)
        elif name not in places:
            places[name] = len(shown)
            shown.append({**part, "text": right.get(name, text)})
        elif name not in right:  # a part that was resumed: this is the rest, or all of it
            before = shown[places[name]]
            text = _utf16_prefix(before["text"], _own(part).get("offset")) + text
            shown[places[name]] = {**before, "text": text}
    return shown


def _utf16_prefix(text: str, units: Any) -> str:
    """A text's first code units, as JavaScript counts; all of it without their number."""
    if not isinstance(units, int) or units < 0:
        return text
    return text.encode("utf-16-le", "replace")[: 2 * units].decode("utf-16-le", "ignore")


def _name(part: Any) -> str | None:
    """What a part is called by ``data-superseded`` and ``data-corrected``."""
    if not isinstance(part, dict):
        return None
    name = _own(part).get("part", part.get("toolCallId"))
    return name if isinstance(name, str) else None


def _own(part: dict[str, Any]) -> dict[str, Any]:
    """What ``VercelFormat`` says of a part."""
    metadata = part.get("providerMetadata")
    own = metadata.get("streamll") if isinstance(metadata, dict) else None
    return own if isinstance(own, dict) else {}


def _parts(parts: list[Any], place: str, role: str) -> Iterator[Part]:
    for number, part in enumerate(parts):
        inside = f"{place}[{number}]"
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise unreadable(inside, "a part is an object with a type")
        kind = part["type"]
        if kind == "text":
            yield Text(text_in(part, "text", inside), inside)
        elif kind == "file":
            yield _file(part, inside)
        elif kind.startswith("tool-") or kind == "dynamic-tool":
            yield from _tool(part, inside)
        elif kind not in _OWN and not kind.startswith("data-"):
            raise unknown(part, inside)
    if role == "assistant":
        yield from _fields(parts)


def _fields(parts: list[dict[str, Any]]) -> Iterator[FieldValue]:
    """What the message says of other fields than the reply."""
    for part in parts:
        field, data, text = _own(part).get("field"), part.get("data"), part.get("text")
        if part["type"] == "reasoning" and isinstance(field, str) and isinstance(text, str):
            yield FieldValue(field, text)
        elif isinstance(data, dict) and data.get("state") == "complete":
            yield FieldValue(str(data.get("field")), data.get("value"))


def _file(part: dict[str, Any], place: str) -> Attachment:
    if part["type"] != "file":
        raise unknown(part, place)
    return Attachment(
        kind=media_kind(text_in(part, "mediaType", place)),
        url=text_in(part, "url", place),
        filename=optional_text(part, "filename", place),
        place=place,
    )


def _tool(part: dict[str, Any], place: str) -> Iterator[Part]:
    kind = part["type"]
    if kind == "dynamic-tool":
        name = text_in(part, "toolName", place)
    else:
        name = kind.removeprefix("tool-")
    called, state = text_in(part, "toolCallId", place), part.get("state")
    yield ToolCall(id=called, name=name, arguments=json.dumps(part.get("input")))
    if state == "output-available":
        yield ToolResult(id=called, name=name, value=part.get("output"))
    elif state == "output-denied":
        yield ToolResult(id=called, name=name, value=f"The call of {name} was refused")
    elif state == "output-error":
        yield ToolResult(id=called, name=name, value=part.get("errorText"), failed=True)
