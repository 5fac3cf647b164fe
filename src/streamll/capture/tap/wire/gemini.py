"""Gemini ``streamGenerateContent`` (API v1beta): each frame is a part of the reply, shaped like it.

Consecutive texts belong together, unless only one of them is thinking or a signature closes the
first. Of everything else about the reply the last value counts. There is no closing mark: a reply is
over when a candidate has a finish reason or the prompt is blocked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from streamll.capture.deltas import Delta, Deltas, ThinkingDelta, ToolCallFragment
from streamll.capture.tap.wire.base import CutShort, ErrorFrame, decode_object, index_in, string


class GeminiAssembler:
    """One reply. Candidates beyond the first are rebuilt but not shown."""

    def __init__(self) -> None:
        self.complete = self.finished = False
        self._top: dict[str, Any] = {}
        self._candidates: dict[int, _Candidate] = {}
        self._calls = 0

    def frame(self, data: bytes) -> Deltas:
        chunk = decode_object(data)
        if type(error := chunk.get("error")) is dict:
            raise ErrorFrame(error, data)
        self._top.update((key, value) for key, value in chunk.items() if key != "candidates")
        candidates = [each for each in chunk.get("candidates") or () if type(each) is dict]
        deltas = [delta for payload in candidates for delta in self._read(payload)]
        feedback = chunk.get("promptFeedback")
        if type(feedback) is dict and feedback.get("blockReason"):
            self.finished = True
        return deltas

    def body(self) -> dict[str, Any]:
        if not self.finished:
            raise CutShort("the stream ended before the reply did")
        candidates = [self._candidates[index].body() for index in sorted(self._candidates)]
        return {**self._top, "candidates": candidates} if candidates else self._top

    def _read(self, payload: dict[str, Any]) -> Iterator[Delta]:
        index = index_in(payload)
        candidate = self._candidates.setdefault(index, _Candidate())
        content = payload.get("content")
        content = content if type(content) is dict else {}
        for part in content.get("parts") or ():
            candidate.add(part)
            if index == 0 and type(part) is dict:
                yield from self._spoken(part)
        candidate.update(payload, content)
        if index == 0 and payload.get("finishReason"):
            self.finished = True

    def _spoken(self, part: dict[str, Any]) -> Deltas:
        if text := string(part.get("text")):
            return (ThinkingDelta(text) if part.get("thought") else text,)
        if type(call := part.get("functionCall")) is not dict:
            return ()
        number, self._calls = self._calls, self._calls + 1
        arguments = json.dumps(call.get("args") or {})
        return (ToolCallFragment(number, call.get("id"), call.get("name"), arguments),)


_EMPTY = ({"text": ""}, {"text": "", "thought": True})
"""Parts that streams end with, beside a finish reason, and plain replies do not have."""


class _Candidate:
    """One candidate: its parts, and its other fields."""

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}
        self._content: dict[str, Any] = {}
        self._parts: list[Any] = []
        self._pieces: list[str] = []  # of the last part, while it is text and may go on

    def add(self, part: Any) -> None:
        if self._pieces and self._continues(part):
            self._pieces.append(part["text"])
            self._parts[-1] = {**self._parts[-1], **part}
            return
        self._settle()
        self._parts.append(part)
        if type(part) is dict and type(part.get("text")) is str:
            self._pieces = [part["text"]]

    def update(self, payload: dict[str, Any], content: dict[str, Any]) -> None:
        self._content.update((key, value) for key, value in content.items() if key != "parts")
        self._fields.update((key, value) for key, value in payload.items() if key != "content")

    def body(self) -> dict[str, Any]:
        self._settle()
        parts = [part for part in self._parts if part not in _EMPTY] or self._parts[:1]
        content = {**self._content, "parts": parts} if parts else self._content
        return {**self._fields, "content": content} if content else self._fields

    def _continues(self, part: Any) -> bool:
        last = self._parts[-1]
        return (
            type(part) is dict
            and type(part.get("text")) is str
            and bool(part.get("thought")) == bool(last.get("thought"))
            and "thoughtSignature" not in last
        )

    def _settle(self) -> None:
        if self._pieces:
            self._parts[-1] = {**self._parts[-1], "text": "".join(self._pieces)}
            self._pieces = []
