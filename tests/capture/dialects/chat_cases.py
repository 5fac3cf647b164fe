"""OpenAI Chat Completions as servers send them."""

from __future__ import annotations

import json
from typing import Any

from case import (
    FOREIGN,
    LOST,
    PAUSE,
    READ_BY_LITELLM,
    WORDS,
    Case,
    Failed,
    data,
    odd_number,
    one_of_each,
    sse,
)

PIECES = ["[[ ## answer ## ]]\n", "Nine ", "lives", "\n\n[[ ## completed ## ]]"]
TEXT = "".join(PIECES)
USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
DONE = b"data: [DONE]\n\n"
TOP = {"id": "c1", "created": 1_700_000_000, "model": "m"}


def chunk(delta: Any, finish_reason: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {**TOP, "object": "chat.completion.chunk", "choices": [choice], **more}


def said(text: str, **more: Any) -> dict[str, Any]:
    return chunk({"content": text}, **more)


def usage(**more: Any) -> dict[str, Any]:
    return {**TOP, "object": "chat.completion.chunk", "choices": [], "usage": USAGE, **more}


def completion(message: Any = None, finish_reason: str = "stop", **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": TEXT} if message is None else message
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return {**TOP, "object": "chat.completion", "choices": [choice], "usage": USAGE, **more}


CHAT = [said(piece) for piece in PIECES]
FIN = chunk({}, "stop")
USE = usage()


def failed(code_of_http: int, message: str, **more: Any) -> Failed:
    return Failed(code_of_http, {"error": {"message": message, **more}})


def call(name: str, arguments: str, identity: Any = ..., **more: Any) -> dict[str, Any]:
    """A fragment of a tool call; ``...`` leaves a key out."""
    given = {"id": identity, "function": {"name": name, "arguments": arguments}, **more}
    return {key: value for key, value in given.items() if value is not ...}


def calls(*fragments: Any) -> dict[str, Any]:
    return chunk({"tool_calls": list(fragments)})


def called(*each: tuple[Any, str, str], content: Any = None, **more: Any) -> dict[str, Any]:
    """The plain reply with these tool calls: id, name, arguments."""
    made = [
        {"type": "function", "function": {"name": name, "arguments": arguments}, "id": identity}
        for identity, name, arguments in each
    ]
    for one in made:
        if one["id"] is ...:
            del one["id"]
    message = {"role": "assistant", "content": content, "tool_calls": made, **more}
    return completion(message, "tool_calls")


TOOLS = [
    {
        "type": "function",
        "function": {"name": name, "parameters": {"type": "object", "properties": {}}},
    }
    for name in ("price", "stock")
]
FIN_CALLS = chunk({}, "tool_calls")
PRICE, STOCK = '{"of": "cat"}', '{"of": "dog"}'
TWO = called(("a", "price", PRICE), ("b", "stock", STOCK))


def both(identity: Any, *, second: str = "stock") -> dict[str, Any]:
    return called((identity, "price", PRICE), (identity, second, STOCK))


def case(name: str, *payloads: Any, plain: Any = None, **more: Any) -> Case:
    return Case(
        name=name, wire="chat", frames=sse(*payloads),
        plain=completion() if plain is None else plain, **more,
    )  # fmt: skip


def tool_case(name: str, *payloads: Any, plain: Any = TWO, **more: Any) -> Case:
    return case(
        name, *payloads, FIN_CALLS, USE, DONE, plain=plain, ask=None, whole=True,
        options={"tools": TOOLS}, **{"exact": False, **more},
    )  # fmt: skip


def anywhere(name: str, odd: bytes) -> list[Case]:
    """Something that is no frame of the reply: first, in the middle, before and after the end."""
    return [
        case(f"{name} first", odd, *CHAT, FIN, USE, DONE),
        case(f"{name} in the middle", *CHAT[:2], odd, *CHAT[2:], odd, FIN, odd, USE, DONE),
        case(f"{name} at the end", *CHAT, FIN, USE, odd, DONE, odd),
    ]


# --- 1: what is no frame of the reply ---------------------------------------------------------------

NO_FRAMES = {
    "data of a blank": b"data: \n\n",
    "data without anything": b"data:\n\n",
    "data without a colon": b"data\n\n",
    "a named event without data": b"event: ping\ndata: \n\n",
    "a bare event name": b"event: heartbeat\n\n",
    "a comment": b": OPENROUTER PROCESSING\n\n",
    "a comment as data": b"data: : STILL WORKING\n\n",
    "several empty lines of data": b"data:\ndata: \ndata:\t\n\n",
    "a word that keeps the line alive": b"event: keepalive\ndata: keep-alive\n\n",
    "null": b"data: null\n\n",
    "an empty object": b"data: {}\n\n",
    "a retry time and an id": b"retry: 3000\nid: 7\n\n",
    "empty lines": b"\n\n\r\n\n",
    "a ping as JSON": b'event: ping\ndata: {"type": "ping"}\n\n',
    "a chunk without choices": b'data: {"id": "c1", "choices": []}\n\n',
    "a chunk with null choices": b'data: {"id": "c1", "choices": null}\n\n',
}


def reframed(change: Any) -> list[bytes]:
    return [change(frame) for frame in sse(*CHAT, FIN, USE, DONE)]


FRAMING = [
    Case(name=name, wire="chat", frames=frames, plain=completion())
    for name, frames in {
        "a blank before each field": reframed(lambda frame: b" " + frame),
        "a tab before each field": reframed(lambda frame: b"\t" + frame),
        "no blank after the colon": reframed(lambda frame: frame.replace(b"data: ", b"data:", 1)),
        "CRLF": reframed(lambda frame: frame.replace(b"\n", b"\r\n")),
        "CR": reframed(lambda frame: frame.replace(b"\n", b"\r")),
        "a byte order mark": [b"\xef\xbb\xbf", *sse(*CHAT, FIN, USE, DONE)],
        "empty lines before the first frame": [b"\n\r\n\n", *sse(*CHAT, FIN, USE, DONE)],
        "one line feed between frames": reframed(lambda frame: frame[:-1]),
        "three line feeds between frames": reframed(lambda frame: frame + b"\n"),
        "every event has a name": reframed(lambda frame: b"event: message\n" + frame),
        "every event has an id and a retry time": reframed(
            lambda frame: b"id: 1\nretry: 5\n" + frame
        ),
        "no line feed after the last frame": [*sse(*CHAT, FIN, USE), b"data: [DONE]"],
        "blanks around DONE": [*sse(*CHAT, FIN, USE), b"data:  [DONE] \n\n"],
        "text/plain": sse(*CHAT, FIN, USE, DONE),
    }.items()
]
PADDED = [
    case("OpenAI's padding", *({**each, "obfuscation": "x" * n} for n, each in enumerate(CHAT)),
         FIN, USE, DONE),
    case("Mistral's padding", *({**each, "p": "abcdefgh"[:n]} for n, each in enumerate(CHAT)),
         FIN, USE, DONE),
]  # fmt: skip

# --- 2: the line stays open after the end -----------------------------------------------------------

OPEN = [
    case("open after DONE", *CHAT, FIN, USE, DONE, end="open"),
    case("open after usage", *CHAT, FIN, USE, end="open"),
    case("open after the finish reason", *CHAT, FIN, end="open",
         plain=completion(usage=None), exact=False),
    case("open after DONE without a finish reason", *CHAT, USE, DONE, end="open",
         plain=completion(finish_reason=None)),
    case("open after DONE without its blank line", *CHAT, USE, b"data: [DONE]\n", end="open",
         plain=completion(finish_reason=None)),
    case("comments after DONE", *CHAT, FIN, USE, DONE, b": bye\n\n", end="open"),
    case("open inside a frame after DONE", *CHAT, FIN, USE, DONE, b"data: {", end="open"),
]  # fmt: skip

# --- 3: errors in mid-stream ------------------------------------------------------------------------

MEMORY = "CUDA out of memory"
ERRORS = {
    "a string": ({"error": MEMORY}, Failed(500, {"error": MEMORY})),
    "an object": (
        {"error": {"message": MEMORY, "type": "server_error", "code": None}},
        failed(500, MEMORY, type="server_error", code=None),
    ),
    "a code of 400": (
        {"object": "error", "message": MEMORY, "type": "BadRequestError", "param": None,
         "code": 400},
        failed(400, MEMORY, type="BadRequestError", param=None, code=400),
    ),
    "vLLM's kind of error": (
        {"error": {"message": MEMORY, "type": "NotFoundError", "param": None, "code": None}},
        failed(404, MEMORY, type="NotFoundError", param=None, code=None),
    ),
    "a code in a string": (
        {"error": {"message": MEMORY, "code": "429"}}, failed(429, MEMORY, code="429"),
    ),
    "Ollama's rate limit": (
        {"error": {"message": MEMORY, "type": "rate_limit_error", "code": "rate_limit_exceeded"}},
        failed(429, MEMORY, type="rate_limit_error", code="rate_limit_exceeded"),
    ),
    "beside a choice": (
        {**chunk({"content": ""}, "error"), "error": {"code": 502, "message": MEMORY}},
        failed(502, MEMORY, code=502),
    ),
    "an event named error": (
        b'event: error\ndata: {"error": {"message": "%b", "code": 503}}\n\n' % MEMORY.encode(),
        failed(503, MEMORY, code=503),
    ),
    "bare words": (
        b"event: error\ndata: %b\n\n" % MEMORY.encode(), Failed(500, MEMORY.encode()),
    ),
    "a flat object under its name": (
        b'event: error\ndata: {"message": "%b", "code": 400}\n\n' % MEMORY.encode(),
        failed(400, MEMORY, type=None, param=None, code=400),
    ),
    "a flat object": (
        {"message": MEMORY, "status_code": 429},
        failed(429, MEMORY, type=None, param=None, code=429),
    ),
    "FastAPI's detail": (
        {"detail": MEMORY}, failed(500, MEMORY, type=None, param=None, code=None),
    ),
    "a type of error": (
        {"type": "error", "error": {"type": "overloaded_error", "message": MEMORY}},
        failed(529, MEMORY, type="overloaded_error"),
    ),
    "JSON without data": (
        b'{"error": {"message": "%b", "code": 400}}\n\n' % MEMORY.encode(),
        failed(400, MEMORY, code=400),
    ),
    "llama.cpp's field": (
        b'error: {"message": "%b", "code": 500}\n\n' % MEMORY.encode(),
        failed(500, MEMORY, type=None, param=None, code=500),
    ),
    "a status that is no number": (
        {"error": {"message": MEMORY, "status": "UNAVAILABLE", "code": 14}},
        failed(503, MEMORY, status="UNAVAILABLE", code=14),
    ),
}  # fmt: skip
FAILING = [
    *one_of_each(
        [
            *([] if name == "JSON without data" else
              [case(f"error alone: {name}", frame, plain=plain, same_words=False)]),
            case(f"error after text: {name}", *CHAT[:3], frame, plain=plain, same_words=False),
            case(f"error after text, then DONE: {name}", *CHAT[:3], frame, DONE, plain=plain,
                 same_words=False),
        ]
        for name, (frame, plain) in ERRORS.items()
    ),
    case("Groq's over capacity", *CHAT[:2], chunk({}, x_groq={"id": "r", "error": MEMORY}),
         plain=Failed(500, {"error": MEMORY}), same_words=False),
    case("TGI's validation", {"error": MEMORY, "error_type": "validation"}, same_words=False,
         plain=Failed(422, {"error": MEMORY, "error_type": "validation"})),
    case("a message alone", {"message": MEMORY}, same_words=False, plain=failed(500, MEMORY)),
    case("a statusCode", *CHAT[:2], {"statusCode": 429, "message": MEMORY}, same_words=False,
         plain=failed(429, MEMORY, code=429)),
    case("an HTTP error written as a stream", {"error": {"message": MEMORY, "code": 400}},
         status=400, plain=failed(400, MEMORY, code=400)),
    case("an HTTP error written as a stream, with its name",
         b'event: error\ndata: {"error": {"message": "%b", "code": 503}}\n\n' % MEMORY.encode(),
         status=503, plain=failed(503, MEMORY, code=503)),
    case("a finish reason of error", *CHAT[:3], chunk({}, "error"), USE, DONE, confused=True),
    case("error after DONE", *CHAT, FIN, USE, DONE, {"error": MEMORY}),
    case("a null error in every chunk", *({**each, "error": None} for each in CHAT), FIN, USE,
         DONE, exact=False),
    case("an error held open", *CHAT[:3], {"error": MEMORY}, end="open", same_words=False,
         plain=Failed(500, {"error": MEMORY})),
    case("an error cut", *CHAT[:3], {"error": MEMORY}, end="cut", same_words=False,
         plain=Failed(500, {"error": MEMORY})),
]  # fmt: skip

# --- 4: endings -------------------------------------------------------------------------------------

LATE = {"plain": LOST, "same_words": False}
ENDINGS = [
    case("no header announces the end", *CHAT, FIN, USE, DONE, end="eof", exact=False),
    case("no header announces the end, no DONE", *CHAT, FIN, USE, end="eof", exact=False),
    case("no header announces the end in the middle of text", *CHAT[:3], end="eof", **LATE),
    case("no header announces the end in a frame", *CHAT, FIN, USE, b"data: [DO", end="eof",
         exact=False),
    case("DONE alone", DONE, **LATE),
    case("usage and DONE alone", USE, DONE, **LATE),
    case("a role and DONE alone", chunk({"role": "assistant", "content": ""}), DONE, **LATE),
    case("comments alone", b": hello\n\n", b": hello\n\n", **LATE),
    case("a cut in the middle of text", *CHAT[:3], end="cut", **LATE),
    case("a clean end in the middle of text", *CHAT[:3], **LATE),
    case("a cut inside a frame", *CHAT[:3], b'data: {"cho', end="cut", **LATE),
    case("a clean end inside a frame", *CHAT[:3], b'data: {"cho', **LATE),
    case("a finish reason before the text and then a cut", FIN, *CHAT[:3], end="cut", **LATE),
    case("a finish reason in the middle of text and then a cut", *CHAT[:2], FIN, *CHAT[2:3],
         end="cut", **LATE),
    case("a finish reason with the first text and then a cut",
         chunk({"content": PIECES[0]}, "stop"), *CHAT[1:3], end="cut", **LATE),
    case("a finish reason before the text", FIN, *CHAT, USE, DONE),
    case("a finish reason before the text, no DONE", FIN, *CHAT, USE),
    case("a finish reason in every chunk", *(chunk({"content": each}, "stop") for each in PIECES),
         USE, DONE),
    case("everything but DONE, then a cut", *CHAT, FIN, USE, end="cut"),
    case("a finish reason, then a cut", *CHAT, FIN, end="cut", plain=completion(usage=None),
         exact=False),
    case("a finish reason, then a cut inside a frame", *CHAT, FIN, b'data: {"usa', end="cut",
         plain=completion(usage=None), exact=False),
    case("a finish reason with the last text, then a cut",
         *CHAT[:3], chunk({"content": PIECES[3]}, "stop"), USE, end="cut"),
    case("no DONE", *CHAT, FIN, USE),
    case("DONE, then a cut", *CHAT, FIN, USE, DONE, end="cut"),
    case("no finish reason", *CHAT, USE, DONE, plain=completion(finish_reason=None)),
    case("an empty finish reason until the end",
         *(chunk({"content": each}, "") for each in PIECES), FIN, USE, DONE),
    case("the finish reason null in words", *(chunk({"content": each}, "null") for each in PIECES),
         FIN, USE, DONE),
    case("an empty finish reason after the end", *CHAT, FIN, chunk({}, ""), USE, DONE),
    case("length", *CHAT, chunk({}, "length"), USE, DONE,
         plain=completion(finish_reason="length")),
    case("an empty reply with a finish reason", chunk({"role": "assistant", "content": ""}), FIN,
         USE, DONE, plain=completion({"role": "assistant", "content": ""}), ask=None),
]  # fmt: skip

# --- 5: which value counts --------------------------------------------------------------------------


def mine(name: str, *payloads: Any, plain: Any = None, **more: Any) -> Case:
    return case(name, *payloads, plain=plain, **more)


OTHER = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
VALUES = [
    case("usage inside the choice (Moonshot)", *CHAT,
         {**TOP, "object": "chat.completion.chunk",
          "choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": USAGE}]}, DONE),
    case("usage in every chunk", *({**each, "usage": OTHER} for each in CHAT), FIN, USE, DONE),
    case("usage with the finish reason", *CHAT, {**FIN, "usage": USAGE}, DONE),
    case("usage null at the end", *CHAT, {**FIN, "usage": USAGE}, {**usage(), "usage": None}, DONE),
    case("usage before the text", {**chunk({"role": "assistant"}), "usage": OTHER}, *CHAT, FIN,
         USE, DONE),
    case("usage under x_groq", chunk({"role": "assistant", "content": ""}, x_groq={"id": "r"}),
         *CHAT, {**FIN, "x_groq": {"id": "r", "usage": USAGE}}, DONE,
         plain=completion(x_groq={"id": "r"}, service_tier=None)),
    case("timings of llama.cpp", *({**each, "timings": {"n": n}} for n, each in enumerate(CHAT)),
         {**FIN, "timings": {"n": 9}}, USE, DONE, plain=completion(timings={"n": 9})),
    case("Perplexity's citations",
         *({**each, "citations": ["u"] * n, "usage": OTHER} for n, each in enumerate(CHAT)),
         {**FIN, "citations": ["u", "v"], "usage": USAGE}, DONE,
         plain=completion(citations=["u", "v"])),
    case("a whole message beside every delta (Perplexity)",
         *({**TOP, "object": "chat.completion.chunk", "choices": [
             {"index": 0, "finish_reason": None, "delta": {"content": piece},
              "message": {"role": "assistant", "content": "".join(PIECES[:n + 1])}}]}
           for n, piece in enumerate(PIECES)),
         FIN, USE, DONE),
    case("a whole reply as one frame", completion(), DONE, whole=True),
    case("a whole message in place of a delta",
         {**TOP, "object": "chat.completion.chunk", "choices": [
             {"index": 0, "finish_reason": "stop",
              "message": {"role": "assistant", "content": TEXT}}]}, USE, DONE, whole=True),
    case("a growing message in place of deltas",
         *({**TOP, "object": "chat.completion.chunk", "choices": [
             {"index": 0, "finish_reason": None,
              "message": {"role": "assistant", "content": "".join(PIECES[:n + 1])}}]}
           for n in range(len(PIECES))),
         FIN, USE, DONE),
    case("a message that is not its pieces",
         *CHAT, {**TOP, "object": "chat.completion.chunk", "choices": [
             {"index": 0, "finish_reason": "stop", "delta": {},
              "message": {"role": "assistant", "content": "other"}}]}, USE, DONE, confused=True),
    case("Azure's first chunk",
         {"id": "", "object": "", "created": 0, "model": "", "choices": [],
          "prompt_filter_results": [{"prompt_index": 0}]},
         *CHAT, FIN, USE, DONE, plain=completion(prompt_filter_results=[{"prompt_index": 0}])),
    case("Azure's filter results",
         *(chunk({"content": each}) for each in PIECES[:0]),
         *({**TOP, "object": "chat.completion.chunk", "choices": [
             {"index": 0, "delta": {"content": each}, "finish_reason": None,
              "content_filter_results": {"hate": {"filtered": False}}}]} for each in PIECES),
         {**TOP, "object": "chat.completion.chunk", "choices": [
             {"index": 0, "delta": {}, "finish_reason": "stop", "content_filter_results": {}}]},
         USE, DONE, exact=False),
    case("Azure's filter results after the end", *CHAT, FIN, USE,
         {**TOP, "object": "", "choices": [
             {"index": 0, "finish_reason": None, "content_filter_results": {"hate": {}},
              "content_filter_offsets": {"check_offset": 5}}]}, DONE, exact=False),
    case("every delta has all of the text so far", FIN,
         *(chunk({"content": "".join(PIECES[:n + 1])}) for n in range(len(PIECES))), USE, DONE,
         confused=True),
    case("the last delta repeats all of the text", *CHAT, chunk({"content": TEXT}, "stop"), USE,
         DONE, confused=True),
    case("the index of the only choice is 1",
         *({**TOP, "choices": [{"index": 1, "delta": {"content": each}}]} for each in PIECES),
         {**TOP, "choices": [{"index": 1, "delta": {}, "finish_reason": "stop"}]}, USE, DONE,
         exact=False),
    case("a second choice", *CHAT,
         {**TOP, "choices": [{"index": 1, "delta": {"content": "Ten"}}]}, FIN, USE, DONE,
         confused=True),
    case("lines of JSON in place of a stream",
         *(json.dumps(each).encode() + b"\n" for each in (*CHAT, FIN, USE)), confused=True),
    case("an empty model and id in later chunks", CHAT[0],
         *({**each, "id": "", "model": ""} for each in CHAT[1:]), FIN, USE, DONE),
    case("a role in every chunk",
         *(chunk({"role": "assistant", "content": each}) for each in PIECES), FIN, USE, DONE),
    case("an empty role in later chunks", chunk({"role": "assistant", "content": PIECES[0]}),
         *(chunk({"role": "", "content": each}) for each in PIECES[1:]), FIN, USE, DONE),
    case("null everywhere (SGLang)",
         *({**chunk({"role": None, "content": each, "reasoning_content": None,
                     "tool_calls": None}), "usage": None} for each in PIECES),
         FIN, USE, DONE, exact=False),
    case("no choice has an index",
         *({**TOP, "choices": [{"delta": {"content": each}}]} for each in PIECES),
         {**TOP, "choices": [{"delta": {}, "finish_reason": "stop"}]}, USE, DONE),
    case("the served model of a router", *({**each, "model": "served"} for each in CHAT),
         {**FIN, "model": "served"}, {**USE, "model": "served"}, DONE,
         plain=completion(model="served")),
    case("OpenRouter's provider and reason",
         *({**each, "provider": "P"} for each in CHAT),
         {**TOP, "provider": "P", "choices": [
             {"index": 0, "delta": {}, "finish_reason": "stop", "native_finish_reason": "end"}]},
         {**USE, "provider": "P"}, DONE, exact=False),
    case("Cerebras' time_info", *CHAT, {**FIN, "usage": USAGE, "time_info": {"total": 1}}, DONE,
         plain=completion(time_info={"total": 1})),
    case("a delta of null", *CHAT, chunk(None), FIN, USE, DONE),
    case("a text beside the delta (Together)",
         *({**TOP, "choices": [{"index": 0, "text": each, "delta": {
             "token_id": 5, "role": "assistant", "content": each, "tool_calls": None}}]}
           for each in PIECES), FIN, USE, DONE, exact=False),
    case("content as one block", *(chunk({"content": {"type": "text", "text": each}})
                                   for each in PIECES), FIN, USE, DONE, exact=False),
]  # fmt: skip

