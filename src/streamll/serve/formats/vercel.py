"""UI message stream of Vercel's AI SDK, version 1: what ``useChat`` of the ``ai`` package reads.

* A reply field is text; other fields and thinking are reasoning.
* A typed field is ``data-<field>`` with one ``id``: each replaces the one before. Its ``data`` is
  ``{field, predictor, value, state}``. A field with the name of a data part of this format
  (``status``, ``gap``, …) is ``data-field-<field>``.
* One step for each turn: it begins with what a predictor's call writes, and has the tools that are
  run for it. Where calls overlap they share one, since a client forgets its open parts at
  ``finish-step``.
* Tools are ``providerExecuted``: they run in the program, and no client is to run or answer them.
* ``messageMetadata`` has ``runId``, ``program`` and ``createdAt`` (milliseconds since the epoch), and
  from the run's end on ``model`` (the last one called), ``usage`` (tokens), ``cost`` (US dollars),
  ``duration`` and ``timeToFirstToken`` (seconds), and ``finishReason``.
* The parts of a superseded attempt end; ``data-superseded`` lists those not to be shown. Each text
  part has its name in ``providerMetadata.streamll.part``, the name of a tool call, a source or a
  refusal is its id. Values are null until the next attempt.
* ``data-corrected`` has the right text for the part it names; ``data-status`` is transient.
* A citation is a ``source-url`` or ``source-document`` with the cited text as
  ``providerMetadata.streamll.text``, and without URL and title ``data-citation``; an image or file of the reply is a ``file``, if it has a URL
  that a page can load.
* A question is ``data-question`` with the question's ``id`` as its own: ``{run_id, question_id, text, schema, state}``,
  and what else the event has. ``state`` is ``open``; when it has ended, what became of it, with ``value`` and ``by``.
* Whether a tool may be called is asked by ``tool-approval-request`` where the client knows that (from
  ``vercel-6`` on) and its next request can answer. As soon as no other tool is under way the stream ends there, and the run
  goes on: the message's metadata has ``seq``, from where the next request's stream goes on.
* Everything open ends before ``finish``, ``error`` or, for a cancelled run, ``abort``.
* Who resumes gets it from the beginning: the client rebuilds the message. In the middle: what is
  open is opened again, with its id. ``providerMetadata.streamll.offset`` is where in the named part
  a text begins (in UTF-16 code units, as JavaScript counts).
* Keys of a value by which a page's prototypes could be reached (``__proto__``, and ``prototype`` in
  a ``constructor``) are left out: the client ends a stream that has one.

``vercel`` sends only what every client since ``ai`` 5.0.0 knows: those before 5.0.217, 6.0.231 and
7.0.32 end a stream that has any key or chunk they do not know. The others are for one major version:

============  ==================================================================================
``vercel-5``  from 5.0.92: ``finishReason``; tools are ``dynamic``, since no page declares them
``vercel-6``  from 6.0.0: the same, and approvals of tools
``vercel-7``  from 7.0.70: ``abort`` has a reason, and ``reset-step`` takes superseded and corrected
              parts out of the message, which then needs no ``data-superseded``, except for parts
              of an earlier step, where calls overlap
============  ==================================================================================
"""

from __future__ import annotations

import json
import mimetypes
import re
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar
from urllib.parse import urlsplit

from streamll.core import events as ev
from streamll.core.events import NOTHING, Event
from streamll.serve.formats.base import RenderOptions, given, to_json
from streamll.serve.formats.message import ChatFormat, key_of
from streamll.serve.formats.parts import Key, Part, TextPart, ToolPart, ValuePart
from streamll.serve.formats.questions import public_id, shown
from streamll.serve.formats.values import ValueThrottle

DONE = b"[DONE]"
RESERVED = frozenset({
    "superseded", "corrected", "citation", "status", "gap", "refusal", "question", "unused-answer"
})  # fmt: skip
"""Data parts that are not a field of this name."""
FINISH_REASONS = {"length": "length", "content_filter": "content-filter"}
LINKS = frozenset({"http", "https"})
"""Schemes of URLs that a page may make a link of: a model may have chosen them."""
FILES = LINKS | {"data"}
MEDIA_TYPES = {"image": "image/*", "audio": "audio/*", "video": "video/*"}


