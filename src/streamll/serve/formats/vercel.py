"""UI message stream of Vercel's AI SDK, version 1: what ``useChat`` of the ``ai`` package reads.

* A reply field is text; other fields and thinking are reasoning.
* A typed field is ``data-<field>`` with one ``id``: each replaces the one before. Its ``data`` is
  ``{field, predictor, value, state}``. A field with the name of a data part of this format
  (``status``, ``gap``, …) is ``data-field-<field>``.
* The parts of a superseded attempt end; ``data-superseded`` lists those not to be shown. Each text
  part has its name in ``providerMetadata.streamll.part``, a tool call's name is its id. Values are
  null until the next attempt.
* ``data-corrected`` has the right text for the part it names; ``data-status`` is transient.
* Everything open ends before ``finish``, ``error`` or, for a cancelled run, ``abort``.
* Who resumes gets it from the beginning: the client rebuilds the message. In the middle: what is
  open is opened again, with its id.

* Keys of a value by which a page's prototypes could be reached (``__proto__``, and ``prototype`` in
  a ``constructor``) are left out: the client ends a stream that has one.

Only keys that every client since ``ai`` 5 knows are sent. One step spans the run: a client forgets
its open parts at ``finish-step``, and calls of one run may overlap.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

from streamll.core import events as ev
from streamll.serve.formats.base import RenderOptions, given, to_json
from streamll.serve.formats.message import ChatFormat
from streamll.serve.formats.parts import TextPart, ToolPart, ValuePart
from streamll.serve.formats.values import ValueThrottle

DONE = b"[DONE]"
RESERVED = frozenset({"superseded", "corrected", "citation", "status", "gap", "refusal"})
"""Data parts that are not a field of this name."""


class VercelFormat(ChatFormat):
    name: ClassVar[str] = "vercel"
    headers: ClassVar[Mapping[str, str]] = MappingProxyType({"x-vercel-ai-ui-message-stream": "v1"})

    def __init__(self, options: RenderOptions) -> None:
        super().__init__(options)
        self._throttle = ValueThrottle()
        self._held: set[str] = set()  # values that have changed since they were sent

    def resume(self) -> list[bytes]:
        for part in self.open.values():
            self.part_opened(part)
        for value in self.values.values():
            self._send_value(value, value.value, value.state())
        for tool in self.tools:
            if not tool.done:
                self.tool_again(tool)
        return self.sent()

    def send(self, payload: Mapping[str, Any]) -> None:
        super().send(payload)
        if b'"__proto__"' in self._sent[-1] or b'"constructor"' in self._sent[-1]:
            self._sent[-1] = to_json(_permitted(json.loads(self._sent[-1])))

    def run_began(self) -> None:
        self.say("start", messageId=self.options.message_id or self.run_id or "run")
        self.say("start-step")

    def part_opened(self, part: TextPart) -> None:
        # The client keeps ``providerMetadata`` with the part, and no id with text.
        named = {"part": part.id, "field": part.field}
        self.say(f"{_kind(part)}-start", id=part.id, providerMetadata={"streamll": named})

    def part_grown(self, part: TextPart, text: str, missing: bool) -> None:
        self.say(f"{_kind(part)}-delta", id=part.id, delta=text)

    def part_closed(self, part: TextPart) -> None:
        self.say(f"{_kind(part)}-end", id=part.id)

    def parts_withdrawn(self, gone: Sequence[TextPart | ToolPart], reason: str) -> None:
        self._send_data(
            "superseded", {"parts": [each.id for each in gone], "reason": reason}, gone[0].id
        )

    def part_corrected(self, part: TextPart, text: str, value: Any) -> None:
        right = {"part": part.id, "field": part.field, "text": text, "value": value}
        self._send_data("corrected", right, part.id)

    def tool_opened(self, tool: ToolPart) -> None:
        self.say("tool-input-start", toolCallId=tool.id, toolName=tool.name)

    def tool_input_grown(self, tool: ToolPart, text: str) -> None:
        self.say("tool-input-delta", toolCallId=tool.id, inputTextDelta=text)

    def tool_ready(self, tool: ToolPart) -> None:
        try:
            arguments = json.loads(tool.text or "{}")
        except ValueError:
            arguments = {"text": tool.text}
        names = {"toolCallId": tool.id, "toolName": tool.name}
        self.say("tool-input-available", **names, input=arguments)

    def tool_done(self, tool: ToolPart) -> None:
        if tool.failed:
            self.say("tool-output-error", toolCallId=tool.id, errorText=tool.result)
        else:
            self.say("tool-output-available", toolCallId=tool.id, output=tool.result)

    def value_changed(self, part: ValuePart, change: ev.FieldPartial, replaces: bool) -> None:
        self._held.add(part.id)  # values are sent whole, and therefore not at every change
        if self._throttle.admits(part, change.timestamp) or part.state() == "complete":
            self.value_settled(part)

    def value_settled(self, part: ValuePart) -> None:
        if part.id in self._held:
            self._held.remove(part.id)
            self._send_value(part, part.value, part.state())

    def value_withdrawn(self, part: ValuePart) -> None:
        self._send_value(part, None, "pending")

    def cited(self, source_id: str, source: ev.Citation) -> None:
        if source.url is None:
            self._send_data("citation", {"text": source.text, "title": source.title}, source_id)
        else:
            title = given(title=source.title)
            self.say("source-url", sourceId=source_id, url=source.url, **title)

    def noted(self, name: str, value: Any, *, transient: bool = False) -> None:
        self._send_data(name, value, transient=transient)

    def run_ended(self, end: ev.Totals) -> None:
        if isinstance(end, ev.RunError):
            self.say("error", errorText=end.message or end.error_type)
        elif isinstance(end, ev.RunCancelled):
            self.say("abort")
        else:
            self.say("finish-step")
            self.say("finish")
        self._sent.append(DONE)

    def _send_value(self, part: ValuePart, value: Any, state: str) -> None:
        name = f"field-{part.field}" if part.field in RESERVED else part.field
        data = {"field": part.field, "predictor": part.predictor, "value": value, "state": state}
        self._send_data(name, data, part.id)

    def _send_data(
        self, name: str, data: Any, data_id: str | None = None, *, transient: bool = False
    ) -> None:
        slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", name) or "event"
        self.say(f"data-{slug}", data=data, **given(id=data_id, transient=transient or None))


def _permitted(value: Any) -> Any:
    """The value without the keys that the client refuses."""
    if isinstance(value, list):
        return [_permitted(each) for each in value]
    if not isinstance(value, dict):
        return value
    kept = {key: _permitted(each) for key, each in value.items() if key != "__proto__"}
    if isinstance(kept.get("constructor"), dict):
        kept["constructor"].pop("prototype", None)
    return kept


def _kind(part: TextPart) -> str:
    return "text" if part.reply else "reasoning"
