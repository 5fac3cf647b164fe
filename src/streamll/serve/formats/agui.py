"""AG-UI: what CopilotKit and other agent front ends read.

The events of protocol 0.x, as ``@ag-ui/client`` and ``ag-ui-protocol`` 1.0.0 read them; the keys
that protocol 1.0 adds (``protocolVersion``, ``outcome``, ``usage``) are not sent.

============================  ====================================================================
a run                         ``RUN_STARTED`` first, ``RUN_FINISHED`` or ``RUN_ERROR`` last
a module, a trace             ``STEP_STARTED``, ``STEP_FINISHED``
a reply field                 ``TEXT_MESSAGE_START``, ``…CONTENT``, ``…END``: a message of its own
another field, thinking       ``REASONING_…``
a typed field                 ``STATE_SNAPSHOT`` once, then a ``STATE_DELTA`` with what is new in
                              ``/fields/<name>``; the value of an earlier call is moved to
                              ``/earlier/<name>``
a superseded attempt,
a corrected field             ``MESSAGES_SNAPSHOT``: the conversation as it is now; typed fields
                              become null until the next attempt writes them
a tool call                   ``TOOL_CALL_START``, ``…ARGS``, ``…END``, ``…RESULT``
a failed tool                 ``TOOL_CALL_RESULT`` with the error
a status, a citation,
a loss, a custom event        ``CUSTOM`` with its name
an error                      everything open ends, then ``RUN_ERROR``
a cancelled run               the same, with code ``cancelled``
resume                        ``RUN_STARTED``, ``MESSAGES_SNAPSHOT`` and ``STATE_SNAPSHOT``, then
                              what is open again
============================  ====================================================================

Keys are camelCase; what is not set is omitted, never null. A snapshot waits until no message is
open: a client that replaces its messages must not be in the middle of one. It has the reasoning
messages, too: a client keeps those it has where a snapshot has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from streamll.core.events import Event
from streamll.serve.formats import parts as st
from streamll.serve.formats.base import OutputFormat, RenderOptions, given, to_json
from streamll.serve.formats.message import MessageBuilder
from streamll.serve.formats.values import AGUIState

ENDS = (st.MessageFinished, st.MessageFailed, st.MessageCancelled)


class AGUIFormat(OutputFormat):
    name: ClassVar[str] = "agui"

    def __init__(self, options: RenderOptions) -> None:
        super().__init__(options)
        self._builder = MessageBuilder(options)
        self._messages: dict[str, st.TextPart | st.ToolPart] = {}  # the client's, in order
        self._state: AGUIState | None = None
        self._snapshot_due = False
        self._withdrawn_reasoning = ""  # id of the last one
        self._open: set[str] = set()

    def feed(self, event: Event) -> list[bytes]:
        rendered: list[dict[str, Any]] = []
        for step in self._builder.feed(event):
            self._track(step)
            if isinstance(step, ENDS):
                rendered += self._due_snapshot()
            rendered += self._render(step)
        if not self._open and not self._builder.ended:
            rendered += self._due_snapshot()
        return [to_json(each) for each in rendered]

    def resume(self) -> list[bytes]:
        begun = [tool for tool in self._builder.tools.values() if not tool.ready]
        again: list[dict[str, Any]] = [self._run("RUN_STARTED"), self._snapshot(but=begun)]
        again += [_event("STEP_STARTED", stepName=name) for name in self._builder.stages.values()]
        for part in self._builder.open.values():
            again += _opened(part)
        for tool in begun:
            again += _render_message(st.ToolOpened(tool))
            if written := "".join(tool.arguments):
                again += _render_message(st.ToolInputGrown(tool, written))
        if self._state is not None:
            again.append(_event("STATE_SNAPSHOT", snapshot=self._state.value))
        return [to_json(each) for each in again]

    def _due_snapshot(self) -> list[dict[str, Any]]:
        due, self._snapshot_due = self._snapshot_due, False
        return [self._snapshot()] if due else []

    def _track(self, step: st.MessageStep) -> None:
        """Keep track of the client's messages."""
        match step:
            case st.PartOpened(message) | st.ToolOpened(message):
                self._open.add(message.id)
                self._messages[message.id] = message
            case st.PartClosed(message) | st.ToolReady(message):
                self._open.discard(message.id)
            case st.PartsWithdrawn(parts, _, tools):
                for message_id in [part.id for part in parts] + [tool.id for tool in tools]:
                    del self._messages[message_id]
                for part in (part for part in parts if not part.reply):
                    self._withdrawn_reasoning = part.id
                self._snapshot_due = True
            case st.PartCorrected():
                self._snapshot_due = True

    def _render(self, step: st.MessageStep) -> Iterator[dict[str, Any]]:
        match step:
            case st.MessageBegan():
                yield self._run("RUN_STARTED")
            case st.StageBegan(name):
                yield _event("STEP_STARTED", stepName=name)
            case st.StageEnded(name):
                yield _event("STEP_FINISHED", stepName=name)
            case st.MessageFinished():
                yield self._run("RUN_FINISHED")
            case st.MessageFailed(message, error_type):
                yield _event("RUN_ERROR", message=message, code=error_type)
            case st.MessageCancelled():
                yield _event("RUN_ERROR", message="the run was cancelled", code="cancelled")
            case st.ValueChanged() | st.ValueSettled() | st.ValueWithdrawn():
                yield from self._patch(step)
            case st.DataNote(name, value):
                yield _event("CUSTOM", name=name, value=value)
            case st.SourceCited(_, text, title, url):
                source = given(text=text, title=title, url=url)
                yield _event("CUSTOM", name="citation", value=source)
            case _:
                yield from _render_message(step)

    def _patch(
        self, step: st.ValueChanged | st.ValueSettled | st.ValueWithdrawn
    ) -> Iterator[dict[str, Any]]:
        if self._state is None:
            self._state = AGUIState(self.options.state)
            yield _event("STATE_SNAPSHOT", snapshot=self._state.value)
        match step:
            case st.ValueChanged():
                operations = self._state.change(step)
            case st.ValueSettled(part):
                operations = self._state.settle(part)
            case st.ValueWithdrawn(part):
                operations = self._state.withdraw(part)
        if operations:
            yield _event("STATE_DELTA", delta=operations)

    def _run(self, kind: str) -> dict[str, Any]:
        run_id = self.options.run_id or self._builder.run_id or "run"
        return _event(kind, threadId=self.options.thread_id or run_id, runId=run_id)

    def _snapshot(self, but: Sequence[st.ToolPart] = ()) -> dict[str, Any]:
        messages: list[Any] = list(self.options.messages)
        for part in (each for each in self._messages.values() if each not in but):
            if isinstance(part, st.ToolPart):
                messages += _tool_messages(part)
            else:
                role = "assistant" if part.reply else "reasoning"
                messages.append({"id": part.id, "role": role, "content": part.text})
        if self._withdrawn_reasoning and not any(m["role"] == "reasoning" for m in messages):
            messages.append({"id": self._withdrawn_reasoning, "role": "reasoning", "content": ""})
        return _event("MESSAGES_SNAPSHOT", messages=messages)


