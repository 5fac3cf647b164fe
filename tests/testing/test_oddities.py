"""What is unusual about a stream, for every dialect of the practice server and by hand."""

from __future__ import annotations

import json

import pytest

from streamll.testing import Reply
from streamll.testing.dialects import DIALECTS
from streamll.testing.oddities import oddities
from streamll.testing.record_file import RecordedExchange

TELLS = {
    "openai": [],
    "azure": ["chunks without an id: 1", "keys of its own: prompt_filter_results"],
    "groq": [
        "usage beside a choice, not in a chunk of its own",
        "keys of its own: x_groq",
        "values that change: x_groq",
        "thinking under reasoning",
    ],
    "mistral": [
        "usage beside a choice, not in a chunk of its own",
        "content as a list of blocks",
    ],
    "deepseek": ["comments: 3", "usage beside a choice, not in a chunk of its own"],
    "perplexity": [
        "usage in 9 chunks",
        "keys of its own: citations",
        "it ends without the mark of its end",
    ],
    "xai": [],
    "openrouter": [
        "comments: 3",
        "usage beside a choice, not in a chunk of its own",
        "keys of its own: provider",
        "thinking under reasoning, reasoning_details",
        "a finish reason before the end",
    ],
    "vllm": ["keys of its own: prompt_token_ids", "thinking under reasoning"],
    "ollama": ["thinking under reasoning"],
    "lmstudio": [],
    "llamacpp": ["keys of its own: timings", "values that change: timings"],
    "vertex": [],
}
CHUNK = {"id": "c", "choices": [{"index": 0, "delta": {"content": "Hi"}}]}
USAGE = {"id": "c", "choices": [], "usage": {"total_tokens": 1}}
LAST = {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
DONE = b"data: [DONE]\n\n"


def exchange(*frames, complete=True, status=200, kind="text/event-stream"):
    sent = [
        frame if isinstance(frame, bytes) else b"data: " + json.dumps(frame).encode() + b"\n\n"
        for frame in frames
    ]
    return RecordedExchange(
        "/v1/chat/completions", "m", "d", status, {"content-type": kind}, 0.0,
        [(0.0, data) for data in sent], 1.0, complete,
    )  # fmt: skip


@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_of_the_practice_server(practice, ask, name):
    practice.dialect = name
    practice.script(Reply("one two three", thinking="Let me see.", chunk="token"))
    wire = DIALECTS[name].wire
    options = {"stream_options": {"include_usage": True}} if wire == "openai" else {}
    received = ask(wire, stream=True, **options)
    sent = exchange(*received.chunks, kind=received.headers["content-type"])
    assert oddities(sent) == TELLS[name]


def test_the_ordinary_wires_have_none(practice, ask, wire):
    practice.script("one two three")
    options = {"stream_options": {"include_usage": True}} if wire == "openai" else {}
    assert oddities(exchange(*ask(wire, stream=True, **options).chunks)) == []


ORDINARY = (CHUNK, LAST, USAGE)
BY_HAND = {
    "frames of nothing: 2": exchange(b"data: \n\n", CHUNK, b"data:\n\n", LAST, USAGE, DONE),
    "comments: 1": exchange(b": busy\n\n", *ORDINARY, DONE),
    "frames that are not JSON: 1": exchange(*ORDINARY, b"data: {oops\n\n", DONE),
    "its content type is text/html": exchange(*ORDINARY, DONE, kind="text/html"),
    "ids that change: 2": exchange({**CHUNK, "id": "x"}, LAST, USAGE, DONE),
    "no usage": exchange(CHUNK, LAST, DONE),
    "usage inside a choice": exchange(
        {"id": "c", "choices": [{"usage": {"n": 1}}]}, *ORDINARY, DONE
    ),
    "a finish reason before the end": exchange(LAST, CHUNK, USAGE, DONE),
    "a finish reason in 2 frames": exchange(CHUNK, LAST, LAST, USAGE, DONE),
    "an error in the stream": exchange(*ORDINARY, {"error": {"message": "no"}}, DONE),
    "it ends without the mark of its end": exchange(*ORDINARY),
    "the line stays open after the end": exchange(*ORDINARY, DONE, complete=False),
}


@pytest.mark.parametrize("told", BY_HAND)
def test_by_hand(told):
    assert any(found.startswith(told) for found in oddities(BY_HAND[told]))


def test_what_is_no_stream():
    assert oddities(exchange(b'{"choices": []}')) == ["a plain reply to a request for a stream"]
    array = exchange(b'[{"candidates": []}]')
    assert oddities(array) == ["a JSON array of chunks to a request for a stream"]
    assert oddities(exchange(b"no", status=500)) == []
    assert oddities(RecordedExchange("/", "m", "d")) == []