class VercelFormat(ChatFormat):
    name: ClassVar[str] = "vercel"
    headers: ClassVar[Mapping[str, str]] = MappingProxyType({"x-vercel-ai-ui-message-stream": "v1"})
    version: ClassVar[int | None] = None
    """The major version of the client; ``None`` for any."""
    abort_keys: ClassVar[Mapping[str, str]] = NOTHING
    approves: ClassVar[bool] = False
    """Whether the client knows of approvals."""

    def __init__(self, options: RenderOptions) -> None:
        super().__init__(options)
        self._throttle = ValueThrottle()
        self._held: set[str] = set()  # values that have changed since they were sent
        self._program: str | None = None
        self._model: str | None = None
        self._seq: int | None = None  # of the event that is fed
        self._turn: str | None = None  # the call whose step this is
        self._writing: set[Key] = set()  # fields that have begun and not ended
        self._step: dict[str, TextPart | ToolPart | ValuePart | bytes] = {}
        """What the client has in this step, by id; what never changes as it was sent."""
        self._placed: set[str] = set()  # values that the message has, in whichever step
        self._told: dict[str, dict[str, Any]] = {}  # questions that are parts of their own
        self._askers: dict[str, ToolPart] = {}  # calls that wait to be allowed, by question
        self._denied: set[str] = set()  # ids of calls

    def feed(self, event: Event) -> list[bytes]:
        self._seq = event.seq
        if isinstance(event, ev.RunStart):
            self._program = event.program
        return super().feed(event)

    def resume(self) -> list[bytes]:
        has: Collection[str] = ()
        if self.options.continues:  # the client puts it behind what its message has
            self._say_begun()
            for notice in self.options.notices:
                self._send_data("unused-answer", notice)
            has = {tool.id for tool in self._askers.values()}
        for part in self.open.values():
            self._open_part(part, offset=utf16_length(part.text))
        for value in self.values.values():
            self._send_value(value, value.value, value.state())
        for tool in self.tools:
            if not tool.done and tool.id not in has:
                self.tool_again(tool)
        return self.sent()

    def leave(self) -> list[bytes]:
        waiting = {tool.id for id_, tool in self._askers.items() if id_ in self.questions}
        if not waiting or self.end is not None or self.open or self._writing:
            return []
        if any(is_busy(tool) and tool.id not in waiting for tool in self.tools):
            return []  # a client posts when each call of the step has its end or its answer
        self.left = True
        self.close_all()
        self.say("finish-step")
        self.say("finish", messageMetadata={"seq": self._seq}, finishReason="tool-calls")
        self._sent.append(DONE)
        return self.sent()

    def send(self, payload: Mapping[str, Any]) -> None:
        super().send(payload)
        if b'"__proto__"' in self._sent[-1] or b'"constructor"' in self._sent[-1]:
            self._sent[-1] = to_json(_permitted(json.loads(self._sent[-1])))

    # --- the message and its steps ----------------------------------------------------------------

    def run_began(self) -> None:
        self._say_begun()

    def _say_begun(self) -> None:
        facts = given(runId=self.run_id, program=self._program, createdAt=self.created * 1000)
        message_id = self.options.message_id or self.run_id or "run"
        self.say("start", messageId=message_id, messageMetadata=facts)
        self.say("start-step")

    def on_lm_start(self, event: ev.LMStart) -> None:
        self._model = event.model

    def _take_turn(self, call: str | None) -> None:
        """A call is about to show something: in a step of its own, unless another is in the middle."""
        if call == self._turn:
            return
        if self._turn is None:
            self._turn = call
        elif not (self.open or self._writing or any(is_busy(tool) for tool in self.tools)):
            self._turn = call
            self._next_step()

    def _next_step(self) -> None:
        self.say("finish-step")
        self.say("start-step")
        self._step.clear()

    def on_field_start(self, event: ev.FieldStart) -> None:
        self._take_turn(event.call_id)
        self._writing.add(key_of(event, event.field))

    def on_field_end(self, event: ev.FieldEnd) -> None:
        super().on_field_end(event)
        self._writing.discard(key_of(event, event.field))

    def on_lm_superseded(self, event: ev.LMSuperseded) -> None:
        attempt = (event.call_id, event.attempt)
        self._writing = {key for key in self._writing if key[:2] != attempt}
        super().on_lm_superseded(event)

    def run_ended(self, end: ev.Totals) -> None:
        if self._ends_with_a_tool:
            self._next_step()
            if not isinstance(end, ev.RunEnd):
                self._say_facts(end)  # which has the client take the new step into its message
        if isinstance(end, ev.RunError):
            self.say("error", errorText=end.message or end.error_type)
        elif isinstance(end, ev.RunCancelled):
            self.say("abort", **self.abort_keys)
        else:
            facts = self._facts(end)
            reason = {} if self.version is None else {"finishReason": facts["finishReason"]}
            self.say("finish-step")
            self.say("finish", messageMetadata=facts, **reason)
        self._sent.append(DONE)

    @property
    def _ends_with_a_tool(self) -> bool:
        """Before 5.0.86 a page that sends automatically looks for tools in the last step, whoever has
        run them: for these clients the last step must have none.
        """
        parts = self._step.values()
        return self.version is None and any(isinstance(part, ToolPart) for part in parts)

    def on_run_error(self, event: ev.Totals) -> None:
        if not self._ends_with_a_tool:
            self._say_facts(event)
        super().on_run_end(event)

    def _say_facts(self, end: ev.Totals) -> None:
        self.say("message-metadata", messageMetadata=self._facts(end))

    on_run_cancelled = on_run_error

    def _facts(self, end: ev.Totals) -> dict[str, Any]:
        """The message's metadata at the run's end."""
        reason = FINISH_REASONS.get(self.finish_reason or "", "stop")
        return given(
            model=self._model,
            usage=usage_of(end),
            cost=end.cost,
            duration=end.duration,
            timeToFirstToken=end.time_to_first_token,
            finishReason={ev.RunEnd: reason, ev.RunError: "error"}.get(type(end)),
        )

    # --- text -------------------------------------------------------------------------------------

    def part_opened(self, part: TextPart) -> None:
        self._take_turn(part.key[0])
        self._step[part.id] = part
        self._open_part(part)

    def _open_part(self, part: TextPart, offset: int = 0) -> None:
        # The client keeps ``providerMetadata`` with the part, and no id with text.
        named = {"part": part.id, "field": part.field, "offset": offset}
        self.say(f"{_kind(part)}-start", id=part.id, providerMetadata={"streamll": named})

    def part_grown(self, part: TextPart, text: str, missing: bool) -> None:
        self.say(f"{_kind(part)}-delta", id=part.id, delta=text)

    def part_closed(self, part: TextPart) -> None:
        self.say(f"{_kind(part)}-end", id=part.id)

    def parts_withdrawn(self, gone: Sequence[Part], reason: str) -> None:
        parts = {"parts": [each.id for each in gone], "reason": reason}
        self._send_data("superseded", parts, gone[0].id)
        self._step[f"superseded:{gone[0].id}"] = self._sent[-1]

    def part_corrected(self, part: TextPart, text: str, value: Any) -> None:
        right = {"part": part.id, "field": part.field, "text": text, "value": value}
        self._send_data("corrected", right, part.id)
        self._step[f"corrected:{part.id}"] = self._sent[-1]

    # --- tools ------------------------------------------------------------------------------------

    def on_tool_call_delta(self, event: ev.ToolCallDelta) -> None:
        self._take_turn(event.call_id)
        super().on_tool_call_delta(event)

    def tool_opened(self, tool: ToolPart) -> None:
        self._step[tool.id] = tool
        self._say_tool("tool-input-start", tool, toolName=tool.name)

    def tool_input_grown(self, tool: ToolPart, text: str) -> None:
        self.say("tool-input-delta", toolCallId=tool.id, inputTextDelta=text)

    def tool_ready(self, tool: ToolPart) -> None:
        try:
            arguments = json.loads(tool.text or "{}")
        except ValueError:
            arguments = {"text": tool.text}
        self._say_tool("tool-input-available", tool, toolName=tool.name, input=arguments)

    def tool_again(self, tool: ToolPart) -> None:
        super().tool_again(tool)
        for question_id, asker in self._askers.items():
            if asker is tool:
                self._say_asked(question_id)

    def asked(self, question: ev.Question, tool: ToolPart | None) -> None:
        question_id = question.question_id
        if self.approves and self.options.interrupts and question.tool and tool is not None:
            self._askers[question_id] = tool
            self._say_asked(question_id)
        else:
            self._told[question_id] = shown(question)
            self._send_question(question_id, state="open")

    def _say_asked(self, question_id: str) -> None:
        approval = public_id(self.run_id, question_id)
        call = self._askers[question_id].id
        self.say("tool-approval-request", approvalId=approval, toolCallId=call)

    def answered(self, answer: ev.Answer) -> None:
        question_id = answer.question_id
        if question_id in self._told:
            by = given(by=answer.by)
            self._send_question(question_id, state=answer.outcome, value=answer.value, **by)
        elif (tool := self._askers.pop(question_id, None)) is not None:
            value = answer.value
            if isinstance(value, Mapping) and not value.get("allow"):
                self._denied.add(tool.id)

    def _send_question(self, question_id: str, **state: Any) -> None:
        self._send_data("question", {**self._told[question_id], **state}, question_id)
        self._step[question_id] = self._sent[-1]

    def tool_done(self, tool: ToolPart) -> None:
        if tool.id in self._denied and not tool.failed:
            self.say("tool-output-denied", toolCallId=tool.id)
        elif tool.failed:
            self._say_tool("tool-output-error", tool, errorText=tool.result)
        else:
            self._say_tool("tool-output-available", tool, output=tool.result)

    def _say_tool(self, kind: str, tool: ToolPart, **keys: Any) -> None:
        # Before 5.0.86 a dynamic tool's part does not keep ``providerExecuted``.
        dynamic = {} if self.version is None else {"dynamic": True}
        self.say(kind, toolCallId=tool.id, **keys, providerExecuted=True, **dynamic)

    # --- values -----------------------------------------------------------------------------------

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

    def _send_value(self, part: ValuePart, value: Any, state: str) -> None:
        name = f"field-{part.field}" if part.field in RESERVED else part.field
        data = {"field": part.field, "predictor": part.predictor, "value": value, "state": state}
        self._send_data(name, data, part.id)
        if part.id not in self._placed:
            self._placed.add(part.id)
            self._step[part.id] = part

    # --- the rest ---------------------------------------------------------------------------------

    def cited(self, source_id: str, source: ev.Citation) -> None:
        quoted = {"providerMetadata": {"streamll": {"text": source.text}}} if source.text else {}
        if source.title is None and source.url is None:
            self._send_data("citation", {"text": source.text, "title": None}, source_id)
        elif has_scheme(source.url, LINKS):
            title = given(title=source.title)
            self.say("source-url", sourceId=source_id, url=source.url, **title, **quoted)
        else:
            document = {"mediaType": "text/plain", "title": source.title or source.url or ""}
            self.say("source-document", sourceId=source_id, **document, **quoted)
        self._step[source_id] = self._sent[-1]

    def refused(self, refusal_id: str, refusal: ev.Refusal) -> None:
        self._send_data("refusal", {"text": refusal.text}, refusal_id)
        self._step[refusal_id] = self._sent[-1]

    def on_reply_part(self, event: ev.ReplyPart) -> None:
        if event.url is None or not has_scheme(event.url, FILES):
            super().on_reply_part(event)
            return
        kind = event.media_type or mimetypes.guess_type(event.url)[0]
        kind = kind or MEDIA_TYPES.get(event.kind, "application/octet-stream")
        self.say("file", url=event.url, mediaType=kind)
        self._step[self._next_id()] = self._sent[-1]

    def noted(self, name: str, value: Any, *, transient: bool = False) -> None:
        # An id makes it once in the message, however often a client resumes.
        data_id = None if transient or self._seq is None else f"{self.run_id}:{self._seq}"
        self._send_data(name, value, data_id, transient=transient)
        if data_id is not None:
            self._step[data_id] = self._sent[-1]

    def _send_data(
        self, name: str, data: Any, data_id: str | None = None, *, transient: bool = False
    ) -> None:
        slug = re.sub(r"[^A-Za-z0-9_.-]+", "-", name) or "event"
        self.say(f"data-{slug}", data=data, **given(id=data_id, transient=transient or None))


