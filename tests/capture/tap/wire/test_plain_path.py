"""A chunk that is read by its bytes says what it says when it is split and decoded whole.

Replies as providers send them, with all that differs from frame to frame beside the text: each is
read in the ordinary way and by an assembler that may learn no shape, chunk by chunk.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamll.capture.tap.wire import anthropic, chat, reply, responses
from streamll.capture.tap.wire.reply import WireReply

TEXTS = st.one_of(
    st.sampled_from([" the", " sky", "is", '"', "\\", '":"', "}", "\n", "é", "🎉", "a/b", "index"]),
    st.text(min_size=1, max_size=5),
)
NAMES = st.text("abcdXYZ019-", min_size=1, max_size=8)
PADDINGS = st.fixed_dictionaries(
    {},
    optional={
        "obfuscation": st.one_of(NAMES, st.just("ü\n"), st.none()),
        "p": NAMES,
        "timings": st.one_of(
            st.dictionaries(NAMES, st.one_of(st.integers(), st.floats(0, 9), NAMES), max_size=3),
            st.dictionaries(NAMES, st.dictionaries(NAMES, NAMES), max_size=1),
            st.none(),
        ),
    },
)
PACE = st.sampled_from(["same", "same", "same", "other id", "no padding", "usage", "thought"])


def written(body, *, blanks: int, draw_ascii: bool, event: str | None) -> bytes:
    data = json.dumps(body, ensure_ascii=draw_ascii).encode() + b" " * blanks
    return (b"event: %b\n" % event.encode() if event else b"") + b"data: " + data + b"\n\n"


@st.composite
def chat_stream(draw):
    padding = draw(PADDINGS)
    identity, ascii_only = draw(NAMES), draw(st.booleans())
    chunks = []
    for text in draw(st.lists(TEXTS, min_size=2, max_size=12)):
        pace = draw(PACE)
        identity = draw(NAMES) if pace == "other id" else identity
        more = draw(PADDINGS) if pace == "no padding" else padding
        if draw(st.booleans()):
            more = {**more, **{key: draw(NAMES) for key in ("obfuscation", "p") if key in more}}
        if type(more.get("timings")) is dict and draw(st.booleans()):
            more = {**more, "timings": {"ms": draw(st.floats(0, 9)), "n": draw(st.integers())}}
        delta = {"reasoning_content" if pace == "thought" else "content": text}
        body = {"id": identity, "object": "chat.completion.chunk", "created": 1, "model": "m",
                "choices": [{"index": 0, "delta": delta, "finish_reason": None}], **more}  # fmt: skip
        if pace == "usage":
            body["usage"] = {"prompt_tokens": 1, "completion_tokens": len(chunks)}
        blanks = draw(st.sampled_from([0, 0, 0, 2, 9]))
        chunks.append(written(body, blanks=blanks, draw_ascii=ascii_only, event=None))
    end = {"id": identity, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    return [*chunks, written(end, blanks=0, draw_ascii=True, event=None), b"data: [DONE]\n\n"]


@st.composite
def anthropic_stream(draw):
    begin = {"type": "message_start", "message": {"id": "m", "content": []}}
    opened = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}  # fmt: skip
    bodies = [begin, opened]
    for text in draw(st.lists(TEXTS, min_size=2, max_size=12)):
        if draw(PACE) == "usage":
            bodies.append({"type": "ping"})
        delta = {"type": "text_delta", "text": text}
        bodies.append({"type": "content_block_delta", "index": 0, "delta": delta})
    bodies += [
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {}},
        {"type": "message_stop"},
    ]
    return [
        written(body, blanks=draw(st.integers(0, 12)), draw_ascii=True, event=body["type"])
        for body in bodies
    ]


@st.composite
def responses_stream(draw):
    bodies = [{"type": "response.created", "response": {"id": "r", "output": []}}]
    place = {"item_id": "i", "output_index": 0, "content_index": 0}
    texts = draw(st.lists(TEXTS, min_size=2, max_size=12))
    for text in texts:
        if draw(PACE) == "usage":
            bodies.append({"type": "response.in_progress", "response": {"id": "r"}})
        bodies.append(
            {"type": "response.output_text.delta", **place, "delta": text, "logprobs": [],
             "obfuscation": draw(NAMES)}
        )  # fmt: skip
    content = [{"type": "output_text", "text": "".join(texts)}]
    output = [{"id": "i", "type": "message", "role": "assistant", "content": content}]
    bodies.append({"type": "response.completed", "response": {"id": "r", "output": output}})
    return [
        written({**body, "sequence_number": n}, blanks=0, draw_ascii=True, event=body["type"])
        for n, body in enumerate(bodies)
    ]


STREAMS = {
    "chat": (chat_stream(), chat.ChatAssembler),
    "anthropic": (anthropic_stream(), anthropic.AnthropicAssembler),
    "responses": (responses_stream(), responses.ResponsesAssembler),
}


def cut(draw, chunks: list[bytes]) -> list[bytes]:
    """Mostly as they are; some with CR LF, a comment before them, joined, or cut in two."""
    cut: list[bytes] = []
    for chunk in chunks:
        how = draw(st.sampled_from(["as it is"] * 8 + ["crlf", "comment", "joined", "cut"]))
        if how == "crlf":
            chunk = chunk.replace(b"\n", b"\r\n")
        if how == "comment":
            chunk = b": alive\n\n" + chunk
        if how == "joined" and cut:
            cut[-1] += chunk
        elif how == "cut":
            at = draw(st.integers(1, len(chunk) - 1))
            cut += [chunk[:at], chunk[at:]]
        else:
            cut.append(chunk)
    return cut


def read(assembler, chunks: list[bytes]):
    """The deltas of each chunk, and the body or the fault."""
    reading = WireReply(assembler)
    reading.opened(200)
    deltas = [list(reading.feed(chunk)) for chunk in chunks]
    deltas.append(list(reading.finish()))
    try:
        return deltas, json.loads(reading.body())
    except reply.base.WireFault as fault:
        return deltas, repr(fault)


def without_shapes(assembler):
    assembler.template._left = 0
    return assembler


@pytest.mark.parametrize("wire", STREAMS)
@given(st.data())
def test_the_plain_path_equals_the_whole_one(wire, data):
    stream, assembler = STREAMS[wire]
    chunks = cut(data.draw, data.draw(stream))
    assert read(assembler(), chunks) == read(without_shapes(assembler()), chunks)


WORDS = [f" word{number}" for number in range(300)]


def chat_frame(text, **more):
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return {"id": "c", "created": 1, "model": "m", "choices": [choice], **more}


def event(text):
    delta = {"type": "text_delta", "text": text}
    return {"type": "content_block_delta", "index": 0, "delta": delta}


def output_text(number, text):
    return {"type": "response.output_text.delta", "sequence_number": number, "item_id": "i",
            "output_index": 0, "content_index": 0, "delta": text, "obfuscation": "x" * (number % 9)}  # fmt: skip


REAL = {
    "OpenAI's obfuscation": (
        chat.ChatAssembler,
        [chat_frame(word, obfuscation="a" * (n % 13)) for n, word in enumerate(WORDS)],
    ),
    "Mistral's p": (
        chat.ChatAssembler,
        [chat_frame(word, p="abcdefghijkl"[: n % 12]) for n, word in enumerate(WORDS)],
    ),
    "an id for each chunk": (
        chat.ChatAssembler,
        [{**chat_frame(word), "id": f"c-{n}", "created": n + 1} for n, word in enumerate(WORDS)],
    ),
    "llama.cpp's timings": (
        chat.ChatAssembler,
        [chat_frame(word, timings={"n": n, "ms": n / 7}) for n, word in enumerate(WORDS)],
    ),
    "Anthropic's blanks": (
        anthropic.AnthropicAssembler,
        [
            {"type": "message_start", "message": {}},
            {"type": "content_block_start", "index": 0,
             "content_block": {"type": "text", "text": ""}},
            *map(event, WORDS),
        ],
    ),
    "Responses": (
        responses.ResponsesAssembler,
        [output_text(number, word) for number, word in enumerate(WORDS)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("wire", REAL)
def test_of_a_real_reply_hardly_a_chunk_is_decoded_whole(wire):
    assembler, bodies = REAL[wire]
    reading = WireReply(assembler())
    reading.opened(200)
    plain, texts = 0, []
    for number, body in enumerate(bodies):
        blanks = number % 10 if "blanks" in wire else 0
        chunk = written(body, blanks=blanks, draw_ascii=True, event=None)
        deltas = reading.plain and reading.plain.deltas_in(chunk, 0, len(chunk))
        plain += deltas is not None
        texts += reading.feed(chunk) if deltas is None else deltas
    assert texts == WORDS
    assert len(bodies) - plain < 12
    if "timings" in wire:
        end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        reading.feed(written(end, blanks=0, draw_ascii=True, event=None))
        assert json.loads(reading.body())["timings"] == bodies[-1]["timings"]
