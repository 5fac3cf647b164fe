"""OpenAI Responses: events in, the response object out.

The last event carries the whole response, so nothing has to be rebuilt: the events before it
are only shown. Some servers leave its ``output`` empty; then the finished items make it up.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from streamll.capture.tap.wire.base import (
    CutShort,
    ErrorFrame,
    Hearer,
    citation_from,
    decode_object,
)

_FINAL = frozenset({"response.completed", "response.incomplete", "response.failed"})
_TEXT = "response.output_text.delta"
_THINKING = frozenset({"response.reasoning_summary_text.delta", "response.reasoning_text.delta"})
_REFUSAL = "response.refusal.delta"
_ARGUMENTS = "response.function_call_arguments.delta"
_ITEM = "response.output_item.added"
_ITEM_DONE = "response.output_item.done"
_ANNOTATION = "response.output_text.annotation.added"


class _Delta(msgspec.Struct, gc=False):
    """All that counts of an ordinary event."""

    type: str
    delta: str
    output_index: int = 0


_decode_delta = msgspec.json.Decoder(_Delta).decode


class ResponsesAssembler:
    """One reply."""

    def __init__(self, listener: Hearer) -> None:
        self.complete = False
        self._listener = listener
        self._text = listener.text
        self._response: dict[str, Any] | None = None
        self._items: dict[int, Any] = {}
        self._calls: dict[int, int] = {}  # output index → how many function calls came before

    def frame(self, data: bytes) -> None:
        if b".delta" in data[:64]:
            try:
                event = _decode_delta(data)
            except msgspec.MsgspecError:
                pass
            else:
                if event.delta:
                    self._show(event)
                return
        if data.strip() != b"[DONE]":
            self._read(decode_object(data))

    def body(self) -> dict[str, Any]:
        if self._response is None:
            raise CutShort("the stream ended before the reply did")
        if not self._response.get("output") and self._items:
            return {**self._response, "output": [self._items[at] for at in sorted(self._items)]}
        return self._response

    def _show(self, event: _Delta) -> None:
        kind = event.type
        if kind == _TEXT:
            self._text(event.delta)
        elif kind in _THINKING:
            self._listener.thinking(event.delta)
        elif kind == _ARGUMENTS:
            place = self._calls.setdefault(event.output_index, len(self._calls))
            self._listener.tool_call(place, None, None, event.delta)
        elif kind == _REFUSAL:
            self._listener.refusal(event.delta)

    def _read(self, event: dict[str, Any]) -> None:
        kind = event.get("type")
        if kind in _FINAL:
            response = event.get("response")
            if type(response) is dict:
                self._response = response
                self.complete = True
        elif kind == _ITEM:
            self._open_item(event)
        elif kind == _ITEM_DONE:
            self._items[_index(event)] = event.get("item")
        elif kind == _ANNOTATION:
            annotation = event.get("annotation")
            if type(annotation) is dict and any(citation := citation_from(annotation)):
                self._listener.citation(*citation)
        elif kind in ("error", "response.error"):
            error = event.get("error")
            raise _error_frame(error if type(error) is dict else event)
        elif type(delta := event.get("delta")) is str and delta:
            self._show(_Delta(str(kind), delta, _index(event)))

    def _open_item(self, event: dict[str, Any]) -> None:
        item = event.get("item")
        if type(item) is dict and item.get("type") == "function_call":
            place = self._calls.setdefault(_index(event), len(self._calls))
            self._listener.tool_call(
                place,
                item.get("call_id") or item.get("id"),
                item.get("name"),
                item.get("arguments") or "",
            )


def _index(event: dict[str, Any]) -> int:
    index = event.get("output_index")
    return index if type(index) is int else 0


def _error_frame(error: dict[str, Any]) -> ErrorFrame:
    """Here an error is an event of its own; without streaming it has a body's shape."""
    shape = {name: error.get(name) for name in ("message", "type", "param", "code")}
    if shape["type"] in ("error", "response.error"):
        shape["type"] = shape["code"]
    return ErrorFrame(shape, json.dumps({"error": shape}).encode())
