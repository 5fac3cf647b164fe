"""AG-UI: what CopilotKit and other agent front ends read.

The events of protocol 0.x, as ``@ag-ui/client`` and ``ag-ui-protocol`` 1.0.0 read them; the keys
that protocol 1.0 adds (``protocolVersion``, ``outcome``, ``usage``) are not sent.

* A reply field is a message of its own; other fields and thinking are reasoning.
* A typed field is in the state: ``STATE_SNAPSHOT`` once, then a ``STATE_DELTA`` with what is new in
  ``/fields/<name>``; the value of an earlier call is moved to ``/earlier/<name>``. A superseded
  value is null until the next attempt writes it.
* After a superseded attempt or a corrected field comes a ``MESSAGES_SNAPSHOT``, the conversation as
  it is now. It waits until no message is open: a client that replaces its messages must not be in
  the middle of one. It has the reasoning messages, too: a client keeps those it has where a
  snapshot has none.
* A module or a trace is a step; a status, a citation, a loss or a custom event is ``CUSTOM``.
* Everything open ends before ``RUN_FINISHED`` or ``RUN_ERROR``, also of a cancelled run (code
  ``cancelled``).
* To resume: ``RUN_STARTED``, ``MESSAGES_SNAPSHOT``, what is open again, ``STATE_SNAPSHOT``.

Keys are camelCase; what is not set is omitted, never null.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, ClassVar

from streamll.core import events as ev
from streamll.core.events import Event
from streamll.serve.formats.base import RenderOptions, given, to_json
from streamll.serve.formats.message import ChatFormat
from streamll.serve.formats.parts import TextPart, ToolPart, ValuePart
from streamll.serve.formats.values import AGUIState, Operation


class AGUIFormat(ChatFormat):
    name: ClassVar[str] = "agui"

    def __init__(self, options: RenderOptions) -> None:
        super().__init__(options)
        self._steps: dict[str, str] = {}  # names of the open modules and traces
        self._state: AGUIState | None = None
        self._snapshot_due = False
        self._withdrawn_reasoning = ""  # id of the last one

    def feed(self, event: Event) -> list[bytes]:
        payloads = super().feed(event)
        if self._snapshot_due and not (self.open or self._unready()):
            self._send_due_snapshot()
        return payloads + self.sent()

    def resume(self) -> list[bytes]:
        begun = self._unready()
        self._say_run("RUN_STARTED")
        self._send_snapshot(but=begun)
        for name in self._steps.values():
            self.say("STEP_STARTED", stepName=name)
        for part in self.open.values():
            self.part_opened(part)
        for tool in begun:
            self.tool_again(tool)
        if self._state is not None:
            self.say("STATE_SNAPSHOT", snapshot=self._state.value)
        return self.sent()

    def _unready(self) -> list[ToolPart]:
        return [tool for tool in self.tools if not tool.ready]

    # --- the run ----------------------------------------------------------------------------------

    def run_began(self) -> None:
        self._say_run("RUN_STARTED")

    def run_ended(self, end: ev.Totals) -> None:
        for step in reversed(list(self._steps)):
            self._end_step(step)
        self._send_due_snapshot()
        if isinstance(end, ev.RunError):
            self.say("RUN_ERROR", message=end.message or end.error_type, code=end.error_type)
        elif isinstance(end, ev.RunCancelled):
            self.say("RUN_ERROR", message="the run was cancelled", code="cancelled")
        else:
            self._say_run("RUN_FINISHED")

    def _say_run(self, kind: str) -> None:
        run_id = self.options.run_id or self.run_id or "run"
        self.say(kind, threadId=self.options.thread_id or run_id, runId=run_id)

    def on_module_start(self, event: ev.ModuleStart) -> None:
        self._begin_step(f"{event.call_id}", ".".join(event.path) or event.name)

    def on_module_end(self, event: ev.ModuleEnd | ev.ModuleError) -> None:
        super().on_module_end(event)
        self._end_step(f"{event.call_id}")

    def on_trace_start(self, event: ev.TraceStart) -> None:
        self._begin_step(event.trace_id, event.name)

    def on_trace_end(self, event: ev.TraceEnd) -> None:
        self._end_step(event.trace_id)

    def _begin_step(self, key: str, name: str) -> None:
        """A step has a name that no other open one has."""
        taken, numbers, unique = set(self._steps.values()), itertools.count(2), name
        while unique in taken:
            unique = f"{name} #{next(numbers)}"
        self._steps[key] = unique
        self.say("STEP_STARTED", stepName=unique)

    def _end_step(self, key: str) -> None:
        if key in self._steps:
            self.say("STEP_FINISHED", stepName=self._steps.pop(key))

    def cited(self, source_id: str, source: ev.Citation) -> None:
        value = given(text=source.text, title=source.title, url=source.url)
        self.say("CUSTOM", name="citation", value=value)

    def noted(self, name: str, value: Any, *, transient: bool = False) -> None:
        self.say("CUSTOM", name=name, value=value)

    # --- messages ---------------------------------------------------------------------------------

    def part_opened(self, part: TextPart) -> None:
        if part.reply:
            self.say("TEXT_MESSAGE_START", messageId=part.id, role="assistant")
        else:
            self.say("REASONING_START", messageId=part.id)
            self.say("REASONING_MESSAGE_START", messageId=part.id, role="reasoning")

    def part_grown(self, part: TextPart, text: str, missing: bool) -> None:
        kind = "TEXT_MESSAGE_CONTENT" if part.reply else "REASONING_MESSAGE_CONTENT"
        self.say(kind, messageId=part.id, delta=text)

    def part_closed(self, part: TextPart) -> None:
        if part.reply:
            self.say("TEXT_MESSAGE_END", messageId=part.id)
        else:
            self.say("REASONING_MESSAGE_END", messageId=part.id)
            self.say("REASONING_END", messageId=part.id)

    def parts_withdrawn(self, gone: Sequence[TextPart | ToolPart], reason: str) -> None:
        for part in gone:
            if isinstance(part, TextPart) and not part.reply:
                self._withdrawn_reasoning = part.id
        self._snapshot_due = True

    def part_corrected(self, part: TextPart, text: str, value: Any) -> None:
        self._snapshot_due = True

    def tool_opened(self, tool: ToolPart) -> None:
        self.say("TOOL_CALL_START", toolCallId=tool.id, toolCallName=tool.name)

    def tool_input_grown(self, tool: ToolPart, text: str) -> None:
        self.say("TOOL_CALL_ARGS", toolCallId=tool.id, delta=text)

    def tool_corrected(self, tool: ToolPart) -> None:
        self._snapshot_due = True

    def tool_ready(self, tool: ToolPart) -> None:
        self.say("TOOL_CALL_END", toolCallId=tool.id)

    def tool_done(self, tool: ToolPart) -> None:
        result = {"messageId": f"{tool.id}-result", "toolCallId": tool.id}
        self.say("TOOL_CALL_RESULT", **result, content=_as_text(tool.result), role="tool")

    def _send_due_snapshot(self) -> None:
        if self._snapshot_due:
            self._snapshot_due = False
            self._send_snapshot()

    def _send_snapshot(self, but: Sequence[ToolPart] = ()) -> None:
        messages: list[Any] = list(self.options.messages)
        for part in self.message.values():
            if isinstance(part, TextPart):
                role = "assistant" if part.reply else "reasoning"
                messages.append({"id": part.id, "role": role, "content": part.text})
            elif part not in but:
                messages += _tool_messages(part)
        if self._withdrawn_reasoning and not any(m["role"] == "reasoning" for m in messages):
            messages.append({"id": self._withdrawn_reasoning, "role": "reasoning", "content": ""})
        self.say("MESSAGES_SNAPSHOT", messages=messages)

    # --- the state --------------------------------------------------------------------------------

    def value_changed(self, part: ValuePart, change: ev.FieldPartial, replaces: bool) -> None:
        self._patch(self._known_state().change(part, change, replaces=replaces))

    def value_settled(self, part: ValuePart) -> None:
        self._patch(self._known_state().settle(part))

    def value_withdrawn(self, part: ValuePart) -> None:
        self._patch(self._known_state().withdraw(part))

    def _known_state(self) -> AGUIState:
        """The state, which the client gets before the first change to it."""
        if self._state is None:
            self._state = AGUIState(self.options.state)
            self.say("STATE_SNAPSHOT", snapshot=self._state.value)
        return self._state

    def _patch(self, operations: list[Operation]) -> None:
        if operations:
            self.say("STATE_DELTA", delta=operations)


def _tool_messages(tool: ToolPart) -> list[dict[str, Any]]:
    function = {"name": tool.name, "arguments": tool.text}
    call = {"id": tool.id, "type": "function", "function": function}
    messages: list[dict[str, Any]] = [{"id": tool.id, "role": "assistant", "toolCalls": [call]}]
    if tool.done:
        result = {"id": f"{tool.id}-result", "role": "tool", "toolCallId": tool.id}
        messages.append({**result, "content": _as_text(tool.result)})
    return messages


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else to_json({"v": value}).decode()[5:-1]
