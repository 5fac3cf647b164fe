"""A reply in very many tiny frames: eight times as many are about eight times the work, on every wire."""

from __future__ import annotations

import json
import time

import pytest
from anthropic_cases import begin, start
from anthropic_cases import delta as block_delta
from anthropic_cases import ending as message_end
from case import Case, sse
from chat_cases import DONE, chunk
from chat_cases import usage as chat_usage
from frames_server import FramesServer
from gemini_cases import chunk as gemini_chunk
from profiles import THOROUGH
from responses_cases import EMPTY, completed, opened
from responses_cases import delta as text_delta
from ways import play

from streamll.capture.tap.wire.anthropic import AnthropicAssembler
from streamll.capture.tap.wire.chat import ChatAssembler
from streamll.capture.tap.wire.gemini import GeminiAssembler
from streamll.capture.tap.wire.reply import WireReply
from streamll.capture.tap.wire.responses import ResponsesAssembler

FEW, MANY = (500, 4_000) if THOROUGH else (100, 800)
MOST = 4 * MANY // FEW
"""The ratio of work is 8 where it is linear, 64 where each frame looks at all before it."""
ROUNDS = 10
"""Of measuring, at most: others who share the core's caches make the same work take longer."""


def calls(**fragment):
    return chunk({"tool_calls": [{"index": 0, **fragment}]})


def argument(path):
    piece = {"jsonPath": path, "stringValue": "x", "willContinue": True}
    return gemini_chunk({"functionCall": {"partialArgs": [piece], "willContinue": True}})


END = [chunk({}, "stop"), chat_usage()]
CALL = calls(id="a", function={"name": "f", "arguments": '{"a": "'})
CALL_END = [calls(function={"arguments": '"}'}), chunk({}, "tool_calls")]
TOOL = start(0, type="tool_use", id="a", name="f", input={})
GEMINI_END = [gemini_chunk(finishReason="STOP")]
STREAMS = {
    "chat": (ChatAssembler, [], chunk({"content": "x"}), END),
    "chat, one id for each chunk": (ChatAssembler, [], lambda n: {**chunk({"content": "x"}), "id": n}, END),
    "chat, empty texts": (ChatAssembler, [], chunk({"content": "", "reasoning": "x"}), END),
    "chat, a reason with every chunk": (ChatAssembler, [], chunk({"content": "x"}, "stop"), END),
    "chat, nothing but empty texts": (ChatAssembler, [], chunk({"content": ""}, "stop"), END),
    "chat, blocks": (ChatAssembler, [], chunk({"content": [{"type": "text", "text": "x"}]}), END),
    "chat, blocks of thinking": (
        ChatAssembler, [],
        chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "x"}]}]}), END),
    "chat, details of reasoning": (
        ChatAssembler, [], chunk({"reasoning_details": [{"index": 0, "text": "x"}]}),
        [chunk({"content": "x"}), *END]),
    "chat, probabilities": (ChatAssembler, [], lambda n: {"choices": [
        {"index": 0, "delta": {"content": "x"}, "logprobs": {"content": [{"token": n}]}}]}, END),
    "chat, arguments": (ChatAssembler, [CALL], calls(function={"arguments": "x"}), CALL_END),
    "chat, arguments and the name": (
        ChatAssembler, [CALL], calls(id="a", function={"name": "f", "arguments": "x"}), CALL_END),
    "chat, arguments of braces and the name": (
        ChatAssembler, [CALL], calls(id="a", function={"name": "f", "arguments": "}"}), CALL_END),
    "chat, usage in every chunk": (
        ChatAssembler, [], lambda n: chunk({"content": "x"}, usage={"completion_tokens": n}), END),
    "Responses": (ResponsesAssembler, [], text_delta("x"), [completed()]),
    "Responses, one id for each event": (
        ResponsesAssembler, [], lambda n: text_delta("x", item_id=str(n)), [completed()]),
    "Responses, arguments": (
        ResponsesAssembler, [opened(0)], {"type": "response.function_call_arguments.delta",
                                 "output_index": 0, "delta": "x"}, [EMPTY]),
    "Anthropic": (
        AnthropicAssembler, [begin(), start(0, type="text", text="")],
        block_delta(0, type="text_delta", text="x"), [message_end()]),
    "Anthropic, arguments": (
        AnthropicAssembler, [begin(), TOOL, block_delta(0, type="input_json_delta",
                                                        partial_json='{"a": "')],
        block_delta(0, type="input_json_delta", partial_json="x"),
        [block_delta(0, type="input_json_delta", partial_json='"}'), message_end()]),
    "Anthropic, a signature": (
        AnthropicAssembler, [begin(), start(0, type="thinking", thinking="")],
        lambda n: block_delta(0, type="signature_delta", signature=str(n)), [message_end()]),
    "Anthropic, blocks": (
        AnthropicAssembler, [begin()], lambda n: start(n, type="text", text="x"), [message_end()]),
    "Gemini": (GeminiAssembler, [], gemini_chunk({"text": "x"}), GEMINI_END),
    "Gemini, a reason with every chunk": (
        GeminiAssembler, [], gemini_chunk({"text": "x"}, finishReason="STOP"), GEMINI_END),
    "Gemini, arguments": (
        GeminiAssembler, [gemini_chunk({"functionCall": {"name": "f", "willContinue": True}})],
        argument("$.a"), GEMINI_END),
    "Gemini, probabilities": (
        GeminiAssembler, [],
        gemini_chunk({"text": "x"}, logprobsResult={"chosenCandidates": [{"token": "x"}]}),
        GEMINI_END),
}  # fmt: skip


def data(payload):
    return b"data: " + json.dumps(payload).encode()


def work(name, count, between, size):
    """The CPU time of this thread that a reply takes, in seconds."""
    assembler, before, each, after = STREAMS[name]
    middle = [each(n) if callable(each) else each for n in range(count)]
    sent = between.join(map(data, [*before, *middle, *after])) + b"\n\n"
    reply = WireReply(assembler())
    reply.opened(200)
    begun = time.thread_time()
    for at in range(0, len(sent), size):
        reply.feed(sent[at : at + size])
    reply.finish()
    reply.body()
    return time.thread_time() - begun


def growth(name, between, size):
    """How many times the work is with the many frames: of the least that each took in some rounds."""
    few, many = [], []
    for turn in range(ROUNDS):
        few.append(work(name, FEW, between, size))
        many.append(work(name, MANY, between, size))
        if turn and min(many) / min(few) < MOST:
            break
    return min(many) / min(few)


@pytest.mark.parametrize("way", ["native sync", "native async", "litellm sync"])
def test_very_many_frames(way):
    count = 100_000 if THOROUGH else 20_000
    frames = [b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'] * count
    case = Case(name="many", wire="chat", frames=[*frames, *sse(*END, DONE)], plain={}, ask=None)
    with FramesServer() as server:
        outcome = play(server, case, way, "whole", captured=True)
    assert outcome.error is None
    assert outcome.result in (["x" * count], [{"text": "x" * count}])
    assert sum(len(event.token) for event in outcome.of("token")) == count


@pytest.mark.parametrize("name", STREAMS)
def test_the_work_grows_with_the_frames(name):
    assert growth(name, b"\n\n", 50) < MOST


@pytest.mark.parametrize("between", [b"\n\n", b"\n", b"\r\n\r\n"])
@pytest.mark.parametrize("size", [7, 1000, 10**9])
def test_however_it_is_cut(between, size):
    assert growth("chat", between, size) < MOST
