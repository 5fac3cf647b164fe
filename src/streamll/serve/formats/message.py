"""A run as a chat message: what the formats of Vercel, AG-UI and OpenAI have in common.

* A text part is one field of one attempt of one call, or the thinking of one attempt. It opens
  with its first character.
* A field that holds a list or an object is a value and not text: the JSON it is written in is not
  shown. Any other typed field is both. With ``values_are_text`` everything is text.
* A superseded attempt withdraws its parts and values, its sources and refusals; a corrected field
  corrects its part.
* Of ``n`` completions only the first is shown.
* A tool that the model called and the program then runs is one tool call: the program's
  ``tool.start`` takes the oldest call of that name that none has taken yet.
* The model calls a tool natively, or writes the call into fields: ``dspy.ReAct`` has ``next_tool_name``
  and ``next_tool_args`` for that. Such fields are the call, and neither text nor values.
* A reply that no model wrote, because the program returned without a call, is shown at the run's end, if
  that has the outputs.
* Everything open is closed before the run's last event is told.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import msgspec

from streamll.core import events as ev
from streamll.core.events import Event
from streamll.core.jsonable import as_text, plain
from streamll.core.partials import MISSING, part_of
from streamll.core.visitor import EventVisitor
from streamll.serve.formats.base import OutputFormat, RenderOptions, to_json
from streamll.serve.formats.parts import (
    Aside,
    Key,
    Part,
    TextPart,
    ToolPart,
    ValuePart,
    WrittenCall,
)
from streamll.serve.formats.values import is_json, read_json

THINKING = ""  # the field name of thinking: no field can have it


class ChatFormat(EventVisitor, OutputFormat):
    """Builds the message of one run. Memory: the run's text, values and tool calls.

    Each format overrides the methods at the end, which are told how the message grows, and sends
    what its wire has for that. Names, ids and what a wire cannot express are its own business.
    """

    values_are_text: ClassVar[bool] = False

    def __init__(self, options: RenderOptions) -> None:
        super().__init__(options)
        self.begun = False
        self.run_id: str | None = None
        self.created = 0
        """When the run began, in whole seconds since the epoch."""
        self.end: ev.Totals | None = None
        """The run's last event."""
        self.finish_reason: str | None = None
        self.message: dict[str, TextPart | ToolPart] = {}
        """What is shown, by id, in the order in which it began."""
        self._latest: dict[Key, TextPart] = {}  # a call may think several times
        self.open: dict[Key, TextPart] = {}
        self.values: dict[Key, ValuePart] = {}
        self.asides: list[Aside] = []
        """Sources and refusals that count."""
        self._tools: dict[str, ToolPart] = {}  # by the model's call and by the program's
        self._structured: set[Key] = set()  # shown as values and not as text
        self.questions: dict[str, ev.Question] = {}
        """Those that are open and not answered by this request, by id."""
        self._written: dict[
            str, WrittenCall
        ] = {}  # tool calls that are fields, by call and attempt
        self._numbers = itertools.count(1)
        self._sent: list[bytes] = []

    def feed(self, event: Event) -> list[bytes]:
        if self.end is not None:
            return []
        if not self.begun:
            self.begun, self.run_id, self.created = True, event.run_id, int(event.timestamp)
            self.run_began()
        if event.candidate:
            pass
        elif isinstance(event, ev.StreamllEvent):
            self.noted(event.event_type, own_data(event))
        else:
            self.visit(event)
        return self.sent()

    def send(self, payload: Mapping[str, Any]) -> None:
        self._sent.append(to_json(payload))

    def say(self, kind: str, **keys: Any) -> None:
        self.send({"type": kind, **keys})

    def sent(self) -> list[bytes]:
        """What was sent since this was called last."""
        sent, self._sent = self._sent, []
        return sent

    @property
    def texts(self) -> list[TextPart]:
        return [part for part in self.message.values() if isinstance(part, TextPart)]

    @property
    def tools(self) -> list[ToolPart]:
        return [part for part in self.message.values() if isinstance(part, ToolPart)]

    def tool_again(self, tool: ToolPart) -> None:
        """Tell how far a tool call has come, to a reader that knows nothing of it."""
        self.tool_opened(tool)
        if tool.pieces:
            self.tool_input_grown(tool, tool.text)
        if tool.ready:
            self.tool_ready(tool)

    def _next_id(self) -> str:
        return f"{self.run_id or 'run'}-{next(self._numbers)}"

    # --- text ---------------------------------------------------------------------------------

    def on_token(self, event: ev.TokenEvent) -> None:
        if event.finish_reason is not None:
            self.finish_reason = event.finish_reason
        if not event.token:
            return
        self._close(key_of(event, THINKING))
        if event.field in CALL_FIELDS and is_call_field(event, event.field):
            self._call_grown(event)
            return
        key = key_of(event, event.field)
        if key in self._structured:
            return
        part = self._part(key, event)
        new = event.token[max(0, part.size - event.offset) :]  # the rest of a merged token
        self._grow(part, new, missing=event.offset > part.size)
        part.size = max(part.size, event.offset + len(event.token))

    def on_thinking(self, event: ev.Thinking) -> None:
        if event.text:
            self._grow(self._part(key_of(event, THINKING), event), event.text)

    def _part(self, key: Key, event: Event) -> TextPart:
        """The open part with this key; a new one if there is none."""
        part = self.open.get(key)
        if part is None:
            field = key[-1]
            reply = field != THINKING and self.options.is_reply(event.predictor, field)
            part = TextPart(
                self._next_id(), key, field or "thinking", reply, predictor=event.predictor
            )
            self.message[part.id] = self._latest[key] = self.open[key] = part
            self.part_opened(part)
        return part

    def _grow(self, part: TextPart, text: str, *, missing: bool = False) -> None:
        if text:
            part.pieces.append(text)
            self.part_grown(part, text, missing)

    def _close(self, key: Key) -> None:
        part = self.open.pop(key, None)
        if part is not None:
            self.part_closed(part)

    def on_field_end(self, event: ev.FieldEnd) -> None:
        if is_call_field(event, event.field):
            call = self._written_call(event)
            if call.tool is None:
                self._call_named(event, call.name.strip().strip("\"'"))
            return
        key = key_of(event, event.field)
        self._close(key)
        if key in self.values:
            self.value_settled(self.values[key])

    def on_field_corrected(self, event: ev.FieldCorrected) -> None:
        key, text, value = key_of(event, event.field), event.text, event.value
        if is_call_field(event, event.field):
            self._call_valued(event, event.field, value)
            return
        part = self._latest.get(key)
        if part is not None:
            if part.text != text:
                self._close(key)
                part.pieces = [text]
                self.part_corrected(part, text, value)
        elif isinstance(value, (list, dict)) and not self.values_are_text:
            base: dict[str, Any] = {"timestamp": event.timestamp, "identity": event.identity}
            self.on_field_partial(
                ev.FieldPartial(field=event.field, value=value, state="complete", **base)
            )
        else:  # nothing was shown of it, so this is all of it
            self._grow(self._part(key, event), text)
            self._close(key)

    def on_module_end(self, event: ev.ModuleEnd | ev.ModuleError) -> None:
        for key in [key for key in self.open if key[0] == event.call_id]:
            self._close(key)
        for key, part in self.values.items():
            if key[0] == event.call_id:
                self.value_settled(part)
        for call in self._written.values():
            if call.tool is not None and call.tool.attempt[0] == event.call_id:
                self._complete_call(call, call.tool)
        for tool in self.tools:
            if tool.attempt[0] == event.call_id:
                self._make_ready(tool)

    def on_module_error(self, event: ev.ModuleError) -> None:
        self.on_module_end(event)

    def on_lm_superseded(self, event: ev.LMSuperseded) -> None:
        attempt = (event.call_id, event.attempt)
        texts = [p for p in self.texts if p.key[:2] == attempt]
        for part in texts:
            self._close(part.key)
            self._latest.pop(part.key, None)
        gone: list[Part] = [*texts]
        for key in [key for key in self.values if key[:2] == attempt]:
            self.value_withdrawn(self.values.pop(key))
        for call, tool in list(self._tools.items()):
            if tool.attempt == attempt and not tool.taken:
                self._make_ready(tool)
                self._finish_tool(tool, f"superseded: {event.reason}", failed=True)
                del self._tools[call]
                gone.append(tool)
        asides = [a for a in self.asides if (a.event.call_id, a.event.attempt) == attempt]
        self.asides = [each for each in self.asides if each not in asides]
        gone += asides
        if gone:
            self._withdraw(gone, event.reason)

    def _withdraw(self, gone: Sequence[Part], reason: str) -> None:
        for part in gone:
            self.message.pop(part.id, None)
        self.parts_withdrawn(gone, reason)

    # --- values -------------------------------------------------------------------------------

    def on_field_partial(self, event: ev.FieldPartial) -> None:
        if is_call_field(event, event.field):
            if event.state == "complete" and not (event.pointer or event.append):
                self._call_valued(event, event.field, plain(event.value))
            return
        if self.values_are_text:
            return
        key = key_of(event, event.field)
        if key not in self.values:
            self.values[key] = ValuePart(event)
        part, value = self.values[key], plain(event.value)
        change = msgspec.structs.replace(event, value=value, pointer=tuple(event.pointer))
        replaces = not change.append and part_of(part.value, change.pointer, MISSING) is not MISSING
        part.size += len(value) if isinstance(value, str) else 10
        part.apply(change)
        if part.is_broken:  # an earlier change was lost
            return
        if key not in self._structured and (change.pointer or isinstance(value, (list, dict))):
            self._become_structured(key)
        self.value_changed(part, change, replaces)

    def _become_structured(self, key: Key) -> None:
        """The field turns out to hold a list or an object: its JSON was shown as text by mistake.

        A type with a notation of its own (``dspy.Code``) has a value only at the field's end. What
        was shown of it until then is text.
        """
        part = self._latest.get(key)
        if part is not None and key not in self.open and not is_json(part.text):
            return
        self._structured.add(key)
        if part is not None:
            self._close(key)
            self._withdraw([self._latest.pop(key)], "typed")

    # --- tools --------------------------------------------------------------------------------

    def on_tool_call_delta(self, event: ev.ToolCallDelta) -> None:
        call = f"{event.call_id}:{event.attempt}:{event.index}"
        tool = self._tools.get(call)
        if tool is None:
            self._close(key_of(event, THINKING))
            tool = self._begin_tool(call, event.name or "tool", event)
        if event.arguments:
            tool.pieces.append(event.arguments)
            self.tool_input_grown(tool, event.arguments)

    def on_tool_start(self, event: ev.ToolStart) -> None:
        called = (t for t in self._tools.values() if t.name == event.name and not t.taken)
        tool = next(called, None) or self._begin_tool(f"{event.call_id}", event.name, event)
        self._tools[f"{event.call_id}"] = tool
        tool.taken = True
        if event.arguments and not (tool.pieces or tool.ready):
            tool.pieces.append(to_json(event.arguments).decode())
            self.tool_input_grown(tool, tool.pieces[0])
        self._make_ready(tool)

    # A call that is written as fields, whichever of them comes first.

    def _written_call(self, event: Event) -> WrittenCall:
        return self._written.setdefault(f"{event.call_id}:{event.attempt}{WRITTEN}", WrittenCall())

    def _call_grown(self, event: ev.TokenEvent) -> None:
        call = self._written_call(event)
        size = len(call.name if event.field == CALL_NAME else call.arguments)
        new = event.token[max(0, size - event.offset) :]
        if event.field == CALL_NAME:
            call.name += new
        else:
            call.arguments += new
            self._send_arguments(call)

    def _call_valued(self, event: Event, field: str, value: Any) -> None:
        """What the program reads from the field."""
        if field == CALL_NAME:
            self._call_named(event, str(value))
        else:
            self._written_call(event).value = value

    def _call_named(self, event: Event, name: str) -> None:
        call = self._written_call(event)
        if call.tool is not None and call.tool.name != name and not call.tool.taken:
            self._finish_tool(call.tool, "corrected", failed=True)
            self._withdraw([call.tool], "corrected")
            call.tool, call.sent = None, 0
        if call.tool is None and name:
            call.tool = self._begin_tool(f"{event.call_id}:{event.attempt}{WRITTEN}", name, event)
            self._send_arguments(call)

    def _send_arguments(self, call: WrittenCall) -> None:
        """What is new of the arguments, if they are JSON and not another notation's text."""
        if call.tool is not None and not call.tool.ready and call.arguments.lstrip()[:1] == "{":
            new, call.sent = call.arguments[call.sent :], len(call.arguments)
            if new:
                call.tool.pieces.append(new)
                self.tool_input_grown(call.tool, new)

    def _complete_call(self, call: WrittenCall, tool: ToolPart) -> None:
        """The arguments are those which the program has read."""
        if tool.ready:
            return
        if isinstance(call.value, dict) and call.value != read_json(tool.text):
            right, sent = to_json(call.value).decode(), bool(tool.pieces)
            tool.pieces = [right]
            if sent:
                self.tool_corrected(tool)
            else:
                self.tool_input_grown(tool, right)
        self._make_ready(tool)

    def _begin_tool(self, call: str, name: str, event: Event) -> ToolPart:
        attempt = event.call_id, event.attempt
        tool = ToolPart(self._next_id(), name, attempt, predictor=event.predictor)
        self.message[tool.id] = self._tools[call] = tool
        self.tool_opened(tool)
        return tool

    def on_tool_end(self, event: ev.ToolEnd) -> None:
        tool = self._tools.get(f"{event.call_id}")
        if tool is not None:
            self._finish_tool(tool, event.result)

    def on_tool_error(self, event: ev.ToolError) -> None:
        tool = self._tools.get(f"{event.call_id}")
        if tool is not None:
            message = f"{event.error_type}: {event.message}".removesuffix(": ")
            self._finish_tool(tool, message, failed=True)

    def _make_ready(self, tool: ToolPart) -> None:
        if not tool.ready:
            tool.ready = True
            self.tool_ready(tool)

    def _finish_tool(self, tool: ToolPart, result: Any, *, failed: bool = False) -> None:
        if not tool.done:
            tool.done, tool.failed, tool.result = True, failed, result
            self.tool_done(tool)

    # --- questions ------------------------------------------------------------------------------

    def on_question(self, event: ev.Question) -> None:
        if event.question_id not in self.options.answered:
            self.questions[event.question_id] = event
        self.asked(event, self._tools.get(f"{event.call_id}"))

    def on_answer(self, event: ev.Answer) -> None:
        self.questions.pop(event.question_id, None)
        self.answered(event)

    # --- the rest -------------------------------------------------------------------------------

    def on_citation(self, event: ev.Citation) -> None:
        self.cited(self._aside(event), event)

    def on_refusal(self, event: ev.Refusal) -> None:
        self.refused(self._aside(event), event)

    def _aside(self, event: ev.Citation | ev.Refusal) -> str:
        self.asides.append(Aside(self._next_id(), event))
        return self.asides[-1].id

    def on_reply_part(self, event: ev.ReplyPart) -> None:
        self.noted("reply-part", own_data(event))

    def on_status(self, event: ev.Status) -> None:
        self.noted("status", {"message": event.message}, transient=True)

    def on_stream_gap(self, event: ev.StreamGap) -> None:
        self.noted("gap", {"count": event.count, "reason": event.reason})

    def close_all(self) -> None:
        """Nothing is in the middle of anything any more."""
        for key in list(self.open):
            self._close(key)
        for part in self.values.values():
            self.value_settled(part)
        for tool in self.tools:
            self._make_ready(tool)

    def on_run_end(self, event: ev.Totals) -> None:
        self.close_all()
        for tool in self.tools:
            if tool.taken:
                self._finish_tool(tool, UNFINISHED[type(event)], failed=True)
        if isinstance(event, ev.RunEnd) and isinstance(event.outputs, Mapping) and event.outputs:
            self._returned(event, event.outputs)
        self.end = event
        self.run_ended(event)

    on_run_error = on_run_cancelled = on_run_end

    def _returned(self, event: ev.RunEnd, outputs: Mapping[str, Any]) -> None:
        """Show the reply that the program returned without a model having written it."""
        predictor, _, field = (self.options.text or [*outputs][-1]).rpartition(".")
        if any(part.reply for part in self.texts) or any(key[-1] == field for key in self.values):
            return
        value = plain(outputs.get(field))
        if value not in (None, ""):
            text = value if isinstance(value, str) else as_text(value)
            self.on_field_corrected(
                ev.FieldCorrected(
                    field=field,
                    text=text,
                    value=value,
                    timestamp=event.timestamp,
                    identity=ev.Identity(run_id=event.run_id, predictor=predictor or None),
                )
            )

    # --- what a format makes of it: nothing, where its wire has no place for that ----------------

    def run_began(self) -> None: ...
    def part_opened(self, part: TextPart) -> None: ...
    # ``missing``: characters before ``text`` were lost
    def part_grown(self, part: TextPart, text: str, missing: bool) -> None: ...
    def part_closed(self, part: TextPart) -> None: ...
    def part_corrected(self, part: TextPart, text: str, value: Any) -> None: ...
    # they no longer belong to the message
    def parts_withdrawn(self, gone: Sequence[Part], reason: str) -> None: ...
    def tool_opened(self, tool: ToolPart) -> None: ...
    def tool_input_grown(self, tool: ToolPart, text: str) -> None: ...
    # its arguments are others than those told so far
    def tool_corrected(self, tool: ToolPart) -> None: ...
    def tool_ready(self, tool: ToolPart) -> None: ...
    def tool_done(self, tool: ToolPart) -> None: ...
    # ``replaces``: there was a value at ``change.pointer``
    def value_changed(self, part: ValuePart, change: ev.FieldPartial, replaces: bool) -> None: ...
    # no change comes for now: a format that held some back sends them
    def value_settled(self, part: ValuePart) -> None: ...
    # another attempt may write it again
    def value_withdrawn(self, part: ValuePart) -> None: ...
    def cited(self, source_id: str, source: ev.Citation) -> None: ...
    def refused(self, refusal_id: str, refusal: ev.Refusal) -> None: ...
    # a status, a custom event, or a loss; ``transient`` ones are not kept in the message
    def noted(self, name: str, value: Any, *, transient: bool = False) -> None: ...
    # ``tool``: the call that is to be allowed, or asks something else
    def asked(self, question: ev.Question, tool: ToolPart | None) -> None: ...
    def answered(self, answer: ev.Answer) -> None: ...
    # nothing is open any more
    def run_ended(self, end: ev.Totals) -> None: ...


UNFINISHED: Mapping[type[Event], str] = MappingProxyType(
    {
        ev.RunEnd: "never run",
        ev.RunError: "the run failed",
        ev.RunCancelled: "the run was cancelled",
    }
)
"""The error of a tool call that has no result at the run's end."""


WRITTEN = ":written"
"""How the names of calls end that the model writes into fields."""
CALL_NAME = "next_tool_name"
CALL_FIELDS = frozenset({CALL_NAME, "next_tool_args"})
"""The fields in which the predictor ``react`` of ``dspy.ReAct`` writes a tool call."""


def is_call_field(event: Event, field: str) -> bool:
    return field in CALL_FIELDS and (event.predictor or "").rpartition(".")[2] == "react"


def key_of(event: Event, field: str) -> Key:
    return event.call_id, event.attempt, field


def own_data(event: Event) -> dict[str, Any]:
    """A custom event's own data, without the context that ``data`` also shows."""
    data = event.data
    return dict(data.own if isinstance(data, ev.EventData) else data)
