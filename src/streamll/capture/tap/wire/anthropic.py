"""Anthropic Messages (API version 2023-06-01): events in, the message out.

``message_start`` carries the message without its content, each content block comes as a start,
deltas and a stop, ``message_delta`` brings the stop reason and the final usage. The strings of an
unknown kind of delta are added to the block's field of the same name.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

from streamll.capture.deltas import Delta, Deltas, ThinkingDelta, ToolCallFragment
from streamll.capture.tap.wire import base
from streamll.capture.tap.wire.base import citation_in, decode_object, index_in, string
from streamll.capture.tap.wire.template import Template

_CITING = ("citations_delta", "citation_delta")


class AnthropicAssembler:
    """One reply."""

    def __init__(self) -> None:
        self.complete = self.finished = False
        self._message: dict[str, Any] | None = None
        self._blocks: dict[int, _Block] = {}
        self._calls = 0
        self._template = Template()  # of the current block's deltas
        self._add: Callable[[str], Deltas]  # adds the text of such a delta to the block

    def frame(self, data: bytes) -> Deltas:
        if text := self._template.text_in(data):
            return self._add(text)
        self._template.forget()
        event = decode_object(data)
        kind = event.get("type")
        if kind == "content_block_delta":
            return self._read_delta(event, data)
        if kind == "content_block_start":
            return self._open_block(event)
        if kind == "message_start":
            message = event.get("message")
            self._message = dict(message) if type(message) is dict else {}
        elif kind == "message_delta":
            self._read_message_delta(event)
        elif kind == "message_stop":
            self.complete = True
        elif kind == "error":
            error = event.get("error")
            raise base.ErrorFrame(error if type(error) is dict else event, data)
        return ()

    def body(self) -> dict[str, Any]:
        message = self._message
        if message is None or not (self.complete or message.get("stop_reason")):
            raise base.CutShort("the stream ended before the reply did")
        content = [self._blocks[index].body() for index in sorted(self._blocks)]
        return {**message, "content": content}

    def _read_message_delta(self, event: dict[str, Any]) -> None:
        message = self._message = self._message or {}
        for key, value in event.items():
            if key == "delta" and type(value) is dict:
                message.update(value)
            elif key == "usage" and type(value) is dict:
                known = message.get("usage")
                counts = {name: count for name, count in value.items() if count is not None}
                message["usage"] = {**known, **counts} if type(known) is dict else value
            elif key not in ("type", "delta", "usage"):
                message[key] = value

    def _open_block(self, event: dict[str, Any]) -> Deltas:
        payload = event.get("content_block")
        if type(payload) is not dict:
            return ()
        deltas: list[Delta] = []
        block = self._blocks[index_in(event)] = _Block(payload)
        if payload.get("type") == "tool_use":
            block.call = self._calls
            self._calls += 1
            given = payload.get("input")
            arguments = json.dumps(given) if given else ""
            identity, name = payload.get("id"), payload.get("name")
            deltas.append(ToolCallFragment(block.call, identity, name, arguments))
        if text := string(payload.get("text")):
            deltas.append(text)
        if thought := string(payload.get("thinking")):
            deltas.append(ThinkingDelta(thought))
        for citation in payload.get("citations") or ():
            deltas += citation_in(citation)
        return deltas

    def _read_delta(self, event: dict[str, Any], data: bytes) -> Deltas:
        delta = event.get("delta")
        block = self._blocks.get(index_in(event))
        if type(delta) is not dict or block is None:
            return ()
        deltas: list[Delta] = []
        kind = delta.get("type")
        for key, value in delta.items():
            if key == "type":
                continue
            if kind in _CITING:
                block.cite(value)
                deltas += citation_in(value)
            elif type(value) is str:
                deltas += block.add(kind, key, value)
            else:
                block.fields[key] = value
        self._remember(delta, block, data)
        return deltas

    def _remember(self, delta: dict[str, Any], block: _Block, data: bytes) -> None:
        """Keep the shape of a delta that only adds a string to its block."""
        added = [key for key in delta if key != "type"]
        kind = delta.get("type")
        if len(added) == 1 and kind not in _CITING:
            (key,) = added
            if type(text := delta[key]) is str and text:
                self._template.learn(data, ("delta", key), text)
                self._add = functools.partial(block.add, kind, key)


class _Block:
    """One content block, in pieces."""

    def __init__(self, payload: dict[str, Any]) -> None:
        self.fields = dict(payload)
        self.pieces: dict[str, list[str]] = {}
        self.call: int | None = None  # its number among the tool calls

    def add(self, kind: Any, key: str, piece: str) -> Deltas:
        """Add a string of a wire's delta of ``kind``; returns it as one of ours."""
        self.pieces.setdefault(key, []).append(piece)
        if not piece:
            return ()
        if kind == "text_delta":
            return (piece,)
        if kind == "thinking_delta":
            return (ThinkingDelta(piece),)
        if kind == "input_json_delta" and self.call is not None:
            return (ToolCallFragment(self.call, None, None, piece),)
        return ()

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


def _loads(arguments: str) -> Any:
    """A tool's input; empty, as the provider sends it, where ``max_tokens`` cut the JSON off."""
    try:
        return json.loads(arguments)
    except ValueError:
        return {}
