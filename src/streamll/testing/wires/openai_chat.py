"""OpenAI chat completions (``POST /v1/chat/completions``), also spoken by most other servers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Any

from ..answers import Answer
from ..formats import Message
from ..replies import Citation, Usage
from .base import SLOT, Body, Frame, Tool, around, encode, joined

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
    path = "/v1/chat/completions"

    def messages(self, body: Body) -> list[Message]:
        return [Message(m["role"], joined(m.get("content"))) for m in body.get("messages", ())]

    def tools(self, body: Body) -> list[Tool]:
        functions = (tool.get("function", {}) for tool in body.get("tools") or ())
        return [
            Tool(f.get("name", ""), f.get("description", ""), f.get("parameters") or {})
            for f in functions
        ]

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
        asked = (answer.body.get("stream_options") or {}).get("include_usage")
        top = head(answer, "chat.completion.chunk")
        tail = {"usage": None} if asked else {}

        def chunk(index: int, delta: Any, finish_reason: str | None = None) -> dict[str, Any]:
            choice = {"index": index, "delta": delta, "logprobs": None}
            return {**top, "choices": [{**choice, "finish_reason": finish_reason}], **tail}

        def contents(index: int, key: str, pieces: Sequence[str]) -> Iterator[Frame]:
            before, after = around(chunk(index, {key: SLOT}))
            for piece in pieces:
                yield Frame(before + encode(piece) + after, content=True)

        def candidate(index: int, pieces: Sequence[str]) -> Iterator[Frame]:
            opening: dict[str, Any] = {"role": "assistant", "content": "", "refusal": None}
            if not pieces:
                opening["content"] = None
            yield Frame(encode(chunk(index, opening)))
            yield from contents(index, "reasoning_content", answer.thinking)
            if answer.body.get("logprobs"):
                for piece in pieces:
                    frame = chunk(index, {"content": piece})
                    frame["choices"][0]["logprobs"] = logprobs(answer.body, [piece])
                    yield Frame(encode(frame), content=True)
            else:
                yield from contents(index, "content", pieces)
            yield from contents(index, "refusal", answer.refusal)
            for number, call in enumerate(answer.tool_calls):
                function = {"name": call.name, "arguments": ""}
                first = {"index": number, "id": f"call_{call.id}", "type": "function"}
                yield Frame(
                    encode(chunk(index, {"tool_calls": [{**first, "function": function}]})),
                    content=True,
                )
                delta = {"tool_calls": [{"index": number, "function": {"arguments": SLOT}}]}
                before, after = around(chunk(index, delta))
                for piece in call.pieces:
                    yield Frame(before + encode(piece) + after, content=True)
            if answer.citations:
                yield Frame(encode(chunk(index, {"annotations": annotations(answer)})))
            yield Frame(encode(chunk(index, {}, answer.finish_reason)))

        yield from interleaved([candidate(i, pieces) for i, pieces in enumerate(answer.candidates)])
        if asked:
            yield Frame(encode({**top, "choices": [], "usage": usage(answer.usage)}))
        yield DONE

    def error(self, status: int, kind: str | None, message: str) -> dict[str, Any]:
        kind = kind or KINDS.get(status, "server_error")
        code = CODES.get(status)
        return {"error": {"message": message, "type": kind, "param": None, "code": code}}

    def error_frames(self, kind: str | None, message: str) -> Sequence[Frame]:
        return [Frame(encode(self.error(500, kind, message))), DONE]

    def headers(self, answer_key: str) -> list[tuple[str, str]]:
        return [("x-request-id", f"req_{answer_key}"), ("openai-version", "2020-10-01")]


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
        "annotations": annotations(answer),
    }
    if answer.thinking:
        content["reasoning_content"] = "".join(answer.thinking)
    if answer.tool_calls:
        content["tool_calls"] = [
            {
                "id": f"call_{call.id}",
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in answer.tool_calls
        ]
    return content


def annotations(answer: Answer) -> list[dict[str, Any]]:
    return [annotation(citation, answer.text) for citation in answer.citations]


def annotation(citation: Citation, text: str) -> dict[str, Any]:
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
