"""A reply made definite for one request: texts cut, ids derived, tokens counted.

Everything a wire writes comes from an ``Answer``, streamed or not, so both forms of one reply
say the same. Does not know any wire.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streamll.testing.cutting import Chunk, cut
from streamll.testing.formats import Message, Prompt, as_json, render
from streamll.testing.recorded import RecordedRequest
from streamll.testing.replies import Citation, FinishReason, Reply, ToolCall, Usage


@dataclass(frozen=True)
class CutCall:
    """A tool call with its arguments as the pieces that are streamed."""

    key: str
    id: str | None
    name: str
    pieces: Sequence[str]

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)


@dataclass(frozen=True)
class Answer:
    """``key`` is 24 hexadecimal digits; each wire puts its own prefix before it."""

    key: str
    id: str | None
    model: str
    created: int
    candidates: Sequence[Sequence[str]]
    thinking: Sequence[str]
    refusal: Sequence[str]
    tool_calls: Sequence[CutCall]
    citations: Sequence[Citation]
    finish_reason: FinishReason
    usage: Usage
    body: Mapping[str, Any]

    @property
    def text(self) -> str:
        return "".join(self.candidates[0])


def answer(
    reply: Reply, request: RecordedRequest, *, chunk: Chunk = "token", count: int = 1
) -> Answer:
    """``reply`` as the answer to this request, with ``count`` candidates."""
    body, messages, prompt = request.body, request.messages, request.prompt
    chunk = reply.chunk or chunk
    first = reply.text if reply.chunks is None else "".join(reply.chunks)
    texts = [written(text, reply, prompt) for text in (first, *reply.candidates)][:count]
    called = [[call.name, call.arguments] for call in reply.tool_calls]
    said = [texts, reply.thinking, reply.refusal, as_json(called)]
    key = digest([*said, messages, body.get("model")])
    candidates: list[Sequence[str]] = [cut(text, chunk) for text in texts]
    if reply.chunks is not None:
        candidates[0] = [piece for piece in reply.chunks if piece]
    candidates += [candidates[0]] * (count - len(candidates))
    thinking = cut(reply.thinking, chunk)
    refusal = cut(reply.refusal, chunk)
    calls = [cut_call(call, index, key, chunk) for index, call in enumerate(reply.tool_calls)]
    return Answer(
        key=key,
        id=reply.id,
        model=reply.model or str(body.get("model") or "practice"),
        created=reply.created,
        candidates=candidates,
        thinking=thinking,
        refusal=refusal,
        tool_calls=calls,
        citations=reply.citations,
        finish_reason=reply.finish_reason or ("tool_calls" if calls else "stop"),
        usage=reply.usage or count_tokens(messages, texts, reply),
        body=body,
    )


def written(text: str | Mapping[str, Any] | None, reply: Reply, prompt: Prompt) -> str:
    if isinstance(text, Mapping):
        return render(text, reply.format or prompt.format)
    return text or ""


def cut_call(call: ToolCall, index: int, key: str, chunk: Chunk) -> CutCall:
    arguments = call.arguments if isinstance(call.arguments, str) else as_json(call.arguments)
    return CutCall(digest([key, index]), call.id, call.name, cut(arguments, chunk))


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:24]


def count_tokens(messages: Sequence[Message], texts: Sequence[str], reply: Reply) -> Usage:
    """About as many as a tokenizer would find; the same for the same texts, however cut."""
    reasoning = tokens(reply.thinking)
    written_by_tools = [as_json(call.arguments) for call in reply.tool_calls]
    return Usage(
        input_tokens=sum(tokens(message.text) for message in messages),
        output_tokens=sum(map(tokens, [*texts, reply.refusal, *written_by_tools])) + reasoning,
        reasoning_tokens=reasoning,
    )


def tokens(text: str) -> int:
    return len(cut(text, "token"))
