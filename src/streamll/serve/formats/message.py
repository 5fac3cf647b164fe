"""A run as a chat message: what the formats of Vercel, AG-UI and OpenAI have in common.

Events in, ``MessageStep``s out. What the formats differ in (names, ids, what they cannot express)
is their own business.

* A text part is one field of one attempt of one call, or the thinking of one attempt. It opens
  with its first character.
* A field that holds a list or an object is a value and not text: the JSON it is written in is not
  shown. Any other typed field is both. Without ``values`` everything is text.
* A superseded attempt withdraws its parts and values; a corrected field corrects its part.
* Of ``n`` completions only the first is shown.
* A tool that the model called natively and the program then runs is one tool call: the program's
  ``tool.start`` takes the oldest call of that name that none has taken yet.
* Everything open is closed before the run's last step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from streamll.core import events as ev
from streamll.core.events import Event
from streamll.serve.formats import parts as st
from streamll.serve.formats.base import RenderOptions, to_json
from streamll.serve.formats.parts import Key, MessageStep, TextPart, ToolPart, ValuePart
from streamll.serve.formats.values import is_json

THINKING = ""  # the field name of thinking: no field can have it

Steps = Iterator[MessageStep]


class MessageBuilder:
    """Builds the message of one run. Memory: the run's text, values and tool calls."""

    def __init__(self, options: RenderOptions, *, values: bool = True) -> None:
        self.run_id: str | None = None
        self.begun = False
        self.ended = False
        self.parts: dict[Key, TextPart] = {}
        self.open: dict[Key, TextPart] = {}
        self.values: dict[Key, ValuePart] = {}
        self.tools: dict[str, ToolPart] = {}
        """By the call of the program and, until it has taken them, by that of the model."""
        self.stages: dict[str, str] = {}
        """Names of the open modules and traces."""
        self._options = options
        self._with_values = values
        self._structured: set[Key] = set()  # shown as values and not as text
        self._finish_reason: str | None = None
        self._parts_made = 0

    def feed(self, event: Event) -> Steps:
        """The steps that this event makes."""
        if self.ended:
            return
        if not self.begun:
            self.begun = True
            self.run_id = event.run_id
            yield st.MessageBegan(event.run_id)
        if event.candidate:
            return
        if (handler := self._HANDLERS.get(type(event))) is not None:
            yield from handler(self, event)
        elif (note := NOTES.get(type(event))) is not None:
            yield note(event)
        elif isinstance(event, ev.StreamllEvent):
            yield st.DataNote(event.event_type, own_data(event))

    def _next_id(self) -> str:
        self._parts_made += 1
        return f"{self.run_id or 'run'}-{self._parts_made}"

    # --- text ---------------------------------------------------------------------------------

    def _token(self, event: ev.TokenEvent) -> Steps:
        if event.finish_reason is not None:
            self._finish_reason = event.finish_reason
        if not event.token:
            return
        yield from self._close(key_of(event, THINKING))
        key = key_of(event, event.field)
        if key in self._structured:
            return
        size = self.open[key].size if key in self.open else 0
        text = event.token[max(0, size - event.offset) :]  # the rest of a merged token
        yield from self._write(key, event, text, missing=event.offset > size)
        self.open[key].size = max(size, event.offset + len(event.token))

    def _thinking(self, event: ev.Thinking) -> Steps:
        if event.text:
            yield from self._write(key_of(event, THINKING), event, event.text)

    def _write(self, key: Key, event: Event, text: str, *, missing: bool = False) -> Steps:
        """Add to the open part with this key; open it if there is none."""
        part = self.open.get(key)
        if part is None:
            field = key[-1]
            reply = field != THINKING and self._options.is_reply(event.predictor, field)
            part = TextPart(self._next_id(), key, event.predictor, field or "thinking", reply)
            self.parts[key] = self.open[key] = part
            yield st.PartOpened(part)
        if text:
            part.pieces.append(text)
            yield st.PartGrown(part, text, missing)

    def _close(self, key: Key) -> Steps:
        part = self.open.pop(key, None)
        if part is not None:
            yield st.PartClosed(part)

    def _field_end(self, event: ev.FieldEnd) -> Steps:
        key = key_of(event, event.field)
        yield from self._close(key)
        if key in self.values:
            yield st.ValueSettled(self.values[key])

    def _field_corrected(self, event: ev.FieldCorrected) -> Steps:
        key = key_of(event, event.field)
        part = self.parts.get(key)
        if self._with_values and isinstance(event.value, (list, dict)) and part is None:
            yield from self._field_partial(_whole(event))
        elif part is None:  # nothing was shown of it, so this is all of it
            yield from self._write(key, event, event.text)
            yield from self._close(key)
        elif part.text != event.text:
            yield from self._close(key)
            part.pieces = [event.text]
            yield st.PartCorrected(part, event.text, event.value)

    def _superseded(self, event: ev.LMSuperseded) -> Steps:
        attempt = (event.call_id, event.attempt)
        parts = tuple(part for key, part in self.parts.items() if key[:2] == attempt)
        for part in parts:
            yield from self._close(part.key)
            del self.parts[part.key]
        for key in [key for key in self.values if key[:2] == attempt]:
            yield st.ValueWithdrawn(self.values.pop(key))
        tools = {call: t for call, t in self.tools.items() if t.attempt == attempt and not t.taken}
        for call, tool in tools.items():
            yield from self._make_ready(tool)
            yield from self._fail(tool, f"superseded: {event.reason}")
            del self.tools[call]
        if parts or tools:
            yield st.PartsWithdrawn(parts, event.reason, tuple(tools.values()))

    def _citation(self, event: ev.Citation) -> Steps:
        yield st.SourceCited(self._next_id(), event.text, event.title, event.url)

    # --- values -------------------------------------------------------------------------------

    def _field_partial(self, event: ev.FieldPartial) -> Steps:
        if not self._with_values:
            return
        key = key_of(event, event.field)
        part = self.values.get(key)
        if part is None:
            part = ValuePart(f"{event.call_id}:{event.field}", event.predictor, event.field)
            self.values[key] = part
        change = part.take(event)
        if change is None:
            return
        if key not in self._structured and change.is_structured:
            yield from self._become_structured(key)
        yield change

    def _become_structured(self, key: Key) -> Steps:
        """The field turns out to hold a list or an object: its JSON was shown as text by mistake.

        A type with a notation of its own (``dspy.Code``) has a value only at the field's end. What
        was shown of it until then is text.
        """
        part = self.parts.get(key)
        if part is not None and key not in self.open and not is_json(part.text):
            return
        self._structured.add(key)
        if part is not None:
            yield from self._close(key)
            del self.parts[key]
            yield st.PartsWithdrawn((part,), "typed")

    # --- tools --------------------------------------------------------------------------------

    def _tool_call(self, event: ev.ToolCallDelta) -> Steps:
        key = f"{event.call_id}:{event.attempt}:{event.index}"
        tool = self.tools.get(key)
        if tool is None:
            yield from self._close(key_of(event, THINKING))
            attempt = (event.call_id, event.attempt)
            tool = self.tools[key] = ToolPart(self._next_id(), event.name or "tool", attempt)
            yield st.ToolOpened(tool)
        if event.arguments:
            tool.arguments.append(event.arguments)
            yield st.ToolInputGrown(tool, event.arguments)

    def _tool_start(self, event: ev.ToolStart) -> Steps:
        called = (t for t in self.tools.values() if t.name == event.name and not t.taken)
        tool = next(called, None)
        if tool is None:
            tool = ToolPart(self._next_id(), event.name, (event.call_id, event.attempt))
            yield st.ToolOpened(tool)
        tool.taken = True
        if event.arguments and not tool.arguments:
            text = to_json(event.arguments).decode()
            tool.arguments.append(text)
            yield st.ToolInputGrown(tool, text)
        self.tools[f"{event.call_id}"] = tool
        yield from self._make_ready(tool)

    def _tool_end(self, event: ev.ToolEnd) -> Steps:
        tool = self.tools.get(f"{event.call_id}")
        if tool is not None and not tool.done:
            tool.done = True
            tool.result = event.result
            yield st.ToolReturned(tool)

    def _tool_error(self, event: ev.ToolError) -> Steps:
        tool = self.tools.get(f"{event.call_id}")
        if tool is not None:
            yield from self._fail(tool, f"{event.error_type}: {event.message}".removesuffix(": "))

    def _make_ready(self, tool: ToolPart) -> Steps:
        if not tool.ready:
            tool.ready = True
            yield st.ToolReady(tool)

    def _fail(self, tool: ToolPart, message: str) -> Steps:
        if not tool.done:
            tool.done = True
            tool.result = message
            yield st.ToolFailed(tool)

    # --- stages ---------------------------------------------------------------------------------

    def _module_start(self, event: ev.ModuleStart) -> Steps:
        return self._begin_stage(f"{event.call_id}", ".".join(event.path) or event.name)

    def _trace_start(self, event: ev.TraceStart) -> Steps:
        return self._begin_stage(event.trace_id, event.name)

    def _begin_stage(self, key: str, name: str) -> Steps:
        taken, number, unique = set(self.stages.values()), 1, name
        while unique in taken:
            number += 1
            unique = f"{name} #{number}"
        self.stages[key] = unique
        yield st.StageBegan(unique)

    def _module_end(self, event: ev.ModuleEnd | ev.ModuleError) -> Steps:
        for key in [key for key in self.open if key[0] == event.call_id]:
            yield from self._close(key)
        for key, part in self.values.items():
            if key[0] == event.call_id:
                yield st.ValueSettled(part)
        yield from self._end_stage(f"{event.call_id}")

    def _trace_end(self, event: ev.TraceEnd) -> Steps:
        return self._end_stage(event.trace_id)

    def _end_stage(self, key: str) -> Steps:
        name = self.stages.pop(key, None)
        if name is not None:
            yield st.StageEnded(name)

    # --- the end --------------------------------------------------------------------------------

    def _run_end(self, event: ev.RunEnd) -> Steps:
        yield from self._close_all("never run")
        yield st.MessageFinished(self._finish_reason, event)

    def _run_error(self, event: ev.RunError) -> Steps:
        yield from self._close_all("the run failed")
        yield st.MessageFailed(event.message or event.error_type, event.error_type)

    def _run_cancelled(self, event: ev.RunCancelled) -> Steps:
        yield from self._close_all("the run was cancelled")
        yield st.MessageCancelled()

    def _close_all(self, reason: str) -> Steps:
        for key in list(self.open):
            yield from self._close(key)
        for part in self.values.values():
            yield st.ValueSettled(part)
        for tool in list(self.tools.values()):
            yield from self._make_ready(tool)
            if tool.taken:
                yield from self._fail(tool, reason)
        for stage in reversed(list(self.stages)):
            yield from self._end_stage(stage)
        self.ended = True

    _HANDLERS: ClassVar[Mapping[type[Event], Callable[[Any, Any], Steps]]] = MappingProxyType(
        {
            ev.TokenEvent: _token,
            ev.Thinking: _thinking,
            ev.FieldEnd: _field_end,
            ev.FieldPartial: _field_partial,
            ev.FieldCorrected: _field_corrected,
            ev.LMSuperseded: _superseded,
            ev.Citation: _citation,
            ev.ToolCallDelta: _tool_call,
            ev.ToolStart: _tool_start,
            ev.ToolEnd: _tool_end,
            ev.ToolError: _tool_error,
            ev.ModuleStart: _module_start,
            ev.ModuleEnd: _module_end,
            ev.ModuleError: _module_end,
            ev.TraceStart: _trace_start,
            ev.TraceEnd: _trace_end,
            ev.RunEnd: _run_end,
            ev.RunError: _run_error,
            ev.RunCancelled: _run_cancelled,
        }
    )


NOTES: Mapping[type[Event], Callable[[Any], st.DataNote]] = MappingProxyType(
    {
        ev.Refusal: lambda event: st.DataNote("refusal", {"text": event.text}),
        ev.ReplyPart: lambda event: st.DataNote("reply-part", own_data(event)),
        ev.Status: lambda event: st.DataNote("status", {"message": event.message}, transient=True),
        ev.StreamGap: lambda event: st.DataNote(
            "gap", {"count": event.count, "reason": event.reason}
        ),
    }
)
"""Events that are shown as data of their own."""


def key_of(event: Event, field: str) -> Key:
    return event.call_id, event.attempt, field


def _whole(event: ev.FieldCorrected) -> ev.FieldPartial:
    """A correction as the value's last change."""
    return ev.FieldPartial(
        seq=event.seq,
        timestamp=event.timestamp,
        identity=event.identity,
        field=event.field,
        value=event.value,
        state="complete",
    )


def own_data(event: Event) -> dict[str, Any]:
    """A custom event's own data, without the context that ``data`` also shows."""
    data = event.data
    return dict(data.own if isinstance(data, ev.EventData) else data)