# --- thinking ---------------------------------------------------------------------------------------


def thought(**message: Any) -> dict[str, Any]:
    return completion({"role": "assistant", "content": TEXT, **message})


def block_of(text: str, signature: Any) -> dict[str, Any]:
    return {"type": "thinking", "thinking": text, "signature": signature}


THINKING = [
    case("reasoning_content (DeepSeek)",
         chunk({"role": "assistant", "content": None, "reasoning_content": ""}),
         *(chunk({"content": None, "reasoning_content": each}) for each in ("Let", " me")),
         *(chunk({"content": each, "reasoning_content": None}) for each in PIECES), FIN, USE, DONE,
         plain=thought(reasoning_content="Let me")),
    case("reasoning (vLLM, Groq)", *(chunk({"reasoning": each}) for each in ("Let", " me")),
         *CHAT, FIN, USE, DONE, plain=thought(reasoning="Let me")),
    case("reasoning under both names",
         *(chunk({"reasoning": each, "reasoning_content": each}) for each in ("Let", " me")),
         *CHAT, FIN, USE, DONE, plain=thought(reasoning="Let me", reasoning_content="Let me")),
    case("details of the reasoning (OpenRouter)",
         *(chunk({"content": "", "reasoning": each, "reasoning_details": [
             {"type": "reasoning.text", "text": each, "index": 0, "format": None}]})
           for each in ("Let", " me")),
         *CHAT, FIN, USE, DONE,
         plain=thought(reasoning="Let me", reasoning_details=[
             {"type": "reasoning.text", "text": "Let me", "index": 0, "format": None}])),
    case("text and reasoning in turns", chunk({"reasoning_content": "Let"}), *CHAT[:2],
         chunk({"reasoning_content": " me"}), *CHAT[2:], FIN, USE, DONE,
         plain=thought(reasoning_content="Let me")),
    case("reasoning_text (GitHub Copilot)", *(chunk({"reasoning_text": each})
         for each in ("Let", " me")), *CHAT, FIN, USE, DONE,
         plain=thought(reasoning_text="Let me")),
    case("blocks of thinking beside it (LiteLLM's proxy)",
         *(chunk({"reasoning_content": each, "thinking_blocks": [block_of(each, signature)]})
           for each, signature in (("Let", None), (" me", None), ("", "sig"), ("Or", None), ("", "s"))),
         *CHAT, FIN, USE, DONE, plain=thought(reasoning_content="Let meOr", thinking_blocks=[
             block_of("Let me", "sig"), block_of("Or", "s")])),
]  # fmt: skip

