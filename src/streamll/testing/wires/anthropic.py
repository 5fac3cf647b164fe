"""Anthropic Messages (``POST /v1/messages``): content blocks with a start, deltas and a stop.

Follows https://docs.anthropic.com/en/api/messages-streaming (``anthropic-version: 2023-06-01``).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from streamll.testing.prepared import PreparedReply, PreparedToolCall
from streamll.testing.prompts import PromptMessage
from streamll.testing.replies import Citation
from streamll.testing.wires.base import (
    PLACEHOLDER,
    PracticeWire,
    RequestBody,
    WireFrame,
    around,
    encode,
    text_of,
)

STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
PING = WireFrame(b'{"type":"ping"}', b"ping")


class AnthropicMessages(PracticeWire):
    name = "anthropic"
    label = "Anthropic"
    path = "/messages"
    address = "/v1/messages"
    base_path = ""
    provider = "anthropic"
    schema_path = ("output_config", "format", "schema")

    def messages(self, body: RequestBody) -> list[PromptMessage]:
        system = [PromptMessage("system", text_of(body["system"]))] if body.get("system") else []
        return system + [
            PromptMessage(role_of(each), text_of(each.get("content")))
            for each in body.get("messages", ())
        ]

    def body(self, reply: PreparedReply) -> dict[str, Any]:
        content = [block for block, _ in blocks(reply)]
        return message(reply, content, STOP_REASONS[reply.finish_reason], reply.usage.output_tokens)

    def frames(self, reply: PreparedReply) -> Iterable[WireFrame]:
        yield frame("message_start", message=message(reply, [], None, 1))
        for index, (block, pieces) in enumerate(blocks(reply)):
            yield frame("content_block_start", index=index, content_block=opened(block))
            if index == 0:
                yield PING
            yield from deltas(index, block, pieces)
            yield frame("content_block_stop", index=index)
        delta = {"stop_reason": STOP_REASONS[reply.finish_reason], "stop_sequence": None}
        counted = {"output_tokens": reply.usage.output_tokens}
        yield frame("message_delta", delta=delta, usage=counted)
        yield frame("message_stop")

    def error(self, status: int, kind: str | None, message: str) -> dict[str, Any]:
        kind = kind or ERROR_TYPES.get(status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": message}}

    def error_frames(
        self, reply: PreparedReply, kind: str | None, message: str, sent: int
    ) -> Iterable[WireFrame]:
        return [WireFrame(encode(self.error(529, kind, message)), b"error")]

    def headers(self, reply: PreparedReply) -> list[tuple[str, str]]:
        return [("request-id", f"req_{reply.key}")]


def role_of(message: Mapping[str, Any]) -> str:
    """The role, where tool results count as ``"tool"``: this API has them in a user's message."""
    content = message.get("content")
    first = content[0] if isinstance(content, list) and content else {}
    is_result = isinstance(first, dict) and first.get("type") == "tool_result"
    return "tool" if is_result else str(message.get("role", "user"))


def message(
    reply: PreparedReply, content: list[Any], stop_reason: str | None, output_tokens: int
) -> dict[str, Any]:
    counted = reply.usage
    written = counted.cache_write_tokens
    return {
        "id": reply.id or f"msg_{reply.key}",
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {
            "input_tokens": counted.input_tokens - counted.cached_tokens - written,
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": counted.cached_tokens,
            "cache_creation": {
                "ephemeral_5m_input_tokens": written,
                "ephemeral_1h_input_tokens": 0,
            },
            "output_tokens": output_tokens,
            "service_tier": "standard",
        },
    }


# --- blocks -------------------------------------------------------------------------------------


def blocks(reply: PreparedReply) -> list[tuple[dict[str, Any], Sequence[str]]]:
    """The content blocks, complete, each with the pieces its deltas carry."""
    found: list[tuple[dict[str, Any], Sequence[str]]] = []
    if reply.thinking:
        thinking = "".join(reply.thinking)
        signature = base64.b64encode(reply.key.encode()).decode()
        thought = {"type": "thinking", "thinking": thinking, "signature": signature}
        found.append((thought, reply.thinking))
    pieces = [*reply.candidates[0], *reply.refusal]
    if pieces or not (reply.thinking or reply.tool_calls):
        said = "".join(pieces)
        block: dict[str, Any] = {"type": "text", "text": said}
        if reply.citations:
            block["citations"] = [citation(each, said) for each in reply.citations]
        found.append((block, pieces))
    return found + [(tool_use(call), call.pieces) for call in reply.tool_calls]


def citation(cited: Citation, text: str) -> dict[str, Any]:
    if cited.url is not None:
        return {
            "type": "web_search_result_location",
            "cited_text": cited.text,
            "url": cited.url,
            "title": cited.title,
            "encrypted_index": "",
        }
    start = max(text.find(cited.text), 0)
    return {
        "type": "char_location",
        "cited_text": cited.text,
        "document_index": 0,
        "document_title": cited.title,
        "start_char_index": start,
        "end_char_index": start + len(cited.text),
    }


def tool_use(call: PreparedToolCall) -> dict[str, Any]:
    try:
        arguments = json.loads(call.arguments)
    except ValueError:
        arguments = {}  # the API has no place for arguments that are not JSON
    return {
        "type": "tool_use",
        "id": call.id or f"toolu_{call.key}",
        "name": call.name,
        "input": arguments,
    }


# --- the stream ---------------------------------------------------------------------------------


def frame(type: str, **fields: Any) -> WireFrame:  # noqa: A002 - the API's word
    return WireFrame(encode({"type": type, **fields}), type.encode())


def opened(block: dict[str, Any]) -> dict[str, Any]:
    """A block as ``content_block_start`` announces it: without its content."""
    empty = {"text": "", "thinking": "", "signature": "", "citations": [], "input": {}}
    return {key: empty.get(key, value) for key, value in block.items()}


def deltas(index: int, block: dict[str, Any], pieces: Sequence[str]) -> Iterator[WireFrame]:
    kind, key = {
        "text": ("text_delta", "text"),
        "thinking": ("thinking_delta", "thinking"),
        "tool_use": ("input_json_delta", "partial_json"),
    }[block["type"]]
    top: dict[str, Any] = {"type": "content_block_delta", "index": index}
    before, after = around({**top, "delta": {"type": kind, key: PLACEHOLDER}})
    name = b"content_block_delta"
    if block["type"] == "tool_use":
        yield WireFrame(before + b'""' + after, name)
    for piece in pieces:
        yield WireFrame(before + encode(piece) + after, name, content=True)
    for each in block.get("citations", ()):
        yield frame(**top, delta={"type": "citations_delta", "citation": each})
    if "signature" in block:
        yield frame(**top, delta={"type": "signature_delta", "signature": block["signature"]})
