"""Runs as OpenTelemetry spans and metrics, by the semantic conventions for generative AI.

Spans: one per run, module, LM call and tool call, nested as the calls are, under the span that
was current where the run began. Metrics of LM calls: duration, time to first chunk, time per
chunk, tokens. Names, numbers and states only, as events have them; no text of a model.

Spans are made from events when they end, with the events' times. So they are no parent for what
instrumented clients do inside a call.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from streamll.core.errors import ConfigurationError
from streamll.core.events import (
    TERMINAL,
    Event,
    LMEnd,
    LMStart,
    LMSuperseded,
    ModuleEnd,
    ModuleError,
    ModuleStart,
    RunError,
    RunStart,
    Thinking,
    TokenEvent,
    ToolEnd,
    ToolError,
    ToolStart,
    Totals,
)
from streamll.sinks.base import BaseSink

RUNS_KEPT = 10_000
"""Runs under way that are remembered; the oldest is given up for one more."""

SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)

Start = ModuleStart | LMStart | ToolStart
End = ModuleEnd | ModuleError | ToolEnd | ToolError


class OTelSink(BaseSink):
    """Tells OpenTelemetry what runs do; with the providers given, or the process's own.

    >>> streamll.configure(sinks=[OTelSink()])  # doctest: +SKIP

    Raises:
        ConfigurationError: opentelemetry-api is not installed.
    """

    def __init__(self, *, tracer_provider: Any = None, meter_provider: Any = None) -> None:
        super().__init__()
        try:
            from opentelemetry import metrics, trace
        except ImportError:
            raise ConfigurationError(
                "OTelSink needs an extra: pip install 'streamll[otel]'"
            ) from None
        self._tracer = trace.get_tracer("streamll", tracer_provider=tracer_provider)
        self._meters = _Meters(metrics.get_meter("streamll", meter_provider=meter_provider))
        self._runs: OrderedDict[str, _RunSpans] = OrderedDict()
        self._parents: dict[str, Any] = {}
        self._lock = threading.Lock()

    def put(self, event: Event) -> None:
        """In the program's own thread, where its current span can be seen."""
        if isinstance(event, RunStart) and event.run_id is not None:
            from opentelemetry import context

            with self._lock:
                self._parents[event.run_id] = context.get_current()
        super().put(event)

    def handle_event(self, event: Event) -> None:
        run_id = event.run_id
        if run_id is None:
            return
        if isinstance(event, RunStart):
            with self._lock:
                parent = self._parents.pop(run_id, None)
            self._runs[run_id] = _RunSpans(self._tracer, self._meters, event, parent)
            if len(self._runs) > RUNS_KEPT:
                _, oldest = self._runs.popitem(last=False)
                oldest.give_up(event.timestamp)
            return
        run = self._runs.get(run_id)
        if run is None:
            return  # it began before this sink listened
        run.feed(event)
        if event.event_type in TERMINAL:
            del self._runs[run_id]


class _Meters:
    def __init__(self, meter: Any) -> None:
        def seconds(name: str, description: str) -> Any:
            return meter.create_histogram(
                name,
                unit="s",
                description=description,
                explicit_bucket_boundaries_advisory=SECONDS,
            )

        self.duration = seconds("gen_ai.client.operation.duration", "How long an LM call took.")
        self.first_chunk = seconds(
            "gen_ai.client.operation.time_to_first_chunk", "From the request to its first text."
        )
        self.per_chunk = seconds(
            "gen_ai.client.operation.time_per_output_chunk", "From one piece of text to the next."
        )
        self.tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Tokens of an LM call.",
            explicit_bucket_boundaries_advisory=TOKENS,
        )


class _Open:
    """A span that has not ended; of an LM call also when it was heard last."""

    def __init__(self, span: Any, attributes: dict[str, Any]) -> None:
        self.span = span
        self.attributes = attributes
        self.heard_at: float | None = None


