"""What a run has said so far, as a tree: events go in, nothing comes out.

A ``Step`` is a run, module, tool or trace; its items are steps, texts (fields, thinking) and
notes, in the order they came. ``layout`` reads the tree. Nothing here knows widths, colours or
files, and the clock is passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from streamll.core import events as ev
from streamll.terminal import text as tx
from streamll.terminal import words
from streamll.terminal.values import GrowingValue, is_structured
from streamll.terminal.wrap import GrowingText

RUNNING, DONE, FAILED, CANCELLED = "running", "done", "failed", "cancelled"

_ENDINGS = {DONE: "done in", FAILED: "failed after", CANCELLED: "cancelled after"}


@dataclass(slots=True, eq=False)
class Text:
    """A text block under a step: an output field, thinking, or a tool call being written."""

    label: str
    style: str
    attempt: int = 0
    content: GrowingText | GrowingValue = field(default_factory=GrowingText)
    is_open: bool = True
    remark: str = ""


@dataclass(slots=True, eq=False)
class Note:
    """One line under a step: a status, a retry, a custom event."""

    style: str
    text: str


@dataclass(slots=True, eq=False)
class Step:
    kind: str
    label: str
    started: float
    state: str = RUNNING
    duration: float | None = None
    details: list[str] = field(default_factory=list)
    arguments: str = ""
    error: str = ""
    waiting: str = ""
    inline: bool = False  # as an only child it is shown as part of its parent
    model: str = ""
    items: list[Step | Text | Note] = field(default_factory=list)
    texts: dict[tuple[Any, ...], Text] = field(default_factory=dict)

    def close_texts(self) -> None:
        for block in self.texts.values():
            block.is_open = False

    def finish(self, state: str, duration: float | None, error: str = "") -> None:
        self.state, self.duration, self.error = state, duration, error
        self.waiting = ""
        self.close_texts()


class RunModel:
    """One run as a tree, whatever order its events come in.

    A sink that was given to an inner module only never sees the run's own start and end: then
    the first module it sees stands for the run.
    """

    def __init__(self, run_id: str | None, now: float) -> None:
        self.run_id = run_id
        self.root = Step("run", "run", now)
        self.meter = words.Meter()
        self.closing: list[str] = []
        self.ended = False
        self._steps: dict[str, Step] = {}
        self._started = False
        self._last_seen = now
        self._root_call: str | None = None

    def apply(self, event: ev.Event, now: float) -> None:
        self._last_seen = now
        handler = self._HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event, now)

    def interrupt(self, now: float) -> None:
        """The run's end will not come any more."""
        self._close_steps(CANCELLED, now)
        self._end_without_totals(CANCELLED, now - self.root.started)
        self.closing[0] = f"left after {tx.seconds(now - self.root.started)}"

    def is_adrift(self, now: float, patience: float) -> bool:
        """Joined midway, nothing under way, and quiet for ``patience`` seconds."""
        if self._started or now - self._last_seen < patience:
            return False
        return not any(step.state == RUNNING for step in self._steps.values())

    # --- where things belong --------------------------------------------------------------------

    def _home(self, identity: ev.Identity) -> Step:
        """The step an event belongs to: its call's, else its parent call's, else the run's."""
        for call_id in (identity.call_id, identity.parent_call_id):
            if call_id is not None and (step := self._steps.get(call_id)) is not None:
                return step
        return self.root

    def _add(self, kind: str, label: str, key: str | None, parent: Step, now: float) -> Step:
        step = Step(kind, label, now)
        parent.items.append(step)
        if key is not None:
            self._steps[key] = step
        return step

    def _find(self, key: str | None) -> Step | None:
        return self._steps.get(key) if key is not None else None

    # --- the run --------------------------------------------------------------------------------

    def _run_start(self, event: ev.RunStart, now: float) -> None:
        self._started = True
        self.root.label = tx.one_line(event.program, 80)
        self.root.started = now
        if event.inputs:
            self.root.details.append(tx.arguments(event.inputs))

    def _run_end(self, event: ev.RunEnd, now: float) -> None:
        self._close(DONE, event, now)

    def _run_error(self, event: ev.RunError, now: float) -> None:
        self._close(FAILED, event, now, tx.failure(event.error_type, event.message))

    def _run_cancelled(self, event: ev.RunCancelled, now: float) -> None:
        self._close(CANCELLED, event, now)

    def _close(self, state: str, event: ev.Totals, now: float, error: str = "") -> None:
        self.ended = True
        self._close_steps(CANCELLED if state != FAILED else FAILED, now)
        self.root.finish(state, event.duration, error)
        self.closing = self._closing(event)

    def _end_without_totals(self, state: str, duration: float, error: str = "") -> None:
        self.ended = True
        self.root.finish(state, duration, error)
        self.closing = self._closing(ev.Totals(duration=duration))

    def _closing(self, totals: ev.Totals) -> list[str]:
        duration, *rest = self.meter.closing(totals)
        return [f"{_ENDINGS[self.root.state]} {duration}", *rest]

    def _close_steps(self, state: str, now: float) -> None:
        for step in (*self._steps.values(), self.root):
            if step.state == RUNNING:
                step.finish(state, now - step.started)

    # --- modules and tools ------------------------------------------------------------------------

    def _module_start(self, event: ev.ModuleStart, now: float) -> None:
        who = event.identity
        is_outermost = who.parent_call_id is None or not self._started
        if is_outermost and self._root_call is None:
            self._root_call = who.call_id  # the run's line speaks for its outermost call
            if who.call_id is not None:
                self._steps[who.call_id] = self.root
            if not self._started:
                self.root.label = tx.one_line(event.name, 80)
            return
        parent = self._home(_outside(who))
        label = words.step_name(event.name, who.path)
        step = self._add("module", label, who.call_id, parent, now)
        step.inline = step.label == "predict"
        if who.turn:
            step.details.append(f"turn {who.turn + 1}")
            _mark_first_turn(parent, step)
        if event.inputs:
            step.details.append(tx.arguments(event.inputs))

    def _module_end(self, event: ev.ModuleEnd, now: float) -> None:
        self._end_call(event.identity.call_id, DONE, event.duration)

    def _module_error(self, event: ev.ModuleError, now: float) -> None:
        error = tx.failure(event.error_type, event.message)
        self._end_call(event.identity.call_id, FAILED, event.duration, error)

    def _end_call(self, call_id: str | None, state: str, duration: float, error: str = "") -> None:
        """The end of the run's own call is the run's to tell, unless we joined it midway."""
        step = self._find(call_id)
        if step is self.root and not self._started:
            self._end_without_totals(state, duration, error)
        elif step is not None and step is not self.root:
            step.finish(state, duration, error)

    def _tool_start(self, event: ev.ToolStart, now: float) -> None:
        who = event.identity
        label = tx.one_line(event.name, 80)
        step = self._add("tool", label, who.call_id, self._home(_outside(who)), now)
        step.arguments = words.arguments(event)

    def _tool_end(self, event: ev.ToolEnd, now: float) -> None:
        call_id = event.identity.call_id
        self._end_call(call_id, DONE, event.duration)
        if event.result is not None and (step := self._find(call_id)) is not None:
            step.items.append(Note("result", tx.compact(event.result)))

    def _tool_error(self, event: ev.ToolError, now: float) -> None:
        error = tx.failure(event.error_type, event.message)
        self._end_call(event.identity.call_id, FAILED, event.duration, error)

    def _trace_start(self, event: ev.TraceStart, now: float) -> None:
        parent = self._find(event.parent_trace_id) or self._home(event.identity)
        self._add("trace", tx.one_line(event.name, 80), event.trace_id, parent, now)

    def _trace_end(self, event: ev.TraceEnd, now: float) -> None:
        step = self._find(event.trace_id)
        if step is not None:
            state = FAILED if event.error_type else DONE
            step.finish(state, event.duration, tx.one_line(event.error_type or ""))

    # --- language models --------------------------------------------------------------------------

    def _lm_start(self, event: ev.LMStart, now: float) -> None:
        model = tx.one_line(event.model, 80)
        if not self.root.model:
            self.root.model = model
        elif model != self.root.model:
            self._home(event.identity).model = model

    def _lm_end(self, event: ev.LMEnd, now: float) -> None:
        step = self._home(event.identity)
        step.waiting = ""
        step.close_texts()
        self.meter.lm_end(event)
        if event.cached:
            step.details.append("cached")
        if event.finish_reason == "length":
            step.items.append(Note("warning", "cut off at the token limit"))

    def _lm_superseded(self, event: ev.LMSuperseded, now: float) -> None:
        step = self._home(event.identity)
        step.waiting = ""
        old = [key for key, block in step.texts.items() if block.attempt <= event.attempt]
        for key in old:
            step.items.remove(step.texts.pop(key))
        step.items.append(Note("retry", words.superseded(event.reason)))

    def _lm_waiting(self, event: ev.LMWaiting, now: float) -> None:
        self._home(event.identity).waiting = f"waiting {words.waiting(event)}"

    # --- what the model says ------------------------------------------------------------------------

    def _block(self, event: ev.Event, name: str, style: str = "field") -> Text:
        """The text block of this name in this attempt, made when it is first asked for."""
        who = event.identity
        step = self._home(who)
        key = (who.call_id, who.attempt, style, name)
        block = step.texts.get(key)
        if block is None:
            step.waiting = ""
            block = step.texts[key] = Text(tx.one_line(name, 80), style, who.attempt)
            step.items.append(block)
        return block

    def _field_start(self, event: ev.FieldStart, now: float) -> None:
        self._block(event, event.field)

    def _token(self, event: ev.TokenEvent, now: float) -> None:
        block = self._block(event, event.field)
        if event.token:
            self.meter.counted += event.count
            block.content.append(event.token)

    def _field_end(self, event: ev.FieldEnd, now: float) -> None:
        self._block(event, event.field).is_open = False

    def _field_partial(self, event: ev.FieldPartial, now: float) -> None:
        """A field with parts in it is drawn as what it is; others are their text."""
        block = self._block(event, event.field)
        if not isinstance(block.content, GrowingValue):
            if not is_structured(event.value):
                return
            block.content = GrowingValue()
        block.content.feed(event)

    def _field_corrected(self, event: ev.FieldCorrected, now: float) -> None:
        block = self._block(event, event.field)
        block.content.replace(event.text)
        block.is_open = False
        block.remark = "corrected"

    def _thinking(self, event: ev.Thinking, now: float) -> None:
        self._block(event, "thinking", "thinking").content.append(event.text)

    def _tool_call(self, event: ev.ToolCallDelta, now: float) -> None:
        if self._is_drawn(event):
            return
        block = self._block(event, f"call {event.index + 1}", "call")
        if event.name:
            block.content.append(f"{event.name} ")
        block.content.append(event.arguments)

    def _is_drawn(self, event: ev.Event) -> bool:
        """Whether a field shows the call's tool calls already."""
        return any(
            key[0] == event.call_id
            and isinstance(block.content, GrowingValue)
            and "tool_calls" in (block.content.value or ())
            for key, block in self._home(event.identity).texts.items()
        )

    def _refusal(self, event: ev.Refusal, now: float) -> None:
        self._block(event, "refusal", "warning").content.append(event.text)

    def _part(self, event: ev.ReplyPart, now: float) -> None:
        self._home(event.identity).items.append(Note("citation", words.part(event)))

    def _citation(self, event: ev.Citation, now: float) -> None:
        self._home(event.identity).items.append(Note("citation", words.citation(event)))

    # --- what the program says ----------------------------------------------------------------------

    def _status(self, event: ev.Status, now: float) -> None:
        self._home(event.identity).items.append(Note("status", tx.one_line(event.message)))

    def _custom(self, event: ev.StreamllEvent, now: float) -> None:
        parent = self._find(words.own_data(event).get("trace_id")) or self._home(event.identity)
        parent.items.append(Note("custom", words.custom(event)))

    def _gap(self, event: ev.StreamGap, now: float) -> None:
        self.root.items.append(Note("warning", words.gap(event)))

    _HANDLERS: ClassVar[dict[type[ev.Event], Callable[[RunModel, Any, float], None]]] = {
        ev.RunStart: _run_start,
        ev.RunEnd: _run_end,
        ev.RunError: _run_error,
        ev.RunCancelled: _run_cancelled,
        ev.ModuleStart: _module_start,
        ev.ModuleEnd: _module_end,
        ev.ModuleError: _module_error,
        ev.ToolStart: _tool_start,
        ev.ToolEnd: _tool_end,
        ev.ToolError: _tool_error,
        ev.TraceStart: _trace_start,
        ev.TraceEnd: _trace_end,
        ev.LMStart: _lm_start,
        ev.LMEnd: _lm_end,
        ev.LMSuperseded: _lm_superseded,
        ev.LMWaiting: _lm_waiting,
        ev.FieldStart: _field_start,
        ev.TokenEvent: _token,
        ev.FieldEnd: _field_end,
        ev.FieldPartial: _field_partial,
        ev.FieldCorrected: _field_corrected,
        ev.Thinking: _thinking,
        ev.ToolCallDelta: _tool_call,
        ev.Citation: _citation,
        ev.Refusal: _refusal,
        ev.ReplyPart: _part,
        ev.Status: _status,
        ev.StreamllEvent: _custom,
        ev.StreamGap: _gap,
    }


def _outside(who: ev.Identity) -> ev.Identity:
    """Where a call begins: at its parent, not at itself."""
    return ev.Identity(run_id=who.run_id, call_id=who.parent_call_id)


def _mark_first_turn(parent: Step, later: Step) -> None:
    """Only when there is a second turn is the first one a turn."""
    for item in parent.items:
        if isinstance(item, Step) and item is not later and item.label == later.label:
            if not any(detail.startswith("turn ") for detail in item.details):
                item.details.insert(0, "turn 1")
            return
