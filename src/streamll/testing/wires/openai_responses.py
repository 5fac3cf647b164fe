"""OpenAI Responses (``POST /v1/responses``): typed items, numbered events.

Follows https://platform.openai.com/docs/api-reference/responses-streaming
(``openai-version: 2020-10-01``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from streamll.testing.prepared import PreparedReply, PreparedToolCall
from streamll.testing.prompts import PromptMessage
from streamll.testing.replies import Usage
from streamll.testing.wires.base import PLACEHOLDER, RequestBody, WireFrame, around, encode, text_of
from streamll.testing.wires.openai_chat import OpenAIWire, url_citation

UNFINISHED = {"length": "max_output_tokens", "content_filter": "content_filter"}


class UnnumberedEvent(NamedTuple):
    """An event without its number; ``rest`` is its JSON after ``type``, without the brace."""

    type: str
    rest: bytes
    content: bool = False


class OpenAIResponses(OpenAIWire):
    name = "responses"
    label = "OpenAI Responses"
    path = "/responses"
    address = "/v1/responses"
    lm_options = {"model_type": "responses"}  # noqa: RUF012
    schema_path = ("text", "format", "schema")

    def messages(self, body: RequestBody) -> list[PromptMessage]:
        system = [PromptMessage("system", body["instructions"])] if body.get("instructions") else []
        given = body.get("input")
        if isinstance(given, str):
            return [*system, PromptMessage("user", given)]
        return system + [message(item) for item in given or () if isinstance(item, dict)]

    def body(self, reply: PreparedReply) -> dict[str, Any]:
        return finished(reply)

    def frames(self, reply: PreparedReply) -> Iterable[WireFrame]:
        return numbered(events(reply), 0)

    def error_frames(
        self, reply: PreparedReply, kind: str | None, message: str, sent: int
    ) -> Iterable[WireFrame]:
        detail = {"code": kind or "server_error", "message": message}
        failed = {**response(reply, "failed"), "error": detail}
        ending = [event("error", **detail, param=None), event("response.failed", response=failed)]
        return numbered(ending, sent)


def message(item: Mapping[str, Any]) -> PromptMessage:
    """An input item as a message."""
    if item.get("type") == "function_call_output":
        return PromptMessage("tool", text_of(item.get("output")))
    return PromptMessage(item.get("role", "assistant"), text_of(item.get("content")))


# --- the response object ------------------------------------------------------------------------


def response(reply: PreparedReply, status: str) -> dict[str, Any]:
    """The response object before any output; options of the request are echoed."""
    asked = reply.request_body
    return {
        "id": reply.id or f"resp_{reply.key}",
        "object": "response",
        "created_at": reply.created,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": asked.get("instructions"),
        "max_output_tokens": asked.get("max_output_tokens"),
        "max_tool_calls": None,
        "model": reply.model,
        "output": [],
        "parallel_tool_calls": asked.get("parallel_tool_calls", True),
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": asked.get("reasoning") or {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "store": asked.get("store", True),
        "temperature": asked.get("temperature", 1.0),
        "text": asked.get("text") or {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": asked.get("tool_choice", "auto"),
        "tools": asked.get("tools") or [],
        "top_logprobs": 0,
        "top_p": asked.get("top_p", 1.0),
        "truncation": "disabled",
        "usage": None,
        "user": None,
        "metadata": asked.get("metadata") or {},
    }


def finished(reply: PreparedReply) -> dict[str, Any]:
    reason = UNFINISHED.get(reply.finish_reason)
    return {
        **response(reply, "incomplete" if reason else "completed"),
        "incomplete_details": {"reason": reason} if reason else None,
        "output": items(reply),
        "usage": usage(reply.usage),
    }


def usage(counted: Usage) -> dict[str, Any]:
    return {
        "input_tokens": counted.input_tokens,
        "input_tokens_details": {
            "cached_tokens": counted.cached_tokens,
            "cache_write_tokens": counted.cache_write_tokens,
        },
        "output_tokens": counted.output_tokens,
        "output_tokens_details": {"reasoning_tokens": counted.reasoning_tokens},
        "total_tokens": counted.input_tokens + counted.output_tokens,
    }


def items(reply: PreparedReply) -> list[dict[str, Any]]:
    """The output items, complete: reasoning, message, function calls."""
    found: list[dict[str, Any]] = []
    if reply.thinking:
        summary = {"type": "summary_text", "text": "".join(reply.thinking)}
        found.append({"id": f"rs_{reply.key}", "type": "reasoning", "summary": [summary]})
    refused = [refusal("".join(reply.refusal))] if reply.refusal else []
    said = [text(reply, reply.text)] if reply.text or not refused else []
    if reply.text or refused or not (reply.thinking or reply.tool_calls):
        answer = {
            "id": f"msg_{reply.key}",
            "type": "message",
            "status": "incomplete" if reply.finish_reason in UNFINISHED else "completed",
            "content": [*said, *refused],
            "role": "assistant",
        }
        found.append(answer)
    return found + [function_call(call) for call in reply.tool_calls]


def function_call(call: PreparedToolCall) -> dict[str, Any]:
    return {
        "id": f"fc_{call.key}",
        "type": "function_call",
        "status": "completed",
        "arguments": call.arguments,
        "call_id": call.id or f"call_{call.key}",
        "name": call.name,
    }


def text(reply: PreparedReply, said: str) -> dict[str, Any]:
    cited = reply.citations if said else ()
    notes = [{"type": "url_citation", **url_citation(each, reply.text)} for each in cited]
    return {"type": "output_text", "annotations": notes, "logprobs": [], "text": said}


def refusal(said: str) -> dict[str, Any]:
    return {"type": "refusal", "refusal": said}


# --- the stream ---------------------------------------------------------------------------------


def event(type: str, **fields: Any) -> UnnumberedEvent:  # noqa: A002 - the API's word
    return UnnumberedEvent(type, encode(fields)[1:])


def deltas(type: str, pieces: Sequence[str], **fields: Any) -> Iterator[UnnumberedEvent]:  # noqa: A002
    before, after = around({**fields, "delta": PLACEHOLDER})
    for piece in pieces:
        yield UnnumberedEvent(type, before[1:] + encode(piece) + after, content=True)


def numbered(sequence: Iterable[UnnumberedEvent], first: int) -> Iterator[WireFrame]:
    for number, (kind, rest, content) in enumerate(sequence, first):
        name = kind.encode()
        data = b'{"type":"%b","sequence_number":%d,%b' % (name, number, rest)
        yield WireFrame(data, name, content)


def events(reply: PreparedReply) -> Iterator[UnnumberedEvent]:
    begun = response(reply, "in_progress")
    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    calls = iter(reply.tool_calls)
    for index, whole in enumerate(items(reply)):
        place = {"item_id": whole["id"], "output_index": index}
        yield event("response.output_item.added", output_index=index, item=emptied(whole))
        if whole["type"] == "function_call":
            yield from called(next(calls), place)
        elif whole["type"] == "reasoning":
            yield from reasoned(reply, place, whole["summary"][0])
        else:
            for number, content in enumerate(whole["content"]):
                yield from said(reply, {**place, "content_index": number}, content)
        yield event("response.output_item.done", output_index=index, item=whole)
    end = finished(reply)
    yield event(f"response.{end['status']}", response=end)


def emptied(whole: dict[str, Any]) -> dict[str, Any]:
    """An output item as ``response.output_item.added`` announces it: without its content."""
    empty = {"status": "in_progress", "content": [], "summary": [], "arguments": ""}
    return {key: empty.get(key, value) for key, value in whole.items()}


def called(call: PreparedToolCall, place: dict[str, Any]) -> Iterator[UnnumberedEvent]:
    kind = "response.function_call_arguments"
    yield from deltas(f"{kind}.delta", call.pieces, **place)
    yield event(f"{kind}.done", **place, name=call.name, arguments=call.arguments)


def reasoned(
    reply: PreparedReply, place: dict[str, Any], summary: dict[str, Any]
) -> Iterator[UnnumberedEvent]:
    place = {**place, "summary_index": 0}
    kind = "response.reasoning_summary"
    yield event(f"{kind}_part.added", **place, part={**summary, "text": ""})
    yield from deltas(f"{kind}_text.delta", reply.thinking, **place)
    yield event(f"{kind}_text.done", **place, text=summary["text"])
    yield event(f"{kind}_part.done", **place, part=summary)


def said(
    reply: PreparedReply, place: dict[str, Any], content: dict[str, Any]
) -> Iterator[UnnumberedEvent]:
    if content["type"] == "refusal":
        yield event("response.content_part.added", **place, part=refusal(""))
        yield from deltas("response.refusal.delta", reply.refusal, **place)
        yield event("response.refusal.done", **place, refusal=content["refusal"])
    else:
        yield event("response.content_part.added", **place, part=text(reply, ""))
        pieces = reply.candidates[0]
        yield from deltas("response.output_text.delta", pieces, **place, logprobs=[])
        for number, note in enumerate(content["annotations"]):
            kind = "response.output_text.annotation.added"
            yield event(kind, **place, annotation_index=number, annotation=note)
        yield event("response.output_text.done", **place, text=content["text"], logprobs=[])
    yield event("response.content_part.done", **place, part=content)
