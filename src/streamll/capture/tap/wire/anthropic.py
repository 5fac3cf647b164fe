"""Anthropic Messages: events in, the message out.

``message_start`` carries the message without its content, each content block comes as a start,
deltas and a stop, ``message_delta`` brings the stop reason and the final usage. A delta kind
nobody here knows adds its strings to the block's field of the same name.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

from streamll.capture.tap.wire.base import (
    CutShort,
    ErrorFrame,
    Hearer,
    citation_from,
    decode_object,
    string,
)
from streamll.capture.tap.wire.template import Template

_CITING = ("citations_delta", "citation_delta")


class AnthropicAssembler:
    """One reply."""

    def __init__(self, listener: Hearer) -> None:
        self.complete = False
        self._listener = listener
        self._message: dict[str, Any] | None = None
        self._blocks: dict[int, _Block] = {}
        self._calls = 0
        self._template = Template()  # of the deltas that come at the moment
        self._say: Callable[[str], None]  # what is done with the text of one

    def frame(self, data: bytes) -> None:
        if text := self._template.text_in(data):
            self._say(text)
            return
        self._template.forget()
        event = decode_object(data)
        kind = event.get("type")
        if kind == "content_block_delta":
            self._read_delta(event, data)
        elif kind == "content_block_start":
            self._open_block(event)
        elif kind == "message_start":
            message = event.get("message")
            self._message = dict(message) if type(message) is dict else {}
        elif kind == "message_delta":
            self._read_message_delta(event)
        elif kind == "message_stop":
            self.complete = True
        elif kind == "error":
            error = event.get("error")
            raise ErrorFrame(error if type(error) is dict else event, data)

    def body(self) -> dict[str, Any]:
        message = self._message
        if message is None or not (self.complete or message.get("stop_reason")):
            raise CutShort("the stream ended before the reply did")
        content = [self._blocks[index].body() for index in sorted(self._blocks)]
        return {**message, "content": content}

    def _read_message_delta(self, event: dict[str, Any]) -> None:
        message = self._message = self._message or {}
        for key, value in event.items():
            if key == "delta" and type(value) is dict:
                message.update(value)
            elif key == "usage" and type(value) is dict:
                known = message.get("usage")
                news = {name: count for name, count in value.items() if count is not None}
                message["usage"] = {**known, **news} if type(known) is dict else value
            elif key not in ("type", "delta", "usage"):
                message[key] = value

    def _open_block(self, event: dict[str, Any]) -> None:
        payload = event.get("content_block")
        if type(payload) is not dict:
            return
        block = self._blocks[_index(event)] = _Block(payload)
        if payload.get("type") == "tool_use":
            block.call = self._calls
            self._calls += 1
            given = payload.get("input")
            arguments = json.dumps(given) if given else ""
            self._listener.tool_call(block.call, payload.get("id"), payload.get("name"), arguments)
        if text := string(payload.get("text")):
            self._listener.text(text)
        if thought := string(payload.get("thinking")):
            self._listener.thinking(thought)
        for citation in payload.get("citations") or ():
            self._show_citation(citation)

    def _read_delta(self, event: dict[str, Any], data: bytes) -> None:
        delta = event.get("delta")
        block = self._blocks.get(_index(event))
        if type(delta) is not dict or block is None:
            return
        kind = delta.get("type")
        for key, value in delta.items():
            if key == "type":
                continue
            if kind in _CITING:
                block.cite(value)
                self._show_citation(value)
            elif type(value) is str:
                block.add(key, value)
                if value:
                    self._show(kind, value, block)
            else:
                block.fields[key] = value
        self._remember(delta, block, data)

    def _remember(self, delta: dict[str, Any], block: _Block, data: bytes) -> None:
        """Keep the shape of a delta that only adds a string to its block."""
        added = [key for key in delta if key != "type"]
        kind = delta.get("type")
        if len(added) == 1 and kind not in _CITING:
            (key,) = added
            if type(text := delta[key]) is str and text:
                self._template.learn(data, ("delta", key), text)
                self._say = functools.partial(self._add, block, kind, key)

    def _add(self, block: _Block, kind: Any, key: str, value: str) -> None:
        block.add(key, value)
        self._show(kind, value, block)

    def _show(self, kind: Any, value: str, block: _Block) -> None:
        if kind == "text_delta":
            self._listener.text(value)
        elif kind == "thinking_delta":
            self._listener.thinking(value)
        elif kind == "input_json_delta" and block.call is not None:
            self._listener.tool_call(block.call, None, None, value)

    def _show_citation(self, payload: Any) -> None:
        if type(payload) is dict and any(citation := citation_from(payload)):
            self._listener.citation(*citation)


class _Block:
    """One content block in the pieces it came in."""

    def __init__(self, payload: dict[str, Any]) -> None:
        self.fields = dict(payload)
        self.pieces: dict[str, list[str]] = {}
        self.call: int | None = None  # its number among the tool calls

    def add(self, key: str, piece: str) -> None:
        self.pieces.setdefault(key, []).append(piece)

    def cite(self, citation: Any) -> None:
        self.fields["citations"] = [*(self.fields.get("citations") or ()), citation]

    def body(self) -> dict[str, Any]:
        fields = dict(self.fields)
        for key, pieces in self.pieces.items():
            joined = "".join(pieces)
            if key == "partial_json":
                if joined:
                    fields["input"] = _loads(joined)
            else:
                fields[key] = string(fields.get(key)) + joined
        return fields


def _index(event: dict[str, Any]) -> int:
    index = event.get("index")
    return index if type(index) is int else 0


def _loads(arguments: str) -> Any:
    """A tool's input. One that ``max_tokens`` cut off is no JSON; then it is empty, as sent."""
    try:
        return json.loads(arguments)
    except ValueError:
        return {}
