"""Gemini ``streamGenerateContent`` as servers send it."""

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
USAGE = {"promptTokenCount": 7, "candidatesTokenCount": 5, "totalTokenCount": 12}
TOP = {"usageMetadata": USAGE, "modelVersion": "m", "responseId": "r1"}
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
FAITHFUL = ("native sync", "native async", "imodel sync", "imodel async")
"""LiteLLM drops a text that was blocked, and joins ratings of its own."""


def chunk(*parts: Any, top: Any = None, **more: Any) -> dict[str, Any]:
    """A frame with these parts; ``more`` is the candidate's."""
    content = {"content": {"parts": list(parts), "role": "model"}} if parts else {}
    return {"candidates": [{"index": 0, **content, **more}], **TOP, **(top or {})}


def said(*pieces: str) -> list[dict[str, Any]]:
    return [chunk({"text": piece}) for piece in pieces or PIECES]


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"functionCall": {"name": name, "args": arguments}}


LAST = chunk({"text": ""}, finishReason="STOP")
BARE = chunk(finishReason="STOP")


def reply(*parts: Any, reason: str = "STOP", **more: Any) -> dict[str, Any]:
    """A plain reply."""
    given = parts or ({"text": TEXT},)
    return chunk(*given, finishReason=reason, **more)


def error(code: int, status: str, words: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": words, "status": status}}


def case(name: str, *payloads: Any, plain: Any = None, **more: Any) -> Case:
    return Case(
        name=name, wire="gemini", frames=sse(*payloads),
        plain=reply() if plain is None else plain, **more,
    )  # fmt: skip


NO_FRAMES = {
    "data of nothing": b"data:\n\n",
    "a blank as data": b"data: \n\n",
    "comments": b": keep-alive\n\n",
    "comments as data": b"data: : STILL WORKING\n\n",
    "an event of nothing": b"event: ping\ndata: \n\n",
    "empty lines": b"\r\n\r\n",
}
KIND_1 = [
    *(
        case(f"{name} anywhere", *(each for frame in (*said(), LAST) for each in (noise, frame)), noise)
        for name, noise in NO_FRAMES.items()
    ),
    case("a blank before a field", b" ", *said(), b" ", LAST),
    Case(
        name="lines that end in CR LF", wire="gemini", plain=reply(),
        frames=[frame.replace(b"\n\n", b"\r\n\r\n") for frame in sse(*said(), LAST)],
    ),
    case("[DONE] after the end", *said(), LAST, b"data: [DONE]\n\n"),
]  # fmt: skip
KIND_2 = [
    case("open after the last chunk", *said(), LAST, end="open"),
    case("open after a bare reason", *said(), BARE, end="open"),
    case("open after a call", chunk(call("price", q="a")), LAST, end="open",
         plain=reply(call("price", q="a")), **ASK_TOOLS),
    case("open after usage", *said(), LAST, {**TOP}, end="open"),
]  # fmt: skip

OVERLOADED = error(503, "UNAVAILABLE", "The model is overloaded.")
KIND_3 = [
    case("overloaded at once", OVERLOADED, plain=Failed(503, OVERLOADED)),
    case("overloaded after text", *said()[:2], OVERLOADED, plain=Failed(503, OVERLOADED)),
    case("overloaded after text, held open", *said()[:2], OVERLOADED,
         plain=Failed(503, OVERLOADED), end="open"),
    case("out of quota after text", *said()[:2], error(429, "RESOURCE_EXHAUSTED", "Quota."),
         plain=Failed(429, error(429, "RESOURCE_EXHAUSTED", "Quota."))),
    case("invalid after text", *said()[:2], error(400, "INVALID_ARGUMENT", "No."),
         plain=Failed(400, error(400, "INVALID_ARGUMENT", "No."))),
    case("an error in a string", *said()[:2], {"error": "out of memory"},
         plain=Failed(500, {"error": "out of memory"}), same_words=False),
    case("an error in an array", *said()[:2],
         b"data: " + json.dumps([OVERLOADED]).encode() + b"\n\n", plain=Failed(503, OVERLOADED)),
    case("an error by its name", *said()[:2], b"event: error\ndata: out of memory\n\n",
         plain=Failed(500, b"out of memory"), same_words=False),
]  # fmt: skip

KIND_4 = [
    case("cut in the text", *said()[:2], plain=LOST, end="cut", same_words=False),
    case("a clean end in the text", *said()[:2], plain=LOST, same_words=False),
    case("STOP early, then a cut", chunk({"text": PIECES[0]}, finishReason="STOP"), *said()[1:3],
         plain=LOST, end="cut", same_words=False),
    case("STOP alone early, then a cut", BARE, *said()[:3], plain=LOST, end="cut",
         same_words=False),
    case("STOP in every chunk, then a cut",
         *(chunk({"text": piece}, finishReason="STOP") for piece in PIECES[:3]), plain=LOST,
         end="cut", same_words=False),
    case("STOP in every chunk", *(chunk({"text": piece}, finishReason="STOP") for piece in PIECES)),
    case("STOP early, then the rest", chunk({"text": PIECES[0]}, finishReason="STOP"), *said()[1:]),
    case("cut after the last chunk", *said(), LAST, end="cut"),
    case("usage after the reason", *said(), chunk({"text": ""}, finishReason="STOP",
         top={"usageMetadata": None}), dict(TOP)),
    case("usage after the reason, then a cut", *said(), chunk({"text": ""}, finishReason="STOP",
         top={"usageMetadata": None}), dict(TOP), end="cut"),
    case("no candidates at all", dict(TOP), plain=LOST, same_words=False),
    case("empty candidates", {"candidates": [], **TOP}, *said(), {"candidates": [], **TOP}, LAST),
    case("a reply of nothing", BARE, plain=chunk(finishReason="STOP"), **ASK_PLAINLY),
    case("cut off by its length", *said("Half"), chunk(finishReason="MAX_TOKENS"),
         plain=reply({"text": "Half"}, reason="MAX_TOKENS"), whole=True, **ASK_PLAINLY),
    case("a malformed call", chunk(finishReason="MALFORMED_FUNCTION_CALL",
         finishMessage="Malformed function call: print("), plain=chunk(
         finishReason="MALFORMED_FUNCTION_CALL", finishMessage="Malformed function call: print("),
         **ASK_TOOLS),
    case("blocked without content", chunk(finishReason="SAFETY"),
         plain=chunk(finishReason="SAFETY"), **ASK_PLAINLY),
    case("blocked after text", *said()[:2], chunk(finishReason="SAFETY"),
         plain=reply({"text": "".join(PIECES[:2])}, reason="SAFETY"), ways=FAITHFUL, **ASK_PLAINLY),
    case("a blocked prompt", {"promptFeedback": {"blockReason": "SAFETY"}, **TOP},
         plain={"promptFeedback": {"blockReason": "SAFETY"}, **TOP}, **ASK_PLAINLY),
    case("ratings of a prompt that is not blocked",
         {**said()[0], "promptFeedback": {"safetyRatings": []}}, *said()[1:], LAST,
         plain={**reply(), "promptFeedback": {"safetyRatings": []}}),
]  # fmt: skip


def counted(**counts: int) -> dict[str, Any]:
    return {"usageMetadata": {"promptTokenCount": 7, **counts}}


DETAILED = {**USAGE, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 7}]}
KIND_5 = [
    case("usage that grows", *(chunk({"text": piece}, top=counted(candidatesTokenCount=number))
         for number, piece in enumerate(PIECES)), LAST),
    case("usage in the last chunk only",
         *(chunk({"text": piece}, top={"usageMetadata": {"trafficType": "ON_DEMAND"}})
         for piece in PIECES), chunk({"text": ""}, finishReason="STOP",
         top={"usageMetadata": {**USAGE, "trafficType": "ON_DEMAND"}}),
         plain=reply(top={"usageMetadata": {**USAGE, "trafficType": "ON_DEMAND"}})),
    case("usage in the first chunk only", chunk({"text": PIECES[0]}),
         *({k: v for k, v in each.items() if k != "usageMetadata"} for each in [*said()[1:], LAST])),
    case("usage of nothing at the end", *said(), chunk({"text": ""}, finishReason="STOP",
         top={"usageMetadata": None})),
    case("details of usage at the end", *said(), chunk({"text": ""}, finishReason="STOP",
         top={"usageMetadata": DETAILED}), plain=reply(top={"usageMetadata": DETAILED})),
    case("grounding at the end", *said(), chunk({"text": ""}, finishReason="STOP",
         groundingMetadata={"webSearchQueries": ["x"]}),
         plain=reply(groundingMetadata={"webSearchQueries": ["x"]})),
    case("ratings in every chunk", *(chunk({"text": piece}, safetyRatings=[number])
         for number, piece in enumerate(PIECES)), LAST, plain=reply(safetyRatings=[3]),
         ways=FAITHFUL),
]  # fmt: skip

