"""AG-UI 1.0: what CopilotKit and other agent front ends read.

* A reply field is a message of its own; other fields and thinking are reasoning. Messages and tool
  calls say in their ``metadata`` (``streamll``) whose they are: ``field`` and ``predictor``.
* The tool calls of one reply of the model are in one message (``parentMessageId``): that of the
  reply's text, if it had any by then. The error of a tool is its result's content, and the
  ``error`` of its message.
* A typed field is in the state: ``STATE_SNAPSHOT`` once, then a ``STATE_DELTA`` with what is new in
  ``/fields/<name>``; the value of an earlier call is moved to ``/earlier/<name>``. A superseded
  value is null until the next attempt writes it.
* After a superseded attempt, a corrected field or a tool's error comes a ``MESSAGES_SNAPSHOT``, the
  conversation as it is now. It waits until no message is open: a client that replaces its messages
  must not be in the middle of one. It has the reasoning messages, too: a client keeps those it has
  where a snapshot has none.
* An LM call that waits, for a retry or a free connection, is an activity of type ``waiting``, with
  ``{reason, delay, predictor, state}``; ``state`` is ``waiting``, then ``over``.
* A module or a trace is a step; a status, a citation, a refusal, a loss or a custom event is
  ``CUSTOM``. Citations and refusals have an ``id``: those of a superseded attempt are the ``ids`` of
  a ``CUSTOM`` event ``superseded``.
* Everything open ends before ``RUN_FINISHED`` or ``RUN_ERROR``, which have the run's ``usage``. The
  ``result`` of a run is its outputs where they were asked for, else its reply by field.
* A cancelled run finishes with the ``outcome`` ``cancelled``. Clients from before 1.0 take that for
  success, or for nonsense: they get no outcome, and ``RUN_ERROR`` with the code ``cancelled``.
* A question ends a 1.0 client's stream with the ``outcome`` ``interrupt``, though the run goes on: ``resume``
  of the next request answers, and its stream goes on as one that is resumed. The usage is told at
  the run's end, for all of it. Where no request can follow, or the client is older, questions are ``CUSTOM``
  events, ``question`` and ``answer``.
* To resume: ``RUN_STARTED``, ``MESSAGES_SNAPSHOT``, what is open again, ``STATE_SNAPSHOT``.

Keys are camelCase; what is not set is omitted, never null.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, ClassVar

from streamll.core import events as ev
from streamll.core.events import Event
from streamll.core.jsonable import plain
from streamll.serve.formats.base import RenderOptions, given, to_json
from streamll.serve.formats.message import ChatFormat
from streamll.serve.formats.parts import Aside, Part, TextPart, ToolPart, ValuePart
from streamll.serve.formats.questions import interrupt, outcome, shown
from streamll.serve.formats.values import AGUIState, Operation

PROTOCOL_VERSION = "1.0"
"""What ``RUN_STARTED`` declares: the protocol's version, not the client's and not this package's."""

VENDORS = {"gemini": "google", "vertex_ai": "google"}
"""``TokenUsage.provider`` where it is not what DSPy's names of models begin with."""


