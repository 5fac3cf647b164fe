"""``/metrics`` in the OpenMetrics text format. No labels that a client chooses."""

from __future__ import annotations

import os
from collections.abc import Iterator

from streamll.serve.runner import Runner
from streamll.serve.web.connections import ConnectionLimit
from streamll.serve.web.middleware import Middleware

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def render(
    runner: Runner, connections: ConnectionLimit, middleware: Middleware, draining: bool
) -> str:
    return "\n".join([*_lines(runner, connections, middleware, draining), "# EOF\n"])


def _lines(
    runner: Runner, connections: ConnectionLimit, middleware: Middleware, draining: bool
) -> Iterator[str]:
    statistics = runner.run_log.sink.statistics()
    yield from _gauge("runs_active", "Programs that run in this process.", len(runner.running))
    yield from _counter("runs_started", "Programs started in this process.", runner.started)
    yield "# TYPE streamll_runs_ended counter"
    yield "# HELP streamll_runs_ended Runs of all processes that ended, by how."
    for kind, count in sorted(runner.run_log.index.ended.items()):
        yield f'streamll_runs_ended_total{{how="{kind.partition(".")[2]}"}} {count}'
    yield from _gauge("readers", "Open event streams and WebSockets.", len(connections))
    yield from _counter("readers_seen", "Event streams and WebSockets so far.", connections.total)
    yield from _gauge("feeds", "Runs that somebody reads here.", len(runner.run_log.buffers))
    yield from _gauge(
        "log_reachable", "Whether the log can be read.", int(runner.run_log.tail.reachable)
    )
    yield from _counter(
        "log_entries_read", "Entries of the log read.", runner.run_log.tail.entries_read
    )
    yield from _gauge("sink_buffered_events", "Events not yet in the log.", statistics.buffered)
    yield from _counter("sink_dropped_events", "Events lost before the log.", statistics.dropped)
    yield from _counter(
        "sent_bytes", "Bytes of response bodies and messages.", middleware.bytes_sent
    )
    yield from _gauge("draining", "Whether this process is to stop.", int(draining))
    yield "# TYPE streamll_requests counter"
    yield "# HELP streamll_requests Answered requests by method and status."
    for (method, status), count in sorted(middleware.requests.items()):
        yield f'streamll_requests_total{{method="{method}",status="{status}"}} {count}'
    times = os.times()
    yield "# TYPE process_cpu_seconds counter"
    yield "# UNIT process_cpu_seconds seconds"
    yield f"process_cpu_seconds_total {times.user + times.system}"


def _gauge(name: str, text: str, value: float) -> Iterator[str]:
    yield f"# TYPE streamll_{name} gauge"
    yield f"# HELP streamll_{name} {text}"
    yield f"streamll_{name} {value}"


def _counter(name: str, text: str, value: float) -> Iterator[str]:
    yield f"# TYPE streamll_{name} counter"
    yield f"# HELP streamll_{name} {text}"
    yield f"streamll_{name}_total {value}"