SIGN = {"thoughtSignature": "sig"}
CALLED = call("price", q="a"), call("stock", q="b")
THOUGHT = {"text": "Let me see.", "thought": True}
IMAGE = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}


def sound(data: str) -> dict[str, Any]:
    return {"inlineData": {"mimeType": "audio/L16;codec=pcm;rate=24000", "data": data}}


def piece(**more: Any) -> dict[str, Any]:
    return chunk({"functionCall": more})


def argument(path: str, value: Any, **more: Any) -> dict[str, Any]:
    kind = {str: "stringValue", bool: "boolValue", type(None): "nullValue"}.get(type(value))
    return piece(
        partialArgs=[{"jsonPath": path, kind or "numberValue": value, **more}], willContinue=True
    )


KIND_7 = [
    case("thinking", chunk({"text": "Let me ", "thought": True}),
         chunk({"text": "see.", "thought": True}), *said(), LAST,
         plain=reply(THOUGHT, {"text": TEXT}), **ASK_PLAINLY),
    case("a signature at the end of the text", *said(),
         chunk({"text": "", **SIGN}, finishReason="STOP"), plain=reply({"text": TEXT, **SIGN})),
    case("a signature of empty text after thinking",
         chunk({"text": "Let me see.", "thought": True}), *said(), chunk({"text": "", **SIGN}),
         BARE, plain=reply(THOUGHT, {"text": TEXT, **SIGN}), **ASK_PLAINLY),
    case("a signature of thinking", chunk({**THOUGHT, **SIGN}), *said(), LAST,
         plain=reply({**THOUGHT, **SIGN}, {"text": TEXT}), **ASK_PLAINLY),
    case("thinking that is not", *(chunk({"text": piece, "thought": False}) for piece in PIECES),
         LAST, exact=False),
    case("two calls in one chunk", chunk(*CALLED), LAST, plain=reply(*CALLED), **ASK_TOOLS),
    case("two calls in two chunks", chunk(CALLED[0]), chunk(CALLED[1]), LAST,
         plain=reply(*CALLED), **ASK_TOOLS),
    case("the same call twice", chunk(CALLED[0]), chunk(CALLED[0]), LAST,
         plain=reply(CALLED[0], CALLED[0]), **ASK_TOOLS),
    case("text and a signed call", *said("Let me look."), chunk({**CALLED[0], **SIGN}), LAST,
         plain=reply({"text": "Let me look."}, {**CALLED[0], **SIGN}), whole=True, **ASK_TOOLS),
    case("a call with the reason", chunk(CALLED[0], finishReason="STOP"), plain=reply(CALLED[0]),
         **ASK_TOOLS),
    case("a call without arguments", piece(name="price"), LAST, plain=reply(call("price")),
         **ASK_TOOLS),
    case("a call whose arguments are null", piece(name="price", args=None), LAST,
         plain=reply(call("price")), **ASK_TOOLS),
    case("a call in pieces", piece(name="price", willContinue=True),
         argument("$.q", "Bos", willContinue=True), argument("$.q", "ton", willContinue=True),
         argument("$.q", ""), piece(), LAST, plain=reply(call("price", q="Boston")), **ASK_TOOLS),
    case("a call in pieces of every kind", piece(name="price", willContinue=True),
         argument("$.list[0].name", "a"), argument("$.list[0].size", 1.5),
         argument("$.list[1]['odd name']", "x"), argument("$.nothing", None), piece(), LAST,
         plain=reply(call("price", list=[{"name": "a", "size": 1.5}, {"odd name": "x"}],
         nothing=None)), **ASK_TOOLS),
    case("two calls in pieces", piece(name="price", willContinue=True), argument("$.q", "a"),
         piece(), piece(name="stock", willContinue=True), argument("$.q", "b"), LAST,
         plain=reply(*CALLED), **ASK_TOOLS),
    case("a piece of a call without a name", argument("$.q", "a"), piece(), LAST,
         plain=reply(CALLED[0]), confused=True, **ASK_TOOLS),
    case("a call without a name", piece(args={"q": "a"}), LAST, plain=reply(CALLED[0]),
         confused=True, **ASK_TOOLS),
    case("the rest of a call as a whole", piece(name="price", willContinue=True),
         piece(args={"q": "a"}), LAST, plain=reply(CALLED[0]), **ASK_TOOLS),
    case("code and its result", *said(PIECES[0]), chunk({"executableCode": {"language": "PYTHON",
         "code": "1"}}), chunk({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}}),
         *said(*PIECES[1:]), LAST, plain=reply({"text": PIECES[0]}, {"executableCode": {
         "language": "PYTHON", "code": "1"}}, {"codeExecutionResult": {"outcome": "OUTCOME_OK",
         "output": "1"}}, {"text": "".join(PIECES[1:])})),
    case("parts of nothing", chunk({"text": PIECES[0]}), {"candidates": [{"index": 0, "content":
         {"role": "model", "parts": None}}], **TOP}, {"candidates": [{"index": 0, "content": None}],
         **TOP}, *said()[1:], LAST),
    case("an image", *said(), chunk(IMAGE), LAST, plain=reply({"text": TEXT}, IMAGE),
         parts=["image"]),
    case("images of two candidates, each asked for by itself", *said(), chunk(IMAGE), LAST,
         plain=reply({"text": TEXT}, IMAGE), parts=["image"], ask=None,
         options={"n": 2, "temperature": 0.5}, ways=("native sync", "native async")),
    case("sound in one piece", chunk(sound("AAAA")), LAST, plain=reply(sound("AAAA")),
         parts=["audio"], **ASK_PLAINLY),
    case("sound in pieces", *map(chunk, (sound("AAAA"), sound("BBBB"))), LAST,
         plain=reply(sound("AAAABBBB")), confused=True, parts=["audio"], **ASK_PLAINLY),
    case("sound that is asked for", *map(chunk, (sound("AAAA"), sound("BBBB"))), LAST,
         plain=reply(sound("AAAABBBB")), plainly=True, ask=None,
         options={"modalities": ["audio"]}, ways=READ_BY_LITELLM),
    case("candidates without numbers", *({**each, "candidates": [{k: v for k, v in
         each["candidates"][0].items() if k != "index"}]} for each in [*said(), LAST]),
         exact=False),
    case("a whole reply in one frame", reply(), whole=True),
]  # fmt: skip