# --- refusals to stream -----------------------------------------------------------------------------

NO_STREAM = {"error": {"message": "Streaming is not supported", "type": "invalid_request_error"}}
JSON = {"content_type": "application/json"}
REFUSING: dict[str, Any] = {"refused": True, "whole": True}
LATE_USAGE = [case("usage that comes late", *CHAT, FIN, PAUSE, USE, DONE)]
REFUSED = [
    case("streams refused in the first frame", NO_STREAM, **REFUSING),
    case("streams refused in a frame of their own, then [DONE]", NO_STREAM, DONE, **REFUSING),
    case("streams refused in JSON", json.dumps(NO_STREAM).encode(), **REFUSING, **JSON),
    case("streams refused as an error of the server (llama.cpp)", json.dumps(
         {"error": {"code": 500, "message": "Cannot use tools with stream"}}).encode(),
         status=500, **REFUSING, **JSON),
]  # fmt: skip

# --- sound ------------------------------------------------------------------------------------------


SPOKEN = {"id": "a1", "transcript": "Nine lives", "data": "AAAABBBB", "expires_at": 5}
PIECES_OF_SOUND = [
    chunk({"role": "assistant", "content": None, "audio": {"id": "a1", "transcript": "Nine "}}),
    chunk({"audio": {"data": "AAAA", "transcript": "lives"}}), chunk({"audio": {"data": "BBBB"}}),
    chunk({"audio": {"expires_at": 5}}), FIN, USE, DONE,
]  # fmt: skip
SOUND = [
    case("sound in pieces", *PIECES_OF_SOUND, confused=True, ask=None,
         plain=completion({"role": "assistant", "content": None, "audio": SPOKEN})),
    case("sound that is asked for", *PIECES_OF_SOUND, plainly=True, ask=None,
         options={"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}},
         plain=completion({"role": "assistant", "content": None, "audio": SPOKEN}),
         ways=READ_BY_LITELLM),
]  # fmt: skip


def mistral_thinks(*texts: str, **more: Any) -> dict[str, Any]:
    parts = [{"type": "text", "text": each} for each in texts]
    return {"type": "thinking", "thinking": parts, **more}


MISTRAL = [
    case(f"Mistral's thinking blocks{name}",
         *(chunk({"content": [mistral_thinks(each)]}) for each in ("Let", " me")),
         *text, FIN, USE, DONE, provider="mistral", ways=ways,
         plain=completion({"role": "assistant", "content": [
             mistral_thinks("Let me"), {"type": "text", "text": TEXT}]}))
    for name, text in (
        ("", [chunk({"content": [{"type": "text", "text": each}]}) for each in PIECES]),
        (", then strings", CHAT),
        (", then an empty string", [*CHAT, chunk({"content": ""})]),
    )
    for ways in (("native sync", "native async", "litellm sync", "litellm async"),)
]  # fmt: skip

# --- 6: tool calls ----------------------------------------------------------------------------------

EXTRA = {"google": {"thought_signature": "s"}}
SIGNED = completion(
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {**one, **({"extra_content": EXTRA} if one["id"] == "a" else {})}
            for one in TWO["choices"][0]["message"]["tool_calls"]
        ],
    },
    "tool_calls",
)
PRICES = [call("price", PRICE, "a", index=0), call("stock", STOCK, "b", index=1)]


