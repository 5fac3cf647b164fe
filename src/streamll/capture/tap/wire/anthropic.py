"""Anthropic Messages (API version 2023-06-01): events in, the message out.

``message_start`` carries the message without its content, each content block comes as a start,
deltas and a stop, ``message_delta`` brings the stop reason and the final usage. The strings of an
unknown kind of delta are added to the block's field of the same name.

Servers that speak it by halves are read too: blocks without numbers or under one number, deltas for
a block that is not open, arguments as an object, a message that comes whole in one frame. What only
a plain reply can tell (a second message in the middle, arguments of an unnamed tool) is
``Confused``.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

from streamll.capture.deltas import Delta, Deltas, ThinkingDelta, ToolCallFragment
from streamll.capture.tap.wire import base
from streamll.capture.tap.wire.base import (
    citation_in,
    counted,
    decode_object,
    later,
    listed,
    string,
)
from streamll.capture.tap.wire.template import Template

_CITING = ("citations_delta", "citation_delta")
_TYPES = {  # of the block that a kind of delta belongs to
    "text_delta": "text",
    "citations_delta": "text",
    "citation_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "thinking",
}
_TOOLS = ("tool_use", "server_tool_use", "mcp_tool_use")
_CUT_OFF = ("max_tokens", "model_context_window_exceeded")


class AnthropicAssembler:
    """One reply."""

    def __init__(self) -> None:
        self.complete = self.finished = self.has_reason = self.doubtful = False
        self._message: dict[str, Any] | None = None
        self._has_begun = False
        self._has_counted = False  # the tokens of what it has said
        self._is_odd = False  # frames came that are no events
        self._reason_is_last = False
        self._blocks: list[_Block] = []
        self._numbered: dict[int, _Block] = {}  # the latest block with each number
        self._calls = 0
        self.template = Template()  # of the current block's deltas
        self._readers: dict[Any, Callable[[dict[str, Any]], Deltas]] = {
            "message_start": self._begin,
            "content_block_start": self._open_block,
            "content_block_stop": self._close_block,
            "message_delta": self._read_message_delta,
            "message_stop": self._end,
            "message": self._read_whole,
        }

    def frame(self, data: bytes) -> Deltas:
        if (deltas := self.template.deltas_in(data)) is not None:
            return deltas
        if data.strip() == b"[DONE]":  # of servers that otherwise speak OpenAI's wire
            if self._blocks and not self.has_reason:
                raise base.Confused("a message without the reason of its end")
            self.complete = self.has_reason
            return self._close_all() if self.complete else ()
        event = decode_object(data)
        kind = event.get("type")
        if kind == "ping":
            return ()
        self.template.forget()
        if kind == "content_block_delta":
            return self._read_delta(event, data)
        if type(kind) is str and kind in self._readers:
            return self._readers[kind](event)
        error = base.error_in(event, data)
        if error is not None and kind is None:  # a plain reply has its kind
            typed = {"type": "error", **event}
            error = base.error_in(typed, json.dumps(typed).encode())
        if error is not None:
            raise error
        self._is_odd |= bool(event) and kind is None
        return ()

    @property
    def usage(self) -> Any:
        """Of the first event's, its ``output_tokens`` are those of a reply that has not begun."""
        usage = (self._message or {}).get("usage")
        if type(usage) is dict and not (self._has_counted or self.complete or self.has_reason):
            return {**usage, "output_tokens": None}
        return usage

    def body(self) -> dict[str, Any]:
        ended = self.complete or self.finished or self.doubtful
        ended = ended or self._reason_is_last
        if not ended or not (self._message or self._blocks):
            if self._is_odd and not (self._message or self._blocks):
                raise base.Confused("frames that are no events of a message")
            raise base.CutShort("the stream ended before the reply did")
        if self._message is None or not self._has_begun:
            raise base.Confused("a message without its beginning")
        blocks = self._blocks
        if all(block.index is not None for block in blocks):
            blocks = sorted(blocks, key=lambda block: block.index or 0)
        reason = self._message.get("stop_reason")
        if reason == "tool_use" and not any(block.type == "tool_use" for block in blocks):
            raise base.Confused("the end of tool calls that were not streamed")
        cut_off = reason in _CUT_OFF
        return {**self._message, "content": [block.body(cut_off=cut_off) for block in blocks]}

    # --- the message ----------------------------------------------------------------------------

    def _begin(self, event: dict[str, Any]) -> Deltas:
        message = event.get("message")
        message = message if type(message) is dict else {}
        known = self._message
        if known is not None and (self._blocks or known.get("id") != message.get("id")):
            raise base.Confused("a second message in one stream")
        self._message, self._has_begun = dict(message), True
        return ()

    def _read_message_delta(self, event: dict[str, Any]) -> Deltas:
        message = self._message = self._message or {}
        for key, value in event.items():
            if key == "delta" and type(value) is dict:
                message.update((name, later(message.get(name), value[name])) for name in value)
                self._see_reason(value.get("stop_reason"))
            elif key == "usage" and type(value) is dict:
                message["usage"] = counted(message.get("usage"), value)
                if type(value.get("output_tokens")) is int:  # of the begin is no count yet
                    self._has_counted = True
                    message["usage"]["output_tokens"] = value["output_tokens"]
            elif key not in ("type", "delta", "usage"):
                message[key] = later(message.get(key), value)
        return self._close_all() if self.finished or self.doubtful else ()

    def _see_reason(self, reason: Any) -> None:
        """One that comes first is no sign of the end, nor is the next one then."""
        if reason:
            content = listed(self._message.get("content")) if self._message else ()
            ends = bool(content) or any(block.has_answered for block in self._blocks)
            self.doubtful |= ends and self.has_reason
            self.finished |= ends and not self.has_reason
            self.has_reason = self._reason_is_last = True

    def _end(self, event: dict[str, Any]) -> Deltas:
        del event
        self.complete = True
        return self._close_all()

    def _read_whole(self, event: dict[str, Any]) -> Deltas:
        """A message that came as for a plain request."""
        if self._message is not None or self._blocks:
            raise base.Confused("a whole message after pieces of one")
        self._message, self._has_begun = event, True
        return self._end(event)

    # --- its blocks -----------------------------------------------------------------------------

    def _open_block(self, event: dict[str, Any]) -> Deltas:
        payload = event.get("content_block")
        if type(payload) is not dict:
            return ()
        self.finished = self.doubtful = self._reason_is_last = False
        block = _Block(payload, _number(event))
        before = self._at(block.index)
        if before is not None and before.is_opened_again_by(block):
            return ()
        self._keep(block)
        deltas: list[Delta] = []
        if block.type == "tool_use":
            block.call = self._calls
            self._calls += 1
            name = string(payload.get("name")) or None
            deltas.append(ToolCallFragment(block.call, payload.get("id"), name, ""))
        if payload.get("type") == "text" and (text := string(payload.get("text"))):
            deltas.append(text)
        if thought := string(payload.get("thinking")):
            deltas.append(ThinkingDelta(thought))
        for citation in listed(payload.get("citations")):
            deltas += citation_in(citation)
        if not deltas and block.type not in ("text", "thinking"):
            deltas.append("")  # a server's own tool, and what it found
        return deltas

    def _close_block(self, event: dict[str, Any]) -> Deltas:
        block = self._at(_number(event))
        return block.close() if block is not None else ()

    def _close_all(self) -> Deltas:
        """The reply is over: what is only known now. Content that came with the message is said."""
        deltas: list[Delta] = []
        if not self._blocks and self._message:
            seen = self.finished, self.doubtful, self._reason_is_last
            for index, payload in enumerate(listed(self._message.get("content"))):
                deltas += self._open_block({"index": index, "content_block": payload})
            self.finished, self.doubtful, self._reason_is_last = seen
        for block in self._blocks:
            deltas += block.close()
        return deltas

    def _at(self, index: int | None) -> _Block | None:
        """The latest block with a number, or the latest of all."""
        if index is not None:
            return self._numbered.get(index)
        return self._blocks[-1] if self._blocks else None

    def _keep(self, block: _Block) -> None:
        self._blocks.append(block)
        if block.index is not None:
            self._numbered[block.index] = block

    def _read_delta(self, event: dict[str, Any], data: bytes) -> Deltas:
        delta = event.get("delta")
        if type(delta) is not dict:
            return ()
        self.finished = self.doubtful = self._reason_is_last = False
        kind = string(delta.get("type"))
        block = self._block_for(kind, _number(event))
        deltas: list[Delta] = []
        for key, value in delta.items():
            if key == "type":
                continue
            if kind in _CITING:
                block.cite(value)
                deltas += citation_in(value)
            elif key == "partial_json" and type(value) in (dict, list):
                deltas += block.add(key, json.dumps(value))
            elif type(value) is str:
                deltas += block.add(key, value)
            elif type(block.fields.get(key)) is not str:  # text that was heard stays
                block.fields[key] = value
        self._remember(delta, block, data)
        return deltas

    def _block_for(self, kind: Any, index: int | None) -> _Block:
        """The block that a delta belongs to, opened now where its start did not come.

        A number that no block has is taken for the latest one's, if that is open. Raises
        ``Confused`` where the block cannot be made up.
        """
        latest = self._blocks[-1] if self._blocks else None
        block = self._at(index) or (latest if latest is not None and not latest.closed else None)
        if block is not None and block.takes(kind):
            return block
        if kind not in _TYPES:
            raise base.Confused("a piece of a block that has not begun")
        made_up = _Block({"type": _TYPES[kind], _TYPES[kind]: ""}, index)
        self._keep(made_up)
        return made_up

    def _remember(self, delta: dict[str, Any], block: _Block, data: bytes) -> None:
        """Keep the shape of a delta that only adds a string to its block."""
        added = [key for key in delta if key != "type"]
        kind = string(delta.get("type"))
        if len(added) == 1 and kind not in _CITING:
            (key,) = added
            if type(text := delta[key]) is str and text:
                self.template.learn(data, ("delta", key), text, functools.partial(block.add, key))


