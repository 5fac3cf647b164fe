"""Random replies, written as random servers would stream them, whole or damaged.

Everything comes out of one ``random.Random``, so that a seed tells a stream. ``Writer`` is one wire:
``whole`` writes a stream that a server may send, with the reply that it says; ``read`` feeds bytes to
the wire's assembler and returns what came of it.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from streamll.capture.deltas import ThinkingDelta, ToolCallFragment
from streamll.capture.tap.wire import base
from streamll.capture.tap.wire.anthropic import AnthropicAssembler
from streamll.capture.tap.wire.base import string
from streamll.capture.tap.wire.chat import ChatAssembler
from streamll.capture.tap.wire.gemini import GeminiAssembler
from streamll.capture.tap.wire.reply import WireReply
from streamll.capture.tap.wire.responses import ResponsesAssembler

WORDS = (
    "a", " cat", " has", " nine", " lives", ".", "\n\n", " ", '"', "\\", "{", "}", "[DONE]", "é🎉",
    "\u2028", "data: x\n\n", '","content":"', '"}}', ": ", "null", "[[ ## answer ## ]]\n", "0",
)  # fmt: skip
NAMES = ("price", "stock", "search")
KEEP_ALIVES = (
    b": hi\n\n", b"data: \n\n", b"data:\n\n", b"event: ping\ndata: \n\n", b"data: null\n\n",
    b"data: : WORKING\n\n", b"\n", b"retry: 5\n\n", b"event: heartbeat\n\n", b"data: ping\n\n",
)  # fmt: skip
DONE = b"[DONE]"
FAULT = "the GPU is on fire"


@dataclass
class Reply:
    """What a server says."""

    text: str = ""
    thinking: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    """Name and arguments, as JSON text."""
    usage: dict[str, int] | None = None

    @property
    def content(self) -> tuple[str, list[tuple[str, Any]]]:
        return self.text, [(name, _value(arguments)) for name, arguments in self.calls]


def _value(arguments: str) -> Any:
    """Arguments as a value, however they are written; as text where they are no JSON."""
    try:
        return json.loads(arguments or "{}")
    except ValueError:
        return arguments


@dataclass
class Stream:
    """Frames (JSON values or bytes of data), the reply they say, and whether that is certain."""

    frames: list[Any]
    reply: Reply
    certain: bool = True
    """False where the plain reply may have to be asked for."""


@dataclass
class Outcome:
    """``fault`` or ``body``; and what was heard, by kind."""

    fault: base.WireFault | None
    body: dict[str, Any] | None
    heard: Reply
    whole: bool


def pieces(rng: random.Random, most: int = 6) -> list[str]:
    return ["".join(rng.choices(WORDS, k=rng.randint(1, 3))) for _ in range(rng.randint(0, most))]


def cut(rng: random.Random, text: str) -> list[str]:
    places = sorted(rng.randint(0, len(text)) for _ in range(rng.randint(0, 3)))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


def arguments(rng: random.Random) -> str:
    value = {rng.choice("abc"): rng.choice([1, "x}", {"n": [1]}, None, "{"]) for _ in range(2)}
    return json.dumps(value if rng.random() < 0.8 else {}, ensure_ascii=rng.random() < 0.5)


def usage_of(rng: random.Random, *names: str) -> dict[str, int]:
    return {name: rng.randint(0, 99) for name in names}


# --- chat -----------------------------------------------------------------------------------------


def chat_stream(rng: random.Random) -> Stream:
    """A chat completion as some server streams it, with its end."""
    said = pieces(rng)
    thoughts = pieces(rng, 3) if rng.random() < 0.4 else []
    calls = [(rng.choice(NAMES), arguments(rng)) for _ in range(rng.choice((0, 0, 0, 1, 2, 3)))]
    if not (said or calls):
        said = ["Hi"]
    top = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    extra = rng.choice(({}, {}, {"system_fingerprint": "f"}, {"provider": "P", "usage": None}))
    key = rng.choice(("reasoning_content", "reasoning"))

    def chunk(delta: Any, reason: str | None = None, **more: Any) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        if odd:
            choice = {name: value for name, value in choice.items() if value is not None}
        made = {**top, **extra, "choices": [choice], **more}
        if padded:
            made[padded] = "x" * rng.randint(1, 9)
        return made

    odd, padded = rng.random() < 0.3, rng.choice((None, None, "obfuscation", "p"))
    nulls = rng.choice(({}, {}, {"role": None, "tool_calls": None}))
    frames: list[Any] = []
    if rng.random() < 0.6:
        frames.append(chunk({"role": "assistant", "content": rng.choice(("", None))}))
    frames += [chunk({key: each, **rng.choice(({}, {"content": None}))}) for each in thoughts]
    frames += [chunk({**nulls, "content": each}) for each in said]
    written, certain = written_calls(rng, calls)
    frames += [chunk({"tool_calls": each}) for each in written]
    counted = usage_of(rng, "prompt_tokens", "completion_tokens", "total_tokens")
    frames += chat_end(rng, chunk, top, "tool_calls" if calls else "stop", counted)
    reply = Reply("".join(said), "".join(thoughts), calls, counted)
    return Stream(frames, reply, certain)


def chat_end(
    rng: random.Random,
    chunk: Callable[..., dict[str, Any]],
    top: dict[str, Any],
    reason: str,
    usage: dict[str, int],
) -> list[Any]:
    where = rng.choice(("apart", "apart", "with the reason", "in the choice", "x_groq"))
    last = chunk({}, reason)
    if where == "apart":
        frames = [last, {**top, "choices": [], "usage": usage}]
    elif where == "with the reason":
        frames = [{**last, "usage": usage}]
    elif where == "in the choice":
        last["choices"][0]["usage"] = usage
        frames = [last]
    else:
        frames = [{**last, "x_groq": {"id": "r", "usage": usage}}]
    return [*frames, DONE] if rng.random() < 0.8 else frames


def written_calls(
    rng: random.Random, calls: Sequence[tuple[str, str]]
) -> tuple[list[list[dict[str, Any]]], bool]:
    """The tool calls as some server numbers and cuts them: the fragments of each delta."""
    style = rng.choice(("openai", "openai", "whole", "repeated", "new ids", "by id"))
    index = rng.choice(("number", "none", "null", "zero")) if style == "whole" else "number"
    ids = rng.choice(("own", "none", "empty", "equal")) if style == "whole" else "own"
    written: list[list[dict[str, Any]]] = []
    for number, (name, text) in enumerate(calls):
        own = {"own": f"call_{number}", "empty": "", "equal": "x"}.get(ids)
        places = {"number": number, "zero": 0, "null": None}
        head: dict[str, Any] = {} if index == "none" else {"index": places[index]}
        if style == "by id":
            head = {}
        if own is not None:
            head["id"] = own
        cuts = [text] if style == "whole" else cut(rng, text)
        for at, piece in enumerate(cuts):
            function = {"arguments": piece}
            if at == 0 or style == "repeated":
                function["name"] = name
            fragment = {**head, "type": "function", "function": function}
            if at and style == "openai":
                fragment = {"index": number, "function": function}
            if at and style == "new ids":
                fragment = {"index": number, "id": f"y{number}{at}", "function": function}
            written.append([fragment])
    if style == "whole" and written and rng.random() < 0.5:
        written = [[fragment for each in written for fragment in each]]
    return written, style == "openai"


def chat_reply(body: dict[str, Any]) -> Reply:
    """What a chat completion says."""
    choices = body.get("choices") or [{}]
    message = choices[0].get("message") or {}
    content = message.get("content")
    thinking = message.get("reasoning_content") or message.get("reasoning") or ""
    if isinstance(content, list):
        thinking += "".join(
            part.get("text", "")
            for block in content
            if isinstance(block, dict) and block.get("type") == "thinking"
            for part in block.get("thinking") or ()
            if isinstance(part, dict) and isinstance(part.get("text"), str)
        )
        content = "".join(
            block["text"]
            for block in content
            if isinstance(block, dict)
            and block.get("type") == "text"
            and isinstance(block.get("text"), str)
        )
    calls = [
        (each["function"]["name"], _text(each["function"]["arguments"]))
        for each in message.get("tool_calls") or ()
        if isinstance(each, dict)
    ]
    return Reply(_text(content or ""), thinking, calls, body.get("usage"))


def _text(given: Any) -> str:
    return given if isinstance(given, str) else json.dumps(given)


# --- Responses --------------------------------------------------------------------------------------


def responses_stream(rng: random.Random) -> Stream:
    """A response as some server streams it, with its last event."""
    said, calls = pieces(rng), []
    thoughts = [each for each in (pieces(rng, 2) for _ in range(2)) if each]
    if rng.random() < 0.4:
        calls = [(rng.choice(NAMES), arguments(rng)) for _ in range(rng.randint(1, 2))]
    if not (said or calls):
        said = ["Hi"]
    items: list[dict[str, Any]] = []
    frames: list[Any] = []
    has_deltas = rng.random() < 0.8
    has_items = rng.random() < 0.7 or not has_deltas
    indexes = rng.random() < 0.8

    def event(kind: str, at: int, **more: Any) -> dict[str, Any]:
        made = {"type": f"response.{kind}", **({"output_index": at} if indexes else {}), **more}
        return made if rng.random() < 0.9 else dict(reversed(made.items()))

    def item(made: dict[str, Any], empty: dict[str, Any], deltas: list[dict[str, Any]]) -> None:
        at = len(items)
        items.append(made)
        if has_items or made["type"] == "function_call":
            frames.append(event("output_item.added", at, item={**made, **empty}))
        if has_deltas:
            frames.extend(deltas)
        if has_items and (not has_deltas or rng.random() < 0.7):
            frames.append(event("output_item.done", at, item=made))

    begun = {
        "id": "r",
        "object": "response",
        "created_at": 1,
        "model": "m",
        "status": "in_progress",
    }
    if rng.random() < 0.7:
        frames.append({"type": "response.created", "response": {**begun, "output": []}})
    if thoughts:
        summary = [{"type": "summary_text", "text": "".join(each)} for each in thoughts]
        deltas = [
            event("reasoning_summary_text.delta", 0, item_id="rs", summary_index=part, delta=piece)
            for part, each in enumerate(thoughts)
            for piece in each
        ]
        item({"type": "reasoning", "id": "rs", "summary": summary}, {"summary": []}, deltas)
    if said:
        at = len(items)
        content = [{"type": "output_text", "text": "".join(said), "annotations": []}]
        made = {"type": "message", "id": "ms", "role": "assistant", "content": content}
        item(made, {"content": []}, [
            event("output_text.delta", at, item_id="ms", content_index=0, delta=piece)
            for piece in said
        ])  # fmt: skip
    for number, (name, text) in enumerate(calls):
        at = len(items)
        made = {
            "type": "function_call", "id": f"fc{number}", "call_id": f"call{number}", "name": name,
            "arguments": text,
        }  # fmt: skip
        item(made, {"arguments": ""}, [
            event("function_call_arguments.delta", at, item_id=f"fc{number}", delta=piece)
            for piece in cut(rng, text) if piece
        ])  # fmt: skip
    counted = usage_of(rng, "input_tokens", "output_tokens", "total_tokens")
    output = rng.choice((items, items, items, [], None))
    final = {**begun, "status": "completed", "output": output, "usage": counted}
    frames.append({"type": "response.completed", "response": final})
    if rng.random() < 0.3:
        frames.append(DONE)
    told = "\n".join("".join(each) for each in thoughts)
    return Stream(frames, Reply("".join(said), told, calls, counted))


def responses_reply(body: dict[str, Any]) -> Reply:
    """What a response says."""
    text, thinking, calls = "", [], []
    for item in (each for each in body.get("output") or () if isinstance(each, dict)):
        if item.get("type") == "message":
            text += "".join(each["text"] for each in _entries(item, "content"))
        elif item.get("type") == "reasoning":
            thinking += [each["text"] for each in _entries(item, "summary")]
        elif item.get("type") == "function_call":
            calls.append((str(item.get("name")), _text(item.get("arguments"))))
    return Reply(text, "\n".join(thinking), calls, body.get("usage"))


def _entries(item: dict[str, Any], key: str) -> list[dict[str, Any]]:
    entries = item.get(key)
    return [
        each
        for each in (entries if isinstance(entries, list) else ())
        if isinstance(each, dict) and isinstance(each.get("text"), str)
    ]


# --- Anthropic --------------------------------------------------------------------------------------


def anthropic_stream(rng: random.Random) -> Stream:
    """A message as some server streams it."""
    counted = usage_of(rng, "input_tokens", "output_tokens")
    begun = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": []}
    begun = {**begun, "stop_reason": None, "usage": {**counted, "output_tokens": 1}}
    frames: list[Any] = [{"type": "message_start", "message": begun}]
    reply = Reply(usage=counted)
    kinds = rng.choices(("text", "text", "thinking", "tool_use"), k=rng.randint(1, 4))
    for at, kind in enumerate(kinds):
        begin: dict[str, Any] = {"type": kind}
        if kind == "tool_use":
            name, told = rng.choice(NAMES), arguments(rng)
            reply.calls.append((name, told))
            begin |= {"id": f"t{at}", "name": name, "input": {}}
            deltas = [{"type": "input_json_delta", "partial_json": each} for each in cut(rng, told)]
        else:
            said = pieces(rng) or ["Hi"]
            begin[kind] = ""
            deltas = [{"type": f"{kind}_delta", kind: each} for each in said]
            setattr(reply, kind, getattr(reply, kind) + "".join(said))
            if kind == "thinking":
                begin["signature"] = ""
                deltas.append({"type": "signature_delta", "signature": "s"})
        frames.append({"type": "content_block_start", "index": at, "content_block": begin})
        frames += [{"type": "content_block_delta", "index": at, "delta": each} for each in deltas]
        frames.append({"type": "content_block_stop", "index": at})
        if rng.random() < 0.2:
            frames.append({"type": "ping"})
    reason = "tool_use" if reply.calls else "end_turn"
    usage = {"output_tokens": counted["output_tokens"]}
    frames.append({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage})
    frames.append({"type": "message_stop"})
    return Stream(frames, reply)


def anthropic_reply(body: dict[str, Any]) -> Reply:
    """What a message says."""
    reply = Reply(usage=body.get("usage"))
    for block in (each for each in body.get("content") or () if isinstance(each, dict)):
        kind = block.get("type")
        if kind in ("text", "thinking") and isinstance(block.get(kind), str):
            setattr(reply, kind, getattr(reply, kind) + block[kind])
        elif kind == "tool_use":
            reply.calls.append((string(block.get("name")), _text(block.get("input"))))
    return reply


# --- Gemini -----------------------------------------------------------------------------------------


def gemini_stream(rng: random.Random) -> Stream:
    """A reply of ``streamGenerateContent`` as some server streams it."""
    reply, parts = Reply(), []
    for kind in rng.choices(("text", "text", "thinking", "call"), k=rng.randint(1, 4)):
        if kind == "call":
            name, told = rng.choice(NAMES), arguments(rng)
            reply.calls.append((name, told))
            parts.append([{"functionCall": {"name": name, "args": json.loads(told)}}])
            continue
        said = pieces(rng) or ["Hi"]
        setattr(reply, kind, getattr(reply, kind) + "".join(said))
        thought = {"thought": True} if kind == "thinking" else {}
        parts += [[{"text": each, **thought}] for each in said]
    if rng.random() < 0.3:
        parts = [[part for each in parts for part in each]]
    counted = usage_of(rng, "promptTokenCount", "candidatesTokenCount", "totalTokenCount")
    reply.usage = counted
    frames: list[Any] = []
    for each in parts:
        candidate = {"index": 0, "content": {"role": "model", "parts": each}}
        frames.append({"candidates": [candidate], "modelVersion": "m", "responseId": "r"})
    last = frames[-1]
    if rng.random() < 0.5:
        candidate = {"index": 0, "content": {"role": "model", "parts": [{"text": ""}]}}
        last = {"candidates": [candidate], "modelVersion": "m", "responseId": "r"}
        frames.append(last)
    last["candidates"][0]["finishReason"] = "STOP"
    last["usageMetadata"] = counted
    return Stream(frames, reply)


def gemini_reply(body: dict[str, Any]) -> Reply:
    """What a reply of Gemini's says."""
    reply = Reply(usage=body.get("usageMetadata"))
    candidates = body.get("candidates") or [{}]
    content = candidates[0].get("content") if isinstance(candidates[0], dict) else {}
    parts = content.get("parts") if isinstance(content, dict) else ()
    for part in (each for each in parts or () if isinstance(each, dict)):
        if isinstance(part.get("text"), str):
            kind = "thinking" if part.get("thought") else "text"
            setattr(reply, kind, getattr(reply, kind) + part["text"])
        elif isinstance(call := part.get("functionCall"), dict):
            reply.calls.append((string(call.get("name")), _text(call.get("args"))))
    return reply


