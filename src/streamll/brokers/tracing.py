"""The current OpenTelemetry span as a W3C ``traceparent``, and back. Optional throughout.

Follows W3C Trace Context (https://www.w3.org/TR/trace-context/). A program that uses OpenTelemetry
has imported it; if it has not been imported there is no span to carry, and nothing is loaded.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

KEY = "traceparent"
_VALID = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def in_use() -> bool:
    return "opentelemetry.trace" in sys.modules


def current() -> str | None:
    """The ``traceparent`` of the current span, if there is one."""
    if not in_use():
        return None
    from opentelemetry.trace import get_current_span

    context = get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


@contextmanager
def restored(traceparent: str | None) -> Iterator[None]:
    """Run a block as a child of the span that ``traceparent`` names."""
    if traceparent is None or not in_use() or not _VALID.fullmatch(traceparent):
        yield
        return
    from opentelemetry import context, trace

    _, trace_id, span_id, flags = traceparent.split("-")
    span = trace.NonRecordingSpan(
        trace.SpanContext(
            trace_id=int(trace_id, 16),
            span_id=int(span_id, 16),
            is_remote=True,
            trace_flags=trace.TraceFlags(int(flags, 16)),
        )
    )
    token = context.attach(trace.set_span_in_context(span))
    try:
        yield
    finally:
        context.detach(token)
