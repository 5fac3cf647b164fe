"""OpenAI Chat Completions, and every server compatible with it: chunks in, a chat completion out.

Follows OpenAI's API reference of Chat Completions (``chat.completion.chunk``), with the extensions
of other servers: ``reasoning_content`` and ``reasoning``, content as a list of blocks, usage inside a
choice or under ``x_groq``, a whole ``message`` in place of a delta or beside it.

A key that a chunk carries appears in the body even if it is always null: a server that names
``refusal`` in its chunks names it in its replies. Of unknown fields the last value counts, and
lists grow; ``id``, ``created`` and ``model`` keep their first.

Two things are known without being in the chunks: empty content beside tool calls or a refusal is
null, and servers that send refusals (OpenAI, Azure) list a message's annotations, even if empty.

Which tool call a fragment belongs to is known by ``tool_calls``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from streamll.capture.deltas import Delta, Deltas, RefusalDelta, ThinkingDelta
from streamll.capture.tap.wire import base
from streamll.capture.tap.wire.base import citation_in, counted, decode_object, index_in, string
from streamll.capture.tap.wire.pieces import append_block, is_only_text, merge, thoughts_in
from streamll.capture.tap.wire.template import Template
from streamll.capture.tap.wire.tool_calls import ToolCalls

_TEXTS: dict[str, type[Any]] = {
    "content": str,
    "reasoning_content": ThinkingDelta,
    "reasoning": ThinkingDelta,
}
"""What a delta's string keys are when nothing else in a chunk is new."""
_PIECEWISE = frozenset({*_TEXTS, "reasoning_text", "refusal"})
_OF_THE_FIRST = frozenset({"id", "created", "model"})
"""Fields of which the first value counts."""
_PADDING = ("obfuscation", "p")
"""OpenAI's and Mistral's, which differ in every chunk."""
_OF_THE_LAST = "timings"
"""llama.cpp's, which differ as well; the last ones count."""
ONLY_PLAIN: Mapping[str, Mapping[str, Any]] = {"groq": {"service_tier": None}}
"""By provider: what LiteLLM reads off a reply without asking whether it is there."""
_COUNTS = ("total_tokens", ("prompt_tokens", "completion_tokens"))
_REPEATING = 3
"""Pieces from which on it is no accident that they repeat one another."""
_NO_CONTENT = frozenset({"id", "object", "created", "model", "usage", "type", "x_groq"})
"""What a chunk without choices may have."""
_CUT_OFF = ("length", "max_tokens", "model_length", "content_filter")
_OF_A_CHUNK = frozenset({"index", "token_id"})
"""Fields of a delta that are not the message's."""


