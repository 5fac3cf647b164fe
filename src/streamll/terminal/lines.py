"""The plain view: one line per event, for pipes, logs and simple terminals.

``[TOKEN] answer: "Machine"``: the kind in brackets, then the facts; a token is quoted as a JSON
string. If several runs, or several model calls of a run, are under way at once, the line ends
with the run or predictor it belongs to.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from streamll.core import events as ev
from streamll.core.run_view import CANCELLED, ENDED, RunView
from streamll.core.visitor import EventVisitor
from streamll.terminal import text as tx
from streamll.terminal import words
from streamll.terminal.drawing import ASCII, MAX_WIDTH, Glyphs, Line
from streamll.terminal.output import Output

LINE_DELAY_S = 0.0005
"""How long our lines wait. ``print`` writes a line in pieces, and without the delay ours would
often land between the pieces of a tool that prints at the same time."""


@dataclass(eq=False)
class LineRun:
    """What must be known of a run to write its next line."""

    number: int
    first_call: str | None = None  # its end is the end, if the run's own never comes
    is_beside_others: bool = False
    view: RunView = field(default_factory=lambda: RunView(keep_text=False, keep_values=True))


def _line(label: str, text: Callable[[Any], str]) -> Callable[..., str]:
    """A method for a kind whose line needs nothing but the event."""
    return lambda view, event, run: f"[{label}] {text(event)}"


class LineView(EventVisitor):
    """Events in, lines out."""

    by_key = False  # the terminal shows what is typed

    def __init__(self, output: Output) -> None:
        self._output = output
        self._runs: dict[str, LineRun] = {}
        self._prompt = ""
        self._lock = threading.Lock()  # a prompt comes from a thread of its own

    def show(self, events: Iterable[ev.Event], source: int = 0) -> bool:
        lines = [f"{line}\n" for event in events if (line := self.line(event)) is not None]
        if lines:
            time.sleep(LINE_DELAY_S)
            with self._lock:
                self._output.write(f"{self._new_row()}{''.join(lines)}{self._prompt}")
        return True

    def prompt(self, lines: Callable[[int, Glyphs], list[Line]] | None) -> None:
        """Write a prompt, or leave it."""
        drawn = [] if lines is None else lines(MAX_WIDTH, ASCII)
        texts = ["".join(text for _, text in line) for line in drawn]
        with self._lock:
            before, self._prompt = self._new_row(), "\n".join(texts)
            self._output.write(f"{before}{self._prompt}")

    def entered(self) -> None:
        with self._lock:
            self._prompt = ""

    def _new_row(self) -> str:
        """What ends the row of a prompt: what is typed there is not ours."""
        return "\n" if self._prompt else ""

    def close(self, source: int = 0) -> None:
        """Nothing is held back, so there is nothing to finish."""

    @property
    def is_idle(self) -> bool:
        return not self._runs

    def line(self, event: ev.Event) -> str | None:
        """The event's line, or ``None`` if it has none."""
        if type(event) not in self.handlers:
            return None
        run = self._run(event)
        run.view.feed(event)
        written: str | None = self.visit(event, run)
        if _ends(event, run):
            self._runs.pop(event.run_id or "", None)
        return None if written is None else written + _whose(event, run)

    def _run(self, event: ev.Event) -> LineRun:
        run_id = event.run_id
        if run_id is None:
            return LineRun(0)
        run = self._runs.get(run_id)
        if run is None:
            number = max((other.number for other in self._runs.values()), default=0) + 1
            run = self._runs[run_id] = LineRun(number, event.call_id)
            for other in self._runs.values():
                other.is_beside_others |= len(self._runs) > 1
        return run

    on_run_start = _line("RUN", lambda e: f"{tx.one_line(e.program)} started{_inputs(e)}")

    def on_run_end(self, event: ev.Totals, run: LineRun) -> str:
        parts = [*words.closing(run.view.status, event, run.view), words.error(event)]
        return f"[RUN] {' · '.join(filter(None, parts))}"

    on_run_error = on_run_cancelled = on_run_end

    def on_module_start(self, event: ev.ModuleStart, run: LineRun) -> str | None:
        turn = f" · turn {event.turn + 1}" if event.turn else ""
        name = _module_name(event, run)
        return name and f"[MODULE] {name}{turn}{_inputs(event)}"

    def on_module_end(self, event: ev.ModuleEnd | ev.ModuleError, run: LineRun) -> str | None:
        name = _module_name(event, run)
        return name and f"[MODULE] {name} {_outcome(event)}"

    on_module_error = on_module_end

    def on_tool_start(self, event: ev.ToolStart, run: LineRun) -> str | None:
        if run.view.is_one_of_many(event):
            return None
        return f"{_tool(event)}({words.arguments(event) or '…'})"

    def on_tool_end(self, event: ev.ToolEnd | ev.ToolError, run: LineRun) -> str | None:
        if run.view.is_one_of_many(event):
            return None
        result = event.result if isinstance(event, ev.ToolEnd) else None
        written = f" → {tx.compact(result)}" if result is not None else ""
        return f"{_tool(event)} {_outcome(event)}{written}"

    on_tool_error = on_tool_end

    on_evaluate_start = _line("EVALUATE", words.evaluation)
    on_evaluate_example = _line("EXAMPLE", words.example)

    def on_evaluate_end(self, event: ev.EvaluateEnd, run: LineRun) -> str:
        return f"[EVALUATE] {tx.one_line(event.name)} {_outcome(event, words.result(event))}"

    on_compile_start = _line("COMPILE", words.compilation)
    on_compile_candidate = _line("CANDIDATE", words.candidate)

    def on_compile_end(self, event: ev.CompileEnd, run: LineRun) -> str:
        return f"[COMPILE] {tx.one_line(event.name)} {_outcome(event, words.compiled(event))}"

    on_trace_start = _line("TRACE", lambda e: tx.one_line(e.name))

    def on_trace_end(self, event: ev.TraceEnd, run: LineRun) -> str:
        hows = {ENDED: "done", CANCELLED: "cancelled"}
        how = hows.get(words.outcome(event), f"failed with {tx.one_line(event.error_type or '')}")
        return f"[TRACE] {tx.one_line(event.name)} {how} in {tx.seconds(event.duration)}"

    def on_lm_start(self, event: ev.LMStart, run: LineRun) -> None:
        """No line: an open call only decides whether lines end with a predictor."""

    def on_lm_end(self, event: ev.LMEnd, run: LineRun) -> str | None:
        if run.view.is_one_of_many(event):
            return None
        if words.outcome(event) == CANCELLED:
            outcome = "cancelled"
        elif event.error_type:
            outcome = f"failed: {tx.one_line(event.error_type)}"
        elif event.finish_reason == "length":
            outcome = "was cut off at the token limit"
        else:
            outcome = "answered from the cache" if event.cached else ""
        return f"[LM] {tx.one_line(event.model)} {outcome}" if outcome else None

    def on_lm_superseded(self, event: ev.LMSuperseded, run: LineRun) -> str:
        return f"[RETRY] {words.superseded(event)}; the text so far does not count"

    on_lm_waiting = _line("WAITING", words.waiting)

    def on_token(self, event: ev.TokenEvent, run: LineRun) -> str | None:
        if not event.token:  # the closing token only carries the finish reason
            return None
        return f"[TOKEN] {tx.one_line(event.field)}: {tx.quote(event.token)}"

    on_field_corrected = _line("CORRECTED", lambda e: f"{tx.one_line(e.field)}: {tx.quote(e.text)}")

    def on_field_partial(self, event: ev.FieldPartial, run: LineRun) -> str | None:
        """Of a list, each item once, when it is complete; other values are shown as tokens."""
        pointer = tuple(event.pointer)
        field = run.view.field(event, event.field)
        if len(pointer) != 1 or event.state != "complete" or field is None or field.value is None:
            return None
        items, index = field.value.value, pointer[0]
        if field.value.is_broken or not isinstance(items, list) or not isinstance(index, int):
            return None
        return f"[ITEM] {tx.one_line(event.field)}[{index}]: {tx.compact(items[index])}"

    def on_tool_call_delta(self, event: ev.ToolCallDelta, run: LineRun) -> str:
        name = f" {tx.one_line(event.name)}" if event.name else ""
        written = f": {tx.quote(event.arguments)}" if event.arguments else ""
        return f"[CALL] {event.index + 1}{name}{written}"

    on_refusal = _line("REFUSAL", lambda e: tx.quote(e.text))
    on_reply_part = _line("PART", words.part)
    on_thinking = _line("THINKING", lambda e: tx.quote(e.text))
    on_citation = _line("CITATION", words.citation)
    on_guarded = _line("GUARD", words.guarded)
    on_question = _line("QUESTION", words.question)
    on_answer = _line("ANSWER", words.answer)
    on_status = _line("STATUS", lambda e: tx.one_line(e.message))
    on_custom = _line("EVENT", words.custom)
    on_stream_gap = _line("GAP", words.gap)


