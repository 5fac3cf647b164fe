"""OpenAI Chat Completions, and every server compatible with it: chunks in, a chat completion out.

Follows OpenAI's API reference of Chat Completions (``chat.completion.chunk``), with the extensions
of other servers: ``reasoning_content`` and ``reasoning``, content as a list of blocks.

A key that a chunk carries appears in the body even if it is always null: a server that names
``refusal`` in its chunks names it in its replies. Of unknown fields the reply's own keep their
first value, the message's their last, and lists grow.

Two things are known without being in the chunks: empty content beside tool calls or a refusal is
null, and servers that send refusals (OpenAI, Azure) list a message's annotations, even if empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from streamll.capture.deltas import Delta, Deltas, RefusalDelta, ThinkingDelta, ToolCallFragment
from streamll.capture.tap.wire import base
from streamll.capture.tap.wire.base import citation_in, decode_object, index_in, string
from streamll.capture.tap.wire.template import Template

_TEXTS: dict[str, type[Any]] = {
    "content": str,
    "reasoning_content": ThinkingDelta,
    "reasoning": ThinkingDelta,
}
"""What a delta's string keys are when nothing else in a chunk is new."""
_PIECEWISE = frozenset({*_TEXTS, "refusal"})


class ChatAssembler:
    """One reply. Choices beyond the first are rebuilt but not shown: a call has one candidate."""

    def __init__(self) -> None:
        self.complete = False
        self._top: dict[str, Any] = {}
        self._first = _Choice(0)
        self._choices = {0: self._first}
        self._began = False
        self._known: dict[str, Any] | None = None  # the last ordinary chunk, without its text
        self._known_key = "content"  # the delta's key that held the text
        self._template = Template()  # of frames that are the known chunk

    def frame(self, data: bytes) -> Deltas:
        if text := self._template.text_in(data):
            key = self._known_key
            self._first.pieces[key].append(text)
            return (text if key == "content" else ThinkingDelta(text),)
        if data.strip() == b"[DONE]":
            self.complete = True
            return ()
        chunk = decode_object(data)
        chunk.pop("obfuscation", None)  # OpenAI's padding, which differs in every chunk
        return self._only_text(chunk, data) or self._read(chunk, data)

    def body(self) -> dict[str, Any]:
        if not self.complete and not self._first.fields.get("finish_reason"):
            raise base.CutShort("the stream ended before the reply did")
        choices = [self._choices[index].body() for index in sorted(self._choices)]
        return {**self._top, "choices": choices if self._began else []}

    def _only_text(self, chunk: dict[str, Any], data: bytes) -> Deltas:
        """The text of a chunk in which nothing else is new, as in nearly all chunks of a reply.

        Reading the rest of such a chunk again would change nothing (see ``_remember``).
        """
        try:
            delta = chunk["choices"][0]["delta"]
            key, text = delta.popitem()
        except (KeyError, IndexError, TypeError, AttributeError):
            return ()
        if chunk == self._known and text and type(text) is str and key in _TEXTS:
            if key != self._known_key:
                self._known_key = key
                self._template.forget()
            self._template.learn(data, ("choices", 0, "delta", key), text)
            self._first.pieces[key].append(text)
            return (_TEXTS[key](text),)
        delta[key] = text
        return ()

    def _remember(self, chunk: dict[str, Any], choice: dict[str, Any]) -> None:
        """Keep a chunk that has one text and nothing that adds up, as what is already known."""
        delta = choice.get("delta")
        self._known = None
        self._template.forget()
        if type(delta) is not dict or not delta or choice.get("index", 0) != 0:
            return
        last = next(reversed(delta))
        other_values = [value for key, value in delta.items() if key not in (last, "role")]
        other_facts = [value for key, value in choice.items() if key not in ("delta", "index")]
        is_text = last in _TEXTS and type(delta[last]) is str and not self._first.blocks
        if is_text and not any(other_values) and not any(other_facts):
            del delta[last]
            self._known = chunk

    def _read(self, chunk: dict[str, Any], data: bytes) -> Deltas:
        if type(error := chunk.get("error")) is dict:
            raise base.ErrorFrame(error, data)
        self._read_top(chunk)
        choices = [choice for choice in chunk.get("choices") or () if type(choice) is dict]
        deltas = [delta for choice in choices for delta in self._read_choice(choice)]
        if len(choices) == 1 and not chunk.get("usage"):
            self._remember(chunk, choices[0])
        return deltas

    def _read_top(self, chunk: dict[str, Any]) -> None:
        top = self._top
        for key, value in chunk.items():
            if key == "usage":
                if type(value) is dict:
                    top[key] = value
            elif key == "object":
                top[key] = "chat.completion"
            elif key != "choices" and not top.get(key):
                top[key] = value

    def _read_choice(self, payload: dict[str, Any]) -> Deltas:
        self._began = True
        index = index_in(payload)
        choice = self._choices.get(index) or self._choices.setdefault(index, _Choice(index))
        return choice.read(payload)


