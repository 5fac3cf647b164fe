"""Replies with everything that a wire has a place for."""

from __future__ import annotations

from streamll.testing import Citation, Reply, ToolCall, Usage

RICH = Reply(
    "Hello there, Grüße, 👋!",
    thinking="Let me think about it.",
    tool_calls=[
        ToolCall("search", {"query": "practice servers", "limit": 3}),
        ToolCall("clock", {}, id="given_id"),
    ],
    citations=[Citation("Hello there", "A page", "https://example.com"), Citation("there", "Doc")],
    usage=Usage(100, 20, cached_tokens=40, reasoning_tokens=5),
    model="served-model-2025",
)
REPLIES = {
    "plain": Reply("Hello there, Grüße, 👋!"),
    "rich": RICH,
    "cut": Reply("Half an ans", finish_reason="length"),
    "refused": Reply(refusal="I would rather not.", finish_reason="content_filter"),
    "tools only": Reply(tool_calls=[ToolCall("clock", {})]),
    "empty": Reply(""),
    "lone surrogate": Reply("a \ud83d alone"),
}