class ChatAssembler:
    """One reply. Choices beyond the first are rebuilt but not shown: a call has one candidate.

    ``choices`` are expected. ``only_plain``: keys that the reader of the body needs, with what to
    give it, since this server has them in plain replies alone.
    """

    def __init__(self, choices: int = 1, only_plain: Mapping[str, Any] | None = None) -> None:
        self.complete = self.finished = self.has_reason = self.doubtful = False
        self._expected = choices
        self._only_plain = only_plain or {}
        self._top: dict[str, Any] = {}
        self._first = _Choice(0)
        self._choices = {0: self._first}
        self._began = False
        self._is_odd = False  # frames came that are no chunks
        self._counted = False  # usage has come after the reason
        self._known: dict[str, Any] | None = None  # the last ordinary chunk, without its text
        self._known_key = "content"  # the delta's key that held the text
        self._settled: tuple[str, ...] = ()  # keys of which the first value counts, and has come
        self.template = Template()  # of frames that are the known chunk

    def frame(self, data: bytes) -> Deltas:
        if (deltas := self.template.deltas_in(data)) is not None:
            return deltas
        self._settle()
        if data.strip() == b"[DONE]":
            self.complete = True
            return ()
        chunk = decode_object(data)
        for name in _PADDING:
            chunk.pop(name, None)
        for name in self._settled:
            if name in chunk:
                chunk[name] = self._top[name]
        return self._only_text(chunk, data) or self._read(chunk, data)

    @property
    def usage(self) -> Any:
        return self._top.get("usage")

    def body(self) -> dict[str, Any]:
        self._settle()
        first, known = self._first, self._choices.values()
        said = self.complete and (first.reason or first.spoken)
        if not (self._began and (said or all(each.reason for each in known))):
            if self._is_odd and not first.spoken:
                raise base.Confused("frames that are no chunks of a reply")
            raise base.CutShort("the stream ended before the reply did")
        if not self.complete and len(known) < self._expected:
            raise base.Confused("fewer choices than were asked for")
        choices = [self._choices[index].body() for index in sorted(self._choices)]
        only_plain = {**self._only_plain, **(ONLY_PLAIN["groq"] if "x_groq" in self._top else {})}
        return {**only_plain, **self._top, "choices": choices}

    def _only_text(self, chunk: dict[str, Any], data: bytes) -> Deltas:
        """The text of a chunk in which nothing else is new, as in nearly all chunks of a reply.

        Reading the rest of such a chunk again would change nothing (see ``_remember``).
        """
        try:
            delta = chunk["choices"][0]["delta"]
            key, text = delta.popitem()
        except (KeyError, IndexError, TypeError, AttributeError):
            return ()
        last = chunk.get(_OF_THE_LAST)
        if type(last) is dict:
            del chunk[_OF_THE_LAST]
        if chunk == self._known and text and type(text) is str and key in _TEXTS:
            if key != self._known_key:
                self._known_key = key
                self.template.forget()
            say = self._say_content if key == "content" else self._say_thought
            varying, place = (*_PADDING, *self._settled, _OF_THE_LAST), ("choices", 0, "delta", key)
            self.template.learn(data, place, text, say, varying, kept=type(last) is dict)
            if type(last) is dict:
                self._top[_OF_THE_LAST] = last
            return say(text)
        delta[key] = text
        if type(last) is dict:
            chunk[_OF_THE_LAST] = last
        return ()

    def _settle(self) -> None:
        """Take what counts of the last frame that was read by the template."""
        if self.template.latest is not None:
            self._top[_OF_THE_LAST] = decode_object(self.template.latest)[_OF_THE_LAST]
            self.template.latest = None

    def _say_content(self, text: str) -> Deltas:
        self._first.pieces["content"].append(text)
        return (text,)

    def _say_thought(self, text: str) -> Deltas:
        self._first.pieces[self._known_key].append(text)
        return (ThinkingDelta(text),)

    def _remember(self, chunk: dict[str, Any], choice: dict[str, Any]) -> None:
        """Keep a chunk that has one text and nothing that adds up, as what is already known."""
        delta = choice.get("delta")
        self._known = None
        self.template.forget()
        is_first = self._choices.get(index_in(choice)) is self._first
        if not is_first or type(delta) is not dict or not delta:
            return
        last = next(reversed(delta))
        other_values = [value for key, value in delta.items() if key not in (last, "role")]
        other_facts = [value for key, value in choice.items() if key not in ("delta", "index")]
        is_text = last in _TEXTS and type(delta[last]) is str and not self._first.blocks
        if is_text and not any(other_values) and not any(other_facts):
            del delta[last]
            if type(chunk.get(_OF_THE_LAST)) is dict:
                del chunk[_OF_THE_LAST]
            self._known = chunk

    def _read(self, chunk: dict[str, Any], data: bytes) -> Deltas:
        if error := base.error_in(chunk, data):
            raise error
        self._known = None
        self.template.forget()
        self._is_odd |= bool(chunk.keys() - _NO_CONTENT) and "choices" not in chunk
        self._read_top(chunk, data)
        given = chunk.get("choices") or []
        if type(given) is not list:
            raise base.Confused("choices that are no list")
        choices = [choice for choice in given if type(choice) is dict]
        deltas = [delta for choice in choices for delta in self._read_choice(choice)]
        self._see_end(by_usage=not choices and _counts(chunk.get("usage")))
        if len(choices) == 1 and not chunk.get("usage"):
            self._remember(chunk, choices[0])
        return deltas

    def _see_end(self, *, by_usage: bool) -> None:
        """Whether the reply is over. ``by_usage``: a chunk of usage alone, which comes last."""
        known = self._choices.values()
        self.has_reason = len(known) >= self._expected and all(each.reason for each in known)
        ends = self.has_reason and all(each.ends for each in known)
        self._counted = ends and (self._counted or by_usage)
        self.finished = ends and (self._counted or all(each.is_sure for each in known))
        self.doubtful = ends and not self.finished

    def _read_top(self, chunk: dict[str, Any], data: bytes) -> None:
        top = self._top
        for key, value in chunk.items():
            if key == "usage":
                self._read_usage(value)
            elif key == "object":
                top[key] = "chat.completion"
            elif key == "x_groq" and type(value) is dict:
                if error := base.error_in({"error": value.get("error")}, data):
                    raise error
                self._read_usage(value.get("usage"))
                told = {name: value[name] for name in value if name != "usage"}
                top[key] = {**(top.get(key) or {}), **told}
            elif key in _OF_THE_FIRST:
                top[key] = top.get(key) or value
            elif key != "choices" and (value not in (None, "") or key not in top):
                top[key] = value

        self._settled = tuple(key for key in _OF_THE_FIRST if top.get(key))

    def _read_usage(self, usage: Any) -> None:
        if type(usage) is dict:
            self._top["usage"] = counted(self._top.get("usage"), usage, *_COUNTS)

    def _read_choice(self, payload: dict[str, Any]) -> Deltas:
        index = index_in(payload)
        if not self._began:
            self._began = True
            if self._expected == 1:  # whatever its index
                self._choices = {index: self._first}
                self._first.fields["index"] = index
        choice = self._choices.get(index)
        if choice is None:
            if self._expected == 1 or not 0 <= index < self._expected:
                raise base.Confused("a choice that was not asked for")
            choice = self._choices[index] = _Choice(index)
        self._read_usage(payload.pop("usage", None))
        return choice.read(payload)


