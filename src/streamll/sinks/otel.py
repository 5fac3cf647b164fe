"""Runs as OpenTelemetry spans and metrics, by the semantic conventions for generative AI.

Spans: one per run, module, LM call and tool call, nested as the calls are, under the span that
was current when the run began. Metrics of LM calls: duration, time to first chunk, time per
chunk, tokens. Only names, numbers and states, as events have them; no text of a model.

Spans are created from events when they end, with the events' times, so they cannot be the parents
of spans that instrumented clients create inside a call.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import msgspec

from streamll.core import events as ev
from streamll.core.errors import needs_extra
from streamll.core.events import TERMINAL, Event
from streamll.core.gaps import GAP_BOUNDS_S
from streamll.core.visitor import EventVisitor
from streamll.sinks.base import BaseSink

MAX_RUNS = 10_000
"""Runs under way that are kept; for one more, the oldest is given up."""

SECOND_BUCKETS = GAP_BOUNDS_S
TOKEN_BUCKETS = tuple(4**n for n in range(14))
"""Upper bounds as the conventions advise them."""

DURATION = "gen_ai.client.operation.duration"
FIRST_CHUNK = "gen_ai.client.operation.time_to_first_chunk"
PER_CHUNK = "gen_ai.client.operation.time_per_output_chunk"
TOKENS = "gen_ai.client.token.usage"
METRICS = {
    DURATION: ("s", "How long an LM call took.", SECOND_BUCKETS),
    FIRST_CHUNK: ("s", "From the request to the first chunk of its reply.", SECOND_BUCKETS),
    PER_CHUNK: ("s", "From one chunk of a reply to the next.", SECOND_BUCKETS),
    TOKENS: ("{token}", "Tokens of an LM call.", TOKEN_BUCKETS),
}
"""Histograms by name: unit, description, buckets."""


class OTelSink(BaseSink):
    """Reports runs to OpenTelemetry: ``streamll.configure(sinks=[OTelSink()])``.

    Args:
        tracer_provider: gets the spans; by default the process's own.
        meter_provider: gets the metrics; by default the process's own.

    Raises:
        ConfigurationError: opentelemetry-api is not installed.
    """

    def __init__(self, *, tracer_provider: Any = None, meter_provider: Any = None) -> None:
        super().__init__()
        try:
            from opentelemetry import metrics, trace
        except ImportError:
            raise needs_extra("OTelSink", "otel") from None
        self._tracer = trace.get_tracer("streamll", tracer_provider=tracer_provider)
        meter = metrics.get_meter("streamll", meter_provider=meter_provider)
        self._meters = {
            name: meter.create_histogram(
                name, unit=unit, description=what, explicit_bucket_boundaries_advisory=buckets
            )
            for name, (unit, what, buckets) in METRICS.items()
        }
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
            self._runs[run_id] = _RunSpans(self._tracer, self._meters, event, parent)
            if len(self._runs) > MAX_RUNS:
                _, oldest = self._runs.popitem(last=False)
                oldest.end_all(event.timestamp)
        elif (run := self._runs.get(run_id)) is not None:  # else it began before this sink
            run.visit(event)
            if event.event_type in TERMINAL:
                del self._runs[run_id]


class _OpenSpan(msgspec.Struct):
    """A span that has not ended."""

    span: Any
    attributes: dict[str, Any]


class _RunSpans(EventVisitor):
    """The spans of one run."""

    def __init__(
        self, tracer: Any, meters: dict[str, Any], start: ev.RunStart, parent: Any
    ) -> None:
        self._tracer = tracer
        self._meters = meters
        self._open: dict[str | None, _OpenSpan] = {}
        self._speaking: dict[str | None, _OpenSpan] = {}  # LM calls by the call that made them
        attributes = {"streamll.run.id": start.run_id, "streamll.program": start.program}
        self._root = tracer.start_span(
            start.program, context=parent, start_time=_ns(start.timestamp), attributes=attributes
        )

    def end_all(self, at: float) -> None:
        for each in reversed([*self._open.values()]):
            each.span.end(_ns(at))
        self._root.end(_ns(at))

    def on_module_start(self, event: ev.ModuleStart) -> None:
        attributes: dict[str, Any] = {"streamll.path": event.path}
        if event.predictor is not None:
            attributes |= {"streamll.predictor": event.predictor, "streamll.turn": event.turn}
        self._begin(event, event.name, attributes)

    def on_tool_start(self, event: ev.ToolStart) -> None:
        attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": event.name}
        self._begin(event, f"execute_tool {event.name}", attributes)

    def on_lm_start(self, event: ev.LMStart) -> None:
        provider, slash, model = event.model.partition("/")
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": provider if slash else "unknown",
            "gen_ai.request.model": model if slash else event.model,
        }
        name = f"chat {attributes['gen_ai.request.model']}"
        self._speaking[event.parent_call_id or event.call_id] = self._begin(event, name, attributes)

    def _begin(self, event: Event, name: str, attributes: dict[str, Any]) -> _OpenSpan:
        from opentelemetry.trace import SpanKind, set_span_in_context

        above = self._open.get(event.parent_call_id)
        span = self._tracer.start_span(
            name,
            context=set_span_in_context(above.span if above else self._root),
            kind=SpanKind.CLIENT if isinstance(event, ev.LMStart) else SpanKind.INTERNAL,
            start_time=_ns(event.timestamp),
            attributes=attributes,
        )
        self._open[event.call_id] = opened = _OpenSpan(span, attributes)
        return opened

    def on_lm_end(self, event: ev.LMEnd) -> None:
        self._speaking.pop(event.parent_call_id or event.call_id, None)
        lm = self._open.pop(event.call_id, None)
        if lm is None:
            return
        attributes = lm.attributes
        if event.error_type is not None:
            attributes = {**attributes, "error.type": event.error_type}
            _failed(lm.span, event.error_type, "")
        _set_usage(lm.span, event)
        lm.span.set_attribute("streamll.lm.cached", event.cached)
        if event.finish_reason is not None:
            lm.span.set_attribute("gen_ai.response.finish_reasons", (event.finish_reason,))
        lm.span.end(_ns(event.timestamp))
        if event.cached:
            return  # no request was made
        self._meters[DURATION].record(event.duration, attributes)
        if event.time_to_first_chunk is not None:
            self._meters[FIRST_CHUNK].record(event.time_to_first_chunk, attributes)
        for seconds, count in event.chunk_gaps:
            for _ in range(count):
                self._meters[PER_CHUNK].record(seconds, attributes)
        for kind, tokens in (("input", event.prompt_tokens), ("output", event.completion_tokens)):
            if tokens:
                self._meters[TOKENS].record(tokens, {**lm.attributes, "gen_ai.token.type": kind})

    def on_module_end(self, event: Event) -> None:
        ended = self._open.pop(event.call_id, None)
        if ended is None:
            return
        if isinstance(event, (ev.ModuleError, ev.ToolError)):
            _failed(ended.span, event.error_type, event.message)
        ended.span.end(_ns(event.timestamp))

    on_module_error = on_tool_end = on_tool_error = on_module_end

    def on_lm_superseded(self, event: ev.LMSuperseded) -> None:
        lm = self._speaking.get(event.call_id)
        if lm is not None:
            lm.span.add_event(
                "streamll.superseded",
                {"error.type": event.reason, "streamll.attempt": event.attempt},
                _ns(event.timestamp),
            )

    def on_run_end(self, event: ev.Totals) -> None:
        _set_usage(self._root, event)
        self._root.set_attribute("streamll.lm.calls", event.lm_calls)
        if isinstance(event, ev.RunError):
            _failed(self._root, event.error_type, event.message)
        elif isinstance(event, ev.RunCancelled):
            self._root.set_attribute("streamll.cancelled", True)  # noqa: FBT003
        self.end_all(event.timestamp)

    on_run_error = on_run_cancelled = on_run_end


def _set_usage(span: Any, event: ev.LMEnd | ev.Totals) -> None:
    if event.prompt_tokens is not None:
        span.set_attribute("gen_ai.usage.input_tokens", event.prompt_tokens)
    if event.completion_tokens is not None:
        span.set_attribute("gen_ai.usage.output_tokens", event.completion_tokens)
    if event.cost is not None:
        span.set_attribute("streamll.lm.cost", event.cost)


def _failed(span: Any, error_type: str, message: str) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute("error.type", error_type)
    span.set_status(Status(StatusCode.ERROR, message or error_type))


def _ns(timestamp: float) -> int:
    return int(timestamp * 1e9)