def each_way(name: str, first: dict[str, Any], second: dict[str, Any], **more: Any) -> list[Case]:
    """Two calls in one array, and in chunks of their own."""
    return [
        tool_case(f"{name}, in one array", calls(first, second), **more),
        tool_case(f"{name}, in chunks of their own", calls(first), calls(second), **more),
    ]


def fragments(arguments: str, **more: Any) -> list[dict[str, Any]]:
    """The arguments in pieces, without a name."""
    pieces = arguments[:4], arguments[4:9], arguments[9:]
    return [calls({**more, "function": {"arguments": piece}}) for piece in pieces]


CALLS = [
    *each_way("calls with indexes and ids", *PRICES),
    *each_way("calls all with index 0", call("price", PRICE, "a", index=0),
              call("stock", STOCK, "b", index=0)),
    *each_way("calls with ids alone", call("price", PRICE, "a"), call("stock", STOCK, "b")),
    *each_way("calls with a null index", call("price", PRICE, "a", index=None),
              call("stock", STOCK, "b", index=None)),
    *each_way("calls with empty ids", call("price", PRICE, ""), call("stock", STOCK, ""),
              plain=both("")),
    *each_way("calls without ids", call("price", PRICE), call("stock", STOCK), plain=both(...)),
    *each_way("calls with null ids", call("price", PRICE, None), call("stock", STOCK, None),
              plain=both(None)),
    *each_way("calls with equal ids", call("price", PRICE, "x"), call("stock", STOCK, "x"),
              plain=both("x")),
    *each_way("calls with equal ids and indexes", call("price", PRICE, "x", index=0),
              call("stock", STOCK, "x", index=0), plain=both("x")),
    *each_way("calls without ids and equal indexes", call("price", PRICE, index=0),
              call("stock", STOCK, index=0), plain=both(...)),
    *each_way("calls of one tool without ids", call("price", PRICE), call("price", STOCK),
              plain=both(..., second="price")),
    *each_way("calls of one tool with equal ids", call("price", PRICE, "x"),
              call("price", STOCK, "x"), plain=both("x", second="price")),
    *each_way("calls whose arguments are an object",
              {"index": 0, "id": "a", "function": {"name": "price", "arguments": {"of": "cat"}}},
              {"index": 1, "id": "b", "function": {"name": "stock", "arguments": {"of": "dog"}}},
              ways=("native sync", "native async", "imodel sync", "imodel async")),
    tool_case("arguments in fragments", calls(call("price", "", "a", index=0)),
              *fragments(PRICE, index=0), calls(call("stock", "", "b", index=1)),
              *fragments(STOCK, index=1)),
    tool_case("fragments without an index", calls(call("price", "", "a")), *fragments(PRICE),
              calls(call("stock", "", "b")), *fragments(STOCK)),
    tool_case("fragments with an empty id and type", calls(call("price", "", "a", index=0)),
              *fragments(PRICE, index=0, id="", type="function"),
              calls(call("stock", "", "b", index=1)), *fragments(STOCK, index=1, id="")),
    tool_case("fragments by id alone, in turns", calls(call("price", "", "a")),
              calls(call("stock", "", "b")),
              *(each for two in zip(fragments(PRICE, id="a"), fragments(STOCK, id="b"), strict=True)
                for each in two)),
    tool_case("fragments in turns", calls(call("price", "", "a", index=0)),
              calls(call("stock", "", "b", index=1)),
              *(each for two in zip(fragments(PRICE, index=0), fragments(STOCK, index=1),
                                    strict=True) for each in two)),
    tool_case("a new id with every fragment", calls(call("price", "", "a", index=0)),
              *(calls({"index": 0, "id": f"x{n}", "function": {"arguments": each}})
                for n, each in enumerate((PRICE[:5], PRICE[5:]))),
              plain=called(("a", "price", PRICE))),
    tool_case("a new id with every fragment, no index", calls(call("price", PRICE[:2], "a")),
              *(calls({"id": f"x{n}", "function": {"arguments": each}})
                for n, each in enumerate((PRICE[2:5], PRICE[5:]))),
              plain=called(("a", "price", PRICE))),
    tool_case("a new id and the name with every fragment",
              *(calls(call("price", each, f"x{n}", index=0))
                for n, each in enumerate(("", PRICE[:5], PRICE[5:]))),
              plain=called(("x0", "price", PRICE))),
    tool_case("a new id and the name with every fragment, no index",
              *(calls(call("price", each, f"x{n}")) for n, each in enumerate((PRICE[:2], PRICE[2:]))),
              plain=called(("x0", "price", PRICE))),
    tool_case("a name in every fragment",
              *(calls(call("price", each, "a", index=0)) for each in (PRICE[:5], PRICE[5:])),
              calls(call("stock", STOCK, "b", index=1))),
    tool_case("the name in a fragment of its own",
              calls({"index": 0, "id": "a", "type": "function", "function": {"arguments": ""}}),
              calls({"index": 0, "function": {"name": "price"}}), *fragments(PRICE, index=0),
              calls(call("stock", STOCK, "b", index=1))),
    tool_case("an id before the name of the second call", calls(PRICES[0]),
              calls({"index": 1, "id": "b", "function": {"arguments": ""}}),
              calls({"index": 1, "function": {"name": "stock", "arguments": STOCK}})),
    tool_case("indexes from one", calls({**PRICES[0], "index": 1}), calls({**PRICES[1], "index": 2})),
    tool_case("no arguments", calls(call("price", "", "a", index=0)),
              calls(call("stock", "", "b", index=1)),
              plain=called(("a", "price", ""), ("b", "stock", ""))),
    tool_case("no arguments, no ids, no indexes", calls(call("price", "")), calls(call("stock", "")),
              plain=called((..., "price", ""), (..., "stock", ""))),
    tool_case("metadata alone", calls(PRICES[0]),
              calls({"index": 0, "id": "", "extra_content": EXTRA}), calls(PRICES[1]),
              plain=SIGNED),
    tool_case("metadata without an index", calls(call("price", PRICE, "a")),
              calls({"extra_content": EXTRA}), calls(call("stock", STOCK, "b")), plain=SIGNED),
    tool_case("metadata first", calls({"index": 0, "extra_content": EXTRA}),
              calls(PRICES[0]), calls(PRICES[1]), plain=SIGNED),
    tool_case("calls repeated as null and empty lists", calls(PRICES[0]), chunk({"tool_calls": []}),
              chunk({"tool_calls": None}), calls(PRICES[1])),
    tool_case("calls with the finish reason",
              {**calls(*PRICES), "choices": [{"index": 0, "finish_reason": "tool_calls",
                                              "delta": {"tool_calls": PRICES}}]}),
    tool_case("calls before their text", calls(*PRICES), chunk({"content": "So."}),
              plain=called(("a", "price", PRICE), ("b", "stock", STOCK), content="So.")),
    tool_case("calls after their text", chunk({"content": "So."}), calls(*PRICES),
              plain=called(("a", "price", PRICE), ("b", "stock", STOCK), content="So.")),
    tool_case("calls with a finish reason of stop", calls(*PRICES), chunk({}, "stop"),
              plain={**TWO, "choices": [{**TWO["choices"][0], "finish_reason": "tool_calls"}]}),
    *(
        tool_case(f"uncertain: {name}", *payloads, confused=True, plain=plain)
        for name, payloads, plain in (
            ("two calls of one tool in one another, under two ids",
             [calls(call("price", PRICE[:5], "a", index=0)), calls(call("price", PRICE, "b", index=0))],
             called(("a", "price", PRICE), ("b", "price", PRICE))),
            ("two names, one id", [calls(call("price", "", "a", index=0)),
                                   calls(call("stock", STOCK, "a", index=0))], TWO),
            ("a call begins in the middle of another",
             [calls(call("price", PRICE[:5], "a")), calls(call("stock", STOCK, "b"))], TWO),
            ("one call twice", [calls(call("price", PRICE, "a")), calls(call("price", PRICE, "a"))],
             called(("a", "price", PRICE))),
            ("fragments without a name or an index",
             [calls(call("price", ""), call("stock", "")),
              calls({"function": {"arguments": PRICE}}, {"function": {"arguments": STOCK}})], TWO),
            ("a call without a name", [calls({"index": 0, "function": {"arguments": PRICE}})],
             called(("a", "price", PRICE))),
            ("two objects in one call", [calls(call("price", PRICE, "a", index=0)),
                                         calls({"index": 0, "function": {"arguments": STOCK}})],
             TWO),
            ("an index that rises with every fragment",
             [calls(call("price", PRICE[:5], "a", index=0)),
              calls({"index": 1, "function": {"arguments": PRICE[5:]}})],
             called(("a", "price", PRICE))),
            ("indexes out of order", [calls(PRICES[1]), calls(PRICES[0])], TWO),
            ("a function call of the old kind", [chunk({"function_call": {"name": "price"}})],
             called(("a", "price", PRICE))),
        )
    ),
]  # fmt: skip

