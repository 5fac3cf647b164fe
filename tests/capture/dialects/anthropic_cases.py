"""Anthropic Messages as servers send them."""

from __future__ import annotations

from typing import Any

from case import FOREIGN, LOST, PAUSE, WORDS, Case, Failed, data, odd_number, one_of_each, sse

PIECES = ["[[ ## answer ## ]]\n", "Nine ", "lives", "\n\n[[ ## completed ## ]]"]
TEXT = "".join(PIECES)
USAGE = {"input_tokens": 7, "output_tokens": 5}
TOP = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m"}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {"type": "object", "properties": {"q": {"type": "string"}}},
        },
    }
    for name in ("price", "stock")
]
ASK_TOOLS: dict[str, Any] = {"ask": None, "options": {"tools": TOOLS}}
ASK_PLAINLY: dict[str, Any] = {"ask": None}


def begin(**more: Any) -> dict[str, Any]:
    message = {**TOP, "content": [], "stop_reason": None, "stop_sequence": None, "usage": USAGE}
    return {"type": "message_start", "message": {**message, **more}}


def start(index: int | None, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", **numbered(index), "content_block": block}


def delta(index: int | None, **change: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", **numbered(index), "delta": change}


def stop(index: int | None) -> dict[str, Any]:
    return {"type": "content_block_stop", **numbered(index)}


def numbered(index: int | None) -> dict[str, Any]:
    return {} if index is None else {"index": index}


def text(index: int | None = 0, *pieces: str) -> list[dict[str, Any]]:
    return [delta(index, type="text_delta", text=piece) for piece in pieces or PIECES]


def said(index: int | None = 0, *pieces: str) -> list[dict[str, Any]]:
    """A whole block of text."""
    return [start(index, type="text", text=""), *text(index, *pieces), stop(index)]


def thought(index: int | None, *pieces: str) -> list[dict[str, Any]]:
    deltas = [delta(index, type="thinking_delta", thinking=piece) for piece in pieces]
    signed = delta(index, type="signature_delta", signature="sig")
    return [start(index, type="thinking", thinking="", signature=""), *deltas, signed, stop(index)]


def called(index: int | None, name: str, *pieces: str, identity: str = "") -> list[dict[str, Any]]:
    identity = identity or f"toolu_{name}"
    deltas = [delta(index, type="input_json_delta", partial_json=piece) for piece in pieces]
    return [
        start(index, type="tool_use", id=identity, name=name, input={}),
        *deltas,
        stop(index),
    ]


def ending(reason: str | None = "end_turn", **more: Any) -> dict[str, Any]:
    reasons = {"stop_reason": reason, "stop_sequence": None}
    return {"type": "message_delta", "delta": reasons, "usage": USAGE, **more}


END = {"type": "message_stop"}
PING = {"type": "ping"}


def message(*content: dict[str, Any], reason: str = "end_turn", **more: Any) -> dict[str, Any]:
    blocks = list(content) or [{"type": "text", "text": TEXT}]
    reasons = {"stop_reason": reason, "stop_sequence": None}
    return {**TOP, "content": blocks, **reasons, "usage": USAGE, **more}


def use(name: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{name}", "name": name, "input": arguments}


def error(kind: str = "overloaded_error", words: str = "Overloaded") -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": words}}


def case(name: str, *payloads: Any, plain: Any = None, **more: Any) -> Case:
    return Case(
        name=name, wire="anthropic", frames=sse(*payloads, event=True),
        plain=message() if plain is None else plain, **more,
    )  # fmt: skip


NO_FRAMES = {
    "pings": b'event: ping\ndata: {"type": "ping"}\n\n',
    "an event of nothing": b"event: ping\ndata: \n\n",
    "data of nothing": b"data:\n\n",
    "a blank as data": b"data: \n\n",
    "comments": b": keep-alive\n\n",
    "comments as data": b"data: : STILL WORKING\n\n",
    "an event without data": b"event: ping\n\n",
    "retry times and ids": b"id: 7\nretry: 3000\n\n",
}


def with_noise(noise: bytes) -> list[Any]:
    """The ordinary reply, with something that is no frame before, between and after its frames."""
    frames = [begin(), *said(), ending(), END]
    return [noise, *(each for frame in frames for each in (frame, noise))]


KIND_1 = [
    *(case(f"{name} anywhere", *with_noise(noise)) for name, noise in NO_FRAMES.items()),
    case("a blank before a field", b" ", begin(), b" ", *said(), b" ", ending(), END),
    case(
        "frames without the names of their events",
        *(
            b"data: " + frame.partition(b"data: ")[2]
            for frame in sse(begin(), *said(), ending(), END)
        ),
    ),
    case("a kind that is not known", begin(), {"type": "metrics", "n": 1}, *said(), ending(), END),
    case("[DONE] after the end", begin(), *said(), ending(), END, b"data: [DONE]\n\n"),
]
KIND_2 = [
    case("open after message_stop", begin(), *said(), ending(), END, end="open"),
    case("open after message_stop, with pings", begin(), *said(), ending(), END, PING, end="open"),
    case("open after the reason", begin(), *said(), ending(), end="open"),
    case("open after a tool call's reason", begin(), *called(0, "price", '{"q":1}'),
         ending("tool_use"), end="open", plain=message(use("price", q=1), reason="tool_use"),
         **ASK_TOOLS),
]  # fmt: skip

OVERLOADED = Failed(529, error())
BODILESS = begin(), start(0, type="text", text=""), *text(0, *PIECES[:2])
"""A reply that stops in the middle of its text."""
KIND_3 = [
    case("overloaded at once", error(), plain=OVERLOADED),
    case("overloaded after the begin", begin(), PING, error(), plain=OVERLOADED),
    case("overloaded after text", *BODILESS, error(), plain=OVERLOADED),
    case("overloaded after text, held open", *BODILESS, error(), plain=OVERLOADED, end="open"),
    case("overloaded after text, then an end", *BODILESS, error(), END, plain=OVERLOADED),
    case("rate limited after text", *BODILESS, error("rate_limit_error", "Slow down."),
         plain=Failed(429, error("rate_limit_error", "Slow down."))),
    case("invalid after text", *BODILESS, error("invalid_request_error", "No."),
         plain=Failed(400, error("invalid_request_error", "No."))),
    case("an error of the API after text", *BODILESS, error("api_error", "Internal server error"),
         plain=Failed(500, error("api_error", "Internal server error"))),
    case("an error in a string", *BODILESS, {"type": "error", "error": "out of memory"},
         plain=Failed(500, {"type": "error", "error": "out of memory"}), same_words=False),
    case("an error without its kind of event", *BODILESS, {"error": {"type": "overloaded_error",
         "message": "Overloaded"}}, plain=OVERLOADED),
    case("an error in bare words", *BODILESS, b"event: error\ndata: out of memory\n\n",
         plain=Failed(500, b"out of memory"), same_words=False),
    case("an error in bare words at once", b"event: error\ndata: out of memory\n\n",
         plain=Failed(500, b"out of memory"), same_words=False),
]  # fmt: skip

KIND_4 = [
    case("cut in the text", *BODILESS, plain=LOST, end="cut", same_words=False),
    case("a clean end in the text", *BODILESS, plain=LOST, same_words=False),
    case("a clean end after a block", begin(), *said(), plain=LOST, same_words=False),
    case("message_stop alone", END, plain=LOST, same_words=False),
    case("nothing but pings", PING, PING, plain=LOST, same_words=False),
    case("cut after the reason", begin(), *said(), ending(), end="cut"),
    case("ends after the reason", begin(), *said(), ending()),
    case("cut after message_stop", begin(), *said(), ending(), END, end="cut"),
    case("the reason before the text, then a cut", begin(), ending(), *said()[:3],
         plain=LOST, end="cut", same_words=False),
    case("the reason before the text, then the rest", begin(), ending(), *said(), END),
    case("a reason in the begin, then a cut", begin(stop_reason="end_turn"), *said()[:3],
         plain=LOST, end="cut", same_words=False),
    case("a reason in the begin, then an end in the text", begin(stop_reason="end_turn"),
         *said()[:3], plain=LOST, same_words=False),
    case("an open block at the end", begin(), *said()[:-1], ending(), END),
    case("a reply of nothing", begin(), ending(), END,
         plain={**message(), "content": []}, **ASK_PLAINLY),
    case("cut off by its length", begin(), *said(0, "Half"), ending("max_tokens"), END,
         plain=message({"type": "text", "text": "Half"}, reason="max_tokens"), whole=True,
         **ASK_PLAINLY),
]  # fmt: skip

FULL = {**USAGE, "cache_read_input_tokens": 3, "service_tier": "standard"}
KIND_5 = [
    case("usage in the begin only", begin(), *said(), {**ending(), "usage": None}, END),
    case("no usage at the end", begin(),
         *said(), {k: v for k, v in ending().items() if k != "usage"}, END),
    case("usage at the end only", begin(usage=None), *said(), ending(), END),
    case("the count of output at the end", begin(usage={**FULL, "output_tokens": 1}), *said(),
         ending(usage={"output_tokens": 5}), END, plain=message(usage=FULL)),
    case("counts of nothing at the end", begin(usage=FULL), *said(),
         ending(usage={"output_tokens": 5, "input_tokens": None}), END, plain=message(usage=FULL)),
    case("usage that grows", begin(usage={**FULL, "output_tokens": 1}), *said(),
         {**ending(None), "usage": {"output_tokens": 3}}, ending(usage={"output_tokens": 5}), END,
         plain=message(usage=FULL)),
    case("usage of server tools", begin(), *said(),
         ending(usage={**USAGE, "server_tool_use": {"web_search_requests": 1}}), END,
         plain=message(usage={**USAGE, "server_tool_use": {"web_search_requests": 1}})),
    case("more about the end", begin(), *said(), ending(context_management={"applied_edits": []}),
         END, plain=message(context_management={"applied_edits": []})),
]  # fmt: skip

TWO = [use("price", q="a"), use("stock", q="b")]
SEARCHED = {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "x"}}
FOUND = {
    "type": "web_search_tool_result",
    "tool_use_id": "srv_1",
    "content": [
        {"type": "web_search_result", "url": "https://a.example", "title": "A",
         "encrypted_content": "e", "page_age": None}
    ],
}  # fmt: skip
CITED = {
    "type": "web_search_result_location", "cited_text": "Nine", "url": "https://a.example",
    "title": "A", "encrypted_index": "e",
}  # fmt: skip
HIDDEN = {"type": "redacted_thinking", "data": "x"}
SIGNED = {"type": "thinking", "thinking": "Let me see.", "signature": "sig"}

KIND_7 = [
    case("text for a block that is not open", begin(), *text(0), stop(0), ending(), END),
    case("text for another block than the open one", begin(), start(0, type="text", text=""),
         *text(3), stop(0), ending(), END),
    case("thinking for a block that is not open", begin(),
         delta(0, type="thinking_delta", thinking="Let me see."),
         delta(0, type="signature_delta", signature="sig"), *said(1), ending(), END,
         plain=message(SIGNED, {"type": "text", "text": TEXT}), **ASK_PLAINLY),
    case("thinking and text under one number", begin(), *thought(0, "Let me ", "see."), *said(0),
         ending(), END, plain=message(SIGNED, {"type": "text", "text": TEXT}), **ASK_PLAINLY),
    case("text in a block of thinking", begin(), *thought(0, "Let me ", "see.")[:-1], *text(0),
         stop(0), ending(), END, plain=message(SIGNED, {"type": "text", "text": TEXT}),
         **ASK_PLAINLY),
    case("blocks without numbers", begin(), *thought(None, "Let me ", "see."), *said(None),
         ending(), END, plain=message(SIGNED, {"type": "text", "text": TEXT}), **ASK_PLAINLY),
    case("a block that is opened twice", begin(), start(0, type="text", text=""), *said(),
         ending(), END),
    case("blocks in another order", begin(), *called(1, "price", '{"q":', '"a"}'), *said(0),
         ending("tool_use"), END, plain=message({"type": "text", "text": TEXT}, use("price", q="a"),
         reason="tool_use"), **ASK_TOOLS),
    case("a text in a block's start", begin(), start(0, type="text", text=PIECES[0]),
         *text(0, *PIECES[1:]), stop(0), ending(), END),
    case("no text after a text in a block's start", begin(), start(0, type="text", text=PIECES[0]),
         delta(0, type="text_delta", text=None), *text(0, *PIECES[1:]), stop(0), ending(), END),
    case("two calls at once", begin(), *called(0, "price", '{"q":', '"a"}'),
         *called(1, "stock", '{"q":"b"}'), ending("tool_use"), END,
         plain=message(*TWO, reason="tool_use"), **ASK_TOOLS),
    case("two calls in turns", begin(), called(0, "price")[0], called(1, "stock")[0],
         delta(1, type="input_json_delta", partial_json='{"q":'),
         delta(0, type="input_json_delta", partial_json='{"q":"a"}'),
         delta(1, type="input_json_delta", partial_json='"b"}'), stop(0), stop(1),
         ending("tool_use"), END, plain=message(*TWO, reason="tool_use"), **ASK_TOOLS),
    case("two calls under one number", begin(), *called(0, "price", '{"q":"a"}'),
         *called(0, "stock", '{"q":"b"}'), ending("tool_use"), END,
         plain=message(*TWO, reason="tool_use"), **ASK_TOOLS),
    case("a call without arguments", begin(), *called(0, "price"), ending("tool_use"), END,
         plain=message(use("price"), reason="tool_use"), **ASK_TOOLS),
    case("a call of empty arguments", begin(), *called(0, "price", "", ""), ending("tool_use"),
         END, plain=message(use("price"), reason="tool_use"), **ASK_TOOLS),
    case("a call whose start has no input", begin(),
         start(0, type="tool_use", id="toolu_price", name="price"), stop(0), ending("tool_use"),
         END, plain=message(use("price"), reason="tool_use"), **ASK_TOOLS),
    case("a call whole in its start", begin(), start(0, **use("price", q="a")), stop(0),
         ending("tool_use"), END, plain=message(use("price", q="a"), reason="tool_use"),
         **ASK_TOOLS),
    case("a call in its start and in pieces", begin(), start(0, **use("price", q="a")),
         delta(0, type="input_json_delta", partial_json='{"q":"a"}'), stop(0),
         ending("tool_use"), END, plain=message(use("price", q="a"), reason="tool_use"),
         **ASK_TOOLS),
    case("arguments as an object", begin(), called(0, "price")[0],
         delta(0, type="input_json_delta", partial_json={"q": "a"}), stop(0), ending("tool_use"),
         END, plain=message(use("price", q="a"), reason="tool_use"), **ASK_TOOLS),
    case("arguments that are no JSON", begin(), *called(0, "price", '{"q": "a"'),
         ending("tool_use"), END, plain=message(use("price", q="a"), reason="tool_use"),
         confused=True, **ASK_TOOLS),
    case("arguments of a call without a name", begin(),
         delta(0, type="input_json_delta", partial_json='{"q":"a"}'), stop(0), ending("tool_use"),
         END, plain=message(use("price", q="a"), reason="tool_use"), confused=True, **ASK_TOOLS),
    case("a call without a name", begin(), start(0, type="tool_use", id="toolu_price", input={}),
         delta(0, type="input_json_delta", partial_json='{"q":"a"}'), stop(0), ending("tool_use"),
         END, plain=message(use("price", q="a"), reason="tool_use"), confused=True, **ASK_TOOLS),
    case("tools of the server", begin(), start(0, **{**SEARCHED, "input": {}}),
         delta(0, type="input_json_delta", partial_json=""),
         delta(0, type="input_json_delta", partial_json='{"query":"x"}'), stop(0),
         start(1, **FOUND), stop(1), *said(2), ending(), END,
         plain=message(SEARCHED, FOUND, {"type": "text", "text": TEXT})),
    case("citations", begin(), start(0, type="text", text="", citations=[]), *text(),
         delta(0, type="citations_delta", citation=CITED), stop(0), ending(), END,
         plain=message({"type": "text", "text": TEXT, "citations": [CITED]})),
    case("hidden thinking", begin(), start(0, **HIDDEN), stop(0), *said(1), ending(), END,
         plain=message(HIDDEN, {"type": "text", "text": TEXT}), **ASK_PLAINLY),
    case("a signature that is sent twice", begin(), *thought(0, "Let me ", "see.")[:-1],
         delta(0, type="signature_delta", signature="sig"), stop(0), *said(1), ending(), END,
         plain=message(SIGNED, {"type": "text", "text": TEXT}), **ASK_PLAINLY),
    case("a signature in the block's start", begin(), start(0, **{**SIGNED, "thinking": ""}),
         delta(0, type="thinking_delta", thinking="Let me see."), stop(0), *said(1), ending(),
         END, plain=message(SIGNED, {"type": "text", "text": TEXT}), **ASK_PLAINLY),
    case("a message that begins twice", begin(), begin(), *said(), ending(), END),
    case("another message in the middle", begin(), *said()[:3], begin(id="msg_2"), *said(),
         ending(), END, plain=message(id="msg_2"), confused=True),
    case("no begin", *said(), ending(), END, confused=True),
    case("content in the begin", begin(content=[{"type": "text", "text": TEXT}]), ending(), END,
         whole=True),
    case("the whole message in one frame", message(), whole=True),
    case("the whole message in one frame, and an end", message(), END, whole=True),
]  # fmt: skip

SOON = {"end": "open", "early_grace": 0.2}
EARLY_REASONS = [
    case("the reason before the text, which comes later", begin(), ending(), PAUSE, *said(), END),
    case("the reason before the text, which comes later, and again", begin(), ending(), PAUSE,
         *said(), ending(), END),
    case("the reason after an empty block, the text later", begin(), start(0, type="text", text=""),
         ending(), PAUSE, *text(), stop(0), ending(), END),
    case("a reason in the begin, the text later", begin(stop_reason="end_turn"), PAUSE, *said(),
         ending(), END),
    case("the reason before the text, the end of another wire", begin(), ending(), *said(),
         b"data: [DONE]\n\n"),
    case("the reason before the text and after it", begin(), ending(), *said(), ending()),
    case("the reason before a call, and after it", begin(), ending("tool_use"),
         start(0, **use("price", q=1)), ending("tool_use"),
         plain=message(use("price", q=1), reason="tool_use"), **ASK_TOOLS),
    case("uncertain: the reason before the text, open", begin(), ending(), *said(), confused=True,
         **SOON),
    case("uncertain: the reason before the text and after it, open", begin(), ending(), *said(),
         ending(), confused=True, **SOON),
    case("uncertain: the reason before the text and after it, then a cut", begin(), ending(),
         *said(), ending(), end="cut", confused=True),
    case("uncertain: the reason alone, open", begin(), ending(), confused=True, **SOON),
    case("the reason alone, then a cut", begin(), ending(), end="cut", plain=LOST, same_words=False),
    case("a reply of nothing, without an end", begin(), ending(), plain={**message(), "content": []},
         **ASK_PLAINLY),
]  # fmt: skip

EARLY_REASONS += [
    case(
        "thinking, the reason, the text later",
        begin(),
        *thought(0, "Let me ", "see."),
        ending(),
        PAUSE,
        *said(1),
        END,
        plain=message(SIGNED, {"type": "text", "text": TEXT}),
        **ASK_PLAINLY,
    ),
    case(
        "thinking and the reason, without an end",
        begin(),
        *thought(0, "Let me ", "see."),
        ending("max_tokens"),
        plain=message(SIGNED, reason="max_tokens"),
        **ASK_PLAINLY,
    ),
]


NOT_JSON = [
    *one_of_each(
        [
            case(f"{name} {how} {where}", *before, data(words, event), *after, confused=True)
            for how, event in (("as a frame", b""), ("as a delta", b"content_block_delta"))
            for where, before, after in (
                ("first", (), (begin(), *said(), ending(), END)),
                ("in the middle", (begin(), *said()[:3]), (*said()[3:], ending(), END)),
            )
        ]
        for name, words in WORDS.items()
    ),
    *(case(f"{name} as a frame after the reason", begin(), *said(), ending(), data(words), END)
      for name, words in WORDS.items()),
    *(case(f"{name} under another event's name", *with_noise(data(words, b"meta")))
      for name, words in FOREIGN.items()),
    case("uncertain: OpenAI's chunks in place of events",
         *({"choices": [{"delta": {"content": piece}}]} for piece in PIECES), b"data: [DONE]\n\n",
         confused=True),
]  # fmt: skip
CACHED = {**USAGE, "cache_read_input_tokens": 3}
SPLIT_USAGE = [
    case("usage in its two halves", begin(usage={"input_tokens": 7}), *said(),
         ending(usage={"output_tokens": 5}), END),
    case("usage in its two halves, the rest zero", begin(usage={"input_tokens": 7, "output_tokens": 0}),
         *said(), ending(usage={"input_tokens": 0, "output_tokens": 5}), END),
    case("usage in its two halves, the first zero", begin(usage={"input_tokens": 0, "output_tokens": 0}),
         *said(), ending(usage=USAGE), END),
    case("usage in two events at the end", begin(usage=None), *said(),
         ending(usage={"input_tokens": 7}), ending(usage={"output_tokens": 5}), END),
    case("counts of a cache in the begin only", begin(usage=CACHED), *said(),
         ending(usage={**USAGE, "cache_read_input_tokens": 0}), END, plain=message(usage=CACHED)),
    case("usage that is no object", begin(), *said(), ending(usage="x"), END),
]  # fmt: skip
ODD_NUMBERS = [
    each
    for number in (b"NaN", b"Infinity", b"-Infinity", b"1e400")
    for each in odd_number(Case(
        name=f"a score of {number.decode()}", wire="anthropic",
        frames=[*sse(begin()), *sse(*said()[:2]), data(
            b'{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", '
            b'"text": "%b", "score": %b}}' % (PIECES[1].encode(), number)),
            *sse(*said()[3:], ending(), END)],
        plain=message(), exact=False,
    ))
]  # fmt: skip

TAKEN_BACK = [
    case("usage beside a null reason", begin(), *said(0, "Half"), ending("max_tokens"), ending(None),
         END, plain=message({"type": "text", "text": "Half"}, reason="max_tokens"), whole=True,
         **ASK_PLAINLY),
    case("a null beside what was said", begin(), *said(), ending(container={"id": "c"}),
         ending(container=None), END, plain=message(container={"id": "c"})),
]  # fmt: skip

PRICED = {"type": "tool_use", "id": "toolu_price", "name": "price", "input": {"q": "cat"}}
REPORTED = [
    case("the end of another wire", begin(), *said(), ending(), b"data: [DONE]\n\n"),
    case("the end of another wire, without a reason", begin(), *said(), b"data: [DONE]\n\n",
         confused=True),
    case("no calls before their reason", begin(), ending("tool_use"), END,
         plain=message(PRICED, stop_reason="tool_use"), confused=True, **ASK_TOOLS),
]  # fmt: skip

CASES: list[Case] = [
    case("an ordinary reply", begin(), *said(), ending(), END),
    *KIND_1,
    *KIND_2,
    *KIND_3,
    *KIND_4,
    *KIND_5,
    *KIND_7,
    *EARLY_REASONS,
    *NOT_JSON,
    *TAKEN_BACK,
    *SPLIT_USAGE,
    *ODD_NUMBERS,
    *REPORTED,
]
