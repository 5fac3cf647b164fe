"""A run as a tree that can be drawn: events go in, nothing comes out.

A ``StepNode`` is a run, module, tool, trace, evaluation or optimizer; its items are steps, texts (fields, thinking) and
notes, in the order in which they came. ``drawing`` reads the tree. Nothing here knows widths,
colours or files, and the clock is passed in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from streamll.core import events as ev
from streamll.core.run_view import CANCELLED, FAILED, RUNNING, RunView
from streamll.core.visitor import EventVisitor
from streamll.terminal import text as tx
from streamll.terminal import words
from streamll.terminal.results import MAX_ROWS, ResultTable
from streamll.terminal.text import WrappedText
from streamll.terminal.values import DrawnValue, is_structured


@dataclass(slots=True, eq=False)
class TextNode:
    """A text under a step: an output field, thinking, or a tool call the model writes."""

    label: str
    style: str
    attempt: int = 0
    content: WrappedText | DrawnValue | ResultTable = field(default_factory=WrappedText)
    is_open: bool = True
    remark: str = ""


@dataclass(slots=True, eq=False)
class NoteNode:
    """One line under a step: a status, a retry, a custom event."""

    style: str
    text: str


@dataclass(slots=True, eq=False)
class StepNode:
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
    items: list[StepNode | TextNode | NoteNode] = field(default_factory=list)
    texts: dict[tuple[Any, ...], TextNode] = field(default_factory=dict)
    parent: StepNode | None = None
    kept_back: Counter[tuple[str, str]] = field(default_factory=Counter)  # by action and rule
    progress: tuple[int, int] | None = None  # how many of how many are done

    @property
    def chain(self) -> list[StepNode]:
        """The step and the single children that are shown as part of it."""
        chain = [self]
        while len(items := chain[-1].items) == 1 and isinstance(items[0], StepNode):
            if not items[0].inline:
                break
            chain.append(items[0])
        return chain

    def note(self, style: str, text: str) -> None:
        self.items.append(NoteNode(style, text))

    def close_texts(self) -> None:
        for text in self.texts.values():
            text.is_open = False

    def finish(self, state: str, duration: float | None, error: str = "") -> None:
        self.state, self.duration, self.error = state, duration, error
        self.waiting = ""
        self.close_texts()


def _note(style: str, text: Callable[[Any], str]) -> Callable[[RunTree, ev.Event], None]:
    """A method that adds a note to the step of the event."""
    return lambda run, event: run.step_of(event).note(style, text(event))


class RunTree(EventVisitor):
    """One run as a tree.

    A sink of an inner module never sees the start and end of the run itself: then the first
    module it sees takes the place of the run.
    """

    def __init__(self, run_id: str | None, now: float) -> None:
        self.run_id = run_id
        self.root = StepNode("run", "run", now)
        self.view = RunView(keep_text=False)
        self.closing: list[str] = []
        self.ended = False
        self._steps: dict[str | None, StepNode] = {}  # by call or trace id
        self._now = now

    @property
    def _started(self) -> bool:
        return self.view.run_id is not None

    def apply(self, event: ev.Event, now: float) -> None:
        self._now = now
        self.view.feed(event)
        self.visit(event)

    def interrupt(self, now: float) -> None:
        """The run's end will never come."""
        self._now = now
        self._end(CANCELLED, ev.Totals(duration=now - self.root.started))
        self.closing[0] = f"left after {tx.seconds(now - self.root.started)}"

    def is_adrift(self, now: float, idle: float) -> bool:
        """Joined in the middle, nothing under way, and no event for ``idle`` seconds."""
        if self._started or now - self._now < idle:
            return False
        return not any(step.state == RUNNING for step in self._steps.values())

    def _home(self, *call_ids: str | None) -> StepNode:
        """The step of the first of these calls that is known, else the run's."""
        for call_id in call_ids:
            if call_id is not None and (step := self._steps.get(call_id)) is not None:
                return step
        return self.root

    def step_of(self, event: ev.Event) -> StepNode:
        """The step an event belongs to: its call's, else its parent call's, else the run's."""
        return self._home(event.call_id, event.parent_call_id)

    def _add(self, kind: str, name: str, key: str | None, parent: StepNode) -> StepNode:
        step = StepNode(kind, tx.one_line(name, 80), self._now, parent=parent)
        parent.items.append(step)
        if key is not None:
            self._steps[key] = step
        return step

    def on_run_start(self, event: ev.RunStart) -> None:
        self.root.label = tx.one_line(event.program, 80)
        self.root.started = self._now
        if event.inputs:
            self.root.details.append(tx.arguments(event.inputs))

    def on_run_end(self, event: ev.Totals) -> None:
        self._end(self.view.status, event, words.error(event))

    on_run_error = on_run_cancelled = on_run_end

    def _end(self, state: str, totals: ev.Totals, error: str = "") -> None:
        """End the run, and with it the steps that are still running."""
        self.ended = True
        for step in self._steps.values():
            if step.state == RUNNING and step is not self.root:
                step.finish(FAILED if state == FAILED else CANCELLED, self._now - step.started)
        self.root.finish(state, totals.duration, error)
        self.closing = words.closing(state, totals, self.view)

    def on_module_start(self, event: ev.ModuleStart) -> None:
        is_outermost = event.parent_call_id is None or not self._started
        if is_outermost and self.root not in self._steps.values():
            self._steps[event.call_id] = self.root  # its line also represents the outermost call
            if not self._started:
                self.root.label = tx.one_line(event.name, 80)
            return
        parent = self._home(event.parent_call_id)
        label = words.step_name(event.name, event.path)
        step = self._add("module", label, event.call_id, parent)
        step.inline = step.label == "predict"
        if event.turn and not self.view.is_one_of_many(event):
            step.details.append(f"turn {event.turn + 1}")
            peers = (item for item in parent.items if isinstance(item, StepNode))
            first = next(each for each in peers if each.label == step.label)
            if not any(detail.startswith("turn ") for detail in first.details):
                first.details.insert(0, "turn 1")  # which is not said of a single one
        if event.inputs:
            step.details.append(tx.arguments(event.inputs))

    def on_module_end(self, event: Any) -> None:
        """The end of the run's own call is the run's to show, unless we joined in the middle."""
        step, error = self._steps.get(event.call_id), words.error(event)
        state = words.outcome(event)
        if step is self.root and not self._started:
            self._end(state, ev.Totals(duration=event.duration, **self.view.used()), error)
        elif step is not None and step is not self.root:
            step.finish(state, event.duration, error)
            self._drop_one_of_many(event, step)

    def _drop_one_of_many(self, event: ev.Event, step: StepNode) -> None:
        """What an evaluation or optimizer calls is shown while it runs, and for its text."""
        has_more = any(not isinstance(item, NoteNode) for item in step.items)
        if self.view.is_one_of_many(event) and not has_more and step.parent is not None:
            step.parent.items.remove(step)
            self._steps = {key: other for key, other in self._steps.items() if other is not step}

    on_module_error = on_tool_error = on_module_end

    def on_tool_start(self, event: ev.ToolStart) -> None:
        step = self._add("tool", event.name, event.call_id, self._home(event.parent_call_id))
        step.arguments = words.arguments(event)

    def on_tool_end(self, event: ev.ToolEnd) -> None:
        self.on_module_end(event)
        if event.result is not None and (step := self._steps.get(event.call_id)) is not None:
            step.note("result", tx.compact(event.result))

    # --- evaluations and optimizers -----------------------------------------------------------------

    def on_evaluate_start(self, event: ev.EvaluateStart) -> None:
        parent = self._home(event.parent_call_id)
        step = self._add("evaluate", f"Evaluate {event.name}", event.call_id, parent)
        step.progress = (0, event.total)

    def on_evaluate_example(self, event: ev.EvaluateExample) -> None:
        step = self._steps.get(event.call_id)
        if step is None or step.progress is None:
            return
        step.progress = (event.done, event.total)
        step.details = [words.percent(event.mean)] if event.mean is not None else []
        if not self.view.is_one_of_many(event):  # of a candidate the score is enough
            label = "examples" if event.total <= MAX_ROWS else "lowest"
            self._table(step, event, label).add_example(event)

    def on_evaluate_end(self, event: ev.EvaluateEnd) -> None:
        if (step := self._steps.get(event.call_id)) is not None:
            step.progress = None
            step.details = words.result(event)
            self.on_module_end(event)

    def on_compile_start(self, event: ev.CompileStart) -> None:
        parent = self._home(event.parent_call_id)
        optimizer = "Compile" if self.root.label == event.optimizer else event.optimizer
        self._add("compile", f"{optimizer} {event.name}", event.call_id, parent)

    def on_compile_candidate(self, event: ev.CompileCandidate) -> None:
        if (step := self._steps.get(event.call_id)) is not None:
            best = f"best {words.percent(event.best)}"
            step.details = [tx.amount(event.index + 1, "candidate"), best]
            self._table(step, event, "candidates").add_candidate(event)

    on_compile_end = on_module_end

    def _table(self, step: StepNode, event: ev.Event, label: str) -> ResultTable:
        """The table of a step's results, above what is under way."""
        key = (event.call_id, "results")
        node = step.texts.get(key)
        if node is None:
            node = TextNode(label, "field", content=ResultTable(), is_open=False)
            step.texts[key] = node
            step.items.insert(0, node)
        assert isinstance(node.content, ResultTable)
        return node.content

    def on_trace_start(self, event: ev.TraceStart) -> None:
        parent = self._home(event.parent_trace_id, event.call_id, event.parent_call_id)
        self._add("trace", event.name, event.trace_id, parent)

    def on_trace_end(self, event: ev.TraceEnd) -> None:
        if (step := self._steps.get(event.trace_id)) is not None:
            step.finish(words.outcome(event), event.duration, words.error(event))
            self._drop_one_of_many(event, step)

    def on_lm_start(self, event: ev.LMStart) -> None:
        model = tx.one_line(event.model, 80)
        if not self.root.model:
            self.root.model = model
        elif model != self.root.model:
            self.step_of(event).model = model

    def on_lm_end(self, event: ev.LMEnd) -> None:
        step = self.step_of(event)
        step.waiting = ""
        step.close_texts()
        if event.cached:
            step.details.append("cached")
        if event.finish_reason == "length":
            step.note("warning", "cut off at the token limit")

    def on_lm_superseded(self, event: ev.LMSuperseded) -> None:
        step = self.step_of(event)
        step.waiting = ""
        for key in [key for key, text in step.texts.items() if text.attempt <= event.attempt]:
            step.items.remove(step.texts.pop(key))
        step.note("retry", words.superseded(event))

    def on_lm_waiting(self, event: ev.LMWaiting) -> None:
        step = self.step_of(event)
        if event.model:  # which answers from here on; it may go on with the text of the last one
            step.model = tx.one_line(event.model, 80)
        else:
            step.waiting = f"waiting {words.waiting(event)}"

    def _text(self, event: ev.Event, name: str, style: str = "field") -> TextNode:
        """The text of this name in this attempt, created when it is first needed."""
        step = self.step_of(event)
        key = (event.call_id, event.attempt, style, name)
        text = step.texts.get(key)
        if text is None:
            step.waiting = ""
            text = step.texts[key] = TextNode(tx.one_line(name, 80), style, event.attempt)
            step.items.append(text)
        return text

    def on_field_start(self, event: ev.FieldStart) -> None:
        self._text(event, event.field)

    def on_token(self, event: ev.TokenEvent) -> None:
        self._text(event, event.field).content.append(event.token)

    def on_field_end(self, event: ev.FieldEnd) -> None:
        self._text(event, event.field).is_open = False

    def on_field_partial(self, event: ev.FieldPartial) -> None:
        """A value with parts is drawn as a table or tree; of other values the text is shown."""
        text = self._text(event, event.field)
        if not isinstance(text.content, DrawnValue):
            if not is_structured(event.value):
                return
            text.content = DrawnValue()
        text.content.feed(event)

    def on_field_corrected(self, event: ev.FieldCorrected) -> None:
        text = self._text(event, event.field)
        text.content.replace(event.text)
        text.is_open = False
        text.remark = "corrected"

    def on_thinking(self, event: ev.Thinking) -> None:
        self._text(event, "thinking", "thinking").content.append(event.text)

    def on_tool_call_delta(self, event: ev.ToolCallDelta) -> None:
        contents = [
            t.content for key, t in self.step_of(event).texts.items() if key[0] == event.call_id
        ]
        if any("tool_calls" in (c.value or ()) for c in contents if isinstance(c, DrawnValue)):
            return  # a typed field shows them already
        text = self._text(event, f"call {event.index + 1}", "call")
        text.content.append(f"{event.name} {event.arguments}" if event.name else event.arguments)

    def on_refusal(self, event: ev.Refusal) -> None:
        self._text(event, "refusal", "warning").content.append(event.text)

    def on_guarded(self, event: ev.Guarded) -> None:
        self.step_of(event).kept_back[event.outcome, event.name] += 1

    on_reply_part = _note("citation", words.part)
    on_citation = _note("citation", words.citation)
    on_question = _note("question", words.question)
    on_answer = _note("result", words.answer)
    on_status = _note("status", lambda event: tx.one_line(event.message))

    def on_custom(self, event: ev.StreamllEvent) -> None:
        trace_id = words.own_data(event).get("trace_id")
        step = self._home(trace_id, event.call_id, event.parent_call_id)
        step.note("custom", words.custom(event))

    def on_stream_gap(self, event: ev.StreamGap) -> None:
        self.root.note("warning", words.gap(event))