# --- 9: what only plain replies have ----------------------------------------------------------------

ONLY_PLAIN = [
    case("Groq's service tier", chunk({"role": "assistant", "content": ""}, x_groq={"id": "r"}),
         *CHAT, {**FIN, "x_groq": {"id": "r", "usage": USAGE}, "usage": USAGE}, DONE,
         provider="groq", exact=False,
         plain=completion(x_groq={"id": "r"}, service_tier="on_demand", usage_breakdown=None)),
    case("Groq's service tier without x_groq", *CHAT, FIN, USE, DONE, provider="groq", exact=False,
         plain=completion(service_tier="on_demand")),
]  # fmt: skip

# --- after reports of many servers ------------------------------------------------------------------

ONE = called(("a", "price", PRICE))
ONE_MESSAGE = ONE["choices"][0]["message"]
SMILE = completion(
    {"role": "assistant", "content": "[[ ## answer ## ]]\nhi \U0001f600\n\n[[ ## completed ## ]]"}
)


def smiling(*halves: bytes) -> list[bytes]:
    pieces = (b"[[ ## answer ## ]]\\nhi ", *halves, b"\\n\\n[[ ## completed ## ]]")
    return [sse(said("PIECE"))[0].replace(b"PIECE", piece) for piece in pieces]


# --- 13: a reason of the end that comes too early ----------------------------------------------------

SOON = {"end": "open", "early_grace": 0.2}
EARLY = chunk({"content": PIECES[0]}, "stop")
EACH = [chunk({"content": piece}, "stop") for piece in PIECES]
WHOLE = chunk({"content": TEXT}, "stop")
EARLY_REASONS = [
    case("a reason with the first text, the rest later", EARLY, PAUSE, *CHAT[1:], USE, DONE),
    case("a reason with the first text, the rest later, no DONE", EARLY, PAUSE, *CHAT[1:], USE),
    case("a reason with the first text, the rest later, open", EARLY, PAUSE, *CHAT[1:], FIN, USE,
         end="open"),
    case("a reason with the role, the text later",
         chunk({"role": "assistant", "content": ""}, "stop"), PAUSE, *CHAT, USE, DONE),
    case("a reason before the text, which comes later", FIN, PAUSE, *CHAT, USE, DONE),
    case("a reason with the first thought, the text later",
         chunk({"reasoning_content": "Hm"}, "stop"), PAUSE, *CHAT, USE, DONE,
         plain=completion({"role": "assistant", "content": TEXT, "reasoning_content": "Hm"})),
    case("thinking, a reason with the first text, the rest later",
         chunk({"reasoning_content": "Hm"}), EARLY, PAUSE, *CHAT[1:], USE, DONE,
         plain=completion({"role": "assistant", "content": TEXT, "reasoning_content": "Hm"})),
    case("thinking, a reason, the text later", chunk({"reasoning_content": "Hm"}), FIN, PAUSE, *CHAT,
         USE, DONE,
         plain=completion({"role": "assistant", "content": TEXT, "reasoning_content": "Hm"})),
    case("a reason with every chunk, and a pause", *EACH[:2], PAUSE, *EACH[2:], USE, DONE),
    case("a reason with every chunk, empty ones too, and a pause", *EACH[:2], FIN, PAUSE, *EACH[2:],
         USE, DONE),
    case("a reason with every chunk, open after usage", *EACH[:3], FIN, chunk({"content": PIECES[3]}),
         FIN, USE, end="open"),
    case("all in one chunk, open after usage", WHOLE, USE, end="open", whole=True),
    case("all in one chunk, open after DONE", WHOLE, USE, DONE, end="open", whole=True),
    case("all in one chunk", WHOLE, USE, whole=True),
    case("all in one chunk, then a cut after usage", WHOLE, USE, end="cut", whole=True),
    case("uncertain: all in one chunk, open", WHOLE, confused=True, **SOON),
    case("uncertain: all in one chunk with usage, open", {**WHOLE, "usage": USAGE}, confused=True,
         **SOON),
    case("uncertain: all in one chunk, comments on an open line", WHOLE, b": hi\n\n", b": hi\n\n",
         confused=True, **SOON),
    case("uncertain: a reason with the first text, the rest, open", EARLY, *CHAT[1:], confused=True,
         **SOON),
    case("uncertain: a reason with every chunk, open", *EACH, confused=True, **SOON),
    case("uncertain: a reason before the text, open", FIN, *CHAT, confused=True, **SOON),
    case("uncertain: a reason alone, open", FIN, confused=True, **SOON),
    case("uncertain: a reason with the first text, then a cut", EARLY, end="cut", confused=True),
    case("uncertain: all in one chunk, then a cut", WHOLE, end="cut", confused=True),
    case("uncertain: all in one chunk, then a cut inside a frame", WHOLE, b'data: {"id', end="cut",
         confused=True),
    case("uncertain: all in one chunk, then an end inside a frame", WHOLE, b'data: {"id',
         confused=True),
    case("a reason alone, then a cut", FIN, end="cut", **LATE),
    tool_case("a reason with the first of two calls", {**calls(PRICES[0]), "choices": [
        {"index": 0, "finish_reason": "tool_calls", "delta": {"tool_calls": PRICES[:1]}}]}, PAUSE,
        calls(PRICES[1])),
]  # fmt: skip


