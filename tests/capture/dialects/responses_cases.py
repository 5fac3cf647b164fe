"""OpenAI Responses as servers send them."""

from __future__ import annotations

import json
from typing import Any

from case import FOREIGN, LOST, WORDS, Case, Failed, data, odd_number, one_of_each, sse

PIECES = ["[[ ## answer ## ]]\n", "Nine ", "lives", "\n\n[[ ## completed ## ]]"]
TEXT = "".join(PIECES)
USAGE = {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}


def message(text: str = TEXT, **more: Any) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    made = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
    return {**made, "content": content, **more}


def response(*output: Any, **more: Any) -> dict[str, Any]:
    return {
        "id": "resp_1", "object": "response", "created_at": 1_700_000_000, "status": "completed",
        "model": "m", "output": list(output) or [message()], "usage": USAGE,
        "error": None, "incomplete_details": None, "instructions": None, "metadata": {},
        "parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto", "tools": [],
        "top_p": 1.0, **more,
    }  # fmt: skip


def delta(text: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0,
        "content_index": 0, "delta": text, **more,
    }  # fmt: skip


def completed(*output: Any, **more: Any) -> dict[str, Any]:
    return {"type": "response.completed", "response": response(*output, **more)}


DELTAS = [delta(piece) for piece in PIECES]


def case(name: str, *payloads: Any, plain: Any = None, **more: Any) -> Case:
    return Case(
        name=name, wire="responses", frames=sse(*payloads, event=True),
        plain=response() if plain is None else plain, **more,
    )  # fmt: skip


def rest(*payloads: Any) -> list[Any]:
    """An ordinary stream up to its deltas, with the events that OpenAI sends around them."""
    begun = response(status="in_progress", output=[], usage=None)
    return [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {"type": "response.output_item.added", "output_index": 0,
         "item": {**message(""), "content": [], "status": "in_progress"}},
        {"type": "response.content_part.added", "item_id": "msg_1", "output_index": 0,
         "content_index": 0, "part": {"type": "output_text", "text": "", "annotations": []}},
        *DELTAS,
        {"type": "response.output_text.done", "item_id": "msg_1", "output_index": 0,
         "content_index": 0, "text": TEXT},
        {"type": "response.content_part.done", "item_id": "msg_1", "output_index": 0,
         "content_index": 0, "part": {"type": "output_text", "text": TEXT, "annotations": []}},
        {"type": "response.output_item.done", "output_index": 0, "item": message()},
        *payloads,
    ]  # fmt: skip


WAYS = [f"{engine} {calls}" for engine in ("native", "imodel") for calls in ("sync", "async")]
DONE = b"data: [DONE]\n\n"

NO_FRAMES = {
    "data of a blank": b"data: \n\n",
    "data without anything": b"data:\n\n",
    "a named event without data": b"event: ping\ndata: \n\n",
    "a comment": b": keep-alive\n\n",
    "a comment as data": b"data: : STILL WORKING\n\n",
    "null": b"data: null\n\n",
    "a ping as JSON": b'event: keepalive\ndata: {"type": "keepalive"}\n\n',
    "an unknown event": b'data: {"type": "response.queued", "sequence_number": 1}\n\n',
}
AROUND = one_of_each(
    [
        case(f"{name} first", odd, *rest(completed())),
        case(f"{name} in the middle", *DELTAS[:2], odd, *DELTAS[2:], odd, completed()),
        case(f"{name} at the end", *DELTAS, odd, completed(), odd),
    ]
    for name, odd in NO_FRAMES.items()
)


def reframed(change: Any) -> list[bytes]:
    return [change(frame) for frame in sse(*rest(completed()), event=True)]


FRAMING = [
    Case(name=name, wire="responses", frames=frames, plain=response())
    for name, frames in {
        "a blank before each field": reframed(
            lambda frame: b" " + frame.replace(b"\ndata", b"\n data")
        ),
        "CRLF": reframed(lambda frame: frame.replace(b"\n", b"\r\n")),
        "no names of events": sse(*rest(completed())),
        "no line feed after the last frame": [*sse(*DELTAS), sse(completed())[0].rstrip()],
        "padding": sse(*({**each, "obfuscation": "x" * n} for n, each in enumerate(DELTAS)),
                       completed()),
        "types at the end of their events": sse(
            *({key: each[key] for key in sorted(each)} for each in DELTAS), completed()),
        "no indexes": sse(
            *({"type": each["type"], "delta": each["delta"]} for each in DELTAS), completed()),
        "null indexes": sse(
            *({**each, "output_index": None, "content_index": None} for each in DELTAS),
            completed()),
        "an id for every delta (Copilot)": sse(
            *({**each, "item_id": f"r{n}"} for n, each in enumerate(DELTAS)), completed()),
    }.items()
]  # fmt: skip

