"""OpenAI Chat Completions, and everything that speaks it: chunks in, a chat completion out.

A key that a chunk carries appears in the body, also when it is always null: a server that names
``refusal`` in its chunks names it in its replies. Of the fields nobody here knows, the reply's
own keep their first value, the message's their last, lists grow.

Two things the chunks do not say are known: empty content beside tool calls or a refusal is null,
and servers that speak of refusals (OpenAI's, Azure's) list a message's annotations, also none.
"""

from __future__ import annotations

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

_PIECEWISE = frozenset({"content", "refusal", "reasoning_content", "reasoning"})


class ChatAssembler:
    """One reply. Choices beyond the first are rebuilt but not shown: a call has one candidate."""

    def __init__(self, listener: Hearer) -> None:
        self.complete = False
        self._listener = listener
        self._speak = {
            "content": listener.text,
            "reasoning_content": listener.thinking,
            "reasoning": listener.thinking,
        }
        self._top: dict[str, Any] = {}
        self._first = _Choice(0)
        self._choices = {0: self._first}
        self._began = False
        self._known: dict[str, Any] | None = None  # a chunk read before, without its text
        self._known_key = ""  # where that had its text
        self._template = Template()  # of frames that are the known chunk

    def frame(self, data: bytes) -> None:
        if text := self._template.text_in(data):
            self._say(self._known_key, text)
            return
        if data.strip() == b"[DONE]":
            self.complete = True
            return
        chunk = decode_object(data)
        chunk.pop("obfuscation", None)  # OpenAI's padding, another one in every chunk
        if not self._only_text_is_new(chunk, data):
            self._read(chunk, data)

    def body(self) -> dict[str, Any]:
        if not self.complete and not self._first.fields.get("finish_reason"):
            raise CutShort("the stream ended before the reply did")
        choices = [self._choices[index].body() for index in sorted(self._choices)]
        return {**self._top, "choices": choices if self._began else []}

    def _say(self, key: str, text: str) -> None:
        self._first.pieces[key].append(text)
        self._speak[key](text)

    def _only_text_is_new(self, chunk: dict[str, Any], data: bytes) -> bool:
        """Nearly all chunks of a reply are equal but for their text; that is all to be done then.

        Reading the rest of such a chunk again would change nothing (``_remember``).
        """
        try:
            delta = chunk["choices"][0]["delta"]
            key, text = delta.popitem()
        except (KeyError, IndexError, TypeError, AttributeError):
            return False
        if chunk == self._known and text and type(text) is str and key in self._speak:
            if key != self._known_key:
                self._known_key = key
                self._template.forget()
            self._template.learn(data, ("choices", 0, "delta", key), text)
            self._say(key, text)
            return True
        delta[key] = text
        return False

    def _remember(self, chunk: dict[str, Any], choice: dict[str, Any]) -> None:
        """Keep a chunk that says who speaks and what, and nothing that adds up."""
        delta = choice.get("delta")
        self._known = None
        self._template.forget()
        if type(delta) is not dict or not delta or choice.get("index", 0) != 0:
            return
        spoken = next(reversed(delta))
        besides = [value for key, value in delta.items() if key not in (spoken, "role")]
        about = [value for key, value in choice.items() if key not in ("delta", "index")]
        plain = type(delta[spoken]) is str and not self._first.blocks
        if plain and spoken in self._speak and not any(besides) and not any(about):
            del delta[spoken]
            self._known = chunk

    def _read(self, chunk: dict[str, Any], data: bytes) -> None:
        if type(error := chunk.get("error")) is dict:
            raise ErrorFrame(error, data)
        self._read_top(chunk)
        choices = [choice for choice in chunk.get("choices") or () if type(choice) is dict]
        for choice in choices:
            self._read_choice(choice)
        if len(choices) == 1 and not chunk.get("usage"):
            self._remember(chunk, choices[0])

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

    def _read_choice(self, payload: dict[str, Any]) -> None:
        self._began = True
        index = payload.get("index")
        index = index if type(index) is int else 0
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice(index)
        choice.read(payload, self._listener if choice is self._first else None)


