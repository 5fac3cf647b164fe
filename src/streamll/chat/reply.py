"""A model's reply: a fold over the events of its run, completed by lm15's ``Response``."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from streamll.core import events as ev
from streamll.core.errors import GuardStopped


class ModelToolCall(msgspec.Struct):
    """A tool call: the provider's ``id``, the tool's ``name``, its ``arguments``.

    The arguments are a JSON text, empty until the reply is complete.
    """

    id: str | None = None
    name: str | None = None
    arguments: str = ""


class CitedSource(msgspec.Struct, frozen=True):
    """Something the reply cites."""

    text: str | None = None
    title: str | None = None
    url: str | None = None


def _joined(kind: str, doc: str) -> Any:
    """A read-only attribute: the pieces of one kind of text, joined."""
    return property(lambda reply: "".join(reply._texts[kind]), doc=doc)  # noqa: SLF001


class ModelReply:
    """What there is of a reply so far; complete once ``finish_reason`` is set.

    Times are seconds. ``usage`` is lm15's (``input_tokens``, ``output_tokens``,
    ``total_tokens``, …), each count ``None`` where the provider did not report it.
    """

    passive = True

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.ended: float | None = None
        self.time_to_first_token: float | None = None
        self.usage: Any = None
        self.finish_reason: str | None = None
        self.model: str | None = None
        self.response: Any = None
        """lm15's ``Response``, when the reply is complete."""
        self.attempts = 0
        self._clear()

    def _clear(self) -> None:
        self._texts: dict[str, list[str]] = {"text": [], "thinking": [], "refusal": []}
        self.tool_calls: list[ModelToolCall] = []
        self.citations: list[CitedSource] = []

    text: str = _joined("text", "The answer's text so far.")
    data: str = _joined("text", "The text, as ``calling.execution.response.data``.")
    thinking: str = _joined("thinking", "The model's own thinking, where the provider sends it.")
    refusal: str = _joined("refusal", "Why the model declines to answer, if it does.")

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<ModelReply {self.finish_reason or 'open'}, {len(self.text)} characters>"

    @property
    def duration(self) -> float:
        """Seconds from the question to the end of the reply, or until now."""
        return (self.ended or time.monotonic()) - self.started

    def put(self, event: ev.Event) -> None:
        """Add what an event of the reply's run says."""
        if isinstance(event, ev.TokenEvent):
            if self.time_to_first_token is None:
                self.time_to_first_token = time.monotonic() - self.started
            self._texts["text"].append(event.token)
        elif isinstance(event, (ev.Thinking, ev.Refusal)):
            self._texts[event.event_type].append(event.text)
        elif isinstance(event, ev.ToolCallDelta):
            while len(self.tool_calls) <= event.index:
                self.tool_calls.append(ModelToolCall())
            call = self.tool_calls[event.index]
            call.name = event.name or call.name
            call.arguments += event.arguments
        elif isinstance(event, ev.Citation):
            self.citations.append(CitedSource(event.text, event.title, event.url))
        elif isinstance(event, (ev.LMStart, ev.LMSuperseded)):
            self.attempts += 1
            if isinstance(event, ev.LMSuperseded):
                self._clear()

    def masked_by(self, mask: Callable[[Any], Any]) -> ModelReply:
        """Apply ``mask`` to its content, in place, since streams have this very object.

        Where that is stopped, nothing of the content is left.
        """
        try:
            self._mask(mask)
        except GuardStopped:
            self._clear()
            self.response = None
            raise
        return self

    def _mask(self, mask: Callable[[Any], Any]) -> None:
        self._texts = {kind: [mask("".join(parts))] for kind, parts in self._texts.items()}
        self.citations = mask(self.citations)
        self.response = mask(self.response)
        for call in self.tool_calls:
            given = msgspec.json.decode(call.arguments) if call.arguments else None
            if (masked := mask(given)) is not given:
                call.arguments = msgspec.json.encode(masked).decode()

    def complete(self, response: Any) -> None:
        """Take everything from ``response``, lm15's ``Response``.

        Events may say less: they are redacted and leave out the arguments of tool calls, and
        there are none of a reply that was not streamed.
        """
        self.response = response
        self.usage = response.usage
        self.finish_reason = str(response.finish_reason)
        self.model = response.model
        parts: dict[str, list[Any]] = {}
        for part in response.message.parts:
            parts.setdefault(part.type, []).append(part)
        for kind in self._texts.keys() & parts.keys():
            self._texts[kind][:] = [part.text for part in parts[kind]]
        if citations := parts.get("citation"):
            self.citations = [CitedSource(part.text, part.title, part.url) for part in citations]
        if calls := parts.get("tool_call"):
            self.tool_calls = [
                ModelToolCall(part.id, part.name, msgspec.json.encode(part.input).decode())
                for part in calls
            ]