OPEN = [
    case("open after the last event", *DELTAS, completed(), end="open"),
    case("open after DONE", *DELTAS, completed(), DONE, end="open"),
    case("comments after the last event", *DELTAS, completed(), b": bye\n\n", end="open"),
]

MEMORY = "CUDA out of memory"


def failed(status: int, message: str = MEMORY, **more: Any) -> Failed:
    return Failed(status, {"error": {"message": message, **more}})


ERRORS = {
    "as documented": (
        {"type": "error", "code": "server_error", "message": MEMORY, "param": None},
        failed(500, type="server_error", param=None, code="server_error"),
    ),
    "in an object": (
        {"type": "error", "error": {"type": "rate_limit_error", "message": MEMORY,
                                    "code": "rate_limit_exceeded"}},
        failed(429, type="rate_limit_error", code="rate_limit_exceeded"),
    ),
    "without a type": ({"error": {"message": MEMORY, "code": 503}}, failed(503, code=503)),
    "with a type of null": (
        {"type": None, "error": {"message": MEMORY, "code": "invalid_prompt"}},
        failed(400, code="invalid_prompt"),
    ),
    "a string": ({"error": MEMORY}, Failed(500, {"error": MEMORY})),
    "a code of 400": (
        {"object": "error", "message": MEMORY, "type": "BadRequestError", "param": None,
         "code": 400},
        failed(400, type="BadRequestError", param=None, code=400),
    ),
    "bare words": (
        b"event: error\ndata: %b\n\n" % MEMORY.encode(), Failed(500, MEMORY.encode()),
    ),
    "under another name": (
        {"type": "response.error", "error": {"message": MEMORY, "code": 429}},
        failed(429, code=429),
    ),
}  # fmt: skip
FAILING = [
    *one_of_each(
        [
            case(f"error alone: {name}", frame, plain=plain, same_words=False),
            case(f"error after text: {name}", *DELTAS[:3], frame, plain=plain, same_words=False),
            case(f"error after text, then DONE: {name}", *DELTAS[:3], frame, DONE, plain=plain,
                 same_words=False),
        ]
        for name, (frame, plain) in ERRORS.items()
    ),
    case("error after the last event", *DELTAS, completed(), {"error": MEMORY}),
    case("a failed response", *DELTAS[:3],
         {"type": "response.failed", "response": response(
             status="failed", output=[],
             error={"code": "server_error", "message": MEMORY})},
         plain={**response(status="failed", error={"code": "server_error", "message": MEMORY}),
                "output": []}, ask=None,
         ways=WAYS),
    *(
        # to LiteLLM the plain reply would be an empty success
        case(f"a failed response, {code}", *DELTAS[:3],
             {"type": "response.failed", "response": response(
                 status="failed", output=[], error={"message": MEMORY, "code": code})},
             plain=failed(status, code=code), ways=("litellm sync", "litellm async"))
        for code, status in (("server_error", 500), ("rate_limit_exceeded", 429),
                             ("invalid_prompt", 400))
    ),
    case("a failed response without an error", *DELTAS[:3],
         {"type": "response.failed", "response": response(status="failed")},
         plain=failed(500, "the response failed", code="server_error"), same_words=False),
]  # fmt: skip

LATE = {"plain": LOST, "same_words": False}
ENDINGS = [
    case("DONE alone", DONE, **LATE),
    case("nothing but the beginning, then DONE", *rest()[:4], DONE, **LATE),
    case("a cut in the middle of text", *DELTAS[:3], end="cut", **LATE),
    case("a clean end in the middle of text", *DELTAS[:3], **LATE),
    case("a clean end before the last event", *rest(), **LATE),
    case("a cut before the last event", *rest(), end="cut", **LATE),
    case("the last event, then a cut", *DELTAS, completed(), end="cut"),
    case("the last event and DONE, then a cut", *DELTAS, completed(), DONE, end="cut"),
    case("no last event, but DONE", *rest(), DONE, confused=True),
    case("the last event under another name", *DELTAS,
         {"type": "response.done", "response": response()}),
    case("incomplete", *DELTAS,
         {"type": "response.incomplete", "response": response(
             status="incomplete", incomplete_details={"reason": "max_output_tokens"})},
         plain=response(status="incomplete", incomplete_details={"reason": "max_output_tokens"})),
    case("nothing but the last event", completed(), whole=True),
    case("an empty message", completed(message("")), plain=response(message("")), ask=None),
]  # fmt: skip

