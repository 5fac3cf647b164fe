"""OpenAI Chat Completions (``POST /v1/chat/completions``), also spoken by most other servers.

Follows https://platform.openai.com/docs/api-reference/chat (``openai-version: 2020-10-01``), with
``reasoning_content`` as DeepSeek and other servers add it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Any
from urllib.parse import SplitResult

from streamll.testing.prepared import PreparedReply, PreparedToolCall
from streamll.testing.prompts import PromptMessage
from streamll.testing.recorded import Asked
from streamll.testing.replies import Citation, Usage
from streamll.testing.wires.base import (
    PLACEHOLDER,
    PracticeWire,
    RequestBody,
    WireFrame,
    around,
    encode,
    text_of,
)

DONE = WireFrame(b"[DONE]")
FINGERPRINT = "fp_practice"
ERROR_TYPES = {**dict.fromkeys((400, 401, 403, 404), "invalid_request_error"), 429: "requests"}
ERROR_CODES = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}


class OpenAIWire(PracticeWire):
    """What both of OpenAI's APIs have in common."""

    base_path = "/v1"
    provider = "openai"

    def error(self, status: int, kind: str | None, message: str) -> dict[str, Any]:
        kind = kind or ERROR_TYPES.get(status, "server_error")
        detail = {"message": message, "type": kind, "param": None, "code": ERROR_CODES.get(status)}
        return {"error": detail}

    def headers(self, reply: PreparedReply) -> list[tuple[str, str]]:
        return [("x-request-id", f"req_{reply.key}"), ("openai-version", "2020-10-01")]


class OpenAIChat(OpenAIWire):
    name = "openai"
    label = "OpenAI chat"
    path = "/chat/completions"
    address = "/v1/chat/completions"
    schema_path = ("response_format", "json_schema", "schema")

    def messages(self, body: RequestBody) -> list[PromptMessage]:
        return [
            PromptMessage(m["role"], text_of(m.get("content"))) for m in body.get("messages", ())
        ]

    def asked(self, url: SplitResult, body: RequestBody) -> Asked:
        return super().asked(url, body)._replace(candidates=body.get("n") or 1)

    def body(self, reply: PreparedReply) -> dict[str, Any]:
        return {
            **head(reply, "chat.completion"),
            "choices": [
                {
                    "index": index,
                    "message": message(reply, pieces),
                    "logprobs": logprobs(reply.request_body, pieces),
                    "finish_reason": reply.finish_reason,
                }
                for index, pieces in enumerate(reply.candidates)
            ],
            "usage": usage(reply.usage),
        }

    def frames(self, reply: PreparedReply) -> Iterable[WireFrame]:
        counted = bool((reply.request_body.get("stream_options") or {}).get("include_usage"))
        yield from interleaved(
            [ChoiceChunks(reply, i, counted=counted).frames() for i in range(len(reply.candidates))]
        )
        if counted:
            top = head(reply, "chat.completion.chunk")
            yield WireFrame(encode({**top, "choices": [], "usage": usage(reply.usage)}))
        yield DONE

    def error_frames(
        self, reply: PreparedReply, kind: str | None, message: str, sent: int
    ) -> Iterable[WireFrame]:
        return [WireFrame(encode(self.error(500, kind, message))), DONE]