SOON = {"end": "open", "early_grace": 0.2}
STOP = {"finishReason": "STOP"}
EARLY = chunk({"text": PIECES[0]}, **STOP)
EACH = [chunk({"text": piece}, **STOP) for piece in PIECES]
EARLY_REASONS = [
    case("STOP with the first text, the rest later", EARLY, PAUSE, *said()[1:], LAST),
    case("STOP with the first text, the rest later and no STOP", EARLY, PAUSE, *said()[1:]),
    case("STOP before the text, which comes later", BARE, PAUSE, *said(), LAST),
    case("STOP with an empty text, the text later", LAST, PAUSE, *said(), LAST),
    case("STOP in every chunk, and a pause", *EACH[:2], PAUSE, *EACH[2:]),
    case("STOP with the first thought, the text later",
         chunk({"text": "Let me see.", "thought": True}, **STOP), PAUSE, *said(), LAST,
         plain=reply({"text": "Let me see.", "thought": True}, {"text": TEXT}), **ASK_PLAINLY),
    case("STOP with the first of two calls", chunk(call("price", q="a"), **STOP), PAUSE,
         chunk(call("stock", q="b"), **STOP),
         plain=reply(call("price", q="a"), call("stock", q="b")), **ASK_TOOLS),
    case("all in one chunk, usage after it, open", {**reply(), "usageMetadata": None}, dict(TOP),
         whole=True, end="open"),
    case("STOP twice at the end, open", *said(), BARE, LAST, end="open"),
    case("uncertain: all in one chunk, open", reply(), confused=True, **SOON),
    case("uncertain: a call in one chunk, open", chunk(call("price", q="a"), **STOP), confused=True,
         plain=reply(call("price", q="a")), **ASK_TOOLS, **SOON),
    case("uncertain: STOP with the first text, the rest, open", EARLY, *said()[1:], confused=True,
         **SOON),
    case("uncertain: STOP in every chunk, open", *EACH, confused=True, **SOON),
    case("uncertain: STOP alone, open", BARE, confused=True, plain=BARE, **ASK_PLAINLY, **SOON),
    case("uncertain: STOP with the first text, then a cut", EARLY, end="cut", confused=True),
    case("uncertain: all in one chunk, then a cut", reply(), end="cut", confused=True),
    case("uncertain: all in one chunk, then a cut inside a frame", reply(), b'data: {"cand',
         end="cut", confused=True),
    case("STOP alone, then a cut", BARE, end="cut", plain=LOST, same_words=False),
    case("[DONE] without a reason", *said(), b"data: [DONE]\n\n", confused=True),
]  # fmt: skip