class AGUIFormat(ChatFormat):
    name: ClassVar[str] = "agui"

    def __init__(self, options: RenderOptions) -> None:
        super().__init__(options)
        self._at = 0  # milliseconds since the epoch
        self._steps: dict[str, str] = {}  # names of the open modules and traces
        self._state: AGUIState | None = None
        self._snapshot_due = False
        self._withdrawn_reasoning = ""  # id of the last one
        self._parents: dict[str, str] = {}  # tool calls to the messages that have them …
        self._holders: dict[tuple[str | None, int], str] = {}  # … which are one of each reply
        self._waits: dict[str | None, dict[str, Any]] = {}  # activities, by call
        self._waiting: set[str | None] = set()
        self._askers: dict[str, ToolPart] = {}  # the calls that are to be allowed, by question

    def feed(self, event: Event) -> list[bytes]:
        self._at = int(event.timestamp * 1000)
        if event.call_id in self._waiting and not isinstance(event, ev.LMWaiting):
            self._end_wait(event.call_id)
        payloads = super().feed(event)
        if self._snapshot_due and not (self.open or self._unready()):
            self._send_due_snapshot()
        return payloads + self.sent()

    def resume(self) -> list[bytes]:
        if not self.begun:
            return []
        begun = self._unready()
        self.run_began()
        self._send_snapshot(but=begun)
        for wait in self._waits.values():
            self.say("ACTIVITY_SNAPSHOT", **wait)
        for name in self._steps.values():
            self.say("STEP_STARTED", stepName=name)
        for part in self.open.values():
            self.part_opened(part)
        for tool in begun:
            self.tool_again(tool)
        if self._state is not None:
            self.say("STATE_SNAPSHOT", snapshot=self._state.value)
        return self.sent()

    def say(self, kind: str, **keys: Any) -> None:
        self.send({"type": kind, **keys, "timestamp": self._at})

    def _unready(self) -> list[ToolPart]:
        return [tool for tool in self.tools if not tool.ready]

    # --- the run ----------------------------------------------------------------------------------

    def run_began(self) -> None:
        self._say_started()
        for notice in self.options.notices:
            self.noted("unused-answer" if self.options.continues else "unused-part", notice)

    def _say_started(self) -> None:
        run = {"metadata": {"streamll": {"run_id": self.run_id}}} if self.run_id else {}
        self._say_run("RUN_STARTED", protocolVersion=PROTOCOL_VERSION, **run)

    def leave(self) -> list[bytes]:
        if not (self.options.interrupts and self.questions) or self.end is not None:
            return []
        self.left = True
        self.close_all()
        self._end_what_is_open()
        asked = []
        for question_id, question in self.questions.items():
            tool = self._askers.get(question_id)
            asked.append(interrupt(question, None if tool is None else tool.id))
        self._say_run("RUN_FINISHED", outcome={"type": "interrupt", "interrupts": asked})
        return self.sent()

    def asked(self, question: ev.Question, tool: ToolPart | None) -> None:
        if tool is not None and question.tool is not None:
            self._askers[question.question_id] = tool
        if not self.options.interrupts:
            self.noted("question", shown(question))

    def answered(self, answer: ev.Answer) -> None:
        if not self.options.interrupts:
            self.noted("answer", outcome(answer))

    def _end_what_is_open(self) -> None:
        for call in list(self._waiting):
            self._end_wait(call)
        for step in reversed(list(self._steps)):
            self._end_step(step)
        self._send_due_snapshot()

    def run_ended(self, end: ev.Totals) -> None:
        self._end_what_is_open()
        usage, old = given(usage=usage_of(end) or None), self.options.predates_versions
        if isinstance(end, ev.RunError):
            what = {"message": end.message or end.error_type, "code": end.error_type}
            self.say("RUN_ERROR", **what, **usage)
        elif isinstance(end, ev.RunCancelled) and old:
            self.say("RUN_ERROR", message="the run was cancelled", code="cancelled", **usage)
        else:
            outcome = {} if old else {"outcome": self._outcome(end)}
            self._say_run("RUN_FINISHED", **outcome, **self._result(end), **usage)

    def _outcome(self, end: ev.Totals) -> dict[str, Any]:
        if isinstance(end, ev.RunCancelled):
            return {"type": "cancelled"}
        pending = [tool.id for tool in self.tools if not tool.done]
        return {"type": "success", **given(pendingToolCallIds=pending or None)}

    def _result(self, end: ev.Totals) -> dict[str, Any]:
        if not isinstance(end, ev.RunEnd):
            return {}
        if end.outputs is not None:
            return {"result": plain(end.outputs)}
        said: dict[str, Any] = {part.field: part.text for part in self.texts if part.reply}
        for part in self.values.values():
            if self.options.is_reply(part.predictor, part.field) and not part.is_broken:
                said[part.field] = part.value
        return {"result": said} if said else {}

    def _say_run(self, kind: str, **keys: Any) -> None:
        run_id = self.options.run_id or self.run_id or "run"
        self.say(kind, threadId=self.options.thread_id or run_id, runId=run_id, **keys)

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

    def on_lm_waiting(self, event: ev.LMWaiting) -> None:
        call, content = event.call_id, given(reason=event.reason, delay=event.delay)
        wait = self._waits.setdefault(call, {"messageId": self._next_id()})
        content |= given(predictor=event.predictor) | {"state": "waiting"}
        wait.update(activityType="waiting", content=content)
        self._waiting.add(call)
        self.say("ACTIVITY_SNAPSHOT", **wait)

    def _end_wait(self, call: str | None) -> None:
        self._waiting.discard(call)
        self._waits[call]["content"] |= {"state": "over"}
        self.say("ACTIVITY_SNAPSHOT", **self._waits[call])

    def cited(self, source_id: str, source: ev.Citation) -> None:
        value = given(text=source.text, title=source.title, url=source.url)
        self.say("CUSTOM", name="citation", value={"id": source_id, **value})

    def refused(self, refusal_id: str, refusal: ev.Refusal) -> None:
        value = {"id": refusal_id, "text": refusal.text}
        self.say("CUSTOM", name="refusal", value=value)

    def noted(self, name: str, value: Any, *, transient: bool = False) -> None:
        self.say("CUSTOM", name=name, value=value)

    # --- messages ---------------------------------------------------------------------------------

    def part_opened(self, part: TextPart) -> None:
        whose = _metadata(part)
        if part.reply:
            self._holders[part.key[:2]] = part.id
            self.say("TEXT_MESSAGE_START", messageId=part.id, role="assistant", metadata=whose)
        else:
            self.say("REASONING_START", messageId=part.id)
            message = {"messageId": part.id, "role": "reasoning", "metadata": whose}
            self.say("REASONING_MESSAGE_START", **message)

    def part_grown(self, part: TextPart, text: str, missing: bool) -> None:
        kind = "TEXT_MESSAGE_CONTENT" if part.reply else "REASONING_MESSAGE_CONTENT"
        self.say(kind, messageId=part.id, delta=text)

    def part_closed(self, part: TextPart) -> None:
        if part.reply:
            self.say("TEXT_MESSAGE_END", messageId=part.id)
        else:
            self.say("REASONING_MESSAGE_END", messageId=part.id)
            self.say("REASONING_END", messageId=part.id)

    def parts_withdrawn(self, gone: Sequence[Part], reason: str) -> None:
        for part in gone:
            if isinstance(part, TextPart) and not part.reply:
                self._withdrawn_reasoning = part.id
        if asides := [part.id for part in gone if isinstance(part, Aside)]:
            self.say("CUSTOM", name="superseded", value={"ids": asides, "reason": reason})
        self._snapshot_due = self._snapshot_due or len(asides) < len(gone)

    def part_corrected(self, part: TextPart, text: str, value: Any) -> None:
        self._snapshot_due = True

    def tool_opened(self, tool: ToolPart) -> None:
        if tool.id not in self._parents:
            self._parents[tool.id] = self._holders.setdefault(tool.attempt, tool.id)
        call = {"toolCallId": tool.id, "toolCallName": tool.name}
        parent = self._parents[tool.id]
        self.say("TOOL_CALL_START", **call, parentMessageId=parent, **_metadata_of_call(tool))

    def tool_input_grown(self, tool: ToolPart, text: str) -> None:
        self.say("TOOL_CALL_ARGS", toolCallId=tool.id, delta=text)

    def tool_corrected(self, tool: ToolPart) -> None:
        self._snapshot_due = True

    def tool_ready(self, tool: ToolPart) -> None:
        self.say("TOOL_CALL_END", toolCallId=tool.id)

    def tool_done(self, tool: ToolPart) -> None:
        result = {"messageId": f"{tool.id}-result", "toolCallId": tool.id, "role": "tool"}
        self.say("TOOL_CALL_RESULT", **result, content=_as_text(tool.result))
        self._snapshot_due = self._snapshot_due or tool.failed  # the event has no place for errors

    def _send_due_snapshot(self) -> None:
        if self._snapshot_due:
            self._snapshot_due = False
            self._send_snapshot()

    def _send_snapshot(self, but: Sequence[ToolPart] = ()) -> None:
        """The conversation; of this run what is known here, whatever the client has of it."""
        own = f"{self.run_id}-"
        messages: list[Any] = [
            each for each in self.options.messages if not str(each.get("id", "")).startswith(own)
        ]
        messages += self._own_messages(but)
        if self._withdrawn_reasoning and not any(m.get("role") == "reasoning" for m in messages):
            messages.append({"id": self._withdrawn_reasoning, "role": "reasoning", "content": ""})
        self.say("MESSAGES_SNAPSHOT", messages=messages)

    def _own_messages(self, but: Sequence[ToolPart]) -> list[dict[str, Any]]:
        """A tool's result comes behind the message that called it."""
        told: dict[str, list[dict[str, Any]]] = {}  # by the id of the first
        for part in self.message.values():
            if isinstance(part, TextPart):
                role = "assistant" if part.reply else "reasoning"
                message = {"id": part.id, "role": role, "content": part.text}
                told[part.id] = [{**message, "metadata": _metadata(part)}]
            elif part not in but:
                parent = self._parents[part.id]
                holder, *results = told.setdefault(parent, [{"id": parent, "role": "assistant"}])
                holder["toolCalls"] = [*holder.get("toolCalls", ()), _call(part)]
                told[parent] = [holder, *results, *([_result(part)] if part.done else ())]
        return [message for messages in told.values() for message in messages]

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