THOUGHT = {
    "type": "reasoning", "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "First."},
                {"type": "summary_text", "text": "**Two**"}],
}  # fmt: skip


def summary(text: str, part: int) -> dict[str, Any]:
    return {
        "type": "response.reasoning_summary_text.delta", "item_id": "rs_1", "output_index": 0,
        "summary_index": part, "delta": text,
    }  # fmt: skip


SUMMARIES = [
    {"type": "response.output_item.added", "output_index": 0,
     "item": {"type": "reasoning", "id": "rs_1", "summary": []}},
    summary("Fir", 0), summary("st.", 0), summary("**Two", 1), summary("**", 1),
]  # fmt: skip
AFTER = [{**each, "output_index": 1} for each in DELTAS]
EMPTY = {"type": "response.completed", "response": {**response(), "output": []}}


def bare(**more: Any) -> dict[str, Any]:
    return {"type": "response.completed", "response": {**response(), **more}}


NOTHING = [
    case("an empty output, items done", *rest(EMPTY)),
    case("an empty output, deltas alone", *DELTAS, EMPTY, exact=False),
    case("a null output", *rest(bare(output=None))),
    case("a message without content", *rest(bare(output=[message(content=[])]))),
    case("a message with an empty text", *rest(bare(output=[message("")]))),
    case("an empty output, items added", *rest()[:-3], EMPTY, exact=False),
    case("no response in the last event", *rest({"type": "response.completed"}), exact=False,
         plain=response(usage=None)),
    case("a short response in the last event",
         *rest({"type": "response.completed", "response": {"usage": USAGE}})),
    case("an empty output after summaries", *SUMMARIES, *AFTER, EMPTY, exact=False,
         plain=response(THOUGHT, message())),
    case("items without an index", *(
         {key: value for key, value in each.items() if key != "output_index"}
         for each in rest(EMPTY))),
]  # fmt: skip

FIRST = message("", id="msg_0", content=[{"type": "output_text", "text": "So.\n",
                                          "annotations": []}])  # fmt: skip
ODD_ITEMS = [
    case("a gap between the places of the items",
         *(each for text, at, item in (("So.\n", 0, FIRST), (TEXT, 2, message()))
           for each in (
               {"type": "response.output_item.added", "output_index": at,
                "item": {**item, "content": []}},
               delta(text, output_index=at, item_id=item["id"]),
               {"type": "response.output_item.done", "output_index": at, "item": item})),
         completed(FIRST, message()), plain=response(FIRST, message()), whole=True),
    case("an id for every event (Copilot)",
         *({**each, **({"item_id": f"x{n}"} if "item_id" in each else {}),
            **({"item": {**each["item"], "id": f"y{n}"}} if "item" in each else {})}
           for n, each in enumerate(rest())),
         completed()),
    case("text that is not in the last event", *DELTAS[:-1], delta(" or ten"), DELTAS[-1],
         completed(), corrected=True),
]  # fmt: skip

THINKING = [
    case("summaries in parts", *SUMMARIES, *AFTER, completed(THOUGHT, message()),
         plain=response(THOUGHT, message())),
    case("a summary only when it is done", SUMMARIES[0],
         {"type": "response.reasoning_summary_text.done", "item_id": "rs_1", "output_index": 0,
          "summary_index": 0, "text": "First."},
         {"type": "response.reasoning_summary_text.done", "item_id": "rs_1", "output_index": 0,
          "summary_index": 1, "text": "**Two**"},
         *AFTER, completed(THOUGHT, message()), plain=response(THOUGHT, message())),
    case("a summary only in its item",
         {"type": "response.output_item.done", "output_index": 0, "item": THOUGHT},
         *AFTER, completed(THOUGHT, message()), plain=response(THOUGHT, message())),
]  # fmt: skip

TOOLS = [
    {
        "type": "function",
        "function": {"name": name, "parameters": {"type": "object", "properties": {}}},
    }
    for name in ("price", "stock")
]
PRICE, STOCK = '{"of": "cat"}', '{"of": "dog"}'


def function(name: str, arguments: str, number: int, **more: Any) -> dict[str, Any]:
    return {
        "type": "function_call", "id": f"fc_{number}", "call_id": f"call_{number}", "name": name,
        "arguments": arguments, "status": "completed", **more,
    }  # fmt: skip


