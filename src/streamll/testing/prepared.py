"""A reply prepared for one request: texts cut into chunks, ids derived, tokens counted.

Whatever a wire writes comes from a ``PreparedReply``, streamed or not, so that both forms of a
reply say the same. This module does not know any wire.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streamll.testing.cutting import Chunk, cut
from streamll.testing.prompts import Prompt, PromptMessage, as_json, render
from streamll.testing.recorded import NOTHING_ASKED, Asked, RecordedRequest
from streamll.testing.replies import Citation, FinishReason, Reply, ToolCall, Usage


@dataclass(frozen=True)
class PreparedToolCall:
    """A tool call whose arguments are cut into the pieces to stream."""

    key: str
    id: str | None
    name: str
    pieces: Sequence[str]

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)


@dataclass(frozen=True)
class PreparedReply:
    """``key`` is 24 hexadecimal digits, to which each wire adds its own prefix."""

    key: str
    id: str | None
    model: str
    created: int
    candidates: Sequence[Sequence[str]]
    thinking: Sequence[str]
    refusal: Sequence[str]
    tool_calls: Sequence[PreparedToolCall]
    citations: Sequence[Citation]
    finish_reason: FinishReason
    usage: Usage
    request_body: Mapping[str, Any]
    asked: Asked = NOTHING_ASKED

    @property
    def text(self) -> str:
        return "".join(self.candidates[0])


def prepare(reply: Reply, request: RecordedRequest) -> PreparedReply:
    """``reply`` as the answer to this request."""
    asked, chunk = request.asked, reply.chunk or "token"
    first = reply.text if reply.chunks is None else "".join(reply.chunks)
    texts = [rendered(text, reply, request.prompt) for text in (first, *reply.candidates)][
        : asked.candidates
    ]
    called = as_json([[call.name, call.arguments] for call in reply.tool_calls])
    said = [texts, reply.thinking, reply.refusal, called]
    key = digest([*said, request.messages, asked.model or None])
    candidates: list[Sequence[str]] = [cut(text, chunk) for text in texts]
    if reply.chunks is not None:
        candidates[0] = [piece for piece in reply.chunks if piece]
    candidates += [candidates[0]] * (asked.candidates - len(candidates))
    calls = [cut_call(call, index, key, chunk) for index, call in enumerate(reply.tool_calls)]
    return PreparedReply(
        key=key,
        id=reply.id,
        model=reply.model or asked.model or "practice",
        created=reply.created,
        candidates=candidates,
        thinking=cut(reply.thinking, chunk),
        refusal=cut(reply.refusal, chunk),
        tool_calls=calls,
        citations=reply.citations,
        finish_reason=reply.finish_reason or ("tool_calls" if calls else "stop"),
        usage=reply.usage or count_tokens(request.messages, texts, reply),
        request_body=request.body,
        asked=asked,
    )


def rendered(text: str | Mapping[str, Any] | None, reply: Reply, prompt: Prompt) -> str:
    if isinstance(text, Mapping):
        return render(text, reply.format or prompt.format, prompt.fields)
    return text or ""


def cut_call(call: ToolCall, index: int, key: str, chunk: Chunk) -> PreparedToolCall:
    arguments = call.arguments if isinstance(call.arguments, str) else as_json(call.arguments)
    return PreparedToolCall(digest([key, index]), call.id, call.name, cut(arguments, chunk))


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:24]


def count_tokens(messages: Sequence[PromptMessage], texts: Sequence[str], reply: Reply) -> Usage:
    """About as many as a tokenizer would count; independent of how the texts are cut."""
    reasoning = tokens(reply.thinking)
    arguments = [as_json(call.arguments) for call in reply.tool_calls]
    return Usage(
        input_tokens=sum(tokens(message.text) for message in messages),
        output_tokens=sum(map(tokens, [*texts, reply.refusal, *arguments])) + reasoning,
        reasoning_tokens=reasoning,
    )


def tokens(text: str) -> int:
    return len(cut(text, "token"))
