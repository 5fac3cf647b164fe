"""Anthropic Messages as servers send them."""

from __future__ import annotations

from case import Case, sse

TEXT = "[[ ## answer ## ]]\nNine lives\n\n[[ ## completed ## ]]"
MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m"}
USAGE = {"input_tokens": 7, "output_tokens": 5}

CASES: list[Case] = [
    Case(
        name="an ordinary reply",
        wire="anthropic",
        frames=sse(
            {
                "type": "message_start",
                "message": {**MESSAGE, "content": [], "stop_reason": None, "usage": USAGE},
            },
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "text", "text": ""},
            },
            *(
                {
                    "type": "content_block_delta",
                    "index": 0,
                    "delta": {"type": "text_delta", "text": text},
                }
                for text in (TEXT[:20], TEXT[20:])
            ),
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": USAGE},
            {"type": "message_stop"},
            event=True,
        ),
        plain={
            **MESSAGE,
            "content": [{"type": "text", "text": TEXT}],
            "stop_reason": "end_turn",
            "usage": USAGE,
        },
    )
]