BOTH = [function("price", PRICE, 0), function("stock", STOCK, 1)]


def opened(number: int) -> dict[str, Any]:
    item = {**BOTH[number], "arguments": "", "status": "in_progress"}
    return {"type": "response.output_item.added", "output_index": number, "item": item}


def pieces(number: int) -> list[dict[str, Any]]:
    text = BOTH[number]["arguments"]
    return [
        {"type": "response.function_call_arguments.delta", "item_id": f"fc_{number}",
         "output_index": number, "delta": piece}
        for piece in (text[:5], text[5:])
    ]  # fmt: skip


def arguments_done(number: int, **more: Any) -> dict[str, Any]:
    return {
        "type": "response.function_call_arguments.done", "item_id": f"fc_{number}",
        "output_index": number, "arguments": BOTH[number]["arguments"], **more,
    }  # fmt: skip


def item_done(number: int) -> dict[str, Any]:
    return {"type": "response.output_item.done", "output_index": number, "item": BOTH[number]}


def tools(name: str, *payloads: Any, **more: Any) -> Case:
    return case(
        name, *payloads, plain=more.pop("plain", response(*BOTH)), ask=None, whole=True,
        options={"tools": TOOLS}, **more,
    )  # fmt: skip


CALLS = [
    tools("calls with deltas", opened(0), *pieces(0), arguments_done(0), item_done(0), opened(1),
          *pieces(1), arguments_done(1), item_done(1), completed(*BOTH)),
    tools("calls in turns", opened(0), opened(1), pieces(0)[0], pieces(1)[0], pieces(0)[1],
          pieces(1)[1], completed(*BOTH)),
    tools("arguments only when they are done", opened(0), arguments_done(0), opened(1),
          arguments_done(1), completed(*BOTH)),
    tools("arguments only in their items", opened(0), item_done(0), opened(1), item_done(1),
          completed(*BOTH)),
    tools("items alone", item_done(0), item_done(1), completed(*BOTH)),
    tools("calls only in the last event", completed(*BOTH)),
    tools("a name only with the arguments", arguments_done(0, name="price"),
          arguments_done(1, name="stock"), completed(*BOTH)),
    tools("a name only after the arguments", *pieces(0), item_done(0), *pieces(1), item_done(1),
          completed(*BOTH)),
    tools("calls with an empty output", opened(0), *pieces(0), opened(1), *pieces(1), EMPTY),
    tools("calls done with an empty output", opened(0), *pieces(0), item_done(0), opened(1),
          arguments_done(1), item_done(1), EMPTY),
    tools("text and calls", *DELTAS, {**opened(0), "output_index": 1},
          *({**each, "output_index": 1} for each in pieces(0)), completed(message(), BOTH[0]),
          plain=response(message(), BOTH[0])),
    tools("calls by ids alone", *(
        {key: value for key, value in each.items() if key != "output_index"}
        for each in (opened(0), opened(1), *pieces(0), *pieces(1))), completed(*BOTH)),
    tools("uncertain: an output without the calls", opened(0), *pieces(0), opened(1), *pieces(1),
          completed(message("So.")), confused=True),
    tools("uncertain: an output without the text", *DELTAS, completed(BOTH[0]), confused=True,
          plain=response(message(), BOTH[0])),
    tools("uncertain: a call without a name", *pieces(0), EMPTY, confused=True),
]  # fmt: skip

NOT_JSON = [
    *one_of_each(
        [
            case(f"{name} {how} {where}", *before, data(words, event), *after, confused=True)
            for how, event in (("as a frame", b""), ("as a delta", b"response.output_text.delta"))
            for where, before, after in (
                ("first", (), rest(completed())),
                ("in the middle", DELTAS[:2], (*DELTAS[2:], completed())),
            )
        ]
        for name, words in WORDS.items()
    ),
    *(case(f"{name} as a frame after the last event", *DELTAS, completed(), data(words))
      for name, words in WORDS.items()),
    *(case(f"{name} under another event's name", data(words, b"meta"), *DELTAS[:2],
           data(words, b"meta"), *DELTAS[2:], data(words, b"meta"), completed())
      for name, words in FOREIGN.items()),
    case("uncertain: OpenAI's chunks in place of events",
         *({"choices": [{"delta": {"content": piece}}]} for piece in PIECES), DONE, confused=True),
]  # fmt: skip


