"""Gemini ``generateContent`` and ``streamGenerateContent`` (API v1beta): parts of candidates.

Follows https://ai.google.dev/api/generate-content: the address says the model and whether to stream;
each frame is a reply of its own shape with the next parts and the usage so far, and the last one has
the finish reason. With ``alt=sse`` these are server-sent events, otherwise one JSON array.

Thinking comes as parts with ``thought``, and its ``thoughtSignature`` on the first function call,
else with the end of the text. A refusal is text, as this API has no other place for it; a reply
without any content that ends in ``content_filter`` is a blocked prompt (``promptFeedback``).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qs, unquote

from streamll.testing.prepared import PreparedReply, PreparedToolCall
from streamll.testing.prompts import PromptMessage, PromptTool, as_json
from streamll.testing.recorded import Asked
from streamll.testing.replies import Usage
from streamll.testing.wires.base import PracticeWire, RequestBody, WireFrame, encode, text_of

STREAMING = ":streamGenerateContent"
FINISH_REASONS = {
    "stop": "STOP",
    "length": "MAX_TOKENS",
    "tool_calls": "STOP",
    "content_filter": "SAFETY",
}
ERROR_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    529: "UNAVAILABLE",
}


class Gemini(PracticeWire):
    name = "gemini"
    label = "Gemini"
    path = ":generateContent"
    address = "/v1beta/models/MODEL:generateContent"
    base_path = "/v1beta"
    provider = "gemini"
    line_end = b"\r\n"

    def answers(self, path: str) -> bool:
        return path.endswith((self.path, STREAMING))

    def asked(self, url: SplitResult, body: RequestBody) -> Asked:
        model = unquote(url.path.rpartition(":")[0].rpartition("/models/")[2])
        streaming = url.path.endswith(STREAMING)
        as_events = "sse" in parse_qs(url.query).get("alt", ())
        config = config_of(body)
        thinking = either(config, "thinkingConfig") or {}
        calling = either(either(body, "toolConfig") or {}, "functionCallingConfig") or {}
        return Asked(
            model=model,
            streaming=streaming,
            as_array=streaming and not as_events,
            candidates=either(config, "candidateCount") or 1,
            thinking=bool(either(thinking, "includeThoughts")),
            calls_tools=calling.get("mode") != "NONE",
        )

    def messages(self, body: RequestBody) -> list[PromptMessage]:
        instructions = either(body, "systemInstruction") or {}
        system = text_of(instructions.get("parts"))
        told = [PromptMessage("system", system)] if system else []
        return told + [message(content) for content in body.get("contents", ())]

    def tools(self, body: RequestBody) -> list[PromptTool]:
        return [
            PromptTool(
                each["name"],
                each.get("description") or "",
                in_lower_case(either(each, "parametersJsonSchema") or each.get("parameters") or {}),
            )
            for tool in body.get("tools") or ()
            for each in either(tool, "functionDeclarations") or ()
        ]

    def schema(self, body: RequestBody) -> Mapping[str, Any]:
        config = config_of(body)
        found = either(config, "responseJsonSchema") or either(config, "responseSchema") or {}
        lowered: Mapping[str, Any] = in_lower_case(found)
        return lowered

    def body(self, reply: PreparedReply) -> dict[str, Any]:
        top = around_candidates(reply, reply.usage)
        if is_blocked(reply):
            return {"promptFeedback": {"blockReason": "SAFETY"}, **top}
        candidates = [whole(reply, index) for index in range(len(reply.candidates))]
        return {"candidates": candidates, **top}

    def frames(self, reply: PreparedReply) -> Iterable[WireFrame]:
        if is_blocked(reply):
            return [WireFrame(encode(self.body(reply)))]
        return streamed(reply)

    def error(self, status: int, kind: str | None, message: str) -> dict[str, Any]:
        name = kind or ERROR_STATUSES.get(status, "INTERNAL")
        return {"error": {"code": status, "message": message, "status": name}}

    def error_frames(
        self, reply: PreparedReply, kind: str | None, message: str, sent: int
    ) -> Iterable[WireFrame]:
        return [WireFrame(encode(self.error(503, kind, message)))]

    def headers(self, reply: PreparedReply) -> list[tuple[str, str]]:
        return [("x-gemini-service-tier", "standard")]


# --- requests -----------------------------------------------------------------------------------


def either(holder: Mapping[str, Any], name: str) -> Any:
    """A field under its name, or in snake case: the API takes both, and clients send both."""
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
    return holder.get(name, holder.get(snake))


def config_of(body: RequestBody) -> Mapping[str, Any]:
    return either(body, "generationConfig") or {}


def message(content: Mapping[str, Any]) -> PromptMessage:
    parts = content.get("parts") or ()
    results = [found for part in parts if (found := either(part, "functionResponse"))]
    if results:
        return PromptMessage("tool", "\n".join(result_text(result) for result in results))
    role = "assistant" if content.get("role") == "model" else "user"
    return PromptMessage(role, text_of(list(parts)))


def result_text(result: Mapping[str, Any]) -> str:
    """A tool's result, which clients wrap in an object under various names."""
    response = result.get("response") or {}
    values = list(response.values())
    return values[0] if len(values) == 1 and isinstance(values[0], str) else as_json(response)


