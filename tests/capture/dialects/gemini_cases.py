"""Gemini ``streamGenerateContent`` as servers send it."""

from __future__ import annotations

from typing import Any

from case import Case, sse

TEXT = "[[ ## answer ## ]]\nNine lives\n\n[[ ## completed ## ]]"
USAGE = {"promptTokenCount": 7, "candidatesTokenCount": 5, "totalTokenCount": 12}


def chunk(text: str, **more: Any) -> dict[str, Any]:
    content = {"role": "model", "parts": [{"text": text}]}
    return {
        "candidates": [{"index": 0, "content": content, **more}],
        "usageMetadata": USAGE,
        "modelVersion": "m",
        "responseId": "r1",
    }


CASES: list[Case] = [
    Case(
        name="an ordinary reply",
        wire="gemini",
        frames=sse(chunk(TEXT[:20]), chunk(TEXT[20:]), chunk("", finishReason="STOP")),
        plain=chunk(TEXT, finishReason="STOP"),
        exact=False,
    )
]