# --- 14: frames that are none -----------------------------------------------------------------------

NOT_JSON = [
    *one_of_each(
        [
            case(f"{name} as a frame {where}", *before, data(words), *after, USE, DONE,
                 confused=True)
            for where, before, after in (
                ("first", (), (*CHAT, FIN)), ("in the middle", CHAT[:2], (*CHAT[2:], FIN))
            )
        ]
        for name, words in WORDS.items()
    ),
    *(
        case(f"{name} as a frame after the reason", *CHAT, FIN, data(words), USE, DONE)
        for name, words in WORDS.items()
    ),
    *one_of_each(
        anywhere(f"{name} under another event's name", data(words, b"meta"))
        for name, words in FOREIGN.items()
    ),
    case("words under the name of chunks", b"event: message\ndata: hello\n\n", *CHAT, FIN, USE, DONE,
         confused=True),
    case("chunks under another event's name", *(
        b"event: token\n" + frame for frame in sse(*CHAT, FIN, USE)), b"event: end\ndata: [DONE]\n\n"),
    case("half a frame under another event's name, then a cut", *CHAT[:2],
         b"event: token\ndata: {", end="cut", **LATE),
    case("uncertain: words that may be an error", {"message": "Slow today", "status": "queued"},
         *CHAT, FIN, USE, DONE, confused=True),
    case("uncertain: a success in words", *CHAT[:2], {"code": 0, "message": "success"}, *CHAT[2:],
         FIN, USE, DONE, confused=True),
    case("an error of another kind of code", *CHAT[:2], {"code": "InternalError", "message": MEMORY},
         plain=failed(500, MEMORY, code="InternalError"), same_words=False),
    *(
        case(f"uncertain: {name} in place of chunks", *frames, DONE, confused=True)
        for name, frames in {
            "Cloudflare's own frames": [
                *({"response": piece, "p": "abcdef"} for piece in PIECES),
                {"response": "", "usage": USAGE}],
            "TGI's own frames": [
                {"index": n, "token": {"id": n, "text": piece, "special": False},
                 "generated_text": None, "details": None} for n, piece in enumerate(PIECES)],
            "Ollama's own frames": [
                {"model": "m", "message": {"role": "assistant", "content": piece}, "done": False}
                for piece in PIECES],
            "DashScope's own frames": [
                {"output": {"text": "".join(PIECES[:n + 1]), "finish_reason": "null"},
                 "usage": {"input_tokens": 7}, "request_id": "r"} for n in range(len(PIECES))],
            "a text at the top": [{"text": piece} for piece in PIECES],
        }.items()
    ),
]  # fmt: skip

# --- 15: usage in pieces ----------------------------------------------------------------------------

DETAILS = {"prompt_tokens_details": {"cached_tokens": 3}}
FULL_USAGE = completion(usage={**USAGE, **DETAILS})
PROMPT, ANSWER = {"prompt_tokens": 7}, {"completion_tokens": 5}


def uses(*reports: Any) -> list[dict[str, Any]]:
    return [{**usage(), "usage": each} for each in reports]


def in_choice_of_usage(counts: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {}, "finish_reason": "stop", "usage": counts}
    return {**TOP, "object": "chat.completion.chunk", "choices": [choice]}


SPLIT_USAGE = [
    case("usage in two chunks", *CHAT, FIN, *uses({**PROMPT, "total_tokens": 7}, ANSWER), DONE),
    case("usage in two chunks, the answer first", *CHAT, FIN, *uses(ANSWER, {**PROMPT, "total_tokens": 12}),
         DONE),
    case("usage in the first and the last chunk", {**CHAT[0], "usage": {**PROMPT, "total_tokens": 7}},
         *CHAT[1:], {**FIN, "usage": {**ANSWER, "total_tokens": 5}}, DONE),
    case("usage in two chunks, the rest zero", *CHAT, FIN,
         *uses({**PROMPT, "completion_tokens": 0, "total_tokens": 7},
               {"prompt_tokens": 0, **ANSWER, "total_tokens": 5}), DONE),
    case("usage in two chunks, the rest null", *CHAT, FIN,
         *uses({**PROMPT, "completion_tokens": None, "total_tokens": 7},
               {"prompt_tokens": None, **ANSWER, "total_tokens": 5}), DONE),
    case("usage's details in another chunk", *CHAT, FIN, *uses({**USAGE, **DETAILS}, USAGE), DONE,
         plain=FULL_USAGE),
    case("usage's details null at the end", *CHAT, FIN,
         *uses({**USAGE, **DETAILS}, {**USAGE, "prompt_tokens_details": None}), DONE,
         plain=FULL_USAGE),
    case("usage's details zero at first", *CHAT, FIN,
         *uses({**USAGE, "prompt_tokens_details": {"cached_tokens": 0}}, {**USAGE, **DETAILS}), DONE,
         plain=FULL_USAGE),
    case("usage in the choice and in a chunk", *CHAT, in_choice_of_usage(PROMPT), *uses(
        {**ANSWER, "total_tokens": 12}), DONE),
    case("usage that is no object", *CHAT, FIN, *uses(USAGE, "x"), DONE),
]  # fmt: skip

# --- 16: numbers that are none ----------------------------------------------------------------------

SCORED = {"content": [{"token": "Nine", "logprob": "SCORE", "bytes": None, "top_logprobs": []}]}


def scored(score: str) -> Case:
    """A chunk with a log probability as some servers write one."""

    def written(value: Any) -> bytes:
        return json.dumps(value).replace('"SCORE"', score).encode()

    first = chunk({"content": PIECES[0]})
    first["choices"][0]["logprobs"] = SCORED
    plain = completion()
    plain["choices"][0]["logprobs"] = SCORED
    return Case(
        name=f"a log probability of {score}", wire="chat", plain=written(plain),
        frames=[b"data: %b\n\n" % written(first), *sse(*CHAT[1:], FIN, USE, DONE)],
        exact="NaN" not in score,
    )  # fmt: skip


def elsewhere(number: bytes) -> Case:
    """Chunks with a number of the server's own."""

    def written(value: Any) -> bytes:
        return json.dumps(value).encode().replace(b'"N"', number)

    frames = [data(written({**each, "timings": {"ms": "N"}})) for each in CHAT]
    return Case(
        name=f"{number.decode()} elsewhere", wire="chat", exact=False,
        frames=[*frames, *sse(FIN, USE, DONE)], plain=written(completion(timings={"ms": "N"})),
    )  # fmt: skip


NONE = ("NaN", "Infinity", "-Infinity", "1e400")
ODD_NUMBERS = [
    scored("-9999.0"),
    *(each for score in (*NONE, "null") for each in odd_number(scored(score))),
    elsewhere(b"123456789012345678901234567890"),
    *(each for number in NONE for each in odd_number(elsewhere(number.encode()))),
    *odd_number(case(
        "NaN in the stream alone", {**CHAT[0], "timings": {"ms": float("nan")}}, *CHAT[1:], FIN,
        USE, DONE, exact=False)),
    case("NaN that does not stay", {**CHAT[0], "timings": {"ms": float("nan")}}, *CHAT[1:],
         {**FIN, "timings": {"ms": 1}}, USE, DONE, plain=completion(timings={"ms": 1})),
    *odd_number(case("usage of NaN", *CHAT, FIN, *uses({**USAGE, "prompt_tokens": float("nan")}), DONE,
                     plain=completion(usage={**USAGE, "prompt_tokens": float("nan")}),
                     same_words=False)),
]  # fmt: skip