class _Block:
    """One content block, in pieces."""

    def __init__(self, payload: dict[str, Any], index: int | None) -> None:
        self.fields = dict(payload)
        self.index = index
        self.type = payload.get("type")
        self.closed = False
        self.pieces: dict[str, list[str]] = {}
        self.call: int | None = None  # its number among the tool calls
        self._signed = 0  # signs of the signature in pieces

    @property
    def has_answered(self) -> bool:
        """Whether it says anything but thinking."""
        if self.type == "text":
            return bool(self.pieces or self.fields.get("text"))
        return self.type not in ("thinking", "redacted_thinking")

    def takes(self, kind: Any) -> bool:
        """Whether a delta of this kind can be this block's."""
        if kind in _TYPES:
            return bool(self.type == _TYPES[kind])
        return kind != "input_json_delta" or self.type not in ("text", "thinking")

    def is_opened_again_by(self, other: _Block) -> bool:
        return not (self.pieces or self.closed) and self.fields == other.fields

    def add(self, key: str, piece: str) -> Deltas:
        """Add a string of a delta; returns it as one of ours."""
        if key == "signature" and self._is_signed_again(piece):
            return ()
        self.pieces.setdefault(key, []).append(piece)
        if not piece:
            return ()
        if key == self.fields.get("type") and key in ("text", "thinking"):
            return (piece,) if key == "text" else (ThinkingDelta(piece),)
        if key == "partial_json" and self.call is not None:
            return (ToolCallFragment(self.call, None, None, piece),)
        return ("",)  # a server's own tool, a signature

    def _is_signed_again(self, piece: str) -> bool:
        begun = string(self.fields.get("signature"))
        again = len(piece) == len(begun) + self._signed
        again = again and piece == begun + self._joined("signature")
        self._signed += 0 if again else len(piece)
        return again

    def close(self) -> Deltas:
        """Nothing more is expected: arguments that came whole, with the start, are all of them."""
        given = None if self.closed or self._joined("partial_json") else self.fields.get("input")
        self.closed = True
        if self.call is None or not given:
            return ()
        return (ToolCallFragment(self.call, None, None, json.dumps(given)),)

    def cite(self, citation: Any) -> None:
        self.fields["citations"] = [*listed(self.fields.get("citations")), citation]

    def body(self, *, cut_off: bool) -> dict[str, Any]:
        """The block; with the input of nothing for arguments that the reply's length cut off."""
        fields = dict(self.fields)
        for key in self.pieces:
            if key != "partial_json":
                fields[key] = string(fields.get(key)) + self._joined(key)
        if self.call is not None and not fields.get("name"):
            raise base.Confused("a tool call without a name")
        if self.type in _TOOLS:
            fields["input"] = self._input(cut_off=cut_off)
        return fields

    def _input(self, *, cut_off: bool) -> Any:
        joined = self._joined("partial_json")
        if not joined.strip():
            return self.fields.get("input") or {}
        try:
            return json.loads(joined)
        except ValueError as error:
            if self.call is None or cut_off:
                return {}
            raise base.Confused("arguments of a tool call that are not JSON") from error

    def _joined(self, key: str) -> str:
        return "".join(self.pieces.get(key, ()))


def _number(event: dict[str, Any]) -> int | None:
    index = event.get("index")
    return index if type(index) is int else None