class Vercel5Format(VercelFormat):
    name: ClassVar[str] = "vercel-5"
    version: ClassVar[int | None] = 5


class Vercel6Format(VercelFormat):
    name: ClassVar[str] = "vercel-6"
    version: ClassVar[int | None] = 6
    approves: ClassVar[bool] = True


class Vercel7Format(VercelFormat):
    """Takes out of the message what does not count, where it is in the step that the client is in."""

    name: ClassVar[str] = "vercel-7"
    version: ClassVar[int | None] = 7
    approves: ClassVar[bool] = True
    abort_keys: ClassVar[Mapping[str, str]] = MappingProxyType({"reason": "the run was cancelled"})

    def __init__(self, options: RenderOptions) -> None:
        super().__init__(options)
        self._gone: set[str] = set()  # values of the attempt that is being superseded

    def on_lm_superseded(self, event: ev.LMSuperseded) -> None:
        super().on_lm_superseded(event)
        if self._gone:  # values alone
            self._reset_step(())

    def value_withdrawn(self, part: ValuePart) -> None:
        if part.id in self._step:
            self._gone.add(part.id)
        else:
            super().value_withdrawn(part)

    def parts_withdrawn(self, gone: Sequence[Part], reason: str) -> None:
        here = [part.id for part in gone if part.id in self._step]
        beyond = [part for part in gone if part.id not in self._step]
        if here:
            self._reset_step(here)
        if beyond:  # behind that, which would empty the step of it
            super().parts_withdrawn(beyond, reason)

    def part_corrected(self, part: TextPart, text: str, value: Any) -> None:
        if part.id in self._step:
            self._reset_step(())
        else:
            super().part_corrected(part, text, value)

    def _reset_step(self, gone: Sequence[str]) -> None:
        """Empty the step, and say again what stays in it."""
        step, withdrawn, self._step, self._gone = self._step, {*gone, *self._gone}, {}, set()
        self._placed -= step.keys()
        self.say("reset-step")
        for name, part in step.items():
            if name not in withdrawn:
                self._say_again(name, part)

    def _say_again(self, name: str, part: TextPart | ToolPart | ValuePart | bytes) -> None:
        self._step[name] = part
        if isinstance(part, bytes):
            self._sent.append(part)
        elif isinstance(part, ValuePart):
            self._send_value(part, part.value, part.state())
        elif isinstance(part, ToolPart):
            self.tool_again(part)
            if part.done:
                self.tool_done(part)
        else:
            self._open_part(part)
            if part.pieces:
                self.part_grown(part, part.text, missing=False)
            if self.open.get(part.key) is not part:
                self.part_closed(part)


VERCEL_FORMATS = (VercelFormat, Vercel5Format, Vercel6Format, Vercel7Format)


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


def usage_of(end: ev.Totals) -> dict[str, Any]:
    """``LanguageModelUsage`` in the words of all versions of the package; without what is not known."""
    asked, said, read = end.prompt_tokens, end.completion_tokens, end.cache_read_tokens
    cache = given(cacheReadTokens=read, cacheWriteTokens=end.cache_write_tokens)
    thought = given(reasoningTokens=end.reasoning_tokens)
    return given(
        inputTokens=asked,
        outputTokens=said,
        totalTokens=None if asked is None or said is None else asked + said,
        cachedInputTokens=read,
        inputTokenDetails=cache or None,
        outputTokenDetails=thought or None,
        **thought,
    )


def is_busy(tool: ToolPart) -> bool:
    """Whether more is to be said of a tool call, which is in the step in which it was opened."""
    return not tool.ready or (tool.taken and not tool.done)


def utf16_length(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def has_scheme(url: str | None, schemes: frozenset[str]) -> bool:
    try:
        return url is not None and urlsplit(url).scheme in schemes
    except ValueError:
        return False