class _Choice:
    """One choice: its message in pieces, and its other fields."""

    def __init__(self, index: int) -> None:
        self._shown = index == 0
        self.fields: dict[str, Any] = {"index": index, "finish_reason": None}
        self.message: dict[str, Any] = {"role": "assistant"}
        self.pieces: dict[str, list[str]] = {name: [] for name in _PIECEWISE}
        self.blocks: list[Any] = []  # content given as a list
        self.calls = ToolCalls()
        self.ends = False
        """A reason of its end came last."""
        self.is_sure = True
        """No reason came before or with the first of its answer, and none was followed by more."""
        self._ends_early = False
        """A reason was followed by more: of those that come with text, none is the end."""
        self._told: str | None = None  # its whole text, where a server repeats it

    @property
    def reason(self) -> Any:
        return self.fields.get("finish_reason")

    @property
    def spoken(self) -> bool:
        """Whether there is anything of its message."""
        told = any(value for name, value in self.message.items() if name != "role")
        return bool(
            told or self.blocks or self.calls or any(any(each) for each in self.pieces.values())
        )

    @property
    def _has_answered(self) -> bool:
        """Whether it has said anything but its thinking."""
        return bool(
            self.calls
            or any(self.pieces["content"])
            or any(self.pieces["refusal"])
            or any(not thoughts_in(block) for block in self.blocks)
        )

    def read(self, payload: dict[str, Any]) -> list[Delta]:
        _check_choice(payload)
        deltas: list[Delta] = []
        had_reason, had_answered = bool(self.reason), self._has_answered
        for key, value in payload.items():
            if key == "delta":
                deltas += self._read_message(value)
            elif key == "message":
                deltas += self._read_whole(value, beside=type(payload.get("delta")) is dict)
            elif key == "logprobs":
                self._read_logprobs(value)
            elif key == "finish_reason":
                self.fields[key] = self.reason if value in (None, "", "null") else value
            elif key != "index" and not (key == "text" and "delta" in payload):
                merge(self.fields, key, value)
        self._ends_early |= bool(deltas and had_reason)
        self.is_sure &= not self._ends_early
        if payload.get("finish_reason") and self.reason:
            self.ends = self.spoken and not (deltas and self._ends_early)
            self.is_sure &= had_answered
        elif deltas:
            self.ends = False
        return deltas if self._shown else [""] * bool(deltas)

    def body(self) -> dict[str, Any]:
        self._check()
        message = dict(self.message)
        for name, pieces in self.pieces.items():
            if pieces:
                message[name] = "".join(pieces)
        if self.blocks:
            message["content"] = self.blocks
        if self.calls:
            message["tool_calls"] = self.calls.body(cut_off=self.reason in _CUT_OFF)
        if not message.get("content") and (self.calls or message.get("refusal")):
            message["content"] = None  # chunks begin with ""
        message.setdefault("content", None)
        if "refusal" in message:
            message.setdefault("annotations", [])
        return {**self.fields, "message": message}

    def _check(self) -> None:
        """Raise ``Confused`` where what was said may be said twice, or be no reply at all."""
        if self.reason == "error":
            raise base.Confused("a reply that ends with an error without words")
        if self.reason == "tool_calls" and not self.calls:
            raise base.Confused("the end of tool calls that were not streamed")
        texts = [piece for piece in self.pieces["content"] if piece]
        if self._told is not None and self._told != "".join(texts):
            raise base.Confused("a message that differs from its pieces")
        if len(texts) >= _REPEATING and _is_repeated(texts):
            raise base.Confused("pieces that repeat what was said before")

    def _read_message(self, value: Any) -> list[Delta]:
        """A delta: what it says, in the order of the reply."""
        if type(value) is not dict:
            return []
        return [*_spoken(value), *self._read_delta(value)]

    def _read_whole(self, message: Any, *, beside: bool) -> list[Delta]:
        """A whole message: all of the reply so far, beside a delta or in place of one."""
        if type(message) is not dict:
            return []
        content = message.get("content")
        if not any(value for name, value in message.items() if name not in ("role", "name")):
            return []  # as some servers have it in every chunk, others in the last
        if beside:
            self._told = content if type(content) is str and content else None
            return []
        before = "".join(self.pieces["content"])
        if self.blocks or self.calls or not (before == "" or string(content).startswith(before)):
            raise base.Confused("a whole message after pieces of another")
        rest = string(content)[len(before) :]
        new = {**message, "content": rest} if before else message
        thought = [name for name in _TEXTS if name != "content" and self.pieces[name]]
        return self._read_message({key: new[key] for key in new if key not in thought})

    def _read_delta(self, delta: dict[str, Any]) -> list[Delta]:
        """Add the delta to the message; gives its tool call fragments, which have to be placed."""
        fragments: list[Delta] = []
        for key, value in delta.items():
            if key in _PIECEWISE:
                self._read_piece(key, value)
            elif key == "tool_calls" and value:
                fragments += self.calls.add(value)
            elif key == "function_call" and value:
                raise base.Confused("a function call of the old kind")
            elif key == "audio" and value and self.message.get(key):
                raise base.Confused("sound in pieces")
            elif key not in _OF_A_CHUNK:
                merge(self.message, key, value)
        return fragments

    def _read_piece(self, key: str, value: Any) -> None:
        if type(value) is dict and key == "content":  # one block, and no list
            value = value["text"] if is_only_text(value) else [value]
        if type(value) is str:
            if not (self.blocks and key == "content"):
                if value or not self.pieces[key]:  # the first tells that the key was there
                    self.pieces[key].append(value)
            elif value:
                append_block(self.blocks, {"type": "text", "text": value})
        elif type(value) is list and key == "content":
            if not self.blocks and (before := "".join(self.pieces[key])):
                self.blocks.append({"type": "text", "text": before})
            for block in value:
                append_block(self.blocks, block)
        elif value is None:
            self.message.setdefault(key, None)
        else:
            raise base.Confused("a text that is none")

    def _read_logprobs(self, value: Any) -> None:
        known = self.fields.setdefault("logprobs", None)
        if type(value) is dict:
            known = self.fields["logprobs"] = known or {}
            for key, tokens in value.items():
                merge(known, key, tokens)


