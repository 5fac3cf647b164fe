"""Frames by hand, and deltas sorted by their kind."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from streamll.capture.deltas import (
    CitationDelta,
    Delta,
    RefusalDelta,
    ThinkingDelta,
    ToolCallFragment,
)

KINDS = {
    "text": str,
    "thinking": ThinkingDelta,
    "refusal": RefusalDelta,
    "tool_call": ToolCallFragment,
    "citation": CitationDelta,
}


class Said:
    """Deltas in the order in which they came."""

    def __init__(self) -> None:
        self.deltas: list[Delta] = []

    def all(self, kind: str) -> list[Any]:
        found = [delta for delta in self.deltas if type(delta) is KINDS[kind]]
        return [each[0] if kind in ("thinking", "refusal") else each for each in found]

    def joined(self, kind: str) -> str:
        return "".join(self.all(kind))


class Reading(Said):
    """An assembler, and what its frames have said."""

    def __init__(self, assembler: Any) -> None:
        super().__init__()
        self.body = assembler.body
        self._assembler = assembler

    def frame(self, data: bytes) -> None:
        self.deltas += self._assembler.frame(data)

    @property
    def complete(self) -> bool:
        return self._assembler.complete


def read(assembler: Any, *payloads: Any) -> Reading:
    """The assembler, after frames given as JSON values or as the bytes of their data."""
    reading = Reading(assembler)
    for payload in payloads:
        reading.frame(payload if isinstance(payload, bytes) else json.dumps(payload).encode())
    return reading


def on_the_wire(payloads: Iterable[bytes], end: bytes = b"\n") -> bytes:
    return b"".join(b"data: " + data + end + end for data in payloads)