# --- every wire -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Writer:
    """One wire: how it is written at random, its assembler, and what its bodies say."""

    name: str
    whole: Callable[[random.Random], Stream]
    assembler: Callable[[], Any]
    reply_in: Callable[[dict[str, Any]], Reply]
    restates: bool = False
    """The last frame has all of the reply, and counts where others said something else."""
    reorders: bool = False
    """What comes late may belong before what came: the reply's text is the same, in another order."""


WRITERS = (
    Writer("chat", chat_stream, ChatAssembler, chat_reply),
    Writer("responses", responses_stream, ResponsesAssembler, responses_reply, restates=True),
    Writer("anthropic", anthropic_stream, AnthropicAssembler, anthropic_reply, reorders=True),
    Writer("gemini", gemini_stream, GeminiAssembler, gemini_reply),
)


def framed(rng: random.Random, frames: Sequence[Any], *, keep_alives: bool = True) -> list[bytes]:
    """The frames as events of a stream, with what servers put in between; one item for each."""
    colon = rng.choice((b"data: ", b"data: ", b"data:", b" data: "))
    end = rng.choice((b"\n", b"\n", b"\n", b"\r\n", b"\r"))
    ascii_only = rng.random() < 0.5
    written = []
    for frame in frames:
        name = b""
        if rng.random() < 0.1:
            name = b"event: message\n"
        data = frame if isinstance(frame, bytes) else json.dumps(frame, ensure_ascii=ascii_only)
        data = data if isinstance(data, bytes) else data.encode()
        line = (name + colon + data + b"\n\n").replace(b"\n", end)
        if keep_alives and rng.random() < 0.2:
            line = rng.choice(KEEP_ALIVES).replace(b"\n", end) + line
        written.append(line)
    return written