class _Choice:
    """One choice: its message in pieces, and what is said about it."""

    def __init__(self, index: int) -> None:
        self.fields: dict[str, Any] = {"index": index, "finish_reason": None}
        self.message: dict[str, Any] = {"role": "assistant"}
        self.pieces: dict[str, list[str]] = {name: [] for name in _PIECEWISE}
        self.blocks: list[Any] = []  # content given as a list
        self.calls: list[dict[str, Any]] = []
        self._call_at: dict[int, int] = {}  # the wire's index → place in calls

    def read(self, payload: dict[str, Any], listener: Hearer | None) -> None:
        for key, value in payload.items():
            if key == "delta":
                if type(value) is dict:
                    if listener is not None:
                        _speak(value, listener)
                    self._read_delta(value, listener)
            elif key == "logprobs":
                self._read_logprobs(value)
            elif key != "index":
                _merge(self.fields, key, value)

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

    def _read_delta(self, delta: dict[str, Any], listener: Hearer | None) -> None:
        for key, value in delta.items():
            if key in _PIECEWISE:
                self._read_piece(key, value)
            elif key == "tool_calls" and value:
                for fragment in value:
                    if type(fragment) is dict:
                        self._read_call(fragment, listener)
            else:
                _merge(self.message, key, value)

    def _read_piece(self, key: str, value: Any) -> None:
        if type(value) is str:
            if self.blocks:
                _append_block(self.blocks, {"type": "text", "text": value})
            else:
                self.pieces[key].append(value)
        elif type(value) is list:
            if not self.blocks and (said := "".join(self.pieces[key])):
                self.blocks.append({"type": "text", "text": said})
            for block in value:
                _append_block(self.blocks, block)
        else:
            self.message.setdefault(key, value)

    def _read_call(self, fragment: dict[str, Any], listener: Hearer | None) -> None:
        function = fragment.get("function")
        function = function if type(function) is dict else {}
        identity, name = string(fragment.get("id")), string(function.get("name"))
        arguments = string(function.get("arguments"))
        index = fragment.get("index")
        index = index if type(index) is int else 0
        place = self._call_at.get(index)
        if place is not None and identity and name and self.calls[place].get("id") != identity:
            place = None  # some servers give every call of a reply the same index
        if place is None:
            place = self._call_at[index] = len(self.calls)
            self.calls.append({"type": "function", "function": {"name": "", "arguments": []}})
        call = self.calls[place]
        for key, value in fragment.items():
            if key not in ("index", "function") and value is not None and value != "":
                call[key] = value
        for key, value in function.items():
            if key == "arguments":
                call["function"][key].append(arguments)
            elif value is not None and value != "":
                call["function"][key] = value
        if listener is not None and (name or identity or arguments):
            listener.tool_call(place, identity or None, name or None, arguments)

    def _read_logprobs(self, value: Any) -> None:
        known = self.fields.setdefault("logprobs", None)
        if type(value) is dict:
            if known is None:
                known = self.fields["logprobs"] = {}
            for key, tokens in value.items():
                _merge(known, key, tokens)


def _speak(delta: dict[str, Any], listener: Hearer) -> None:
    """In the order of the reply: thinking, text, refusal, citations."""
    if thought := string(delta.get("reasoning_content")) or string(delta.get("reasoning")):
        listener.thinking(thought)
    content = delta.get("content")
    if type(content) is str:
        if content:
            listener.text(content)
    elif type(content) is list:
        for block in content:
            _speak_block(block, listener)
    if refusal := string(delta.get("refusal")):
        listener.refusal(refusal)
    for annotation in delta.get("annotations") or ():
        if type(annotation) is dict:
            payload = annotation.get("url_citation", annotation)
            if type(payload) is dict and any(citation := citation_from(payload)):
                listener.citation(*citation)


def _speak_block(block: Any, listener: Hearer) -> None:
    if type(block) is not dict:
        return
    if block.get("type") == "text" and (text := string(block.get("text"))):
        listener.text(text)
    elif block.get("type") == "thinking":
        for part in block.get("thinking") or ():
            if type(part) is dict and (thought := string(part.get("text"))):
                listener.thinking(thought)


def _append_block(blocks: list[Any], block: Any) -> None:
    last = blocks[-1] if blocks else None
    if (
        type(last) is dict
        and type(block) is dict
        and last.get("type") == block.get("type") == "text"
        and last.keys() == block.keys() == {"type", "text"}
    ):
        last["text"] += block["text"]
    elif type(block) is dict:
        blocks.append(dict(block))
    else:
        blocks.append(block)


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