class _RunSpans:
    """The spans of one run."""

    def __init__(self, tracer: Any, meters: _Meters, start: RunStart, parent: Any) -> None:
        self._tracer = tracer
        self._meters = meters
        self._open: dict[str, _Open] = {}
        self._speaking: dict[str, _Open] = {}  # LM calls by the predictor's call that made them
        attributes = {"streamll.run.id": start.run_id, "streamll.program": start.program}
        self._root = tracer.start_span(
            start.program, context=parent, start_time=_ns(start.timestamp), attributes=attributes
        )

    def feed(self, event: Event) -> None:
        if isinstance(event, (TokenEvent, Thinking)):
            self._chunk(event)
        elif isinstance(event, (ModuleStart, LMStart, ToolStart)):
            self._begin(event)
        elif isinstance(event, LMEnd):
            self._end_lm(event)
        elif isinstance(event, (ModuleEnd, ModuleError, ToolEnd, ToolError)):
            self._end(event)
        elif isinstance(event, LMSuperseded):
            self._superseded(event)
        elif isinstance(event, Totals):
            self._finish(event)

    def give_up(self, at: float) -> None:
        for each in reversed([*self._open.values()]):
            each.span.end(_ns(at))
        self._root.end(_ns(at))

    def _begin(self, event: Start) -> None:
        from opentelemetry import trace

        name, kind, attributes = _described(event)
        above = self._open.get(event.parent_call_id or "")
        span = self._tracer.start_span(
            name,
            context=trace.set_span_in_context(above.span if above else self._root),
            kind=trace.SpanKind.CLIENT if kind == "client" else trace.SpanKind.INTERNAL,
            start_time=_ns(event.timestamp),
            attributes=attributes,
        )
        opened = _Open(span, attributes)
        self._open[event.call_id or ""] = opened
        if isinstance(event, LMStart):
            self._speaking[event.parent_call_id or event.call_id or ""] = opened

    def _chunk(self, event: TokenEvent | Thinking) -> None:
        lm = self._speaking.get(event.call_id or "")
        count = event.count if isinstance(event, TokenEvent) else 1
        if lm is None or (isinstance(event, TokenEvent) and (event.cached or not event.token)):
            return
        if lm.heard_at is not None:
            gap = max(0.0, event.timestamp - lm.heard_at) / max(1, count)
            self._meters.per_chunk.record(gap, lm.attributes)
        lm.heard_at = event.timestamp

    def _end_lm(self, event: LMEnd) -> None:
        self._speaking.pop(event.parent_call_id or event.call_id or "", None)
        lm = self._open.pop(event.call_id or "", None)
        if lm is None:
            return
        told = dict(lm.attributes)
        if event.error_type is not None:
            told["error.type"] = event.error_type
            _failed(lm.span, event.error_type, "")
        lm.span.set_attribute("gen_ai.usage.input_tokens", event.prompt_tokens)
        lm.span.set_attribute("gen_ai.usage.output_tokens", event.completion_tokens)
        lm.span.set_attribute("streamll.lm.cached", event.cached)
        if event.finish_reason is not None:
            lm.span.set_attribute("gen_ai.response.finish_reasons", (event.finish_reason,))
        if event.cost is not None:
            lm.span.set_attribute("streamll.lm.cost", event.cost)
        lm.span.end(_ns(event.timestamp))
        if event.cached:
            return  # nobody was asked
        self._meters.duration.record(event.duration, told)
        if event.time_to_first_token is not None:
            self._meters.first_chunk.record(event.time_to_first_token, told)
        for kind, count in (("input", event.prompt_tokens), ("output", event.completion_tokens)):
            if count:
                self._meters.tokens.record(count, {**lm.attributes, "gen_ai.token.type": kind})

    def _end(self, event: End) -> None:
        ended = self._open.pop(event.call_id or "", None)
        if ended is None:
            return
        if isinstance(event, (ModuleError, ToolError)):
            _failed(ended.span, event.error_type, event.message)
        ended.span.end(_ns(event.timestamp))

    def _superseded(self, event: LMSuperseded) -> None:
        lm = self._speaking.get(event.call_id or "")
        if lm is not None:
            lm.heard_at = None
            lm.span.add_event(
                "streamll.superseded",
                {"error.type": event.reason, "streamll.attempt": event.attempt},
                _ns(event.timestamp),
            )

    def _finish(self, event: Totals) -> None:
        self._root.set_attribute("gen_ai.usage.input_tokens", event.prompt_tokens)
        self._root.set_attribute("gen_ai.usage.output_tokens", event.completion_tokens)
        self._root.set_attribute("streamll.lm.calls", event.lm_calls)
        if event.cost is not None:
            self._root.set_attribute("streamll.lm.cost", event.cost)
        if isinstance(event, RunError):
            _failed(self._root, event.error_type, event.message)
        elif event.event_type == "run.cancelled":
            self._root.set_attribute("streamll.cancelled", True)  # noqa: FBT003
        self.give_up(event.timestamp)


def _described(event: Start) -> tuple[str, str, dict[str, Any]]:
    """A call's name, its kind and its attributes."""
    if isinstance(event, LMStart):
        provider, slash, model = event.model.partition("/")
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": provider if slash else "unknown",
            "gen_ai.request.model": model if slash else event.model,
        }
        return f"chat {attributes['gen_ai.request.model']}", "client", attributes
    if isinstance(event, ToolStart):
        attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": event.name}
        return f"execute_tool {event.name}", "internal", attributes
    told: dict[str, Any] = {"streamll.path": event.path}
    if event.predictor is not None:
        told |= {"streamll.predictor": event.predictor, "streamll.turn": event.turn}
    return event.name, "internal", told


def _failed(span: Any, error_type: str, message: str) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute("error.type", error_type)
    span.set_status(Status(StatusCode.ERROR, message or error_type))


def _ns(timestamp: float) -> int:
    return int(timestamp * 1e9)