NOT_JSON = [
    *one_of_each(
        [
            case(f"{name} as a frame {where}", *before, data(words), *after, confused=True)
            for where, before, after in (
                ("first", (), (*said(), LAST)), ("in the middle", said()[:2], (*said()[2:], LAST))
            )
        ]
        for name, words in WORDS.items()
    ),
    *(case(f"{name} as a frame after the reason", *said(), LAST, data(words))
      for name, words in WORDS.items()),
    *(case(f"{name} under another event's name", data(words, b"meta"), *said()[:2],
           data(words, b"meta"), *said()[2:], data(words, b"meta"), LAST, data(words, b"meta"))
      for name, words in FOREIGN.items()),
    *(case(f"uncertain: {name} in place of chunks", *frames, confused=True)
      for name, frames in {
          "texts": [{"text": piece} for piece in PIECES],
          "OpenAI's chunks": [{"choices": [{"delta": {"content": piece}}]} for piece in PIECES],
      }.items()),
]  # fmt: skip
FULL_USAGE = {**USAGE, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 7}]}


def counted_apart(*reports: Any) -> list[dict[str, Any]]:
    """The reply, with these reports of usage in its last chunks."""
    *first, last = said()
    texts = [{**each, "usageMetadata": None} for each in (*first, last)]
    end = {**LAST, "usageMetadata": reports[0]}
    return [*texts, end, *({**TOP, "usageMetadata": each} for each in reports[1:])]


