"""What the invisibility tests try: replies, faults and programs, as one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import dspy
from dspy_lines import HAS_ENGINES

from streamll.testing import Citation, Fault, RecordedRequest, Reply, ToolCall, Usage

EVERY_WIRE = ("openai", "responses", "anthropic", "gemini")
TEXT = 'Grüße — こんにちは 🎉, arr[[0]] and "quotes"\n\n```py\nx = 1\n```\n'
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": name,
            "parameters": {"type": "object", "properties": {"q": {"type": "string"}}},
        },
    }
    for name in ("search", "look")
]
ATLAS = Citation("Paris", "Atlas", "https://atlas.example/paris")
TWO_CALLS = [ToolCall("search", {"q": 'ü "x"\n'}), ToolCall("look", {"q": "2"})]
CHAT_REPLY = (
    "[[ ## reasoning ## ]]\nBecause.\n\n[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]\n"
)


@dataclass
class Scenario:
    """``replies`` are the server's, in order, for each of the two runs.

    ``options`` go with the call. With ``signature`` the call is a predictor's, not a bare LM's.
    ``unequal`` names the aspects that cannot be equal, and why.
    """

    name: str
    replies: Sequence[Any]
    options: dict[str, Any] = field(default_factory=dict)
    wires: Sequence[str] = EVERY_WIRE
    engines: Sequence[str] = ("lm15", "litellm")
    unequal: dict[str, str] = field(default_factory=dict)
    signature: str | None = None
    adapter: type[dspy.Adapter] = dspy.ChatAdapter
    typed: bool = False  # an lm15 Request instead of messages

    @property
    def needs_mcp(self) -> bool:
        """LiteLLM imports the package ``mcp`` for tools."""
        return "tools" in self.options


def broken(fault: Fault) -> Reply:
    return Reply(TEXT, fault=fault)


def refusing_streams(request: RecordedRequest) -> Reply | Fault:
    if request.streaming:
        message = "Your organization must be verified to stream this model."
        return Fault(status=400, message=message)
    return Reply(TEXT)


SUCCESSES = [
    Scenario("text", [TEXT]),
    Scenario("empty", [Reply("", chunks=[""])]),
    Scenario("in one chunk", [Reply(TEXT, chunk="whole")]),
    Scenario("in characters", [Reply(TEXT, chunk=1)]),
    Scenario("another model served", [Reply(TEXT, model="gpt-4o-mini-2024-07-18")]),
    Scenario("usage in detail", [Reply(TEXT, usage=Usage(120, 40, 30, 10))]),
    Scenario("thinking", [Reply(TEXT, thinking="First\nthen second. ")]),
    Scenario("refusal", [Reply(refusal="I cannot help with that.")]),
    Scenario("citations", [Reply("Paris is big.", citations=[ATLAS])]),
    Scenario("cut by length", [Reply("Cut of", finish_reason="length")]),
    Scenario("cut by a filter", [Reply("Cut of", finish_reason="content_filter")]),
    Scenario("tools", [Reply("", tool_calls=TWO_CALLS)], {"tools": TOOLS}),
    Scenario(
        "thinking, text and tools",
        [Reply("Let me see.", thinking="Hm.", tool_calls=TWO_CALLS)],
        {"tools": TOOLS},
    ),
    Scenario(
        "tools cut by length",
        [Reply("", tool_calls=[ToolCall("search", '{"q": "cut')], finish_reason="length")],
        {"tools": TOOLS},
    ),
    Scenario(
        "n=2",
        [Reply("one", candidates=["two"]), Reply("two")],
        {"n": 2, "temperature": 1.0},
        wires=("openai", "anthropic", "gemini"),
    ),
    Scenario("logprobs", [TEXT], {"logprobs": True}, wires=("openai",)),
    Scenario(
        "JSON mode",
        ['{"answer": "Paris"}'],
        {"response_format": {"type": "json_object"}},
        wires=("openai", "responses", "gemini"),
    ),
    Scenario("options", [TEXT], {"temperature": 0.3, "max_tokens": 77}),
    Scenario("a stop sequence", [TEXT], {"stop": ["END"]}, wires=("openai", "anthropic", "gemini")),
    Scenario(
        "a stop sequence lm15 cuts at",
        [TEXT],
        {"stop": ["END"]},
        wires=("responses",),
    ),
    Scenario("a typed request", [Reply(TEXT, thinking="Hm.")], typed=True),
    Scenario("a typed request refused", [Fault(status=400)], typed=True),
    Scenario("a predictor", [CHAT_REPLY], signature="question -> reasoning, answer"),
    Scenario(
        "a predictor that falls back to JSON",
        ["no fields at all", '{"reasoning": "Because.", "answer": "Paris"}'],
        signature="question -> reasoning, answer",
    ),
    Scenario(
        "a predictor with two completions",
        [Reply(CHAT_REPLY, candidates=[CHAT_REPLY]), Reply(CHAT_REPLY)],
        {"config": {"n": 2, "temperature": 1.0}},
        wires=("openai", "anthropic", "gemini"),
        signature="question -> reasoning, answer",
    ),
    Scenario(
        "JSON and a schema",
        ['{"reasoning": "Because.", "answer": "Paris"}'],
        signature="question -> reasoning, answer",
        adapter=dspy.JSONAdapter,
    ),
]

ODD_BUT_LEGAL = [
    Scenario("lines of 200 KB", [broken(Fault(line_length=200_000))]),
    Scenario("a piece of 200 KB", [Reply("ü" * 100_000, chunk="whole")]),
    Scenario("CRLF", [broken(Fault(crlf=True))]),
    Scenario("characters cut in two", [Reply(TEXT, fault=Fault(split_characters=True))]),
    Scenario("frame by frame", [Reply(TEXT, packets=True, chunk=3)]),
    Scenario("another content type", [broken(Fault(content_type="text/html"))]),
    Scenario("JSON instead of a stream", [broken(Fault(plain_json=True))]),
]

WHERE_IT_WAS_CUT = "the message names the place where the reply was cut, which differs in a stream"
NOT_JSON = "a frame that is no JSON object may mean anything, so the plain reply is asked for, too"
OWN_RETRY = "LiteLLM itself repeats a request that was reset before its reply; a stream had begun"

NO_STATUS = "an error frame has no HTTP status: the provider's usual one is taken"
ERROR_EVENT = "the error event of this wire has a code and no type, the HTTP error a type"

ASKED_AGAIN = "a server that refuses the stream is asked again without, once"

BY_ITS_WORDS = "LiteLLM and older DSPys tell the kind of an error by its status or its message"

FAILURES = [
    Scenario("429, then success", [Fault(status=429, retry_after=0), TEXT]),
    Scenario("429 with a hint, then success", [Fault(status=429, retry_after=7), TEXT]),
    Scenario("500 until retries end", [Fault(status=500)] * 3),
    Scenario("overloaded, then success", [Fault(status=529), TEXT]),
    Scenario("401", [Fault(status=401)]),
    Scenario("404", [Fault(status=404)]),
    Scenario("400", [Fault(status=400, message="max_tokens is too large: 77")]),
    Scenario("400 about the context", [Fault(status=400, message="prompt is too long")]),
    Scenario("cut, then success", [broken(Fault(disconnect_after=3)), TEXT]),
    Scenario(
        "reset, then success",
        [broken(Fault(disconnect_after=3, reset=True)), TEXT],
        engines=("lm15",),
    ),
    Scenario(
        "reset, then success, below LiteLLM",
        [broken(Fault(disconnect_after=3, reset=True)), TEXT],
        engines=("litellm",),
        unequal={"retries": OWN_RETRY},
    ),
    Scenario(
        "cut at once",
        [broken(Fault(disconnect_after_bytes=0))] * 3,
        unequal={"error_message": WHERE_IT_WAS_CUT},
    ),
    Scenario(
        "cut always",
        [broken(Fault(disconnect_after=2))] * 3,
        unequal={"error_message": WHERE_IT_WAS_CUT},
    ),
    Scenario(
        "malformed",
        [broken(Fault(malformed_after=2))],
        unequal={"requests": NOT_JSON, "bodies": NOT_JSON},
    ),
    Scenario(
        "malformed from the start",
        [broken(Fault(malformed_after=0))],
        unequal={"requests": NOT_JSON, "bodies": NOT_JSON},
    ),
    Scenario("an error in the middle", [broken(Fault(error_after=3))] * 3, wires=("openai",)),
    Scenario(
        "an error event in the middle",
        [broken(Fault(error_after=3))] * 3,
        wires=("responses",),
        unequal={"error_message": ERROR_EVENT, "error_details": ERROR_EVENT},
    ),
    Scenario(
        "overloaded in the middle",
        [broken(Fault(error_after=3, error_type="overloaded_error"))] * 3,
        wires=("anthropic",),
        unequal={"error_details": NO_STATUS},
    ),
    Scenario(
        "unavailable in the middle",
        [broken(Fault(error_after=3, error_type="UNAVAILABLE"))] * 3,
        wires=("gemini",),
        unequal={"error_details": NO_STATUS, "error_message": NO_STATUS},
    ),
    Scenario("an error at once, then success", [broken(Fault(error_after=0)), TEXT]),
    Scenario(
        "out of quota in the middle",
        [broken(Fault(error_after=3, error_type="insufficient_quota"))],
        wires=("openai",),
        unequal={"error_message": NO_STATUS, "error_details": NO_STATUS},
    ),
    Scenario(
        "stream_options refused",
        [broken(Fault(refuse_stream_options=True))],
        wires=("openai",),
        unequal={"requests": ASKED_AGAIN, "bodies": ASKED_AGAIN},
    ),
    Scenario(
        "streams refused",
        [refusing_streams],
        unequal={"requests": ASKED_AGAIN, "bodies": ASKED_AGAIN},
    ),
]

if not HAS_ENGINES:
    for each in FAILURES:
        if each.unequal.get("error_message") in (WHERE_IT_WAS_CUT, NO_STATUS):
            each.unequal |= dict.fromkeys(("error_type", "error_details", "retries"), BY_ITS_WORDS)
