"""OpenAI Chat Completions as servers send them."""

from __future__ import annotations

from typing import Any

from case import Case, sse

PIECES = ["[[ ## answer ## ]]\n", "Nine ", "lives", "\n\n[[ ## completed ## ]]"]
TEXT = "".join(PIECES)
USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
DONE = b"data: [DONE]\n\n"
TOP = {"id": "c1", "created": 1_700_000_000, "model": "m"}


def chunk(delta: Any, finish_reason: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {**TOP, "object": "chat.completion.chunk", "choices": [choice], **more}


def said(text: str, **more: Any) -> dict[str, Any]:
    return chunk({"content": text}, **more)


def usage(**more: Any) -> dict[str, Any]:
    return {**TOP, "object": "chat.completion.chunk", "choices": [], "usage": USAGE, **more}


def completion(message: Any = None, finish_reason: str = "stop", **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": TEXT} if message is None else message
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return {**TOP, "object": "chat.completion", "choices": [choice], "usage": USAGE, **more}


CHAT = [said(piece) for piece in PIECES]
FIN = chunk({}, "stop")
USE = usage()


def case(name: str, *payloads: Any, plain: Any = None, **more: Any) -> Case:
    return Case(
        name=name, wire="chat", frames=sse(*payloads),
        plain=completion() if plain is None else plain, **more,
    )  # fmt: skip


CASES: list[Case] = [
    case("an ordinary reply", *CHAT, FIN, USE, DONE),
]