# --- 17: MiniMax ------------------------------------------------------------------------------------


def told(code: int, words: str) -> dict[str, Any]:
    return {"base_resp": {"status_code": code, "status_msg": words}}


GOOD = told(0, "")
MINIMAX = [
    case("a status of success beside every chunk", *({**each, **GOOD} for each in CHAT),
         {**FIN, **GOOD}, {**USE, **GOOD}, DONE, plain=completion(**GOOD)),
    *one_of_each(
        [
            case(f"{code} {where}", *before, {**told(code, words), **beside}, *after,
                 plain=failed(status, words, code=code, status=status), same_words=False)
            for where, before, beside, after in (
                ("alone", (), {}, ()),
                ("with null choices", (), {"id": "c1", "choices": None}, (DONE,)),
                ("after text", CHAT[:3], {"choices": []}, ()),
                ("with a choice", CHAT[:3], {"choices": FIN["choices"]}, (DONE,)),
            )
        ]
        for code, status, words in (
            (1004, 401, "login fail"), (1002, 429, "rate limit"), (1008, 402, "insufficient balance"),
            (2013, 400, "invalid params"), (1000, 500, "unknown error"))
    ),
]  # fmt: skip


# --- 18: how it is sent -----------------------------------------------------------------------------

ZIPPED = {coding: {"content-encoding": coding} for coding in ("gzip", "deflate")}
PAST = "Wed, 21 Oct 2015 07:28:00 GMT"


def body_of(error: Failed) -> bytes:
    return json.dumps(error.body).encode()


TRANSPORT = [
    *(
        each
        for coding, headers in ZIPPED.items()
        for each in (
            case(f"{coding}", *CHAT, FIN, USE, DONE, headers=headers, exact=False),
            case(f"{coding}, with a pause", *CHAT[:2], PAUSE, *CHAT[2:], FIN, USE, DONE,
                 headers=headers, exact=False),
            case(f"{coding}, an error after text", *CHAT[:2], {"error": {"message": MEMORY, "code": 429}},
                 headers=headers, plain=failed(429, MEMORY, code=429), same_words=False),
            case(f"{coding}, a cut in the middle of text", *CHAT[:2], headers=headers, end="cut",
                 **LATE),
            case(f"{coding}, open after DONE", *CHAT, FIN, USE, DONE, headers=headers, end="open",
                 exact=False),
            case(f"{coding}, an HTTP error", body_of(failed(429, MEMORY)), status=429,
                 headers=headers, plain=failed(429, MEMORY)),
        )
    ),
    case("trailers", *CHAT, FIN, USE, DONE, trailers=b"x-checksum: 1\r\nx-cost: 2\r\n"),
    case("trailers without DONE", *CHAT, FIN, USE, trailers=b"grpc-status: 0\r\n"),
    case("trailers after a half", *CHAT[:2], trailers=b"x-error: gone\r\n", **LATE),
    *(
        each
        for status in (429, 503)
        for name, headers in {
            "": {},
            ", again in seconds": {"retry-after": "7"},
            ", again in parts of a second": {"retry-after-ms": "1500"},
            ", again at a time that has come": {"retry-after": PAST},
            ", again some day": {"retry-after": "soon"},
        }.items()
        for each in (
            case(f"{status} as a plain error{name}", body_of(failed(status, MEMORY)), status=status,
                 headers=headers, plain=failed(status, MEMORY), content_type="application/json"),
            case(f"{status} after text{name}", *CHAT[:2],
                 {"error": {"message": MEMORY, "code": status}}, headers=headers,
                 plain=failed(status, MEMORY, code=status), same_words=False),
        )
    ),
]  # fmt: skip


# --- 19: several candidates -------------------------------------------------------------------------


def of(index: int, text: str = "", reason: str | None = None) -> dict[str, Any]:
    delta = {"content": text} if text else {}
    return {"index": index, "delta": delta, "finish_reason": reason}


def in_chunk(*choices: Any) -> dict[str, Any]:
    return {**TOP, "object": "chat.completion.chunk", "choices": list(choices)}


def candidates(*texts: str, reasons: tuple[str, ...] = ("stop", "stop")) -> dict[str, Any]:
    choices = [
        {"index": at, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
        for at, (text, reason) in enumerate(zip(texts, reasons, strict=True))
    ]
    return {**completion(), "choices": choices}


BOTH = candidates("Nine lives", "Ten")
SEVERAL = [
    case(f"two candidates {name}", *frames, plain=plain, ask=None, options={"n": 2, "temperature": 0.7},
         ways=READ_BY_LITELLM, **more)
    for name, frames, plain, more in (
        ("in turns", [in_chunk(of(0, "Nine ")), in_chunk(of(1, "Te")), in_chunk(of(0, "lives")),
         in_chunk(of(1, "n")), in_chunk(of(0, "", "stop")), in_chunk(of(1, "", "stop")), USE, DONE],
         BOTH, {}),
        ("in one chunk each time", [in_chunk(of(0, "Nine "), of(1, "Te")), in_chunk(
         of(0, "lives", "stop"), of(1, "n", "stop")), USE, DONE], BOTH, {}),
        ("one after the other", [in_chunk(of(0, "Nine ")), in_chunk(of(0, "lives", "stop")), PAUSE,
         in_chunk(of(1, "Ten")), in_chunk(of(1, "", "length")), USE, DONE],
         candidates("Nine lives", "Ten", reasons=("stop", "length")), {}),
        ("the second first", [in_chunk(of(1, "Ten", "stop")), PAUSE, in_chunk(of(0, "Nine ")),
         in_chunk(of(0, "lives", "stop")), USE, DONE], BOTH, {}),
        ("open after usage", [in_chunk(of(0, "Nine "), of(1, "Ten")), in_chunk(
         of(0, "lives", "stop"), of(1, "", "stop")), USE], BOTH, {"end": "open"}),
        ("and a cut in the second", [in_chunk(of(0, "Nine ")), in_chunk(of(1, "T")),
         in_chunk(of(0, "lives", "stop"))], LOST, {"end": "cut", "same_words": False}),
        ("and a clean end in the second", [in_chunk(of(0, "Nine ")), in_chunk(of(1, "T")),
         in_chunk(of(0, "lives", "stop"))], LOST, {"same_words": False}),
        ("and a clean end before the second", [in_chunk(of(0, "Nine ")),
         in_chunk(of(0, "lives", "stop"))], BOTH, {"confused": True}),
        ("and an error in the second", [in_chunk(of(0, "Nine ", "stop")), in_chunk(of(1, "T")),
         {"error": {"message": MEMORY, "code": 503}}], failed(503, MEMORY, code=503),
         {"same_words": False}),
    )
]  # fmt: skip


# --- 20: servers, as they write a whole reply -------------------------------------------------------


def served(
    name: str, *payloads: Any, message: Any = None, counts: Any = USAGE, **more: Any
) -> Case:
    """A reply with keys of the server's own, which its plain reply has in another place or not."""
    said_of = {"role": "assistant", "content": TEXT, **(message or {})}
    plain = completion(said_of, usage=counts)
    return case(name, *payloads, **{"plain": plain, "exact": False, **more})


def own(delta: Any, reason: Any = None, *, choice: Any = None, **top: Any) -> dict[str, Any]:
    """A chunk with keys of the server's own in its choice and beside it."""
    made = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason, **(choice or {})}
    return {**TOP, "object": "chat.completion.chunk", "choices": [made], **top}


