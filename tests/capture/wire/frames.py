"""Frames by hand, and a listener that keeps what it hears."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any


class Ear:
    """What an assembler says, in order."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def text(self, text: str) -> None:
        self.heard.append(("text", text))

    def thinking(self, text: str) -> None:
        self.heard.append(("thinking", text))

    def refusal(self, text: str) -> None:
        self.heard.append(("refusal", text))

    def tool_call(self, index: int, id: str | None, name: str | None, arguments: str) -> None:  # noqa: A002
        self.heard.append(("tool_call", index, id, name, arguments))

    def citation(self, text: str | None, title: str | None, url: str | None) -> None:
        self.heard.append(("citation", text, title, url))

    def all(self, kind: str) -> list[Any]:
        return [note[1] if len(note) == 2 else note[1:] for note in self.heard if note[0] == kind]

    def joined(self, kind: str) -> str:
        return "".join(self.all(kind))


def read(assembler: Any, *payloads: Any) -> Any:
    """The assembler, after frames given as JSON values or as the bytes of their data."""
    for payload in payloads:
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        assembler.frame(data)
    return assembler


def on_the_wire(payloads: Iterable[bytes], end: bytes = b"\n") -> bytes:
    return b"".join(b"data: " + data + end + end for data in payloads)
