"""OpenAI Responses as servers send them."""

from __future__ import annotations

from typing import Any

from case import Case, sse

PIECES = ["[[ ## answer ## ]]\n", "Nine ", "lives", "\n\n[[ ## completed ## ]]"]
TEXT = "".join(PIECES)
USAGE = {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}


def message(text: str = TEXT, **more: Any) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {
        "type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
        "content": content, **more,
    }  # fmt: skip


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


CASES: list[Case] = [
    case("an ordinary reply", *DELTAS, completed()),
]
