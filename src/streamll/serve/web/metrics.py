"""``/metrics`` in the OpenMetrics 1.0 text format. No label has a value that a client chooses."""

from __future__ import annotations

import os
from collections.abc import Iterator

from streamll.serve.log.run_log import RunLog
from streamll.serve.web.connections import ConnectionLimit
from streamll.serve.web.middleware import Middleware

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def render(
    run_log: RunLog,
    connections: ConnectionLimit,
    middleware: Middleware,
    *,
    running: int,
    started: int,
    draining: bool,
) -> str:
    """``running`` and ``started`` are programs of this process."""
    sink, tail = run_log.sink.statistics(), run_log.tail
    times = os.times()
    lines = [
        *_gauge("runs_active", "Programs that run in this process.", running),
        *_counter("runs_started", "Programs started in this process.", started),
        "# TYPE streamll_runs_ended counter",
        "# HELP streamll_runs_ended Runs of all processes that ended, by how.",
        *(
            f'streamll_runs_ended_total{{how="{kind.partition(".")[2]}"}} {count}'
            for kind, count in sorted(run_log.index.ended.items())
        ),
        *_gauge("readers", "Open event streams and WebSockets.", len(connections)),
        *_counter("readers_seen", "Event streams and WebSockets so far.", connections.total),
        *_gauge("feeds", "Runs that are read in this process.", len(run_log.buffers)),
        *_gauge("log_reachable", "Whether the log can be read.", int(tail.reachable)),
        *_counter("log_entries_read", "Entries of the log read.", tail.entries_read),
        *_gauge("sink_buffered_events", "Events not yet in the log.", sink.buffered),
        *_counter("sink_dropped_events", "Events lost before the log.", sink.dropped),
        *_counter("sent_bytes", "Bytes of response bodies and messages.", middleware.bytes_sent),
        *_gauge("draining", "Whether this process is about to stop.", int(draining)),
        "# TYPE streamll_requests counter",
        "# HELP streamll_requests Answered requests by method and status.",
        *(
            f'streamll_requests_total{{method="{method}",status="{status}"}} {count}'
            for (method, status), count in sorted(middleware.requests.items())
        ),
        "# TYPE process_cpu_seconds counter",
        "# UNIT process_cpu_seconds seconds",
        f"process_cpu_seconds_total {times.user + times.system}",
        "# EOF\n",
    ]
    return "\n".join(lines)


def _gauge(name: str, text: str, value: float) -> Iterator[str]:
    yield f"# TYPE streamll_{name} gauge"
    yield f"# HELP streamll_{name} {text}"
    yield f"streamll_{name} {value}"


def _counter(name: str, text: str, value: float) -> Iterator[str]:
    yield f"# TYPE streamll_{name} counter"
    yield f"# HELP streamll_{name} {text}"
    yield f"streamll_{name}_total {value}"
