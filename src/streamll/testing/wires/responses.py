"""OpenAI Responses (``POST /v1/responses``): typed items, numbered events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from streamll.testing.answers import Answer, CutCall
from streamll.testing.formats import Message, Tool
from streamll.testing.replies import Usage
from streamll.testing.wires import openai_chat
from streamll.testing.wires.base import SLOT, Body, Frame, around, encode, joined, schema_in

UNFINISHED = {"length": "max_output_tokens", "content_filter": "content_filter"}


class Event(NamedTuple):
    """An event without its number; ``rest`` is its JSON after ``type``, without the brace."""

    type: str
    rest: bytes
    content: bool = False


class Responses:
    name = "responses"
    path = "/responses"

    def messages(self, body: Body) -> list[Message]:
        system = [Message("system", body["instructions"])] if body.get("instructions") else []
        given = body.get("input")
        if isinstance(given, str):
            return [*system, Message("user", given)]
        return system + [message(item) for item in given or () if isinstance(item, dict)]

    def tools(self, body: Body) -> list[Tool]:
        return [
            Tool(tool["name"], tool.get("description") or "", tool.get("parameters") or {})
            for tool in body.get("tools") or ()
            if tool.get("type") == "function"
        ]

    def schema(self, body: Body) -> Mapping[str, Any]:
        return schema_in(body, "text", "format", "schema")

    def count(self, body: Body) -> int:
        return 1

    def body(self, answer: Answer) -> dict[str, Any]:
        return finished(answer)

    def frames(self, answer: Answer) -> Iterable[Frame]:
        return numbered(events(answer), 0)

    def error(self, status: int, kind: str | None, message: str) -> dict[str, Any]:
        return openai_chat.error(status, kind, message)

    def error_frames(
        self, answer: Answer, kind: str | None, message: str, sent: int
    ) -> Iterable[Frame]:
        detail = {"code": kind or "server_error", "message": message}
        failed = {**response(answer, "failed"), "error": detail}
        ending = [
            event("error", **detail, param=None),
            event("response.failed", response=failed),
        ]
        return numbered(ending, sent)

    def headers(self, answer: Answer) -> list[tuple[str, str]]:
        return openai_chat.headers(answer)


def message(item: dict[str, Any]) -> Message:
    if item.get("type") == "function_call_output":
        return Message("tool", joined(item.get("output")))
    return Message(item.get("role", "assistant"), joined(item.get("content")))


# --- the response object ------------------------------------------------------------------------


def response(answer: Answer, status: str) -> dict[str, Any]:
    """As it stands before anything was written; what the request set is echoed."""
    asked = answer.body
    return {
        "id": answer.id or f"resp_{answer.key}",
        "object": "response",
        "created_at": answer.created,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": asked.get("instructions"),
        "max_output_tokens": asked.get("max_output_tokens"),
        "max_tool_calls": None,
        "model": answer.model,
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


def finished(answer: Answer) -> dict[str, Any]:
    reason = UNFINISHED.get(answer.finish_reason)
    return {
        **response(answer, "incomplete" if reason else "completed"),
        "incomplete_details": {"reason": reason} if reason else None,
        "output": [item(answer, part) for part in parts(answer)],
        "usage": usage(answer.usage),
    }


def usage(counted: Usage) -> dict[str, Any]:
    return {
        "input_tokens": counted.input_tokens,
        "input_tokens_details": {"cached_tokens": counted.cached_tokens},
        "output_tokens": counted.output_tokens,
        "output_tokens_details": {"reasoning_tokens": counted.reasoning_tokens},
        "total_tokens": counted.input_tokens + counted.output_tokens,
    }


Part = CutCall | str
"""An output item: a function call, ``"reasoning"`` or ``"message"``."""


def parts(answer: Answer) -> list[Part]:
    thought: list[Part] = ["reasoning"] if answer.thinking else []
    said = answer.text or answer.refusal or not (answer.thinking or answer.tool_calls)
    return [*thought, *(["message"] if said else []), *answer.tool_calls]


def item(answer: Answer, part: Part) -> dict[str, Any]:
    """An output item, complete."""
    if part == "reasoning":
        summary = {"type": "summary_text", "text": "".join(answer.thinking)}
        return {"id": f"rs_{answer.key}", "type": "reasoning", "summary": [summary]}
    if isinstance(part, CutCall):
        return {
            "id": f"fc_{part.key}",
            "type": "function_call",
            "status": "completed",
            "arguments": part.arguments,
            "call_id": part.id or f"call_{part.key}",
            "name": part.name,
        }
    said = [text(answer, answer.text)] if answer.text or not answer.refusal else []
    refused = [refusal("".join(answer.refusal))] if answer.refusal else []
    return {
        "id": f"msg_{answer.key}",
        "type": "message",
        "status": "incomplete" if answer.finish_reason in UNFINISHED else "completed",
        "content": [*said, *refused],
        "role": "assistant",
    }


def text(answer: Answer, said: str) -> dict[str, Any]:
    found = notes(answer) if said else []
    return {"type": "output_text", "annotations": found, "logprobs": [], "text": said}


def refusal(said: str) -> dict[str, Any]:
    return {"type": "refusal", "refusal": said}


def notes(answer: Answer) -> list[dict[str, Any]]:
    """The chat wire's, unwrapped."""
    return [{"type": "url_citation", **note["url_citation"]} for note in openai_chat.notes(answer)]