THOUGHTS = ("Let", " me")
WORKING = b": OPENROUTER PROCESSING\n\n"
RESULTS = [{"title": "Cats", "url": "https://example.com/a", "date": None}]
BEDROCK = {"inputTokenCount": 7, "outputTokenCount": 5, "invocationLatency": 90}
HIDDEN = [{"type": "reasoning.encrypted", "data": "x", "index": 0, "format": "f"}]
THOUGHTFUL = {**USAGE, "completion_tokens_details": {"reasoning_tokens": 2}}
PRICED = {**USAGE, "cost": 0.1}
SERVERS = [
    served("Bedrock", own({"role": "assistant", "content": ""}, service_tier="default"),
           *(own({"content": piece}, service_tier="default") for piece in PIECES),
           own({}, "stop", **{"amazon-bedrock-invocationMetrics": BEDROCK}), USE, DONE),
    served("Bedrock, an error after text", *CHAT[:2],
           {"error": {"message": "Too many tokens", "type": "throttling_exception", "code": "429"}},
           plain=failed(429, "Too many tokens", type="throttling_exception", code="429"),
           same_words=False),
    served("Cloudflare's compatible frames", *(
        own({"role": "assistant", "content": piece}, p="abdefghij"[:n + 1])
        for n, piece in enumerate(PIECES)), own({}, "stop", p="ab"), {**USE, "p": "abd"}, DONE),
    served("Cloudflare's compatible frames, usage in its own", *CHAT, FIN,
           {"response": "", "usage": USAGE}, DONE),
    served("Cloudflare's error", *CHAT[:2], {"errors": [{"message": "AiError: capacity",
           "code": 3040}], "success": False, "result": {}, "messages": []},
           plain=Failed(500, {"errors": [{"message": "AiError: capacity", "code": 3040}]}),
           same_words=False),
    served("DashScope", own({"role": "assistant", "content": None, "reasoning_content": ""},
           system_fingerprint=None, usage=None),
           *(own({"content": None, "reasoning_content": each}, usage=None) for each in THOUGHTS),
           *(own({"content": piece, "reasoning_content": None}, usage=None) for piece in PIECES),
           own({"content": "", "reasoning_content": None}, "stop", usage=None),
           {**USE, "usage": THOUGHTFUL}, DONE,
           counts=THOUGHTFUL, message={"reasoning_content": "Let me"}),
    served("Perplexity", *(
        own({"role": "assistant", "content": piece},
            "stop" if n == 3 else None, choice={"message": {
                "role": "assistant", "content": "".join(PIECES[:n + 1])}},
            citations=["https://example.com/a"], search_results=RESULTS, usage=OTHER)
        for n, piece in enumerate(PIECES)),
        {**own({"role": "assistant", "content": ""}, "stop", choice={"message": {
            "role": "assistant", "content": TEXT}}), "object": "chat.completion.done",
         "citations": ["https://example.com/a"], "search_results": RESULTS, "usage": USAGE}),
    served("OpenRouter", WORKING, WORKING, *(
        own({"role": "assistant", "content": "", "reasoning": each, "reasoning_details": [
            {"type": "reasoning.text", "text": each, "index": 0, "format": None}]}, provider="P",
            choice={"native_finish_reason": None}) for each in THOUGHTS),
        own({"role": "assistant", "content": "", "reasoning": None, "reasoning_details": HIDDEN}),
        WORKING, *(own({"role": "assistant", "content": piece}, provider="P") for piece in PIECES),
        own({"role": "assistant", "content": ""}, "stop", choice={"native_finish_reason": "end"}),
        {**own({"role": "assistant", "content": ""}), "usage": PRICED}, DONE,
        counts=PRICED, message={"reasoning": "Let me"}),
    served("OpenRouter's error", WORKING, *CHAT[:2],
           own({"content": ""}, "error", provider="P",
               error={"code": 502, "message": MEMORY, "metadata": {"provider_name": "P"}}), DONE,
           plain=failed(502, MEMORY, code=502), same_words=False),
    served("Together", *(own({"token_id": n, "role": "assistant", "content": piece,
                              "tool_calls": None}, choice={"text": piece, "seed": None}, usage=None)
                         for n, piece in enumerate(PIECES)),
           own({"token_id": 9, "role": "assistant", "content": "", "tool_calls": None}, "stop",
               choice={"text": "", "seed": 7}, usage=USAGE), DONE),
    served("Fireworks", own({"role": "assistant"}), *(own({"content": piece}) for piece in PIECES),
           own({}, "stop", usage=USAGE, perf_metrics={"prompt-tokens": "7"}), DONE),
    served("vLLM", own({"role": "assistant", "content": ""}, prompt_token_ids=None, usage=OTHER),
           *(own({"content": piece}, choice={"token_ids": None}, usage=OTHER) for piece in PIECES),
           own({"content": ""}, "stop", choice={"stop_reason": None}, usage=USAGE), USE, DONE),
    served("vLLM's error", *CHAT[:2], {"error": {"message": MEMORY, "type": "InternalServerError",
           "param": None, "code": 500}}, DONE, same_words=False,
           plain=failed(500, MEMORY, type="InternalServerError", param=None, code=500)),
    served("Ollama", *(own({"role": "assistant", "content": "", "reasoning": each},
                           system_fingerprint="fp_ollama") for each in THOUGHTS),
           *(own({"role": "assistant", "content": piece}) for piece in PIECES),
           own({"role": "assistant", "content": ""}, "stop"), USE, DONE,
           message={"reasoning": "Let me"}),
    served("LM Studio", *(own({"role": "assistant", "content": piece}, system_fingerprint="m")
                          for piece in PIECES), own({}, "stop"), USE, DONE),
    served("LM Studio's error", *CHAT[:2],
           b'event: error\ndata: {"error": {"message": "The model has crashed"}}\n\n',
           plain=failed(500, "The model has crashed"), same_words=False),
]  # fmt: skip


def in_choice(**fields: Any) -> dict[str, Any]:
    return {**TOP, "object": "chat.completion.chunk", "choices": [{"index": 0, **fields}]}


REPORTED = [
    case("a reason with every chunk, then a cut",
         *[chunk({"content": piece}, "stop") for piece in PIECES[:3]],
         plain=LOST, end="cut", same_words=False),
    case("a reason with every chunk",
         *[chunk({"content": piece}, "stop") for piece in PIECES], USE, DONE),
    case("a character in two frames", *smiling(b"\xf0\x9f", b"\x98\x80"), FIN, USE, DONE,
         plain=SMILE, confused=True),
    case("a text in place of a delta", *[in_choice(text=piece) for piece in PIECES],
         in_choice(text="", finish_reason="stop"), USE, DONE, confused=True),
    case("an empty message in place of the last delta", *CHAT,
         in_choice(message={"role": "assistant", "content": ""}, finish_reason="stop"), USE, DONE),
    case("an empty message beside a null delta", *CHAT,
         in_choice(delta=None, message={"role": "assistant", "content": ""}, finish_reason="stop"),
         USE, DONE),
    case("counts of nothing after the reply's", *CHAT, FIN, USE,
         {**USE, "usage": dict.fromkeys(USAGE, 0)},
         DONE),
    case("a byte order mark in the middle", *CHAT[:2], b"\xef\xbb\xbf" + sse(CHAT[2])[0],
         CHAT[3], FIN, USE, DONE),
    *[
        case(f"the end as {word}", *CHAT, FIN, USE, f"data: {word}\n\n".encode())
        for word in ("[done]", "DONE", '"[DONE]"', "stream closed")
    ],
    case("an error in a choice", *CHAT[:2], in_choice(delta={}, error={"code": 502, "message": "x"}),
         DONE, plain=failed(502, "x", code=502), confused=True),
    tool_case("arguments without their last brace", calls(call("price", PRICE[:-1], "a", index=0)),
              plain=ONE, confused=True),
    tool_case("no calls before their reason", chunk({"content": ""}), plain=ONE, confused=True),
    tool_case("calls in a message beside a delta", in_choice(delta={}, message=ONE_MESSAGE),
              plain=ONE, confused=True),
    tool_case("calls beside a delta", in_choice(delta={}, tool_calls=ONE_MESSAGE["tool_calls"]),
              plain=ONE, confused=True),
]  # fmt: skip

CASES: list[Case] = [
    case("an ordinary reply", *CHAT, FIN, USE, DONE),
    *one_of_each(anywhere(name, odd) for name, odd in NO_FRAMES.items()),
    *FRAMING,
    *PADDED,
    *OPEN,
    *FAILING,
    *ENDINGS,
    *VALUES,
    *THINKING,
    *SOUND,
    *REFUSED,
    *LATE_USAGE,
    *MISTRAL,
    *CALLS,
    *ONLY_PLAIN,
    *EARLY_REASONS,
    *NOT_JSON,
    *SPLIT_USAGE,
    *ODD_NUMBERS,
    *MINIMAX,
    *TRANSPORT,
    *SEVERAL,
    *SERVERS,
    *REPORTED,
]