class _Choice:
    """One choice: its message in pieces, and its other fields."""

    def __init__(self, index: int) -> None:
        self._shown = index == 0
        self.fields: dict[str, Any] = {"index": index, "finish_reason": None}
        self.message: dict[str, Any] = {"role": "assistant"}
        self.pieces: dict[str, list[str]] = {name: [] for name in _PIECEWISE}
        self.blocks: list[Any] = []  # content given as a list
        self.calls: list[dict[str, Any]] = []
        self._call_at: dict[int, int] = {}  # the wire's index → position in calls

    def read(self, payload: dict[str, Any]) -> list[Delta]:
        deltas: list[Delta] = []
        for key, value in payload.items():
            if key == "delta":
                if type(value) is dict:
                    if self._shown:
                        deltas += _spoken(value)
                    fragments = self._read_delta(value)
                    deltas += fragments if self._shown else ()
            elif key == "logprobs":
                self._read_logprobs(value)
            elif key != "index":
                _merge(self.fields, key, value)
        return deltas

    def body(self) -> dict[str, Any]:
        message = dict(self.message)
        for name, pieces in self.pieces.items():
            if pieces:
                message[name] = "".join(pieces)
        if self.blocks:
            message["content"] = self.blocks
        if self.calls:
            message["tool_calls"] = [_joined_call(call) for call in self.calls]
        if not message.get("content") and (self.calls or message.get("refusal")):
            message["content"] = None  # chunks begin with ""
        message.setdefault("content", None)
        if "refusal" in message:
            message.setdefault("annotations", [])
        return {**self.fields, "message": message}

    def _read_delta(self, delta: dict[str, Any]) -> list[Delta]:
        """Add the delta to the message; gives its tool call fragments, which have to be placed."""
        fragments: list[Delta] = []
        for key, value in delta.items():
            if key in _PIECEWISE:
                self._read_piece(key, value)
            elif key == "tool_calls" and value:
                for fragment in value:
                    if type(fragment) is dict:
                        fragments += self._read_call(fragment)
            else:
                _merge(self.message, key, value)
        return fragments

    def _read_piece(self, key: str, value: Any) -> None:
        if type(value) is str:
            if self.blocks:
                _append_block(self.blocks, {"type": "text", "text": value})
            else:
                self.pieces[key].append(value)
        elif type(value) is list:
            if not self.blocks and (before := "".join(self.pieces[key])):
                self.blocks.append({"type": "text", "text": before})
            for block in value:
                _append_block(self.blocks, block)
        else:
            self.message.setdefault(key, value)

    def _read_call(self, fragment: dict[str, Any]) -> Deltas:
        function = fragment.get("function")
        function = function if type(function) is dict else {}
        identity, name = string(fragment.get("id")), string(function.get("name"))
        arguments = string(function.get("arguments"))
        position = self._position(index_in(fragment), identity, name)
        call = self.calls[position]
        for key, value in fragment.items():
            if key not in ("index", "function") and value is not None and value != "":
                call[key] = value
        for key, value in function.items():
            if key == "arguments":
                call["function"][key].append(arguments)
            elif value is not None and value != "":
                call["function"][key] = value
        if name or identity or arguments:
            return (ToolCallFragment(position, identity or None, name or None, arguments),)
        return ()

    def _position(self, index: int, identity: str, name: str) -> int:
        """Which of ``calls`` a fragment belongs to; a new one where it begins a call."""
        position = self._call_at.get(index)
        begins_call = bool(identity and name)
        if position is not None and begins_call and self.calls[position].get("id") != identity:
            position = None  # some servers give every call of a reply the same index
        if position is None:
            position = self._call_at[index] = len(self.calls)
            self.calls.append({"type": "function", "function": {"name": "", "arguments": []}})
        return position

    def _read_logprobs(self, value: Any) -> None:
        known = self.fields.setdefault("logprobs", None)
        if type(value) is dict:
            known = self.fields["logprobs"] = known or {}
            for key, tokens in value.items():
                _merge(known, key, tokens)


def _spoken(delta: dict[str, Any]) -> Iterator[Delta]:
    """All but tool calls, in the order of the reply: thinking, text, refusal, citations."""
    if thought := string(delta.get("reasoning_content")) or string(delta.get("reasoning")):
        yield ThinkingDelta(thought)
    content = delta.get("content")
    if type(content) is str:
        if content:
            yield content
    elif type(content) is list:
        for block in content:
            yield from _spoken_in_block(block)
    if refusal := string(delta.get("refusal")):
        yield RefusalDelta(refusal)
    for annotation in delta.get("annotations") or ():
        if type(annotation) is dict:
            yield from citation_in(annotation.get("url_citation", annotation))


def _spoken_in_block(block: Any) -> Iterator[Delta]:
    if type(block) is not dict:
        return
    if block.get("type") == "text" and (text := string(block.get("text"))):
        yield text
    elif block.get("type") == "thinking":
        for part in block.get("thinking") or ():
            if type(part) is dict and (thought := string(part.get("text"))):
                yield ThinkingDelta(thought)


def _append_block(blocks: list[Any], block: Any) -> None:
    if _is_only_text(block) and blocks and _is_only_text(blocks[-1]):
        blocks[-1]["text"] += block["text"]
    else:
        blocks.append(dict(block) if type(block) is dict else block)


def _is_only_text(block: Any) -> bool:
    return type(block) is dict and block.keys() == {"type", "text"} and block["type"] == "text"


def _merge(known: dict[str, Any], key: str, value: Any) -> None:
    """Lists grow, null changes nothing, anything else replaces."""
    if type(value) is list:
        if type(known.get(key)) is list:
            known[key].extend(value)
        else:
            known[key] = list(value)
    elif value is not None or key not in known:
        known[key] = value


def _joined_call(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    return {**call, "function": {**function, "arguments": "".join(function["arguments"])}}
