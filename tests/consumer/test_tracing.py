"""X14: the trace a run began under reaches the handlers of another process."""

from __future__ import annotations

import pytest

from brokers.sample_runs import BOUND, make_run
from brokers.servers import wait_until
from streamll.brokers import tracing
from streamll.consumer import EventConsumer
from streamll.core.events import Status
from streamll.sinks import open_sink

trace = pytest.importorskip("opentelemetry.trace")


@pytest.fixture(scope="module")
def tracer():
    from opentelemetry.sdk.trace import TracerProvider

    return TracerProvider().get_tracer("tests")


def test_the_runs_span_is_current_in_handlers(tmp_path, tracer):
    url = f"sqlite:///{tmp_path}/log.db"
    sink = open_sink(url)
    traces = {}
    for name in ("r1", "r2"):
        with tracer.start_as_current_span(name) as span:
            traces[name] = span.get_span_context().trace_id
            run = make_run(name, ["a"])
            for event in run[:4]:
                sink.put(event)
            with tracer.start_as_current_span("inner"):
                for event in run[4:]:
                    sink.put(event)
    sink.put(Status(message="outside"))
    assert sink.stop(BOUND)
    seen = []
    consumer = EventConsumer(url, start="beginning")

    @consumer.on("token")
    async def asynchronous(event):
        seen.append((event.run_id, trace.get_current_span().get_span_context().trace_id))

    @consumer.on(["run.start", "status"])
    def on_a_thread(event):
        seen.append((event.run_id, trace.get_current_span().get_span_context().trace_id))

    consumer.start()
    wait_until(lambda: len(seen) == 5, BOUND, "all handlers")
    assert consumer.stop(BOUND)
    assert set(seen) == {("r1", traces["r1"]), ("r2", traces["r2"]), (None, 0)}


@pytest.mark.parametrize("header", [None, "", "nonsense", "00-zz-11-01"])
def test_an_invalid_traceparent_restores_nothing(header):
    with tracing.restored(header):
        assert not trace.get_current_span().get_span_context().is_valid
    assert tracing.current() is None
