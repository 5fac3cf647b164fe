"""Facts of a finished reply, whichever engine it came from, and values as text."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any

OTHER_PARTS = frozenset({"image", "audio", "video", "document", "binary"})
"""Kinds of parts that are not text, thinking, a refusal, a citation or a tool call."""


def other_parts(response: object) -> Iterator[dict[str, Any]]:
    """The fields of a ``ReplyPart`` for each part of the reply that is not text."""
    for part in getattr(getattr(response, "message", None), "parts", ()):
        if part.type in OTHER_PARTS:
            yield {
                "kind": part.type,
                "media_type": part.media_type,
                "url": part.url or part.file_id,
                "size": _size(part.data),
            }


def _size(data: Any) -> int | None:
    """Bytes of a part that the reply holds itself, in base 64 or plain."""
    if isinstance(data, str):
        return len(data) * 3 // 4 - data[-2:].count("=")
    return len(data) if isinstance(data, bytes) else None


def final_text(value: Any) -> str:
    """A text's value as text; a default may have made it ``None``."""
    if isinstance(value, enum.Enum):
        value = value.value
    return "" if value is None else str(value)


def text_of(response: Any) -> str:
    """The text of a reply, whichever engine it came from; a list is of completions."""
    message = getattr(response, "message", None)
    if message is not None:
        return getattr(message, "text", None) or ""
    outputs = response if isinstance(response, list) else getattr(response, "outputs", None)
    first = outputs[0] if outputs else ""
    return (first.get("text") if isinstance(first, dict) else first) or ""


def whole_text_of(response: Any) -> str:
    """All the text of a reply, beside whatever else is in it; empty where it cannot be compared.

    It cannot with halves of surrogate pairs, of which streamed text has none.
    """
    parts = getattr(getattr(response, "message", None), "parts", None)
    if parts is None:
        text = text_of(response)
    else:
        text = "".join(part.text for part in parts if part.type == "text")
    try:
        str(text).encode()
    except UnicodeEncodeError:
        return ""
    return str(text)


def response_of(response: Any) -> dict[str, str | None]:
    """The provider's id of a reply and the model that gave it, as ``LMEnd`` has them."""
    raw = getattr(response, "raw", None) or response

    def text(name: str) -> str | None:
        value = _get(raw, name)
        return value if isinstance(value, str) and value else None

    return {"response_id": text("id"), "response_model": text("model")}


def finish_reason_of(response: Any) -> str | None:
    """Why the model stopped, in the provider's or lm15's word."""
    raw = getattr(response, "raw", None)
    choices = getattr(raw, "choices", None) or ()
    reasons = (getattr(each, "finish_reason", None) for each in (response, raw, *choices[:1]))
    told = next((str(reason) for reason in reasons if reason is not None), None)
    return told or _status_as_reason(raw)


def _status_as_reason(raw: Any) -> str | None:
    """The finish reason of LiteLLM's Responses, which have a status instead, in lm15's word."""
    status = getattr(raw, "status", None)
    if status == "completed":
        calls = any(_get(item, "type") == "function_call" for item in _get(raw, "output") or ())
        return "tool_call" if calls else "stop"
    if status == "incomplete":
        reason = _get(_get(raw, "incomplete_details"), "reason")
        return "content_filter" if reason == "content_filter" else "length"
    return None


def _get(holder: Any, key: str) -> Any:
    return holder.get(key) if isinstance(holder, dict) else getattr(holder, key, None)
