"""Runs as OpenTelemetry spans and metrics, by the semantic conventions for generative AI.

Spans: one per run (``invoke_workflow``), module (``invoke_agent`` where it has tools), LM call
(``chat``) and tool call (``execute_tool``), nested as the calls are, under the span that was current
when the run began. Metrics: durations, times of chunks, tokens. Names, numbers and states as events have
them; texts only where both the events have them and ``content`` is asked for. The names are in
``otel_names``.

Spans are created from events when they end, with the events' times, so they cannot be the parents
of spans that instrumented clients create inside a call.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import msgspec

from streamll.core import events as ev
from streamll.core.errors import needs_extra
from streamll.core.events import TERMINAL, Event
from streamll.core.jsonable import as_text
from streamll.core.usage import ModelUsage
from streamll.core.visitor import EventVisitor
from streamll.sinks import otel_content
from streamll.sinks import otel_names as names
from streamll.sinks.base import BaseSink

MAX_RUNS = 10_000
"""Runs under way that are kept; for one more, the oldest is given up."""


class OTelSink(BaseSink):
    """Reports runs to OpenTelemetry: ``streamll.configure(sinks=[OTelSink()])``.

    Args:
        tracer_provider: gets the spans; by default the process's own.
        meter_provider: gets the metrics; by default the process's own.
        content: spans also have what programs and models were given and said, as far as events have
            it (``configure(include=["prompts", "inputs", "outputs", "tools"])``, and the fields
            that are streamed). Off by default: telemetry goes to other people than a program's readers.

    Raises:
        ConfigurationError: opentelemetry-api is not installed.
    """

    def __init__(
        self, *, tracer_provider: Any = None, meter_provider: Any = None, content: bool = False
    ) -> None:
        super().__init__()
        try:
            from opentelemetry import metrics, trace
        except ImportError:
            raise needs_extra("OTelSink", "otel") from None
        self._tracer = trace.get_tracer(
            "streamll", tracer_provider=tracer_provider, schema_url=names.SCHEMA_URL
        )
        meter = metrics.get_meter(
            "streamll", meter_provider=meter_provider, schema_url=names.SCHEMA_URL
        )
        self._meters = {
            name: meter.create_histogram(
                name, unit=unit, description=what, explicit_bucket_boundaries_advisory=buckets
            )
            for name, (unit, what, buckets) in names.HISTOGRAMS.items()
        } | {
            name: meter.create_counter(name, unit="{token}", description="Tokens, by model.")
            for name in names.USAGE.values()
        }
        self._content = content
        self._runs: OrderedDict[str, _RunSpans] = OrderedDict()
        self._parents: dict[str, Any] = {}  # set on the programs' threads, taken on the sink's

    def put(self, event: Event) -> None:
        """Called in the program's own thread, where its current span is known."""
        if isinstance(event, ev.RunStart) and event.run_id is not None:
            from opentelemetry import context

            self._parents[event.run_id] = context.get_current()
        super().put(event)

    def handle_event(self, event: Event) -> None:
        run_id = event.run_id
        if run_id is None:
            return
        if isinstance(event, ev.RunStart):
            parent = self._parents.pop(run_id, None)
            run = _RunSpans(self._tracer, self._meters, event, parent, content=self._content)
            self._runs[run_id] = run
            if len(self._runs) > MAX_RUNS:
                _, oldest = self._runs.popitem(last=False)
                oldest.end_all(event.timestamp)
        elif (known := self._runs.get(run_id)) is not None:  # else it began before this sink
            known.visit(event)
            if event.event_type in TERMINAL:
                del self._runs[run_id]


class _OpenSpan(msgspec.Struct):
    """A span that has not ended; ``attributes`` are those that its metrics have as well."""

    span: Any
    attributes: dict[str, Any]
    duration: str | None = None  # the name of its metric
    texts: dict[str, list[str]] = {}  # what an LM call has said, by field


