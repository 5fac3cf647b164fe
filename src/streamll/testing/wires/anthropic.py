"""Anthropic messages (``POST /v1/messages``): blocks with a start, deltas and a stop."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from streamll.testing.answers import Answer, CutCall
from streamll.testing.formats import Message, Tool
from streamll.testing.replies import Citation, Usage
from streamll.testing.wires.base import SLOT, Body, Frame, around, encode, joined, schema_in

STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
PING = Frame(b'{"type":"ping"}', b"ping")


class Anthropic:
    name = "anthropic"
    path = "/messages"

    def messages(self, body: Body) -> list[Message]:
        system = [Message("system", joined(body["system"]))] if body.get("system") else []
        return system + [
            Message(role_of(each), joined(each.get("content"))) for each in body.get("messages", ())
        ]

    def tools(self, body: Body) -> list[Tool]:
        return [
            Tool(tool["name"], tool.get("description") or "", tool["input_schema"])
            for tool in body.get("tools") or ()
            if "input_schema" in tool
        ]

    def schema(self, body: Body) -> Mapping[str, Any]:
        return schema_in(body, "output_config", "format", "schema")

    def count(self, body: Body) -> int:
        return 1

    def body(self, answer: Answer) -> dict[str, Any]:
        return {
            **head(answer),
            "content": [block for block, _ in blocks(answer)],
            "stop_reason": STOP_REASONS[answer.finish_reason],
            "stop_sequence": None,
            "usage": usage(answer.usage, answer.usage.output_tokens),
        }

    def frames(self, answer: Answer) -> Iterable[Frame]:
        start = {
            **head(answer),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage(answer.usage, 1),
        }
        yield frame("message_start", message=start)
        for index, (block, pieces) in enumerate(blocks(answer)):
            yield frame("content_block_start", index=index, content_block=opened(block))
            if index == 0:
                yield PING
            yield from deltas(index, block, pieces)
            yield frame("content_block_stop", index=index)
        delta = {"stop_reason": STOP_REASONS[answer.finish_reason], "stop_sequence": None}
        counted = {"output_tokens": answer.usage.output_tokens}
        yield frame("message_delta", delta=delta, usage=counted)
        yield frame("message_stop")

    def error(self, status: int, kind: str | None, message: str) -> dict[str, Any]:
        return error(kind or KINDS.get(status, "api_error"), message)

    def error_frames(
        self,
        answer: Answer,
        kind: str | None,
        message: str,
        sent: int,
    ) -> Iterable[Frame]:
        return [Frame(encode(error(kind or "overloaded_error", message)), b"error")]

    def headers(self, answer: Answer) -> list[tuple[str, str]]:
        return [("request-id", f"req_{answer.key}")]


def role_of(message: dict[str, Any]) -> str:
    """What tools said comes as a user's message here."""
    content = message.get("content")
    first = content[0] if isinstance(content, list) and content else {}
    is_result = isinstance(first, dict) and first.get("type") == "tool_result"
    return "tool" if is_result else str(message.get("role", "user"))


def error(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}}


def head(answer: Answer) -> dict[str, Any]:
    return {
        "id": answer.id or f"msg_{answer.key}",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
    }


def usage(counted: Usage, output_tokens: int) -> dict[str, Any]:
    return {
        "input_tokens": counted.input_tokens - counted.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": counted.cached_tokens,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": output_tokens,
        "service_tier": "standard",
    }


# --- blocks -------------------------------------------------------------------------------------


def blocks(answer: Answer) -> list[tuple[dict[str, Any], Sequence[str]]]:
    """The content blocks, complete, each with the pieces its deltas carry."""
    found: list[tuple[dict[str, Any], Sequence[str]]] = []
    if answer.thinking:
        thinking = "".join(answer.thinking)
        signature = base64.b64encode(answer.key.encode()).decode()
        thought = {"type": "thinking", "thinking": thinking, "signature": signature}
        found.append((thought, answer.thinking))
    pieces = [*answer.candidates[0], *answer.refusal]
    if pieces or not (answer.thinking or answer.tool_calls):
        said = "".join(pieces)
        block: dict[str, Any] = {"type": "text", "text": said}
        if answer.citations:
            block["citations"] = [citation(each, said) for each in answer.citations]
        found.append((block, pieces))
    return found + [(tool_use(call), call.pieces) for call in answer.tool_calls]


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


def tool_use(call: CutCall) -> dict[str, Any]:
    try:
        arguments = json.loads(call.arguments)
    except ValueError:
        arguments = {}  # a provider has no valid input to show either
    return {
        "type": "tool_use",
        "id": call.id or f"toolu_{call.key}",
        "name": call.name,
        "input": arguments,
    }


# --- the stream ---------------------------------------------------------------------------------


def frame(type: str, **fields: Any) -> Frame:  # noqa: A002 - the wire's word
    return Frame(encode({"type": type, **fields}), type.encode())


def opened(block: dict[str, Any]) -> dict[str, Any]:
    """A block as it is announced."""
    empty = {"text": "", "thinking": "", "signature": "", "citations": [], "input": {}}
    return {key: empty.get(key, value) for key, value in block.items()}


def deltas(index: int, block: dict[str, Any], pieces: Sequence[str]) -> Iterator[Frame]:
    kind, key = {
        "text": ("text_delta", "text"),
        "thinking": ("thinking_delta", "thinking"),
        "tool_use": ("input_json_delta", "partial_json"),
    }[block["type"]]
    top: dict[str, Any] = {"type": "content_block_delta", "index": index}
    before, after = around({**top, "delta": {"type": kind, key: SLOT}})
    name = b"content_block_delta"
    if block["type"] == "tool_use":
        yield Frame(before + b'""' + after, name)
    for piece in pieces:
        yield Frame(before + encode(piece) + after, name, content=True)
    for each in block.get("citations", ()):
        yield frame(**top, delta={"type": "citations_delta", "citation": each})
    if "signature" in block:
        yield frame(**top, delta={"type": "signature_delta", "signature": block["signature"]})
