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
from streamll.serve.formats.base import Telling, to_json
from streamll.serve.formats.steps import (
    Begun,
    Cancelled,
    Closed,
    Corrected,
    Failed,
    Finished,
    Forgotten,
    Grown,
    Key,
    Note,
    Opened,
    Part,
    Settled,
    Source,
    StageBegun,
    StageEnded,
    Step,
    Tool,
    ToolArguments,
    ToolFailed,
    ToolOpened,
    ToolReady,
    ToolReturned,
    Typed,
    Withdrawn,
)
from streamll.serve.formats.typed import is_json

THINKING = ""  # the field name of thinking: no field can have it


class Story:
    """Tells the events of one run. Memory: the run's text, values and tool calls."""

    def __init__(self, telling: Telling, *, values: bool = True) -> None:
        self.telling = telling
        self.tells_values = values
        self.run_id: str | None = None
        self.begun = False
        self.ended = False
        self.parts: dict[Key, Part] = {}
        self.open: dict[Key, Part] = {}
        self.tools: dict[str, Tool] = {}
        self.stages: dict[str, str] = {}
        self._finish_reason: str | None = None
        self.values: dict[Key, Typed] = {}
        self._structured: set[Key] = set()  # told as values and not as text
        self._made = 0

    def tell(self, event: Event) -> Iterator[Step]:
        """The steps that this event makes."""
        if self.ended:
            return
        if not self.begun:
            self.begun = True
            self.run_id = event.run_id
            yield Begun(event.run_id, event.program if isinstance(event, ev.RunStart) else "")
        if event.candidate:
            return
        handler = self._HANDLERS.get(type(event))
        if handler is not None:
            yield from handler(self, event)
        elif isinstance(event, ev.StreamllEvent):
            yield Note(event.event_type, own_data(event))

    # --- text ---------------------------------------------------------------------------------

    def _token(self, event: ev.TokenEvent) -> Iterator[Step]:
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
            reply = self.telling.is_reply(event.predictor, event.field)
            part = self._part(key, event, event.field, reply=reply)
            yield Opened(part)
        missing = event.offset > part.size
        text = event.token[max(0, part.size - event.offset) :]  # merged with what was told
        part.size = max(part.size, event.offset + len(event.token))
        if text:
            part.pieces.append(text)
            yield Grown(part, text, missing)

    def _thinking(self, event: ev.Thinking) -> Iterator[Step]:
        key = (event.call_id, event.attempt, THINKING)
        if not event.text:
            return
        part = self.open.get(key)
        if part is None:
            part = self._part(key, event, "thinking", reply=False)
            yield Opened(part)
        part.pieces.append(event.text)
        yield Grown(part, event.text)

    def _part(self, key: Key, event: Event, field: str, *, reply: bool) -> Part:
        part = Part(self._next_id(), key, event.predictor, field, reply=reply)
        self.parts[key] = self.open[key] = part
        return part

    def _next_id(self) -> str:
        self._made += 1
        return f"{self.run_id or 'run'}-{self._made}"

    def _end_thinking(self, event: Event) -> Iterator[Step]:
        return self._close((event.call_id, event.attempt, THINKING))

    def _close(self, key: Key) -> Iterator[Step]:
        part = self.open.pop(key, None)
        if part is not None:
            yield Closed(part)

    def _field_end(self, event: ev.FieldEnd) -> Iterator[Step]:
        key = (event.call_id, event.attempt, event.field)
        yield from self._close(key)
        yield from self._settle(key)

    def _settle(self, key: Key) -> Iterator[Step]:
        typed = self.values.get(key)
        if typed is not None:
            yield Settled(typed)

    def _field_partial(self, event: ev.FieldPartial) -> Iterator[Step]:
        if not self.tells_values:
            return
        key = (event.call_id, event.attempt, event.field)
        typed = self.values.get(key)
        if typed is None:
            typed = Typed(f"{event.call_id}:{event.field}", event.predictor, event.field)
            self.values[key] = typed
        change = typed.take(event)
        if change is None:
            return
        if key not in self._structured and change.is_structured:
            yield from self._be_structured(key)
        yield change

    def _be_structured(self, key: Key) -> Iterator[Step]:
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
            yield Withdrawn((part,), "typed")

    def _field_corrected(self, event: ev.FieldCorrected) -> Iterator[Step]:
        key = (event.call_id, event.attempt, event.field)
        part = self.parts.get(key)
        if self.tells_values and isinstance(event.value, (list, dict)) and part is None:
            yield from self._field_partial(_whole(event))
        elif part is None:  # nothing was told of it: then this is all of it
            reply = self.telling.is_reply(event.predictor, event.field)
            part = self._part(key, event, event.field, reply=reply)
            yield Opened(part)
            if event.text:
                part.pieces.append(event.text)
                yield Grown(part, event.text)
            yield from self._close(key)
        elif part.text != event.text:
            yield from self._close(key)
            part.pieces = [event.text]
            yield Corrected(part, event.text, event.value)

    def _superseded(self, event: ev.LMSuperseded) -> Iterator[Step]:
        gone = (event.call_id, event.attempt)
        parts = tuple(part for key, part in self.parts.items() if key[:2] == gone)
        for part in parts:
            yield from self._close(part.key)
            del self.parts[part.key]
        for key in [key for key in self.values if key[:2] == gone]:
            yield Forgotten(self.values.pop(key))
        never = {name: t for name, t in self.tools.items() if t.attempt == gone and not t.taken}
        for name, tool in never.items():
            yield from self._make_ready(tool)
            yield from self._fail(tool, f"superseded: {event.reason}")
            del self.tools[name]
        if parts or never:
            yield Withdrawn(parts, event.reason, tuple(never.values()))

    def _refusal(self, event: ev.Refusal) -> Iterator[Step]:
        yield Note("refusal", {"text": event.text})

    def _reply_part(self, event: ev.ReplyPart) -> Iterator[Step]:
        yield Note("reply-part", own_data(event))

    def _citation(self, event: ev.Citation) -> Iterator[Step]:
        yield Source(self._next_id(), event.text, event.title, event.url)

    # --- tools --------------------------------------------------------------------------------

    def _tool_call(self, event: ev.ToolCallDelta) -> Iterator[Step]:
        name = f"{event.call_id}:{event.attempt}:{event.index}"
        tool = self.tools.get(name)
        if tool is None:
            yield from self._end_thinking(event)
            tool = Tool(self._next_id(), event.name or "tool", (event.call_id, event.attempt))
            self.tools[name] = tool
            yield ToolOpened(tool)
        if event.arguments:
            tool.arguments.append(event.arguments)
            yield ToolArguments(tool, event.arguments)

    def _tool_start(self, event: ev.ToolStart) -> Iterator[Step]:
        return self._begin_tool(event, event.name, event.arguments)

    def _begin_tool(
        self, event: Event, name: str, given: Mapping[str, Any] | None
    ) -> Iterator[Step]:
        asked = (t for t in self.tools.values() if t.name == name and not t.taken)
        tool = next(asked, None)
        if tool is None:
            tool = Tool(self._next_id(), name, (event.call_id, event.attempt))
            yield ToolOpened(tool)
        tool.taken = True
        if given and not tool.arguments:
            text = to_json(given).decode()
            tool.arguments.append(text)
            yield ToolArguments(tool, text)
        self.tools[f"{event.call_id}"] = tool
        yield from self._make_ready(tool)

    def _tool_end(self, event: ev.ToolEnd) -> Iterator[Step]:
        tool = self.tools.get(f"{event.call_id}")
        if tool is not None and not tool.done:
            tool.done = True
            tool.result = event.result
            yield ToolReturned(tool, event.result)

    def _tool_error(self, event: ev.ToolError) -> Iterator[Step]:
        tool = self.tools.get(f"{event.call_id}")
        if tool is not None:
            yield from self._fail(tool, f"{event.error_type}: {event.message}".removesuffix(": "))

    def _make_ready(self, tool: Tool) -> Iterator[Step]:
        if not tool.ready:
            tool.ready = True
            yield ToolReady(tool)

    def _fail(self, tool: Tool, message: str) -> Iterator[Step]:
        if not tool.done:
            tool.done = True
            tool.result = message
            yield ToolFailed(tool, message)

    # --- stages and notes -----------------------------------------------------------------------

    def _module_start(self, event: ev.ModuleStart) -> Iterator[Step]:
        return self._stage(f"{event.call_id}", ".".join(event.path) or event.name)

    def _trace_start(self, event: ev.TraceStart) -> Iterator[Step]:
        return self._stage(event.trace_id, event.name)

    def _stage(self, key: str, name: str) -> Iterator[Step]:
        taken, number, unique = set(self.stages.values()), 1, name
        while unique in taken:
            number += 1
            unique = f"{name} #{number}"
        self.stages[key] = unique
        yield StageBegun(unique)

    def _module_end(self, event: ev.ModuleEnd | ev.ModuleError) -> Iterator[Step]:
        for key in [key for key in self.open if key[0] == event.call_id]:
            yield from self._close(key)
        for key in [key for key in self.values if key[0] == event.call_id]:
            yield from self._settle(key)
        yield from self._stage_end(f"{event.call_id}")

    def _trace_end(self, event: ev.TraceEnd) -> Iterator[Step]:
        return self._stage_end(event.trace_id)

    def _stage_end(self, key: str) -> Iterator[Step]:
        name = self.stages.pop(key, None)
        if name is not None:
            yield StageEnded(name)

    def _status(self, event: ev.Status) -> Iterator[Step]:
        yield Note("status", {"message": event.message}, passing=True)

    def _gap(self, event: ev.StreamGap) -> Iterator[Step]:
        yield Note("gap", {"count": event.count, "reason": event.reason})

    # --- the end --------------------------------------------------------------------------------

    def _end(self, event: ev.RunEnd) -> Iterator[Step]:
        yield from self._close_all("never run")
        yield Finished(self._finish_reason, event)

    def _error(self, event: ev.RunError) -> Iterator[Step]:
        yield from self._close_all("the run failed")
        yield Failed(event.message or event.error_type, event.error_type)

    def _cancelled(self, event: ev.RunCancelled) -> Iterator[Step]:
        yield from self._close_all("the run was cancelled")
        yield Cancelled()

    def _close_all(self, why: str) -> Iterator[Step]:
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

    _HANDLERS: ClassVar[Mapping[type[Event], Callable[[Any, Any], Iterator[Step]]]] = {
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