class _RunSpans(EventVisitor):
    """The spans of one run."""

    def __init__(
        self, tracer: Any, meters: dict[str, Any], start: ev.RunStart, parent: Any, *, content: bool
    ) -> None:
        self._tracer = tracer
        self._meters = meters
        self._content = content
        self._open: dict[str | None, _OpenSpan] = {}
        self._speaking: dict[
            str | None, _OpenSpan
        ] = {}  # LM calls, by their own id and that of the call that made them
        told = {names.OPERATION: names.INVOKE_WORKFLOW, names.AGENT: start.program}
        own = {names.WORKFLOW: start.program, "streamll.run.id": start.run_id}
        own |= {"streamll.program": start.program, **_conversation(start)}
        own[names.SPAN_KIND] = names.CHAIN
        if content:
            own |= otel_content.as_messages(otel_content.of_inputs(start.inputs))
        span = tracer.start_span(
            f"{names.INVOKE_WORKFLOW} {start.program}",
            context=parent,
            start_time=_ns(start.timestamp),
            attributes=told | own,
        )
        self._root = _OpenSpan(span, told)

    def end_all(self, at: float) -> None:
        for each in reversed([*self._open.values()]):
            each.span.end(_ns(at))
        self._root.span.end(_ns(at))

    # --- modules and tools ----------------------------------------------------------------------

    def on_module_start(self, event: ev.ModuleStart) -> None:
        own: dict[str, Any] = {"streamll.path": event.path}
        if event.predictor is not None:
            own |= {"streamll.predictor": event.predictor, "streamll.turn": event.turn}
        given = otel_content.of_inputs(event.inputs) if self._content else {}
        if event.kind != ev.AGENT:
            own |= {names.SPAN_KIND: names.CHAIN, **given}
            self._begin(event, event.name, {}, own)
            return
        own |= otel_content.as_messages(given)
        told = {names.OPERATION: names.INVOKE_AGENT, names.AGENT: event.name}
        opened = self._begin(event, f"{names.INVOKE_AGENT} {event.name}", told, own)
        opened.duration = names.AGENT_DURATION

    def on_tool_start(self, event: ev.ToolStart) -> None:
        kind = "extension" if event.kind == "interpreter" else "function"
        told = {names.OPERATION: names.EXECUTE_TOOL, names.TOOL: event.name, names.TOOL_TYPE: kind}
        own = {}
        if self._content and event.arguments is not None:
            own[names.TOOL_ARGUMENTS] = as_text(dict(event.arguments))
        opened = self._begin(event, f"{names.EXECUTE_TOOL} {event.name}", told, own)
        opened.duration = names.TOOL_DURATION

    def _begin(
        self, event: Event, name: str, told: dict[str, Any], own: dict[str, Any]
    ) -> _OpenSpan:
        from opentelemetry.trace import SpanKind, set_span_in_context

        above = self._open.get(event.parent_call_id) or self._root
        span = self._tracer.start_span(
            name,
            context=set_span_in_context(above.span),
            kind=SpanKind.CLIENT if isinstance(event, ev.LMStart) else SpanKind.INTERNAL,
            start_time=_ns(event.timestamp),
            attributes={**told, **own, **_conversation(event)},
        )
        self._open[event.call_id] = opened = _OpenSpan(span, told)
        return opened

    def on_module_end(self, event: Any) -> None:
        ended = self._open.pop(event.call_id, None)
        if ended is None:
            return
        told = ended.attributes
        if isinstance(event, (ev.ModuleError, ev.ToolError)):
            _failed(ended.span, event.error_type, event.message)
            told = told | {names.ERROR: event.error_type}
        elif self._content and isinstance(event, ev.ModuleEnd):
            said = otel_content.of_outputs(event.outputs)
            ended.span.set_attributes(otel_content.as_messages(said) if told else said)
        elif self._content and event.result is not None:
            ended.span.set_attribute(names.TOOL_RESULT, as_text(event.result))
        if ended.duration is not None:
            self._meters[ended.duration].record(event.duration, told)
        ended.span.end(_ns(event.timestamp))

    on_module_error = on_tool_end = on_tool_error = on_module_end

    # --- questions ------------------------------------------------------------------------------

    def on_question(self, event: ev.Question) -> None:
        about = {} if event.tool is None else {names.TOOL: event.tool}
        if self._content:
            about["streamll.question.text"] = event.text
        self._asked(event, about)

    def on_answer(self, event: ev.Answer) -> None:
        about = {"streamll.answer.outcome": event.outcome, "streamll.waited": event.waited}
        self._asked(event, about)

    def _asked(self, event: ev.Question | ev.Answer, about: dict[str, Any]) -> None:
        """A span event of the call that asks."""
        asking = self._open.get(event.call_id) or self._root
        about = {"streamll.question.id": event.question_id, **about}
        asking.span.add_event(f"streamll.{event.event_type}", about, _ns(event.timestamp))

    # --- guards ---------------------------------------------------------------------------------

    def on_guarded(self, event: ev.Guarded) -> None:
        """A span event of the call whose text it was."""
        about = {
            f"streamll.guard.{each}": getattr(event, each) for each in ("name", "kind", "outcome")
        }
        if event.field is not None:
            about["streamll.field"] = event.field
        speaking = self._open.get(event.call_id) or self._root
        speaking.span.add_event("streamll.guarded", about, _ns(event.timestamp))

    # --- LM calls -------------------------------------------------------------------------------

    def on_lm_start(self, event: ev.LMStart) -> None:
        told = {names.OPERATION: names.CHAT, **names.model_attributes(event.model)}
        own = otel_content.of_prompt(event.messages) if self._content else {}
        opened = self._begin(event, f"{names.CHAT} {told[names.REQUEST_MODEL]}", told, own)
        for call_id in filter(None, (event.call_id, event.parent_call_id)):
            self._speaking[call_id] = opened

    def on_token(self, event: ev.TokenEvent) -> None:
        if self._content and (lm := self._speaking.get(event.call_id)) is not None:
            lm.texts.setdefault(event.field, []).append(event.token)

    def on_lm_superseded(self, event: ev.LMSuperseded) -> None:
        """A span event of the LM call, or, if that has ended, of the step that asks once more."""
        asking = self._speaking.get(event.call_id) or self._open.get(event.call_id) or self._root
        asking.texts.clear()
        asking.span.add_event(
            "streamll.superseded",
            {names.ERROR: event.reason, "streamll.attempt": event.attempt},
            _ns(event.timestamp),
        )

    def on_lm_end(self, event: ev.LMEnd) -> None:
        lm = self._open.pop(event.call_id, None)
        for call_id in (event.call_id, event.parent_call_id):
            if self._speaking.get(call_id) is lm:
                self._speaking.pop(call_id, None)
        if lm is None:
            return
        told = lm.attributes | names.model_attributes(event.model)  # a fallback's, if one answered
        if event.response_model is not None:
            told[names.RESPONSE_MODEL] = event.response_model
        if event.error_type is not None:
            told[names.ERROR] = event.error_type
            _failed(lm.span, event.error_type, "")
        lm.span.set_attributes(told | _of_reply(event))
        if self._content:
            said = otel_content.of_reply(map("".join, lm.texts.values()), event.finish_reason)
            lm.span.set_attributes(said)
        lm.span.end(_ns(event.timestamp))
        self._count(event)
        if not event.cached:  # else no request was made
            self._measure(event, told)

    def _measure(self, event: ev.LMEnd, told: dict[str, Any]) -> None:
        for name in names.DURATIONS:
            self._meters[name].record(event.duration, told)
        if event.time_to_first_chunk is not None:
            for name in names.FIRST_CHUNK:
                self._meters[name].record(event.time_to_first_chunk, told)
        for name in names.PER_CHUNK:
            for seconds, count in event.chunk_gaps:
                for _ in range(count):
                    self._meters[name].record(seconds, told)

    def _count(self, event: ev.LMEnd) -> None:
        """The tokens of a call, by the models it has asked. What is not known counts nowhere."""
        used: Iterable[Any] = event.usage or (event,)
        for usage in used:
            told = {names.OPERATION: names.CHAT, **names.model_attributes(usage.model)}
            if event.response_model is not None and usage.model == event.model:
                told[names.RESPONSE_MODEL] = event.response_model
            for field, name in names.USAGE.items():
                if tokens := getattr(usage, field):
                    self._meters[name].add(tokens, told)
                    if field in names.TOKEN_TYPES:
                        typed = told | {names.TOKEN_TYPE: names.TOKEN_TYPES[field]}
                        self._meters[names.TOKENS].record(tokens, typed)

    # --- the run --------------------------------------------------------------------------------

    def on_run_end(self, event: ev.Totals) -> None:
        root, told = self._root.span, self._root.attributes
        root.set_attributes(
            {**_usage(event, names.RUN_COUNTS), "streamll.lm.calls": event.lm_calls}
        )
        if event.waited:
            root.set_attribute("streamll.waited", event.waited)
        if isinstance(event, ev.RunError):
            _failed(root, event.error_type, event.message)
            told = told | {names.ERROR: event.error_type}
        elif isinstance(event, ev.RunCancelled):
            root.set_attribute("streamll.cancelled", True)  # noqa: FBT003
        elif self._content and isinstance(event, ev.RunEnd):
            root.set_attributes(otel_content.as_messages(otel_content.of_outputs(event.outputs)))
        self._meters[names.AGENT_DURATION].record(event.duration, told)
        workflow = {names.WORKFLOW: told[names.AGENT]}
        workflow |= {key: told[key] for key in (names.ERROR,) if key in told}
        self._meters[names.WORKFLOW_DURATION].record(event.duration, workflow)
        self.end_all(event.timestamp)

    on_run_error = on_run_cancelled = on_run_end