GROUNDED = {
    "groundingChunks": [{"web": {"uri": "u", "title": "t"}}],
    "groundingSupports": [{"segment": {"text": "Nine", "startIndex": 0, "endIndex": 4},
                           "groundingChunkIndices": [0]}],
}  # fmt: skip
TAKEN_BACK = [
    case("usage beside a null reason", *said("Half"), chunk(finishReason="MAX_TOKENS"),
         chunk(finishReason=None), plain=reply({"text": "Half"}, reason="MAX_TOKENS"), whole=True,
         **ASK_PLAINLY),
    case("an id, then none", *said(), chunk({"text": ""}, finishReason="STOP",
         top={"responseId": "", "modelVersion": None})),
    case("grounding, then an empty one", *said(), chunk(groundingMetadata=GROUNDED),
         chunk(finishReason="STOP", groundingMetadata={}), plain=reply(groundingMetadata=GROUNDED)),
    case("grounding, then its queries", *said(), chunk(groundingMetadata=GROUNDED),
         chunk(finishReason="STOP", groundingMetadata={"webSearchQueries": ["x"]}),
         plain=reply(groundingMetadata={**GROUNDED, "webSearchQueries": ["x"]})),
    case("log probabilities, then none", *said(), chunk(logprobsResult={"chosenCandidates": [1]}),
         chunk(finishReason="STOP", logprobsResult=None),
         plain=reply(logprobsResult={"chosenCandidates": [1]})),
]  # fmt: skip
SPLIT_USAGE = [
    case("usage in two chunks", *counted_apart({"promptTokenCount": 7, "totalTokenCount": 7},
         {"candidatesTokenCount": 5})),
    case("usage in two chunks, each with its total", *counted_apart(
         {"promptTokenCount": 7, "totalTokenCount": 7},
         {"candidatesTokenCount": 5, "totalTokenCount": 5})),
    case("usage in two chunks, the rest zero", *counted_apart(
         {"promptTokenCount": 7, "candidatesTokenCount": 0, "totalTokenCount": 7},
         {"promptTokenCount": 0, "candidatesTokenCount": 5, "totalTokenCount": 5})),
    case("usage in two chunks, the rest null", *counted_apart(
         {"promptTokenCount": 7, "candidatesTokenCount": None, "totalTokenCount": 7},
         {"promptTokenCount": None, "candidatesTokenCount": 5, "totalTokenCount": 12})),
    case("details of usage before the end", *counted_apart(FULL_USAGE, USAGE),
         plain=reply(top={"usageMetadata": FULL_USAGE})),
    case("details of usage empty at the end", *counted_apart(
         FULL_USAGE, {**USAGE, "promptTokensDetails": []}),
         plain=reply(top={"usageMetadata": FULL_USAGE})),
]  # fmt: skip


