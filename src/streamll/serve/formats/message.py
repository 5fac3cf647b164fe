"""A run told as messages: what Vercel, AG-UI and OpenAI have in common.

Events in, ``Step``s out: parts of text that open, grow and close, tool calls, values, notes. What
the wires differ in (names, ids, what cannot be said) is their own business.

* A part is one field of one attempt of one call, or the thinking of one attempt. It opens with
  its first character.
* A field with parts of its own (a list, an object) is a value and no text: its raw writing is not
  told. Any other typed field is both. Without ``values`` everything is text.
* A superseded attempt withdraws its parts and values; a corrected field corrects its part.
* Only the first completion of ``n`` is told.
* A tool that the model called natively and the program then runs is one tool call: the program's
  ``tool.start`` takes the oldest call of that name that nobody has taken yet.
* Everything that is open is closed before the run's last step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

from streamll.core import events as ev
from streamll.core.events import Event
from streamll.serve.formats.base import RenderOptions, to_json
from streamll.serve.formats.parts import (
    DataNote,
    Key,
    MessageBegan,
    MessageCancelled,
    MessageFailed,
    MessageFinished,
    MessageStep,
    PartClosed,
    PartCorrected,
    PartGrown,
    PartOpened,
    PartsWithdrawn,
    SourceCited,
    StageBegan,
    StageEnded,
    TextPart,
    ToolFailed,
    ToolInputGrown,
    ToolOpened,
    ToolPart,
    ToolReady,
    ToolReturned,
    ValuePart,
    ValueSettled,
    ValueWithdrawn,
)
from streamll.serve.formats.values import is_json

THINKING = ""  # the field name of thinking: no field can have it


class MessageBuilder:
    """Tells the events of one run. Memory: the run's text, values and tool calls."""

    def __init__(self, options: RenderOptions, *, values: bool = True) -> None:
        self.options = options
        self.with_values = values
        self.run_id: str | None = None
        self.begun = False
        self.ended = False
        self.parts: dict[Key, TextPart] = {}
        self.open: dict[Key, TextPart] = {}
        self.tools: dict[str, ToolPart] = {}
        self.stages: dict[str, str] = {}
        self._finish_reason: str | None = None
        self.values: dict[Key, ValuePart] = {}
        self._structured: set[Key] = set()  # told as values and not as text
        self._made = 0

    def feed(self, event: Event) -> Iterator[MessageStep]:
        """The steps that this event makes."""
        if self.ended:
            return
        if not self.begun:
            self.begun = True
            self.run_id = event.run_id
            yield MessageBegan(
                event.run_id, event.program if isinstance(event, ev.RunStart) else ""
            )
        if event.candidate:
            return
        handler = self._HANDLERS.get(type(event))
        if handler is not None:
            yield from handler(self, event)
        elif isinstance(event, ev.StreamllEvent):
            yield DataNote(event.event_type, own_data(event))

    # --- text ---------------------------------------------------------------------------------

    def _token(self, event: ev.TokenEvent) -> Iterator[MessageStep]:
        if event.finish_reason is not None:
            self._finish_reason = event.finish_reason
        key = (event.call_id, event.attempt, event.field)
        if not event.token:
            return
        yield from self._end_thinking(event)
        if key in self._structured:
            return
        part = self.open.get(key)
        if part is None:
            reply = self.options.is_reply(event.predictor, event.field)
            part = self._part(key, event, event.field, reply=reply)
            yield PartOpened(part)
        missing = event.offset > part.size
        text = event.token[max(0, part.size - event.offset) :]  # merged with what was told
        part.size = max(part.size, event.offset + len(event.token))
        if text:
            part.pieces.append(text)
            yield PartGrown(part, text, missing)

    def _thinking(self, event: ev.Thinking) -> Iterator[MessageStep]:
        key = (event.call_id, event.attempt, THINKING)
        if not event.text:
            return
        part = self.open.get(key)
        if part is None:
            part = self._part(key, event, "thinking", reply=False)
            yield PartOpened(part)
        part.pieces.append(event.text)
        yield PartGrown(part, event.text)

    def _part(self, key: Key, event: Event, field: str, *, reply: bool) -> TextPart:
        part = TextPart(self._next_id(), key, event.predictor, field, reply=reply)
        self.parts[key] = self.open[key] = part
        return part

    def _next_id(self) -> str:
        self._made += 1
        return f"{self.run_id or 'run'}-{self._made}"

    def _end_thinking(self, event: Event) -> Iterator[MessageStep]:
        return self._close((event.call_id, event.attempt, THINKING))

    def _close(self, key: Key) -> Iterator[MessageStep]:
        part = self.open.pop(key, None)
        if part is not None:
            yield PartClosed(part)

    def _field_end(self, event: ev.FieldEnd) -> Iterator[MessageStep]:
        key = (event.call_id, event.attempt, event.field)
        yield from self._close(key)
        yield from self._settle(key)

    def _settle(self, key: Key) -> Iterator[MessageStep]:
        typed = self.values.get(key)
        if typed is not None:
            yield ValueSettled(typed)

    def _field_partial(self, event: ev.FieldPartial) -> Iterator[MessageStep]:
        if not self.with_values:
            return
        key = (event.call_id, event.attempt, event.field)
        typed = self.values.get(key)
        if typed is None:
            typed = ValuePart(f"{event.call_id}:{event.field}", event.predictor, event.field)
            self.values[key] = typed
        change = typed.take(event)
        if change is None:
            return
        if key not in self._structured and change.is_structured:
            yield from self._be_structured(key)
        yield change

    def _be_structured(self, key: Key) -> Iterator[MessageStep]:
        """The field turns out to have parts: text that was its raw writing was none.

        A field of a type that is written in a way of its own (``dspy.Code``) has a value only
        when it has ended. What was told of it then is text.
        """
        part = self.parts.get(key)
        if part is not None and key not in self.open and not is_json(part.text):
            return
        self._structured.add(key)
        if part is not None:
            yield from self._close(key)
            del self.parts[key]
            yield PartsWithdrawn((part,), "typed")

    def _field_corrected(self, event: ev.FieldCorrected) -> Iterator[MessageStep]:
        key = (event.call_id, event.attempt, event.field)
        part = self.parts.get(key)
        if self.with_values and isinstance(event.value, (list, dict)) and part is None:
            yield from self._field_partial(_whole(event))
        elif part is None:  # nothing was told of it: then this is all of it
            reply = self.options.is_reply(event.predictor, event.field)
            part = self._part(key, event, event.field, reply=reply)
            yield PartOpened(part)
            if event.text:
                part.pieces.append(event.text)
                yield PartGrown(part, event.text)
            yield from self._close(key)
        elif part.text != event.text:
            yield from self._close(key)
            part.pieces = [event.text]
            yield PartCorrected(part, event.text, event.value)

    def _superseded(self, event: ev.LMSuperseded) -> Iterator[MessageStep]:
        gone = (event.call_id, event.attempt)
        parts = tuple(part for key, part in self.parts.items() if key[:2] == gone)
        for part in parts:
            yield from self._close(part.key)
            del self.parts[part.key]
        for key in [key for key in self.values if key[:2] == gone]:
            yield ValueWithdrawn(self.values.pop(key))
        never = {name: t for name, t in self.tools.items() if t.attempt == gone and not t.taken}
        for name, tool in never.items():
            yield from self._make_ready(tool)
            yield from self._fail(tool, f"superseded: {event.reason}")
            del self.tools[name]
        if parts or never:
            yield PartsWithdrawn(parts, event.reason, tuple(never.values()))

    def _refusal(self, event: ev.Refusal) -> Iterator[MessageStep]:
        yield DataNote("refusal", {"text": event.text})

    def _reply_part(self, event: ev.ReplyPart) -> Iterator[MessageStep]:
        yield DataNote("reply-part", own_data(event))

    def _citation(self, event: ev.Citation) -> Iterator[MessageStep]:
        yield SourceCited(self._next_id(), event.text, event.title, event.url)

    # --- tools --------------------------------------------------------------------------------

    def _tool_call(self, event: ev.ToolCallDelta) -> Iterator[MessageStep]:
        name = f"{event.call_id}:{event.attempt}:{event.index}"
        tool = self.tools.get(name)
        if tool is None:
            yield from self._end_thinking(event)
            tool = ToolPart(self._next_id(), event.name or "tool", (event.call_id, event.attempt))
            self.tools[name] = tool
            yield ToolOpened(tool)
        if event.arguments:
            tool.arguments.append(event.arguments)
            yield ToolInputGrown(tool, event.arguments)

    def _tool_start(self, event: ev.ToolStart) -> Iterator[MessageStep]:
        return self._begin_tool(event, event.name, event.arguments)

    def _begin_tool(
        self, event: Event, name: str, given: Mapping[str, Any] | None
    ) -> Iterator[MessageStep]:
        asked = (t for t in self.tools.values() if t.name == name and not t.taken)
        tool = next(asked, None)
        if tool is None:
            tool = ToolPart(self._next_id(), name, (event.call_id, event.attempt))
            yield ToolOpened(tool)
        tool.taken = True
        if given and not tool.arguments:
            text = to_json(given).decode()
            tool.arguments.append(text)
            yield ToolInputGrown(tool, text)
        self.tools[f"{event.call_id}"] = tool
        yield from self._make_ready(tool)

    def _tool_end(self, event: ev.ToolEnd) -> Iterator[MessageStep]:
        tool = self.tools.get(f"{event.call_id}")
        if tool is not None and not tool.done:
            tool.done = True
            tool.result = event.result
            yield ToolReturned(tool, event.result)

    def _tool_error(self, event: ev.ToolError) -> Iterator[MessageStep]:
        tool = self.tools.get(f"{event.call_id}")
        if tool is not None:
            yield from self._fail(tool, f"{event.error_type}: {event.message}".removesuffix(": "))

    def _make_ready(self, tool: ToolPart) -> Iterator[MessageStep]:
        if not tool.ready:
            tool.ready = True
            yield ToolReady(tool)

    def _fail(self, tool: ToolPart, message: str) -> Iterator[MessageStep]:
        if not tool.done:
            tool.done = True
            tool.result = message
            yield ToolFailed(tool, message)

    # --- stages and notes -----------------------------------------------------------------------

    def _module_start(self, event: ev.ModuleStart) -> Iterator[MessageStep]:
        return self._stage(f"{event.call_id}", ".".join(event.path) or event.name)

    def _trace_start(self, event: ev.TraceStart) -> Iterator[MessageStep]:
        return self._stage(event.trace_id, event.name)

    def _stage(self, key: str, name: str) -> Iterator[MessageStep]:
        taken, number, unique = set(self.stages.values()), 1, name
        while unique in taken:
            number += 1
            unique = f"{name} #{number}"
        self.stages[key] = unique
        yield StageBegan(unique)

    def _module_end(self, event: ev.ModuleEnd | ev.ModuleError) -> Iterator[MessageStep]:
        for key in [key for key in self.open if key[0] == event.call_id]:
            yield from self._close(key)
        for key in [key for key in self.values if key[0] == event.call_id]:
            yield from self._settle(key)
        yield from self._stage_end(f"{event.call_id}")

    def _trace_end(self, event: ev.TraceEnd) -> Iterator[MessageStep]:
        return self._stage_end(event.trace_id)

    def _stage_end(self, key: str) -> Iterator[MessageStep]:
        name = self.stages.pop(key, None)
        if name is not None:
            yield StageEnded(name)

    def _status(self, event: ev.Status) -> Iterator[MessageStep]:
        yield DataNote("status", {"message": event.message}, passing=True)

    def _gap(self, event: ev.StreamGap) -> Iterator[MessageStep]:
        yield DataNote("gap", {"count": event.count, "reason": event.reason})

    # --- the end --------------------------------------------------------------------------------

    def _end(self, event: ev.RunEnd) -> Iterator[MessageStep]:
        yield from self._close_all("never run")
        yield MessageFinished(self._finish_reason, event)

    def _error(self, event: ev.RunError) -> Iterator[MessageStep]:
        yield from self._close_all("the run failed")
        yield MessageFailed(event.message or event.error_type, event.error_type)

    def _cancelled(self, event: ev.RunCancelled) -> Iterator[MessageStep]:
        yield from self._close_all("the run was cancelled")
        yield MessageCancelled()

    def _close_all(self, why: str) -> Iterator[MessageStep]:
        for key in list(self.open):
            yield from self._close(key)
        for key in self.values:
            yield from self._settle(key)
        for tool in list(self.tools.values()):
            yield from self._make_ready(tool)
            if tool.taken:
                yield from self._fail(tool, why)
        for stage in reversed(list(self.stages)):
            yield from self._stage_end(stage)
        self.ended = True

    _HANDLERS: ClassVar[Mapping[type[Event], Callable[[Any, Any], Iterator[MessageStep]]]] = {
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
        ev.Refusal: _refusal,
        ev.ReplyPart: _reply_part,
        ev.ModuleStart: _module_start,
        ev.ModuleEnd: _module_end,
        ev.ModuleError: _module_end,
        ev.TraceStart: _trace_start,
        ev.TraceEnd: _trace_end,
        ev.Status: _status,
        ev.StreamGap: _gap,
        ev.RunEnd: _end,
        ev.RunError: _error,
        ev.RunCancelled: _cancelled,
    }


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
