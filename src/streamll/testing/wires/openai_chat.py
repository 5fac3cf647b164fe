"""OpenAI chat completions (``POST /v1/chat/completions``), also spoken by most other servers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from streamll.testing.answers import Answer, CutCall
from streamll.testing.formats import Message, Tool
from streamll.testing.replies import Citation, Usage
from streamll.testing.wires.base import SLOT, Body, Frame, around, encode, joined, schema_in

DONE = Frame(b"[DONE]")
FINGERPRINT = "fp_practice"
KINDS = {
    400: "invalid_request_error",
    401: "invalid_request_error",
    403: "invalid_request_error",
    404: "invalid_request_error",
    429: "requests",
}
CODES = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}


class OpenAIChat:
    name = "openai"
    path = "/chat/completions"

    def messages(self, body: Body) -> list[Message]:
        return [Message(m["role"], joined(m.get("content"))) for m in body.get("messages", ())]

    def tools(self, body: Body) -> list[Tool]:
        functions = (tool.get("function", {}) for tool in body.get("tools") or ())
        return [
            Tool(f.get("name", ""), f.get("description") or "", f.get("parameters") or {})
            for f in functions
        ]

    def schema(self, body: Body) -> Mapping[str, Any]:
        return schema_in(body, "response_format", "json_schema", "schema")

    def count(self, body: Body) -> int:
        return body.get("n") or 1

    def body(self, answer: Answer) -> dict[str, Any]:
        return {
            **head(answer, "chat.completion"),
            "choices": [
                {
                    "index": index,
                    "message": message(answer, pieces),
                    "logprobs": logprobs(answer.body, pieces),
                    "finish_reason": answer.finish_reason,
                }
                for index, pieces in enumerate(answer.candidates)
            ],
            "usage": usage(answer.usage),
        }

    def frames(self, answer: Answer) -> Iterable[Frame]:
        counted = bool((answer.body.get("stream_options") or {}).get("include_usage"))
        yield from interleaved(
            [Candidate(answer, i, counted=counted).frames() for i in range(len(answer.candidates))]
        )
        if counted:
            top = head(answer, "chat.completion.chunk")
            yield Frame(encode({**top, "choices": [], "usage": usage(answer.usage)}))
        yield DONE

    def error(self, status: int, kind: str | None, message: str) -> dict[str, Any]:
        return error(status, kind, message)

    def error_frames(
        self,
        answer: Answer,
        kind: str | None,
        message: str,
        sent: int,
    ) -> Iterable[Frame]:
        return [Frame(encode(error(500, kind, message))), DONE]

    def headers(self, answer: Answer) -> list[tuple[str, str]]:
        return headers(answer)


def error(status: int, kind: str | None, message: str) -> dict[str, Any]:
    kind = kind or KINDS.get(status, "server_error")
    return {
        "error": {"message": message, "type": kind, "param": None, "code": CODES.get(status)},
    }


def headers(answer: Answer) -> list[tuple[str, str]]:
    return [("x-request-id", f"req_{answer.key}"), ("openai-version", "2020-10-01")]


class Candidate:
    """The chunks of one choice."""

    def __init__(self, answer: Answer, index: int, *, counted: bool) -> None:
        self.answer = answer
        self.index = index
        self.top = head(answer, "chat.completion.chunk")
        self.tail = {"usage": None} if counted else {}

    def chunk(
        self, delta: Any, finish_reason: str | None = None, logprobs: Any = None
    ) -> dict[str, Any]:
        choice = {"index": self.index, "delta": delta, "logprobs": logprobs}
        return {
            **self.top,
            "choices": [{**choice, "finish_reason": finish_reason}],
            **self.tail,
        }

    def deltas(self, delta: dict[str, Any], pieces: Sequence[str]) -> Iterator[Frame]:
        before, after = around(self.chunk(delta))
        for piece in pieces:
            yield Frame(before + encode(piece) + after, content=True)

    def frames(self) -> Iterator[Frame]:
        answer = self.answer
        pieces = answer.candidates[self.index]
        opening = {"role": "assistant", "content": "" if pieces else None, "refusal": None}
        yield Frame(encode(self.chunk(opening)))
        yield from self.deltas({"reasoning_content": SLOT}, answer.thinking)
        yield from self.text(pieces)
        yield from self.deltas({"refusal": SLOT}, answer.refusal)
        for number, call in enumerate(answer.tool_calls):
            yield from self.call(number, call)
        if answer.citations:
            yield Frame(encode(self.chunk({"annotations": notes(answer)})))
        yield Frame(encode(self.chunk({}, answer.finish_reason)))

    def text(self, pieces: Sequence[str]) -> Iterator[Frame]:
        if not self.answer.body.get("logprobs"):
            yield from self.deltas({"content": SLOT}, pieces)
            return
        for piece in pieces:
            likely = logprobs(self.answer.body, [piece])
            yield Frame(encode(self.chunk({"content": piece}, logprobs=likely)), content=True)

    def call(self, number: int, call: CutCall) -> Iterator[Frame]:
        function = {"name": call.name, "arguments": ""}
        first = {"index": number, "id": call_id(call), "type": "function", "function": function}
        yield Frame(encode(self.chunk({"tool_calls": [first]})))
        later = {"index": number, "function": {"arguments": SLOT}}
        yield from self.deltas({"tool_calls": [later]}, call.pieces)


def call_id(call: CutCall) -> str:
    return call.id or f"call_{call.key}"


def head(answer: Answer, kind: str) -> dict[str, Any]:
    return {
        "id": answer.id or f"chatcmpl-{answer.key}",
        "object": kind,
        "created": answer.created,
        "model": answer.model,
        "service_tier": "default",
        "system_fingerprint": FINGERPRINT,
    }


def message(answer: Answer, pieces: Sequence[str]) -> dict[str, Any]:
    content: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(pieces) if pieces else None,
        "refusal": "".join(answer.refusal) or None,
        "annotations": notes(answer),
    }
    if answer.thinking:
        content["reasoning_content"] = "".join(answer.thinking)
    if answer.tool_calls:
        content["tool_calls"] = [
            {
                "id": call_id(call),
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in answer.tool_calls
        ]
    return content


def notes(answer: Answer) -> list[dict[str, Any]]:
    return [note(citation, answer.text) for citation in answer.citations]


def note(citation: Citation, text: str) -> dict[str, Any]:
    start = max(text.find(citation.text), 0)
    place = {"start_index": start, "end_index": start + len(citation.text)}
    page = {"title": citation.title, "url": citation.url or ""}
    return {"type": "url_citation", "url_citation": {**place, **page}}


def usage(counted: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": counted.input_tokens,
        "completion_tokens": counted.output_tokens,
        "total_tokens": counted.input_tokens + counted.output_tokens,
        "prompt_tokens_details": {"cached_tokens": counted.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": counted.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def logprobs(body: Body, pieces: Sequence[str]) -> dict[str, Any] | None:
    """Every token as likely as the next: the fields are what a client reads."""
    if not body.get("logprobs"):
        return None
    top = range(body.get("top_logprobs") or 0)

    def likely(piece: str) -> dict[str, Any]:
        return {"token": piece, "logprob": -0.1, "bytes": list(piece.encode())}

    return {
        "content": [
            {**likely(piece), "top_logprobs": [likely(piece) for _ in top][:1]} for piece in pieces
        ],
        "refusal": None,
    }


def interleaved(candidates: list[Iterator[Frame]]) -> Iterator[Frame]:
    """Candidates as OpenAI sends them: by turns."""
    if len(candidates) == 1:
        return candidates[0]
    rounds = zip_longest(*candidates)
    return (frame for turn in rounds for frame in turn if frame is not None)
