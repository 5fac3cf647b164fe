"""The plain view: one line per event, for pipes, logs and simple terminals.

``[TOKEN] answer: "Machine"``: the kind in brackets, then the facts; a token is quoted as JSON
quotes it. Where several runs, or several model calls of a run, are under way at once, the line
ends with whose it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from streamll.core import events as ev
from streamll.core.partials import Partials
from streamll.terminal import text as tx
from streamll.terminal import words
from streamll.terminal.output import Output

PATIENCE = 0.0005
"""Seconds a line of ours waits. ``print`` writes its line in pieces, and a tool that prints at
once would often find ours between them."""


class PlainRun:
    """What must be remembered of a run to write its next line."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_beside_others = False
        self.meter = words.Meter()
        self.partials = Partials()
        self.calls: set[str | None] = set()
        self.first_call: str | None = None  # its end is the end, if the run's own never comes


class PlainView:
    """Events in, lines out."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._runs: dict[str, PlainRun] = {}

    def show(self, events: Iterable[ev.Event], source: int = 0) -> None:
        lines = [f"{line}\n" for event in events if (line := self.line(event)) is not None]
        if lines:
            time.sleep(PATIENCE)
            self._output.write("".join(lines))

    def close(self, source: int = 0) -> None:
        """Nothing is held back, so there is nothing to finish."""

    @property
    def is_idle(self) -> bool:
        return not self._runs

    def line(self, event: ev.Event) -> str | None:
        """The event's line, or ``None`` if it has none."""
        writer = self._WRITERS.get(type(event))
        if writer is None:
            return None
        run = self._run(event)
        written: str | None = writer(self, event, run)
        if _ends(event, run):
            self._runs.pop(event.identity.run_id or "", None)
        return None if written is None else written + _whose(event, run)

    def _run(self, event: ev.Event) -> PlainRun:
        run_id = event.identity.run_id
        if run_id is None:
            return PlainRun(0)
        run = self._runs.get(run_id)
        if run is None:
            number = max((other.number for other in self._runs.values()), default=0) + 1
            run = self._runs[run_id] = PlainRun(number)
            run.first_call = event.identity.call_id
            if len(self._runs) > 1:
                for other in self._runs.values():
                    other.is_beside_others = True
        return run

    # --- the run ----------------------------------------------------------------------------------

    def _run_start(self, event: ev.RunStart, run: PlainRun) -> str:
        inputs = f" {tx.arguments(event.inputs)}" if event.inputs else ""
        return f"[RUN] {tx.one_line(event.program)} started{inputs}"

    def _run_end(self, event: ev.RunEnd, run: PlainRun) -> str:
        return f"[RUN] done in {' · '.join(run.meter.closing(event))}"

    def _run_error(self, event: ev.RunError, run: PlainRun) -> str:
        duration, *rest = run.meter.closing(event)
        error = tx.failure(event.error_type, event.message)
        return f"[RUN] failed after {' · '.join([duration, *rest])} · {error}"

    def _run_cancelled(self, event: ev.RunCancelled, run: PlainRun) -> str:
        return f"[RUN] cancelled after {' · '.join(run.meter.closing(event))}"

    # --- modules, tools, models ---------------------------------------------------------------------

    def _module_start(self, event: ev.ModuleStart, run: PlainRun) -> str | None:
        if (name := _module_name(event)) is None:
            return None
        turn = f" · turn {event.turn + 1}" if event.turn else ""
        inputs = f" {tx.arguments(event.inputs)}" if event.inputs else ""
        return f"[MODULE] {name}{turn}{inputs}"

    def _module_end(self, event: ev.ModuleEnd, run: PlainRun) -> str | None:
        name = _module_name(event)
        return name and f"[MODULE] {name} done in {tx.seconds(event.duration)}"

    def _module_error(self, event: ev.ModuleError, run: PlainRun) -> str | None:
        name = _module_name(event)
        return name and f"[MODULE] {name} {_failed(event)}"

    def _tool_start(self, event: ev.ToolStart, run: PlainRun) -> str:
        return f"{_tool(event)}({words.arguments(event) or '…'})"

    def _tool_end(self, event: ev.ToolEnd, run: PlainRun) -> str:
        result = f" → {tx.compact(event.result)}" if event.result is not None else ""
        return f"{_tool(event)} done in {tx.seconds(event.duration)}{result}"

    def _tool_error(self, event: ev.ToolError, run: PlainRun) -> str:
        return f"{_tool(event)} {_failed(event)}"

    def _trace_start(self, event: ev.TraceStart, run: PlainRun) -> str:
        return f"[TRACE] {tx.one_line(event.name)}"

    def _trace_end(self, event: ev.TraceEnd, run: PlainRun) -> str:
        how = f"failed with {tx.one_line(event.error_type)}" if event.error_type else "done"
        return f"[TRACE] {tx.one_line(event.name)} {how} in {tx.seconds(event.duration)}"

    def _lm_start(self, event: ev.LMStart, run: PlainRun) -> None:
        run.calls.add(event.call_id)

    def _lm_end(self, event: ev.LMEnd, run: PlainRun) -> str | None:
        run.calls.discard(event.call_id)
        run.meter.lm_end(event)
        if event.error_type:
            return f"[LM] {tx.one_line(event.model)} failed: {tx.one_line(event.error_type)}"
        if event.finish_reason == "length":
            return f"[LM] {tx.one_line(event.model)} was cut off at the token limit"
        return f"[LM] {tx.one_line(event.model)} answered from the cache" if event.cached else None

    def _lm_superseded(self, event: ev.LMSuperseded, run: PlainRun) -> str:
        return f"[RETRY] {words.superseded(event.reason)}; the text so far does not count"

    def _lm_waiting(self, event: ev.LMWaiting, run: PlainRun) -> str:
        return f"[WAITING] {words.waiting(event)}"

    # --- what the model and the program say -----------------------------------------------------------

    def _token(self, event: ev.TokenEvent, run: PlainRun) -> str | None:
        if not event.token:  # the closing token only carries the finish reason
            return None
        run.meter.counted += event.count
        return f"[TOKEN] {tx.one_line(event.field)}: {tx.quote(event.token)}"

    def _corrected(self, event: ev.FieldCorrected, run: PlainRun) -> str:
        return f"[CORRECTED] {tx.one_line(event.field)}: {tx.quote(event.text)}"

    def _partial(self, event: ev.FieldPartial, run: PlainRun) -> str | None:
        """Of typed fields, each list element once, when it is complete; tokens say the rest."""
        value = run.partials.feed(event)
        place = tuple(event.place)
        if value is None or len(place) != 1 or event.state != "complete":
            return None
        items = value.value
        if value.is_broken or not isinstance(items, list) or not isinstance(place[0], int):
            return None
        item = tx.compact(items[place[0]])
        return f"[ITEM] {tx.one_line(event.field)}[{place[0]}]: {item}"

    def _refusal(self, event: ev.Refusal, run: PlainRun) -> str:
        return f"[REFUSAL] {tx.quote(event.text)}"

    def _part(self, event: ev.ReplyPart, run: PlainRun) -> str:
        return f"[PART] {words.part(event)}"

    def _thinking(self, event: ev.Thinking, run: PlainRun) -> str:
        return f"[THINKING] {tx.quote(event.text)}"

    def _tool_call(self, event: ev.ToolCallDelta, run: PlainRun) -> str:
        name = f" {tx.one_line(event.name)}" if event.name else ""
        written = f": {tx.quote(event.arguments)}" if event.arguments else ""
        return f"[CALL] {event.index + 1}{name}{written}"

    def _citation(self, event: ev.Citation, run: PlainRun) -> str:
        return f"[CITATION] {words.citation(event)}"

    def _status(self, event: ev.Status, run: PlainRun) -> str:
        return f"[STATUS] {tx.one_line(event.message)}"

    def _custom(self, event: ev.StreamllEvent, run: PlainRun) -> str:
        return f"[EVENT] {words.custom(event)}"

    def _gap(self, event: ev.StreamGap, run: PlainRun) -> str:
        return f"[GAP] {words.gap(event)}"

    _WRITERS: ClassVar[dict[type[ev.Event], Callable[[PlainView, Any, PlainRun], str | None]]] = {
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
        ev.TokenEvent: _token,
        ev.FieldPartial: _partial,
        ev.FieldCorrected: _corrected,
        ev.Thinking: _thinking,
        ev.ToolCallDelta: _tool_call,
        ev.Citation: _citation,
        ev.Refusal: _refusal,
        ev.ReplyPart: _part,
        ev.Status: _status,
        ev.StreamllEvent: _custom,
        ev.StreamGap: _gap,
    }