def _render_message(step: st.MessageStep) -> Iterator[dict[str, Any]]:
    match step:
        case st.PartOpened(part):
            yield from _opened(part)
        case st.PartGrown(part, text) if part.reply:
            yield _event("TEXT_MESSAGE_CONTENT", messageId=part.id, delta=text)
        case st.PartGrown(part, text):
            yield _event("REASONING_MESSAGE_CONTENT", messageId=part.id, delta=text)
        case st.PartClosed(part) if part.reply:
            yield _event("TEXT_MESSAGE_END", messageId=part.id)
        case st.PartClosed(part):
            yield _event("REASONING_MESSAGE_END", messageId=part.id)
            yield _event("REASONING_END", messageId=part.id)
        case st.ToolOpened(tool):
            yield _event("TOOL_CALL_START", toolCallId=tool.id, toolCallName=tool.name)
        case st.ToolInputGrown(tool, text):
            yield _event("TOOL_CALL_ARGS", toolCallId=tool.id, delta=text)
        case st.ToolReady(tool):
            yield _event("TOOL_CALL_END", toolCallId=tool.id)
        case st.ToolReturned(tool) | st.ToolFailed(tool):
            yield _event(
                "TOOL_CALL_RESULT",
                messageId=f"{tool.id}-result",
                toolCallId=tool.id,
                content=_as_text(tool.result),
                role="tool",
            )


def _opened(part: st.TextPart) -> list[dict[str, Any]]:
    if part.reply:
        return [_event("TEXT_MESSAGE_START", messageId=part.id, role="assistant")]
    return [
        _event("REASONING_START", messageId=part.id),
        _event("REASONING_MESSAGE_START", messageId=part.id, role="reasoning"),
    ]


def _tool_messages(tool: st.ToolPart) -> list[dict[str, Any]]:
    function = {"name": tool.name, "arguments": "".join(tool.arguments)}
    call = {"id": tool.id, "type": "function", "function": function}
    messages: list[dict[str, Any]] = [{"id": tool.id, "role": "assistant", "toolCalls": [call]}]
    if tool.done:
        content = _as_text(tool.result)
        result = {"id": f"{tool.id}-result", "role": "tool", "toolCallId": tool.id}
        messages.append({**result, "content": content})
    return messages


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else to_json({"v": value}).decode()[5:-1]


def _event(kind: str, **keys: Any) -> dict[str, Any]:
    return {"type": kind, **keys}