class ChoiceChunks:
    """The chunks of one choice."""

    def __init__(self, reply: PreparedReply, index: int, *, counted: bool) -> None:
        self.reply = reply
        self.index = index
        self.top = head(reply, "chat.completion.chunk")
        self.tail = {"usage": None} if counted else {}

    def chunk(
        self, delta: Any, finish_reason: str | None = None, logprobs: Any = None
    ) -> dict[str, Any]:
        choice = {"index": self.index, "delta": delta, "logprobs": logprobs}
        return {**self.top, "choices": [{**choice, "finish_reason": finish_reason}], **self.tail}

    def deltas(self, delta: dict[str, Any], pieces: Sequence[str]) -> Iterator[WireFrame]:
        before, after = around(self.chunk(delta))
        for piece in pieces:
            yield WireFrame(before + encode(piece) + after, content=True)

    def frames(self) -> Iterator[WireFrame]:
        reply = self.reply
        pieces = reply.candidates[self.index]
        opening = {"role": "assistant", "content": "" if pieces else None, "refusal": None}
        yield WireFrame(encode(self.chunk(opening)))
        yield from self.deltas({"reasoning_content": PLACEHOLDER}, reply.thinking)
        yield from self.text(pieces)
        yield from self.deltas({"refusal": PLACEHOLDER}, reply.refusal)
        for number, call in enumerate(reply.tool_calls):
            yield from self.call(number, call)
        if reply.citations:
            yield WireFrame(encode(self.chunk({"annotations": url_annotations(reply)})))
        yield WireFrame(encode(self.chunk({}, reply.finish_reason)))

    def text(self, pieces: Sequence[str]) -> Iterator[WireFrame]:
        if not self.reply.request_body.get("logprobs"):
            yield from self.deltas({"content": PLACEHOLDER}, pieces)
            return
        for piece in pieces:
            likely = logprobs(self.reply.request_body, [piece])
            yield WireFrame(encode(self.chunk({"content": piece}, logprobs=likely)), content=True)

    def call(self, number: int, call: PreparedToolCall) -> Iterator[WireFrame]:
        first = {"index": number, **tool_call(call, "")}
        yield WireFrame(encode(self.chunk({"tool_calls": [first]})))
        later = {"index": number, "function": {"arguments": PLACEHOLDER}}
        yield from self.deltas({"tool_calls": [later]}, call.pieces)


def tool_call(call: PreparedToolCall, arguments: str) -> dict[str, Any]:
    return {
        "id": call.id or f"call_{call.key}",
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    }


def head(reply: PreparedReply, kind: str) -> dict[str, Any]:
    return {
        "id": reply.id or f"chatcmpl-{reply.key}",
        "object": kind,
        "created": reply.created,
        "model": reply.model,
        "service_tier": "default",
        "system_fingerprint": FINGERPRINT,
    }


def message(reply: PreparedReply, pieces: Sequence[str]) -> dict[str, Any]:
    content: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(pieces) if pieces else None,
        "refusal": "".join(reply.refusal) or None,
        "annotations": url_annotations(reply),
    }
    if reply.thinking:
        content["reasoning_content"] = "".join(reply.thinking)
    if reply.tool_calls:
        content["tool_calls"] = [tool_call(call, call.arguments) for call in reply.tool_calls]
    return content


def url_annotations(reply: PreparedReply) -> list[dict[str, Any]]:
    return [
        {"type": "url_citation", "url_citation": url_citation(citation, reply.text)}
        for citation in reply.citations
    ]


def url_citation(citation: Citation, text: str) -> dict[str, Any]:
    start = max(text.find(citation.text), 0)
    return {
        "start_index": start,
        "end_index": start + len(citation.text),
        "title": citation.title,
        "url": citation.url or "",
    }


def usage(counted: Usage) -> dict[str, Any]:
    written = counted.cache_write_tokens
    return {
        "prompt_tokens": counted.input_tokens,
        "completion_tokens": counted.output_tokens,
        "total_tokens": counted.input_tokens + counted.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": counted.cached_tokens,
            "audio_tokens": 0,
            **({"cache_write_tokens": written} if written else {}),
        },
        "completion_tokens_details": {
            "reasoning_tokens": counted.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def logprobs(request_body: RequestBody, pieces: Sequence[str]) -> dict[str, Any] | None:
    """Log probabilities in OpenAI's shape; every token is given the same one."""
    if not request_body.get("logprobs"):
        return None
    top = range(request_body.get("top_logprobs") or 0)

    def scored(piece: str) -> dict[str, Any]:
        return {"token": piece, "logprob": -0.1, "bytes": list(piece.encode())}

    return {
        "content": [
            {**scored(piece), "top_logprobs": [scored(piece) for _ in top][:1]} for piece in pieces
        ],
        "refusal": None,
    }


def interleaved(candidates: list[Iterator[WireFrame]]) -> Iterator[WireFrame]:
    """The candidates' frames in turns, as OpenAI sends them."""
    if len(candidates) == 1:
        return candidates[0]
    rounds = zip_longest(*candidates)
    return (frame for turn in rounds for frame in turn if frame is not None)