def _inputs(event: ev.RunStart | ev.ModuleStart) -> str:
    return f" {tx.arguments(event.inputs)}" if event.inputs else ""


def _module_name(event: ev.ModuleStart | ev.ModuleEnd | ev.ModuleError, run: LineRun) -> str | None:
    """The name of a module that gets a line: not the run's own, nor a predictor inside another.

    Nor one that an evaluation or optimizer calls.
    """
    name = tx.one_line(event.name)
    if (
        event.parent_call_id is None
        or run.view.is_one_of_many(event)
        or name == "predict"
        or name.endswith(".predict")
    ):
        return None
    return name


def _ends(event: ev.Event, run: LineRun) -> bool:
    """Whether the run is over; a sink of an inner module never sees the end of the run itself."""
    if event.closes == "module" and run.first_call is not None:
        return event.call_id == run.first_call
    return run.view.end is not None


def _tool(event: ev.ToolStart | ev.ToolEnd | ev.ToolError) -> str:
    kind = "CODE" if event.kind == "interpreter" else "TOOL"
    return f"[{kind}] {tx.one_line(event.name)}"


def _outcome(event: Any, more: Iterable[str] = ()) -> str:
    ending = f"{words.ENDINGS[words.outcome(event)]} {tx.seconds(event.duration)}"
    return " · ".join((": ".join(filter(None, (ending, words.error(event)))), *more))


def _whose(event: ev.Event, run: LineRun) -> str:
    lm_calls = sum(what == "lm" for what, _ in run.view.open)
    predictor = tx.one_line(event.predictor) if lm_calls > 1 and event.predictor else ""
    number = f"run {run.number}" if run.is_beside_others else ""
    return "".join(f" · {part}" for part in (predictor, number) if part)
