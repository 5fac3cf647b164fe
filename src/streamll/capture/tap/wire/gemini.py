"""Gemini ``streamGenerateContent`` (API v1beta): each frame is a part of the reply, shaped like it.

Consecutive texts belong together, unless only one of them is thinking or a signature closes the
first. Of everything else about the reply the last value counts, in objects each by itself, and nothing
(``null``, an empty list) takes none back; log probabilities are each chunk's own.
There is no closing mark: a reply is over when a candidate has a finish reason or the prompt is
blocked. Some models give a reason with the first chunk or with every one, so that a reason is believed
only if text came before it, and no reason: otherwise the end of the body is that of the reply.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from streamll.capture.deltas import CitationDelta, Delta, Deltas, ThinkingDelta, ToolCallFragment
from streamll.capture.tap.wire.base import (
    Confused,
    CutShort,
    MalformedFrame,
    counted,
    decode_object,
    error_in,
    later,
    listed,
    mapping,
    string,
)
from streamll.capture.tap.wire.partial_arguments import PartialCall

_EMPTY = ({"text": ""}, {"text": "", "thought": True})
"""Parts that streams end with, beside a finish reason, and plain replies do not have."""
_NO_CONTENT = frozenset(
    {"usageMetadata", "modelVersion", "responseId", "promptFeedback", "createTime", "type"}
)
"""What a chunk without candidates may have."""
_COUNTS = (
    "totalTokenCount",
    ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "toolUsePromptTokenCount"),
)


class GeminiAssembler:
    """One reply. Candidates beyond the first are rebuilt but not shown. ``candidates`` are expected."""

    def __init__(self, candidates: int = 1) -> None:
        self.complete = self.has_reason = self.doubtful = False
        self._expected = candidates
        self._is_over = False  # the first candidate, or a reply without any
        self._has_spoken = False
        self._has_answered = False  # it has said more than thoughts
        self._is_odd = False  # frames came that are no chunks
        self._top: dict[str, Any] = {}
        self._candidates: dict[int, _Candidate] = {}
        self._calls = 0
        self._cited: list[CitationDelta] = []

    def frame(self, data: bytes) -> Deltas:
        if data.strip() == b"[DONE]":  # of servers that otherwise speak OpenAI's wire
            if self._has_spoken and not self.has_reason:
                raise Confused("a reply without the reason of its end")
            self.complete = self.has_reason or self.finished
            return ()
        return [delta for chunk in _chunks(data) for delta in self._read(chunk)]

    @property
    def finished(self) -> bool:
        known = self._candidates.values()
        is_whole = len(known) >= self._expected and all(each.reason for each in known)
        return self._is_over and (is_whole or not known)

    @property
    def usage(self) -> Any:
        return self._top.get("usageMetadata")

    def body(self) -> dict[str, Any]:
        if not (self.finished or self.has_reason):
            if self._is_odd and not self._has_spoken:
                raise Confused("frames that are no chunks of a reply")
            raise CutShort("the stream ended before the reply did")
        if self._candidates and min(self._candidates) != 0:
            raise Confused("no candidate is the first")
        candidates = [self._candidates[index].body() for index in sorted(self._candidates)]
        if not all(each.get("finishReason") for each in candidates[1:]):
            raise Confused("a candidate without the reason of its end")
        return {**self._top, "candidates": candidates} if candidates else self._top

    def _read(self, chunk: dict[str, Any]) -> Iterator[Delta]:
        if error := error_in(chunk, json.dumps(chunk).encode()):
            raise error
        self._is_odd |= bool(chunk.keys() - _NO_CONTENT) and "candidates" not in chunk
        self._update(chunk)
        for position, payload in enumerate(listed(chunk.get("candidates"))):
            if type(payload) is dict:
                index = payload.get("index")
                yield from self._read_candidate(payload, index if type(index) is int else position)
        if self.doubtful and chunk.get("usageMetadata") and not chunk.get("candidates"):
            self._is_over = True  # usage by itself comes last
        feedback = chunk.get("promptFeedback")
        if type(feedback) is dict and feedback.get("blockReason"):
            self._is_over = self.has_reason = True

    def _update(self, chunk: dict[str, Any]) -> None:
        for key, value in chunk.items():
            known = self._top.get(key)
            if key == "usageMetadata":
                self._top[key] = counted(known, value, *_COUNTS)
            elif key != "candidates":
                self._top[key] = later(known, value)

    def _read_candidate(self, payload: dict[str, Any], index: int) -> Iterator[Delta]:
        candidate = self._candidates.setdefault(index, _Candidate())
        content = mapping(payload.get("content"))
        had_answered = self._has_answered
        for part in listed(content.get("parts")):
            if index == 0 and part not in _EMPTY:
                self._is_over = self.doubtful = False
                self._has_spoken = True
                self._has_answered |= not mapping(part).get("thought")
            spoken = candidate.add(part)
            is_shown = index == 0 and type(part) is dict
            said = [*self._spoken(part, spoken)] if is_shown else []
            yield from said or [""] * (part not in _EMPTY)
        candidate.update(payload, content)
        if index:
            return
        for citation in _citations(payload.get("groundingMetadata")):
            if citation not in self._cited:
                self._cited.append(citation)
                yield citation
        if payload.get("finishReason"):
            yield from self._called(candidate.settle())
            is_first = not self.has_reason
            self._is_over |= is_first and had_answered
            self.doubtful |= is_first and self._has_spoken
            self.has_reason = True

    def _spoken(self, part: dict[str, Any], calls: list[dict[str, Any]]) -> Iterator[Delta]:
        if text := string(part.get("text")):
            yield ThinkingDelta(text) if part.get("thought") else text
        yield from self._called(calls)

    def _called(self, calls: list[dict[str, Any]]) -> Iterator[Delta]:
        """Calls that are complete."""
        for call in calls:
            number, self._calls = self._calls, self._calls + 1
            arguments = json.dumps(call.get("args") or {})
            yield ToolCallFragment(
                number, call.get("id"), string(call.get("name")) or None, arguments
            )


class _Candidate:
    """One candidate: its parts, and its other fields."""

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}
        self._content: dict[str, Any] = {}
        self._parts: list[Any] = []
        self._pieces: list[str] = []  # of the last part, while it is text and may go on
        self._call: PartialCall | None = None  # whose arguments are not complete

    @property
    def reason(self) -> Any:
        return self._fields.get("finishReason")

    def add(self, part: Any) -> list[dict[str, Any]]:
        """Add a part; returns the calls that are complete by now."""
        if part in _EMPTY and self._call is not None:
            return []
        if type(part) is dict and type(call := part.get("functionCall")) is dict:
            return self._add_call(part, call)
        complete = self.settle()
        if self._pieces and self._continues(part):
            self._pieces.append(part["text"])
            self._parts[-1] = {**self._parts[-1], **part}
            return complete
        self._end_text()
        if _is_sound(part) and any(map(_is_sound, self._parts)):
            raise Confused("sound in pieces")
        self._parts.append(part)
        if type(part) is dict and type(part.get("text")) is str:
            self._pieces = [part["text"]]
        return complete

    def settle(self) -> list[dict[str, Any]]:
        """The end of a call whose arguments came in pieces; returns it, if there is one."""
        if self._call is None:
            return []
        part = self._call.part()
        self._call = None
        self._parts.append(part)
        return [part["functionCall"]]

    def update(self, payload: dict[str, Any], content: dict[str, Any]) -> None:
        for key in content.keys() - {"parts"}:
            self._content[key] = later(self._content.get(key), content[key])
        for key in payload.keys() - {"content"}:
            joined = _joined if key == "logprobsResult" else later
            self._fields[key] = joined(self._fields.get(key), payload[key])

    def body(self) -> dict[str, Any]:
        self.settle()
        self._end_text()
        parts = [part for part in self._parts if part not in _EMPTY] or self._parts[:1]
        content = {**self._content, "parts": parts} if parts else self._content
        return {**self._fields, "content": content} if content else self._fields

    def _add_call(self, part: dict[str, Any], call: dict[str, Any]) -> list[dict[str, Any]]:
        complete = self.settle() if call.get("name") else []
        self._end_text()
        if self._call is None and not call.get("name"):
            if call.get("partialArgs") or call.get("args"):
                raise Confused("arguments of a tool call that has not begun")
            return complete  # the end of one that is over
        if self._call is None and not (call.get("willContinue") or call.get("partialArgs")):
            whole = {**call, "args": call.get("args") or {}}
            self._parts.append({**part, "functionCall": whole})
            return [*complete, whole]
        if self._call is None:
            self._call = PartialCall(part)
        self._call.add(call)
        return complete if call.get("willContinue") else [*complete, *self.settle()]

    def _continues(self, part: Any) -> bool:
        last = self._parts[-1]
        return (
            type(part) is dict
            and type(part.get("text")) is str
            and bool(part.get("thought")) == bool(last.get("thought"))
            and "thoughtSignature" not in last
        )

    def _end_text(self) -> None:
        if self._pieces:
            self._parts[-1] = {**self._parts[-1], "text": "".join(self._pieces)}
            self._pieces = []


def _is_sound(part: Any) -> bool:
    inline = mapping(mapping(part).get("inlineData"))
    return string(inline.get("mimeType")).startswith("audio/")


def _chunks(data: bytes) -> list[dict[str, Any]]:
    """The chunks of a frame: one, or those of an array, in which some servers send errors."""
    try:
        return [decode_object(data)]
    except MalformedFrame:
        if data.lstrip()[:1] != b"[":
            raise
    try:
        chunks = json.loads(data)
    except ValueError as error:
        raise MalformedFrame from error
    if not chunks or not all(type(chunk) is dict for chunk in chunks):
        raise MalformedFrame
    return chunks  # type: ignore[no-any-return]


def _joined(known: Any, value: Any) -> Any:
    """Lists inside, one after the other: each chunk has those of its own tokens."""
    joined = later(known, value)
    if type(known) is type(value) is dict:
        for key in known.keys() & value.keys():
            if type(known[key]) is list and type(value[key]) is list:
                known[key].extend(value[key])
                joined[key] = known[key]
    return joined


def _citations(grounding: Any) -> Iterator[CitationDelta]:
    """What the reply points to, as lm15 reads it out of a plain reply."""
    grounding = mapping(grounding)
    chunks = listed(grounding.get("groundingChunks"))
    for support in map(mapping, listed(grounding.get("groundingSupports"))):
        text = string(mapping(support.get("segment")).get("text")) or None
        for index in listed(support.get("groundingChunkIndices")):
            chunk = mapping(chunks[index]) if type(index) is int and index < len(chunks) else {}
            source = mapping(chunk.get("web") or chunk.get("retrievedContext"))
            title, url = string(source.get("title")) or None, string(source.get("uri")) or None
            if text or title or url:
                yield CitationDelta(text, title, url)