def _of_reply(event: ev.LMEnd) -> dict[str, Any]:
    """The attributes of an LM call that only its spans have."""
    attributes = _usage(event, names.COUNTS)
    attributes["streamll.lm.cached"] = event.cached
    if event.cost is not None:
        attributes[names.COST] = event.cost
    if event.streamed:
        attributes[names.REQUEST_STREAM] = True
    if event.time_to_first_chunk is not None:
        attributes[names.TIME_TO_FIRST_CHUNK] = event.time_to_first_chunk
    if event.response_id is not None:
        attributes[names.RESPONSE_ID] = event.response_id
    if event.finish_reason is not None:
        attributes[names.FINISH_REASONS] = (event.finish_reason,)
    return attributes


def _usage(
    event: ev.LMEnd | ev.Totals | ModelUsage, counts: dict[str, tuple[str, ...]]
) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    for field, attribute_names in counts.items():
        if (count := getattr(event, field)) is not None:
            attributes |= dict.fromkeys(attribute_names, count)
    if event.cost is not None:
        attributes["streamll.lm.cost"] = event.cost
    return attributes


def _conversation(event: Event) -> dict[str, str]:
    """The conversation that ``set_context(conversation_id=…)`` names."""
    conversation = event.context.get("conversation_id")
    if conversation is None:
        return {}
    return dict.fromkeys((names.CONVERSATION, names.SESSION), str(conversation))


def _failed(span: Any, error_type: str, message: str) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute(names.ERROR, error_type)
    span.set_status(Status(StatusCode.ERROR, message or error_type))


def _ns(timestamp: float) -> int:
    return int(timestamp * 1e9)
