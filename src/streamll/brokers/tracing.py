"""The current OpenTelemetry span as a W3C ``traceparent``, and back. Optional throughout.

Follows W3C Trace Context (https://www.w3.org/TR/trace-context/). A program that uses OpenTelemetry
has imported it; if it has not been imported there is no span to carry, and nothing is loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

KEY = "traceparent"


def in_use() -> bool:
    return "opentelemetry.trace" in sys.modules


def current() -> str | None:
    """The ``traceparent`` of the current span, if there is one."""
    carrier: dict[str, str] = {}
    if in_use():
        _propagator().inject(carrier)
    return carrier.get(KEY)


@contextmanager
def restored(traceparent: str | None) -> Iterator[None]:
    """Run a block as a child of the span that ``traceparent`` names, if it is valid."""
    if traceparent is None or not in_use():
        yield
        return
    from opentelemetry import context

    token = context.attach(_propagator().extract({KEY: traceparent}, context.get_current()))
    try:
        yield
    finally:
        context.detach(token)


def _propagator() -> Any:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator()
