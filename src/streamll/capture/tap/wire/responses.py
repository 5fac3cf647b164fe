"""OpenAI Responses: events in, the response object out.

Follows OpenAI's API reference of Responses streaming events. The last event carries the whole
response, so nothing has to be rebuilt: the events before it are only shown. Some servers leave its
``output`` empty; then it is made of the finished items.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from streamll.capture.deltas import Deltas, RefusalDelta, ThinkingDelta, ToolCallFragment
from streamll.capture.tap.wire import base

_FINAL = frozenset({"response.completed", "response.incomplete", "response.failed"})
_THINKING = frozenset({"response.reasoning_summary_text.delta", "response.reasoning_text.delta"})


class _DeltaEvent(msgspec.Struct, gc=False):
    """All that matters of an ordinary event."""

    type: str
    delta: str
    output_index: int = 0


_decode_delta = msgspec.json.Decoder(_DeltaEvent).decode


class ResponsesAssembler:
    """One reply."""

    def __init__(self) -> None:
        self.complete = False
        self._response: dict[str, Any] | None = None
        self._items: dict[int, Any] = {}
        self._calls: dict[int, int] = {}  # output index → number of function calls before it

    def frame(self, data: bytes) -> Deltas:
        if b".delta" in data[:64]:
            try:
                event = _decode_delta(data)
            except msgspec.MsgspecError:
                pass
            else:
                return self._spoken(event.type, event.delta, event.output_index)
        if data.strip() == b"[DONE]":
            return ()
        return self._read(base.decode_object(data))

    def body(self) -> dict[str, Any]:
        if self._response is None:
            raise base.CutShort("the stream ended before the reply did")
        if not self._response.get("output") and self._items:
            return {**self._response, "output": [self._items[at] for at in sorted(self._items)]}
        return self._response

    def _spoken(self, kind: Any, delta: str, output_index: int) -> Deltas:
        if not delta:
            return ()
        if kind == "response.output_text.delta":
            return (delta,)
        if kind in _THINKING:
            return (ThinkingDelta(delta),)
        if kind == "response.function_call_arguments.delta":
            return (ToolCallFragment(self._call_number(output_index), None, None, delta),)
        return (RefusalDelta(delta),) if kind == "response.refusal.delta" else ()

    def _call_number(self, output_index: int) -> int:
        return self._calls.setdefault(output_index, len(self._calls))

    def _read(self, event: dict[str, Any]) -> Deltas:
        kind = event.get("type")
        if kind in _FINAL:
            response = event.get("response")
            if type(response) is dict:
                self._response = response
                self.complete = True
        elif kind == "response.output_item.added":
            return self._open_item(event)
        elif kind == "response.output_item.done":
            self._items[base.index_in(event, "output_index")] = event.get("item")
        elif kind == "response.output_text.annotation.added":
            return base.citation_in(event.get("annotation"))
        elif kind in ("error", "response.error"):
            error = event.get("error")
            raise _error_frame(error if type(error) is dict else event)
        elif type(delta := event.get("delta")) is str:
            return self._spoken(str(kind), delta, base.index_in(event, "output_index"))
        return ()

    def _open_item(self, event: dict[str, Any]) -> Deltas:
        item = event.get("item")
        if type(item) is not dict or item.get("type") != "function_call":
            return ()
        identity = item.get("call_id") or item.get("id")
        number = self._call_number(base.index_in(event, "output_index"))
        return (ToolCallFragment(number, identity, item.get("name"), item.get("arguments") or ""),)


def _error_frame(error: dict[str, Any]) -> base.ErrorFrame:
    """An event of its own while streaming; given the shape of the body of a plain reply."""
    shape = {name: error.get(name) for name in ("message", "type", "param", "code")}
    if shape["type"] in ("error", "response.error"):
        shape["type"] = shape["code"]
    return base.ErrorFrame(shape, json.dumps({"error": shape}).encode())