def read(writer: Writer, rng: random.Random, sent: bytes, *, lost: bool = False) -> Outcome:
    """Feed a stream, cut anywhere, to the wire's assembler. ``lost``: the connection, at its end."""
    reply = WireReply(writer.assembler())
    reply.opened(200)
    deltas: list[Any] = []
    at, most = 0, rng.choice((1, 7, 50, 10_000))
    while at < len(sent) and reply.fault is None:
        step = rng.randint(1, most)
        deltas += reply.feed(sent[at : at + step])
        at += step
    if lost and not reply.whole:
        fault = reply.fault or base.CutShort("lost")
        return Outcome(fault, None, heard(deltas), whole=False)
    deltas += reply.finish()
    try:
        body = json.loads(reply.body()) if reply.streamed else None
    except base.WireFault as fault:
        return Outcome(fault, None, heard(deltas), whole=reply.whole)
    return Outcome(None, body, heard(deltas), whole=reply.whole)


def heard(deltas: Sequence[Any]) -> Reply:
    calls: dict[int, list[str]] = {}
    for each in deltas:
        if isinstance(each, ToolCallFragment):
            call = calls.setdefault(each.number, ["", ""])
            call[0] = call[0] or each.name or ""
            call[1] += each.arguments
    text = "".join(each for each in deltas if isinstance(each, str))
    thinking = "".join(each.text for each in deltas if isinstance(each, ThinkingDelta))
    return Reply(text, thinking, [(name, text) for name, text in calls.values()])


