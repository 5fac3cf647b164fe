"""Events of OpenAI's Responses API: typed items, numbered events, a response that can be resumed.

* Every field of an attempt, every thought, refusal and tool call is an output item of its own; see
  ``output_items`` for which.
* The ``response`` of the last event is what counts. Items of a superseded attempt are
  ``incomplete`` and empty there, and a corrected field has its right text; both may have been told
  otherwise before, since text that was sent cannot be taken back.
* A run ends by ``response.completed``, by ``response.incomplete`` if the model had to stop or the
  run was cancelled (its ``status`` says which), or by ``response.failed``.
* Numbers depend on the log alone, so that every process gives the same event the same one. What is
  in no log (a reader that is sent away, a log that is away) is an ``error`` with the number of the
  event before it: who resumes there misses nothing.
* To resume, feed the run from its beginning: events up to ``starting_after`` are not sent again.

Statuses, custom events and reply parts have no place on this wire. Usage is null where tokens are
not known; of details it has, which must be numbers, those that are not known are 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from streamll.core import events as ev
from streamll.core.events import Event
from streamll.core.usage import COUNTS
from streamll.serve.formats.base import RenderOptions
from streamll.serve.formats.message import THINKING, WRITTEN, ChatFormat, key_of
from streamll.serve.formats.openai import obfuscation, url_citation
from streamll.serve.formats.output_items import REFUSAL, OutputItem, arguments_of
from streamll.serve.formats.parts import Part, TextPart, ToolPart

INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Finish reasons of a model that did not get to say all, in this API's words."""
FIXED = {
    "object": "response",
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "store": True,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": None,
    "truncation": "disabled",
}
"""What a response says of its request, unless ``RenderOptions.echo`` knows better."""