def _module_name(event: ev.ModuleStart | ev.ModuleEnd | ev.ModuleError) -> str | None:
    """The name of a module worth a line: not the run's own, nor the predictor inside another."""
    name = tx.one_line(event.name)
    if event.parent_call_id is None or name == "predict" or name.endswith(".predict"):
        return None
    return name


def _ends(event: ev.Event, run: PlainRun) -> bool:
    """Whether the run is over; a sink of an inner module never sees the run's own end."""
    if isinstance(event, (ev.ModuleEnd, ev.ModuleError)) and run.first_call is not None:
        return event.identity.call_id == run.first_call
    return isinstance(event, (ev.RunEnd, ev.RunError, ev.RunCancelled))


def _tool(event: ev.ToolStart | ev.ToolEnd | ev.ToolError) -> str:
    kind = "CODE" if event.kind == "interpreter" else "TOOL"
    return f"[{kind}] {tx.one_line(event.name)}"


def _failed(event: ev.ModuleError | ev.ToolError) -> str:
    error = tx.failure(event.error_type, event.message)
    return f"failed after {tx.seconds(event.duration)}: {error}"


def _whose(event: ev.Event, run: PlainRun) -> str:
    parts = []
    if len(run.calls) > 1 and event.predictor:
        parts.append(f" · {tx.one_line(event.predictor)}")
    if run.is_beside_others:
        parts.append(f" · run {run.number}")
    return "".join(parts)