# --- damage -----------------------------------------------------------------------------------------


def damaged(rng: random.Random, frames: list[bytes]) -> bytes:
    """The stream, with something wrong in it."""
    frames = list(frames)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(frames))
        how = rng.choice(("lose", "repeat", "swap", "cut", "flip", "insert", "truncate"))
        if how == "lose" and len(frames) > 1:
            del frames[at]
        elif how == "repeat":
            frames.insert(at, frames[at])
        elif how == "swap":
            other = rng.randrange(len(frames))
            frames[at], frames[other] = frames[other], frames[at]
        elif how == "cut":
            frames[at] = frames[at][: rng.randint(0, len(frames[at]))]
        elif how == "flip" and frames[at]:
            place = rng.randrange(len(frames[at]))
            wrong = bytes([rng.randrange(256)])
            frames[at] = frames[at][:place] + wrong + frames[at][place + 1 :]
        elif how == "insert":
            frames.insert(at, rng.choice((b"data: {oops\n\n", b"data: 7\n\n", b"\x00\xff\n\n")))
        else:
            frames = frames[: at + 1]
    return b"".join(frames)


ODD_VALUES = (None, 0, -1, 1.5, True, "", "x", [], {}, [None], {"a": 1}, [[]], "error", [1, "a"])


def odd_values(rng: random.Random, frames: Sequence[Any]) -> list[Any]:
    """The frames, with values of another type or missing anywhere."""
    made = [each if isinstance(each, bytes) else json.loads(json.dumps(each)) for each in frames]
    for _ in range(rng.randint(1, 4)):
        holder: Any = rng.choice(made)
        if isinstance(holder, bytes):
            continue
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(holder[key], (dict, list)) and holder[key] and rng.random() < 0.8:
                holder = holder[key]
            elif isinstance(holder, dict) and rng.random() < 0.3:
                del holder[key]
                break
            else:
                holder[key] = copy.deepcopy(rng.choice(ODD_VALUES))
                break
    return made