def usage_of(end: ev.Totals) -> list[dict[str, Any]]:
    """What the run used as AG-UI counts, one ``TokenUsage`` for each model.

    Counts that are not known are left out; so is a model of which a request was not reported, since
    a reader takes the counts for all there is.
    """
    told = []
    for usage in end.usage:
        prompt, completion = usage.prompt_tokens, usage.completion_tokens
        counts = given(
            inputTokens=prompt,
            outputTokens=completion,
            totalTokens=None if prompt is None or completion is None else prompt + completion,
            reasoningTokens=usage.reasoning_tokens,
            cachedInputTokens=usage.cache_read_tokens,
            cacheWriteInputTokens=usage.cache_write_tokens,
        )
        vendor, slash, model = usage.model.partition("/")
        provider = {"provider": VENDORS.get(vendor, vendor)} if slash else {}
        if counts and not usage.unreported:
            told.append({**provider, "model": model or vendor, **counts})
    return told


def _metadata(part: TextPart) -> dict[str, Any]:
    return {"streamll": {"field": part.field, **given(predictor=part.predictor)}}


def _metadata_of_call(tool: ToolPart) -> dict[str, Any]:
    whose = given(predictor=tool.predictor)
    return {"metadata": {"streamll": whose}} if whose else {}


def _call(tool: ToolPart) -> dict[str, Any]:
    function = {"name": tool.name, "arguments": tool.text}
    return {"id": tool.id, "type": "function", "function": function, **_metadata_of_call(tool)}


def _result(tool: ToolPart) -> dict[str, Any]:
    content = _as_text(tool.result)
    result = {"id": f"{tool.id}-result", "role": "tool", "toolCallId": tool.id, "content": content}
    return {**result, "error": content} if tool.failed else result


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else to_json({"v": value}).decode()[5:-1]