# --- the stream ---------------------------------------------------------------------------------


def event(type: str, **fields: Any) -> Event:  # noqa: A002 - the wire's word
    return Event(type, encode(fields)[1:])


def deltas(type: str, pieces: Sequence[str], **fields: Any) -> Iterator[Event]:  # noqa: A002
    before, after = around({**fields, "delta": SLOT})
    for piece in pieces:
        yield Event(type, before[1:] + encode(piece) + after, content=True)


def numbered(sequence: Iterable[Event], first: int) -> Iterator[Frame]:
    for number, (kind, rest, content) in enumerate(sequence, first):
        name = kind.encode()
        data = b'{"type":"%b","sequence_number":%d,%b' % (name, number, rest)
        yield Frame(data, name, content)


def events(answer: Answer) -> Iterator[Event]:
    begun = response(answer, "in_progress")
    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    for index, part in enumerate(parts(answer)):
        whole = item(answer, part)
        place = {"item_id": whole["id"], "output_index": index}
        yield event("response.output_item.added", output_index=index, item=emptied(whole))
        if isinstance(part, CutCall):
            yield from called(part, place)
        elif part == "reasoning":
            yield from reasoned(answer, place, whole["summary"][0])
        else:
            for number, content in enumerate(whole["content"]):
                yield from said(answer, {**place, "content_index": number}, content)
        yield event("response.output_item.done", output_index=index, item=whole)
    end = finished(answer)
    yield event(f"response.{end['status']}", response=end)


def emptied(whole: dict[str, Any]) -> dict[str, Any]:
    """An output item as it is announced."""
    empty = {"status": "in_progress", "content": [], "summary": [], "arguments": ""}
    return {key: empty.get(key, value) for key, value in whole.items()}


def called(call: CutCall, place: dict[str, Any]) -> Iterator[Event]:
    kind = "response.function_call_arguments"
    yield from deltas(f"{kind}.delta", call.pieces, **place)
    yield event(f"{kind}.done", **place, arguments=call.arguments)


def reasoned(answer: Answer, place: dict[str, Any], summary: dict[str, Any]) -> Iterator[Event]:
    place = {**place, "summary_index": 0}
    kind = "response.reasoning_summary"
    yield event(f"{kind}_part.added", **place, part={**summary, "text": ""})
    yield from deltas(f"{kind}_text.delta", answer.thinking, **place)
    yield event(f"{kind}_text.done", **place, text=summary["text"])
    yield event(f"{kind}_part.done", **place, part=summary)


def said(answer: Answer, place: dict[str, Any], content: dict[str, Any]) -> Iterator[Event]:
    if content["type"] == "refusal":
        yield event("response.content_part.added", **place, part=refusal(""))
        yield from deltas("response.refusal.delta", answer.refusal, **place)
        yield event("response.refusal.done", **place, refusal=content["refusal"])
    else:
        yield event("response.content_part.added", **place, part=text(answer, ""))
        pieces = answer.candidates[0]
        yield from deltas("response.output_text.delta", pieces, **place, logprobs=[])
        for number, note in enumerate(content["annotations"]):
            yield event(
                "response.output_text.annotation.added",
                **place,
                annotation_index=number,
                annotation=note,
            )
        yield event("response.output_text.done", **place, text=content["text"], logprobs=[])
    yield event("response.content_part.done", **place, part=content)