def ended(kind: str = "completed", **more: Any) -> dict[str, Any]:
    """A last event without the response."""
    return {"type": f"response.{kind}", **more}


def begun(**more: Any) -> dict[str, Any]:
    """The first event."""
    return {"type": "response.created",
            "response": response(status="in_progress", output=[], usage=None, **more)}  # fmt: skip


CUT_OFF = {"reason": "max_output_tokens"}
INCOMPLETE = response(status="incomplete", incomplete_details=CUT_OFF)
NO_RESPONSE = [
    case(f"no response in the last event, {name}", begun(**more), *rest()[1:], *last, exact=False,
         plain=plain)
    for name, more, last, plain in (
        ("but usage", {}, [ended(usage=USAGE)], response()),
        ("null", {}, [ended(response=None, usage=USAGE)], response()),
        ("a list", {}, [ended(response=[], usage=USAGE)], response()),
        ("its output beside", {}, [ended(usage=USAGE, output=[message()])], response()),
        ("usage in an event of its own", {}, [{"type": "response.usage", "usage": USAGE}, ended()],
         response()),
        ("usage in progress", {}, [{"type": "response.in_progress", "response": {"usage": USAGE}},
         ended()], response()),
        ("under another name", {}, [ended("done", usage=USAGE)], response()),
        ("another model", {"model": "served"}, [ended(usage=USAGE)], response(model="served")),
    )
] + [
    case("null for the usage in the last event",
         {"type": "response.created", "response": response(status="in_progress", output=[])},
         *DELTAS, {"type": "response.completed", "response": {**response(), "usage": None}}),
    case("null for the model and the id in the last event", begun(), *DELTAS,
         {"type": "response.completed", "response": {**response(), "model": None, "id": ""}}),
    case("a last event that is in progress", begun(), *DELTAS, completed(status="in_progress")),
    case("usage in two events",
         {"type": "response.created", "response": response(
             status="in_progress", output=[], usage={"input_tokens": 7, "total_tokens": 7})},
         *DELTAS, completed(usage={"output_tokens": 5})),
    case("deltas, and a last event without anything", *DELTAS, ended(), exact=False,
         ways=[way for way in WAYS if "native" in way], plain=response(usage=None)),
    case("nothing but a last event without anything", ended(), **LATE),
    case("incomplete, its details beside", begun(), *DELTAS,
         ended("incomplete", incomplete_details=CUT_OFF, usage=USAGE), plain=INCOMPLETE,
         exact=False),
    case("uncertain: incomplete without a response", begun(), *DELTAS, ended("incomplete"),
         plain=INCOMPLETE, confused=True),
    case("uncertain: cancelled", begun(), *DELTAS[:3], ended("cancelled"), confused=True),
    case("failed without a response", begun(), *DELTAS[:3],
         ended("failed", error={"code": "rate_limit_exceeded", "message": MEMORY}),
         plain={**response(status="failed", error={"code": "rate_limit_exceeded",
                                                   "message": MEMORY}), "output": []},
         ways=WAYS),
    case("failed in words", *DELTAS[:3], ended("failed", error=MEMORY), plain=failed(500),
         same_words=False),
]  # fmt: skip


def scored(score: bytes) -> Case:
    """A text with a log probability as some servers write one."""

    def written(value: Any) -> bytes:
        return json.dumps(value).encode().replace(b'"SCORE"', score)

    content = [
        {
            **message()["content"][0],
            "logprobs": [{"token": "Nine", "logprob": "SCORE", "bytes": [], "top_logprobs": []}],
        }
    ]
    made = response(message(content=content))
    return Case(
        name=f"a log probability of {score.decode()}", wire="responses", exact=score != b"NaN",
        frames=[*sse(*DELTAS), data(written({"type": "response.completed", "response": made}))],
        plain=written(made),
    )  # fmt: skip


ODD_NUMBERS = [
    *(each for score in (b"NaN", b"Infinity", b"-Infinity", b"1e400", b"null")
      for each in odd_number(scored(score))),
]  # fmt: skip

CASES: list[Case] = [
    case("an ordinary reply", *DELTAS, completed()),
    case("all of OpenAI's events", *rest(completed())),
    *AROUND,
    *FRAMING,
    *OPEN,
    *FAILING,
    *ENDINGS,
    *NOTHING,
    *ODD_ITEMS,
    *THINKING,
    *CALLS,
    *NOT_JSON,
    *NO_RESPONSE,
    *ODD_NUMBERS,
]