def _counts(usage: Any) -> bool:
    return type(usage) is dict and any(usage.values())


def _check_choice(payload: dict[str, Any]) -> None:
    """Raise ``Confused`` for what no chunk has."""
    if payload.get("error"):
        raise base.Confused("an error in a choice")
    if payload.get("text") and not payload.keys() & {"delta", "message"}:
        raise base.Confused("a text in place of a delta")


def _is_repeated(texts: list[str]) -> bool:
    """Whether each piece begins with the one before, and often has more, or the last is all of them."""
    grown = list(dict.fromkeys(texts))
    if len(grown) >= _REPEATING and all(map(str.startswith, grown[1:], grown)):
        return True
    before = texts[:-1]
    return len(texts[-1]) == sum(map(len, before)) and texts[-1] == "".join(before)


def _spoken(delta: dict[str, Any]) -> Iterator[Delta]:
    """All but tool calls, in the order of the reply: thinking, text, refusal, citations."""
    if thought := string(delta.get("reasoning_content")) or string(delta.get("reasoning")):
        yield ThinkingDelta(thought)
    elif delta.get("reasoning_text"):
        yield ""
    content = delta.get("content")
    if type(content) is str:
        if content:
            yield content
    else:
        for block in content if type(content) is list else (content,):
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
    thoughts = thoughts_in(block)
    for part in thoughts if type(thoughts) is list else [{"text": thoughts}]:
        if type(part) is dict and (thought := string(part.get("text"))):
            yield ThinkingDelta(thought)
