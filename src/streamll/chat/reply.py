"""A model's reply as it is heard, for whoever asks about it during and after the stream."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from streamll.capture.reply.lm_call import LMCall


class ToolCall(msgspec.Struct):
    """A tool call; ``arguments`` is the JSON text as the model writes it."""

    id: str | None = None
    name: str | None = None
    arguments: str = ""


class Source(msgspec.Struct, frozen=True):
    """Something the reply points to."""

    text: str | None = None
    title: str | None = None
    url: str | None = None


class Reply:
    """What has come of the reply so far; complete once ``finish_reason`` is there.

    Times are seconds. ``usage`` is lm15's: ``input_tokens``, ``output_tokens``,
    ``total_tokens``, … each ``None`` where the provider did not say.
    """

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.first_token: float | None = None
        self.ended: float | None = None
        self.usage: Any = None
        self.finish_reason: str | None = None
        self.model: str | None = None
        self.response: Any = None
        """lm15's ``Response``, when the reply is complete."""
        self.attempts = 0
        self._clear()

    def begin(self) -> None:
        """The next attempt: nothing of the one before counts."""
        self.attempts += 1
        self._clear()

    def _clear(self) -> None:
        self.texts: list[str] = []
        self.thoughts: list[str] = []
        self.refusals: list[str] = []
        self.tool_calls: list[ToolCall] = []
        self.citations: list[Source] = []

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def thinking(self) -> str:
        return "".join(self.thoughts)

    @property
    def refusal(self) -> str:
        return "".join(self.refusals)

    @property
    def time_to_first_token(self) -> float | None:
        return None if self.first_token is None else self.first_token - self.started

    @property
    def data(self) -> str:
        """The text, by the name that ``calling.execution.response`` has for it."""
        return self.text

    @property
    def duration(self) -> float:
        return (self.ended or time.monotonic()) - self.started

    def complete(self, response: Any) -> None:
        self.response = response
        self.usage = response.usage
        self.finish_reason = str(response.finish_reason)
        self.model = response.model
        if not (self.texts or self.thoughts or self.tool_calls or self.refusals):
            self._read(response.message.parts)

    def _read(self, parts: Any) -> None:
        """A reply that was not asked for as a stream."""
        for part in parts:
            if part.type == "text":
                self.texts.append(part.text)
            elif part.type == "thinking":
                self.thoughts.append(part.text)
            elif part.type == "refusal":
                self.refusals.append(part.text)
            elif part.type == "citation":
                self.citations.append(Source(part.text, part.title, part.url))
            elif part.type == "tool_call":
                arguments = msgspec.json.encode(part.input).decode()
                self.tool_calls.append(ToolCall(part.id, part.name, arguments))


class Listening:
    """The listener of one LM call: writes the ``Reply`` and passes everything on.

    ``to`` is the run's own listener, which makes the events.
    """

    def __init__(self, reply: Reply, to: LMCall) -> None:
        self.reply = reply
        self.check = to.check  # looked up once, called per chunk
        self._to = to
        self._to_text = to.text

    def __getattr__(self, name: str) -> Any:
        return getattr(self._to, name)

    @property
    def full(self) -> bool:
        return self._to.full

    def begin(self) -> None:
        self._to.begin()
        self.reply.begin()

    def text(self, text: str) -> None:
        reply = self.reply
        if reply.first_token is None:
            reply.first_token = time.monotonic()
        reply.texts.append(text)
        self._to_text(text)

    def thinking(self, text: str) -> None:
        self.reply.thoughts.append(text)
        self._to.thinking(text)

    def refusal(self, text: str) -> None:
        self.reply.refusals.append(text)
        self._to.refusal(text)

    def tool_call(self, index: int, id: str | None, name: str | None, arguments: str) -> None:  # noqa: A002
        calls = self.reply.tool_calls
        while len(calls) <= index:
            calls.append(ToolCall())
        call = calls[index]
        call.id = id or call.id
        call.name = name or call.name
        call.arguments += arguments
        self._to.tool_call(index, id, name, arguments)

    def citation(self, text: str | None, title: str | None, url: str | None) -> None:
        self.reply.citations.append(Source(text, title, url))
        self._to.citation(text, title, url)
