"""Gemini ``streamGenerateContent``: each frame is a part of the reply in the reply's own shape.

Texts that follow each other belong together, unless one is thinking and the other is not or a
signature closes the first. Everything else about the reply holds as it was said last. There is
no closing mark: a reply is over when a candidate has a finish reason or the prompt is blocked.
"""

from __future__ import annotations

import json
from typing import Any

from streamll.capture.tap.wire.base import CutShort, ErrorFrame, Hearer, decode_object, string


class GeminiAssembler:
    """One reply. Candidates beyond the first are rebuilt but not shown."""

    def __init__(self, listener: Hearer) -> None:
        self.complete = False
        self._listener = listener
        self._top: dict[str, Any] = {}
        self._candidates: dict[int, _Candidate] = {}
        self._calls = 0

    def frame(self, data: bytes) -> None:
        chunk = decode_object(data)
        if type(error := chunk.get("error")) is dict:
            raise ErrorFrame(error, data)
        for key, value in chunk.items():
            if key != "candidates":
                self._top[key] = value
        for payload in chunk.get("candidates") or ():
            if type(payload) is dict:
                self._read(payload)
        feedback = chunk.get("promptFeedback")
        if type(feedback) is dict and feedback.get("blockReason"):
            self.complete = True

    def body(self) -> dict[str, Any]:
        if not self.complete:
            raise CutShort("the stream ended before the reply did")
        candidates = [self._candidates[index].body() for index in sorted(self._candidates)]
        return {**self._top, "candidates": candidates} if candidates else self._top

    def _read(self, payload: dict[str, Any]) -> None:
        index = payload.get("index")
        index = index if type(index) is int else 0
        candidate = self._candidates.setdefault(index, _Candidate())
        content = payload.get("content")
        content = content if type(content) is dict else {}
        for part in content.get("parts") or ():
            candidate.add(part)
            if index == 0 and type(part) is dict:
                self._show(part)
        candidate.note(payload, content)
        if index == 0 and payload.get("finishReason"):
            self.complete = True

    def _show(self, part: dict[str, Any]) -> None:
        if text := string(part.get("text")):
            if part.get("thought"):
                self._listener.thinking(text)
            else:
                self._listener.text(text)
        elif type(call := part.get("functionCall")) is dict:
            arguments = json.dumps(call.get("args") or {})
            self._listener.tool_call(self._calls, call.get("id"), call.get("name"), arguments)
            self._calls += 1


class _Candidate:
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

    def note(self, payload: dict[str, Any], content: dict[str, Any]) -> None:
        self._content.update((key, value) for key, value in content.items() if key != "parts")
        for key, value in payload.items():
            if key != "content":
                self._fields[key] = value

    def body(self) -> dict[str, Any]:
        self._settle()
        content = {**self._content, "parts": self._parts} if self._parts else self._content
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