class ResponsesFormat(ChatFormat):
    name: ClassVar[str] = "responses"
    ids: ClassVar[bool] = False
    named_frames: ClassVar[bool] = True
    values_are_text: ClassVar[bool] = True

    def __init__(self, options: RenderOptions) -> None:
        super().__init__(options)
        self._number = -1  # of the last event
        self._items: dict[str, OutputItem] = {}  # by the id of their part
        self._closes_as = "completed"
        self._withdrawing: tuple[str | None, int] | None = None  # the attempt that is withdrawn
        self._uncited: list[ev.Citation] = []  # sources that came before any text
        self._lost = False
        self._sums_up = bool((options.echo.get("reasoning") or {}).get("summary"))

    def say(self, kind: str, **keys: Any) -> None:
        self._number += 1
        if self._number > self.options.starting_after:
            super().say(kind, sequence_number=self._number, **keys)

    # --- the response -----------------------------------------------------------------------------

    @property
    def status(self) -> str:
        if self.end is None:
            return "in_progress"
        if isinstance(self.end, ev.RunCancelled):
            return "cancelled"
        if isinstance(self.end, ev.RunError) or self._lost:
            return "failed"
        return "incomplete" if self.finish_reason in INCOMPLETE else "completed"

    def response(self) -> dict[str, Any]:
        """The response as far as it has come."""
        end, status = self.end, self.status
        reason = INCOMPLETE.get(self.finish_reason or "") if status == "incomplete" else None
        error = None
        if isinstance(end, ev.RunError):
            error = _error(end.message or end.error_type, end.error_type)
        elif status == "failed":
            error = _error("text was lost on the way", "gap")
        return {
            "id": f"resp_{self.run_id}",
            "created_at": self.created,
            "completed_at": int(end.timestamp) if end and status == "completed" else None,
            "status": status,
            "error": error,
            "incomplete_details": {"reason": reason} if reason else None,
            "model": self.options.model,
            "output": [item.as_object() for item in self._items.values()],
            "usage": None if end is None else usage_of(end),
            **FIXED,
            **self.options.echo,
        }

    def other_fields(self) -> dict[str, str]:
        """The text of the other output fields of the call that has replied last, by name."""
        calls = [part.key[0] for part in self.texts if part.reply]
        own = [p for p in self.texts if calls and p.key[0] == calls[-1] and not p.reply]
        return {part.field: part.text for part in own if part.key[2] not in {THINKING, REFUSAL}}

    def run_began(self) -> None:
        self.say("response.created", response=self.response())
        self.say("response.in_progress", response=self.response())

    def run_ended(self, end: ev.Totals) -> None:
        if isinstance(end, ev.RunEnd):
            for call, tool in self._tools.items():
                if not (tool.taken or call.endswith(WRITTEN)):
                    self._tell_function_call(tool)
        status = self.status
        kind = "incomplete" if status == "cancelled" else status
        self.say(f"response.{kind}", response=self.response())

    def on_run_end(self, event: ev.Totals) -> None:
        if isinstance(event, ev.RunError) and event.seq is None:  # of this stream, not of the run
            self.end = event
            message = {"message": event.message or event.error_type, "param": None}
            number = {"sequence_number": self._number}
            self.send({"type": "error", **number, "code": event.error_type, **message})
            return
        self._closes_as = "completed" if isinstance(event, ev.RunEnd) else "incomplete"
        super().on_run_end(event)

    on_run_error = on_run_cancelled = on_run_end

    def on_stream_gap(self, event: ev.StreamGap) -> None:
        self._lost = self._lost or event.reason == ev.TRIMMED

    # --- text -------------------------------------------------------------------------------------

    def on_refusal(self, event: ev.Refusal) -> None:
        self._grow(self._part(key_of(event, REFUSAL), event), event.text)

    def part_opened(self, part: TextPart) -> None:
        reply = part.reply or part.key[2] == REFUSAL
        item = self._add("message" if reply else "reasoning", part)
        self._say_part("added", item, item.content(""))
        if self._uncited and item.is_text:
            waiting, self._uncited = self._uncited, []
            for source in waiting:
                self._annotate(item, source)

    def part_grown(self, part: TextPart, text: str, missing: bool) -> None:
        self._lost = self._lost or (missing and part.reply)
        item = self._items[part.id]
        more: dict[str, Any] = {"logprobs": []} if item.is_text else {}
        self._say_delta(f"{item.said_as}.delta", item, text, **item.content_index, **more)

    def _say_part(self, what: str, item: OutputItem, part: dict[str, Any]) -> None:
        kind = "reasoning_summary_part" if item.sums_up else "content_part"
        self.say(f"response.{kind}.{what}", **item.place, **item.content_index, part=part)

    def _say_delta(self, kind: str, item: OutputItem, text: str, **more: Any) -> None:
        if self.options.include_obfuscation:
            more["obfuscation"] = obfuscation(text)
        self.say(f"response.{kind}", **item.place, delta=text, **more)

    def part_closed(self, part: TextPart) -> None:
        item = self._items[part.id]
        item.withdrawn = part.key[:2] == self._withdrawing
        item.status = "incomplete" if item.withdrawn else self._closes_as
        if not item.withdrawn:
            said: dict[str, Any] = {"refusal" if item.is_refusal else "text": item.text}
            if item.is_text:
                said["logprobs"] = []
            self.say(f"response.{item.said_as}.done", **item.place, **item.content_index, **said)
            self._say_part("done", item, item.content())
        self._done(item)

    def on_field_end(self, event: ev.FieldEnd) -> None:
        with_all, self._closes_as = self._closes_as, "completed" if event.complete else "incomplete"
        super().on_field_end(event)
        self._closes_as = with_all

    def on_lm_superseded(self, event: ev.LMSuperseded) -> None:
        self._withdrawing = (event.call_id, event.attempt)
        super().on_lm_superseded(event)
        self._uncited = [each for each in self._uncited if _attempt(each) != self._withdrawing]
        self._withdrawing = None

    def parts_withdrawn(self, gone: Sequence[Part], reason: str) -> None:
        for part in gone:
            if (item := self._items.get(part.id)) is not None:
                item.withdrawn, item.status = True, "incomplete"

    # --- sources ----------------------------------------------------------------------------------

    def cited(self, source_id: str, source: ev.Citation) -> None:
        if source.url is None:
            return
        said = [i for i in self._items.values() if i.is_text and not i.withdrawn]
        own = [item for item in said if _attempt_of(item) == _attempt(source)]
        if own or said:
            self._annotate((own or said)[-1], source)
        else:
            self._uncited.append(source)

    def _annotate(self, item: OutputItem, source: ev.Citation) -> None:
        note = {"type": "url_citation", **url_citation(source, item.text)}
        item.annotations = [*item.annotations, note]
        if item.status == "in_progress":
            place = {**item.place, **item.content_index}
            index = len(item.annotations) - 1
            kind = "response.output_text.annotation.added"
            self.say(kind, **place, annotation_index=index, annotation=note)

    # --- tools ------------------------------------------------------------------------------------

    def on_tool_start(self, event: ev.ToolStart) -> None:
        """Only now it is known who runs it."""
        super().on_tool_start(event)
        tool = self._tools[f"{event.call_id}"]
        item = self._add("mcp_call", tool)
        self.say("response.mcp_call.in_progress", **item.place)
        self._tell_arguments("mcp_call_arguments", item, tool)

    def tool_done(self, tool: ToolPart) -> None:
        item = self._items.get(tool.id)
        if item is not None:
            item.status = "failed" if tool.failed else "completed"
            self.say(f"response.mcp_call.{item.status}", **item.place)
            self._done(item)

    def _tell_function_call(self, tool: ToolPart) -> None:
        item = self._add("function_call", tool)
        self._tell_arguments("function_call_arguments", item, tool, name=tool.name)
        item.status = "completed"
        self._done(item)

    def _tell_arguments(self, kind: str, item: OutputItem, tool: ToolPart, **more: Any) -> None:
        arguments = arguments_of(tool)
        self._say_delta(f"{kind}.delta", item, arguments)
        self.say(f"response.{kind}.done", **item.place, arguments=arguments, **more)

    def _add(self, kind: str, part: TextPart | ToolPart) -> OutputItem:
        item = OutputItem(len(self._items), kind, part, self.options.model)
        item.sums_up = kind == "reasoning" and self._sums_up
        self._items[part.id] = item
        begun = item.as_object(begun=True)
        self.say("response.output_item.added", output_index=item.index, item=begun)
        return item

    def _done(self, item: OutputItem) -> None:
        whole = item.as_object()
        self.say("response.output_item.done", output_index=item.index, item=whole)


def usage_of(totals: ev.Totals) -> dict[str, Any] | None:
    """The usage of a response; ``None`` where a part of it is not known."""
    asked, said, read, written, thought = (getattr(totals, name) for name in COUNTS)
    if asked is None or said is None:
        return None
    return {
        "input_tokens": asked,
        "input_tokens_details": {"cached_tokens": read or 0, "cache_write_tokens": written or 0},
        "output_tokens": said,
        "output_tokens_details": {"reasoning_tokens": thought or 0},
        "total_tokens": asked + said,
    }


def _error(message: str, kind: str) -> Mapping[str, Any]:
    return {"code": "server_error", "message": message, "type": kind, "param": None}


def _attempt(event: Event) -> tuple[str | None, int]:
    return event.call_id, event.attempt


def _attempt_of(item: OutputItem) -> tuple[str | None, int] | None:
    return item.part.key[:2] if isinstance(item.part, TextPart) else None