def in_lower_case(schema: Any) -> Any:
    """A schema with JSON Schema's names of types: Google's own dialect has them in capitals."""
    if isinstance(schema, list):
        return [in_lower_case(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {
        key: value.lower() if key == "type" and isinstance(value, str) else in_lower_case(value)
        for key, value in schema.items()
    }


# --- replies ------------------------------------------------------------------------------------


class Part(NamedTuple):
    """One part of a candidate: whole, and the parts of the same kind that a stream cuts it into."""

    whole: dict[str, Any]
    pieces: Sequence[dict[str, Any]]


def is_blocked(reply: PreparedReply) -> bool:
    said = (reply.text, reply.thinking, reply.refusal, reply.tool_calls)
    return reply.finish_reason == "content_filter" and not any(said)


def parts(reply: PreparedReply, index: int) -> list[Part]:
    """A candidate's parts; thinking, refusals and calls are the first candidate's."""
    first = index == 0
    found: list[Part] = []
    if reply.thinking and first:
        found.append(text_part(reply.thinking, thought=True))
    spoken = [*reply.candidates[index], *(reply.refusal if first else ())]
    calls = [call_part(call) for call in reply.tool_calls] if first else []
    if spoken or not calls:
        found.append(text_part(spoken))
    found += calls
    if reply.thinking and first:
        signed = next(each for each in found if "thought" not in each.whole)
        if calls:
            signed = calls[0]
            signed.pieces[0]["thoughtSignature"] = signature(reply)
        signed.whole["thoughtSignature"] = signature(reply)
    return found


def text_part(pieces: Sequence[str], **fields: Any) -> Part:
    return Part(
        {"text": "".join(pieces), **fields}, [{"text": piece, **fields} for piece in pieces]
    )


def call_part(call: PreparedToolCall) -> Part:
    try:
        arguments = json.loads(call.arguments)
    except ValueError:
        arguments = {}  # the API has no place for arguments that are not JSON
    called = {"name": call.name, "args": arguments, "id": call.id or call.key}
    part = {"functionCall": called}
    return Part(part, [dict(part)])


def signature(reply: PreparedReply) -> str:
    return base64.b64encode(reply.key.encode()).decode()


def candidate(index: int, parts: Sequence[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    return {"content": {"parts": parts, "role": "model"}, **fields, "index": index}


def ending(reply: PreparedReply, index: int) -> dict[str, Any]:
    """What only the whole candidate and its last frame have."""
    reason = {"finishReason": FINISH_REASONS[reply.finish_reason]}
    return {**reason, **({"groundingMetadata": grounding(reply)} if reply.citations else {})}


def whole(reply: PreparedReply, index: int) -> dict[str, Any]:
    said = [part.whole for part in parts(reply, index)]
    return candidate(index, said, **ending(reply, index))


def around_candidates(reply: PreparedReply, usage: Usage) -> dict[str, Any]:
    return {
        "usageMetadata": usage_metadata(usage),
        "modelVersion": reply.model,
        "responseId": reply.id or reply.key,
    }


def usage_metadata(usage: Usage) -> dict[str, Any]:
    """Counts of zero are left out, as this API does."""
    counts = {
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": usage.output_tokens - usage.reasoning_tokens,
        "totalTokenCount": usage.input_tokens + usage.output_tokens,
        "cachedContentTokenCount": usage.cached_tokens,
        "thoughtsTokenCount": usage.reasoning_tokens,
    }
    details = [{"modality": "TEXT", "tokenCount": usage.input_tokens}]
    return {
        **{name: count for name, count in counts.items() if count},
        "promptTokensDetails": details,
    }


def grounding(reply: PreparedReply) -> dict[str, Any]:
    chunks, supports = [], []
    for number, cited in enumerate(reply.citations):
        source = {"title": cited.title, **({"uri": cited.url} if cited.url is not None else {})}
        chunks.append({"web" if cited.url is not None else "retrievedContext": source})
        start = max(reply.text.find(cited.text), 0)
        segment = {"startIndex": start, "endIndex": start + len(cited.text), "text": cited.text}
        supports.append({"segment": segment, "groundingChunkIndices": [number]})
    return {"groundingChunks": chunks, "groundingSupports": supports}


# --- the stream ---------------------------------------------------------------------------------


def streamed(reply: PreparedReply) -> Iterator[WireFrame]:
    """Each candidate's pieces in turn, then the end of each, which has an empty text."""
    final, sent = reply.usage, 0
    for index in range(len(reply.candidates)):
        for part in parts(reply, index):
            for piece in part.pieces:
                sent += 1
                so_far = Usage(final.input_tokens, min(sent, final.output_tokens))
                yield frame(reply, candidate(index, [piece]), so_far, content=True)
    for index in range(len(reply.candidates)):
        last = {"text": ""}
        if reply.thinking and index == 0 and not reply.tool_calls:
            last["thoughtSignature"] = signature(reply)
        yield frame(reply, candidate(index, [last], **ending(reply, index)), final)


def frame(
    reply: PreparedReply, payload: dict[str, Any], usage: Usage, *, content: bool = False
) -> WireFrame:
    body = {"candidates": [payload], **around_candidates(reply, usage)}
    return WireFrame(encode(body), content=content)