def scored(score: str) -> Case:
    """A candidate with a mean log probability as some servers write one."""

    def written(value: Any) -> bytes:
        return json.dumps(value).replace('"SCORE"', score).encode()

    last = chunk({"text": ""}, finishReason="STOP", avgLogprobs="SCORE")
    return Case(
        name=f"a log probability of {score}", wire="gemini", exact="NaN" not in score,
        frames=[*sse(*said()), data(written(last))], plain=written(reply(avgLogprobs="SCORE")),
    )  # fmt: skip


ODD_NUMBERS = [
    scored("null"),
    *(each for score in ("NaN", "Infinity", "-Infinity", "1e400")
      for each in odd_number(scored(score))),
]  # fmt: skip


THOUGHT_FIRST = chunk({"text": "Let me see.", "thought": True})
EARLY_REASONS += [
    case(
        f"thinking, then STOP {name}, the rest later",
        THOUGHT_FIRST,
        *early,
        PAUSE,
        *late,
        LAST,
        plain=reply({"text": "Let me see.", "thought": True}, {"text": TEXT}),
        **ASK_PLAINLY,
    )
    for name, early, late in (
        ("with the first text", [EARLY], said()[1:]),
        ("alone", [BARE], said()),
    )
]


def in_array(*frames: Any, name: str, **more: Any) -> Case:
    """A stream as one JSON array, as servers send it that do not read ``alt=sse``."""
    head, *rest = [json.dumps(frame).encode() for frame in frames]
    pieces = [b"[" + head, *(b"\n,\r\n" + each for each in rest), b"\n]\n"]
    return Case(
        name=name, wire="gemini", content_type="application/json",
        **{"plain": reply(), "frames": pieces, **more},
    )  # fmt: skip


def of(index: int, text: str = "", **more: Any) -> dict[str, Any]:
    """A frame of one of several candidates."""
    content = {"content": {"parts": [{"text": text}], "role": "model"}} if text else {}
    return {"candidates": [{"index": index, **content, **more}], **TOP}


BOTH = {**TOP, "candidates": [of(at, TEXT, **STOP)["candidates"][0] for at in (0, 1)]}
TWO: dict[str, Any] = {"plain": BOTH, "options": {"n": 2, "temperature": 0.5}, "ask": None,
                       "ways": READ_BY_LITELLM}  # fmt: skip
FIRST = [*(of(0, piece) for piece in PIECES), of(0, **STOP)]
CANDIDATES = [
    case("two candidates, the second longer", *FIRST, of(1, PIECES[0]),
         *(each for piece in PIECES[1:] for each in (PAUSE, of(1, piece))), of(1, **STOP), **TWO),
    case("two candidates, the second later", *FIRST, PAUSE, *(of(1, piece) for piece in PIECES),
         of(1, **STOP), end="open", **TWO),
    case("two candidates in one frame, open", BOTH, end="open", early_grace=0.2, whole=True,
         confused=True, **TWO),
    case("uncertain: one candidate of two, open", *FIRST, end="open", early_grace=0.2,
         confused=True, **TWO),
    case("fewer candidates than were asked for", *FIRST, **{**TWO, "plain": reply()}),
    case("a second candidate without a reason", *FIRST, of(1, "Ni"), confused=True, **TWO),
]  # fmt: skip
ARRAYS = [
    in_array(*said(), LAST, name="an array of chunks", whole=True),
    in_array(reply(), name="an array of one chunk", whole=True),
    in_array(*said()[:2], OVERLOADED, name="an array with an error at its end",
             plain=Failed(503, OVERLOADED)),
    in_array(OVERLOADED, name="an array of an error", plain=Failed(503, OVERLOADED)),
    in_array(*said()[:2], name="an array that ends in the text", plain=LOST, same_words=False),
    in_array(*said(), name="an array that is cut", end="cut", plain=LOST, same_words=False),
]  # fmt: skip

CASES: list[Case] = [
    case("an ordinary reply", *said(), LAST),
    case(
        "a reason with the last text",
        *said()[:-1],
        chunk({"text": PIECES[-1]}, finishReason="STOP"),
    ),
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
    *ARRAYS,
    *CANDIDATES,
]
