"""``/metrics`` in the OpenMetrics 1.0 text format. No label has a value that a client chooses."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from streamll.serve.routes.service import Service
from streamll.serve.web.middleware import Middleware

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def render(service: Service, middleware: Middleware) -> str:
    """The metrics of this process, and of the log as far as it knows that."""
    run_log, runner = service.run_log, service.runner
    sink, tail = run_log.sink.statistics(), run_log.tail
    ended = {f'how="{kind.partition(".")[2]}"': n for kind, n in run_log.index.ended.items()}
    guarded = {f'outcome="{outcome}"': count for outcome, count in run_log.index.guarded.items()}
    requests = {
        f'method="{method}",status="{status}"': count
        for (method, status), count in sorted(middleware.requests.items())
    }
    lines: list[str] = []

    def add(kind: str, name: str, text: str, value: float | dict[str, int]) -> None:
        lines.extend((f"# TYPE streamll_{name} {kind}", f"# HELP streamll_{name} {text}"))
        total = "_total" if kind == "counter" else ""
        for labels, count in value.items() if isinstance(value, dict) else [("", value)]:
            shown = f"{{{labels}}}" if labels else ""
            lines.append(f"streamll_{name}{total}{shown} {count}")

    limits = service.limits
    add("gauge", "runs_active", "Programs that run in this process.", len(runner.running))
    add("gauge", "runs_limit", "Programs that may run in this process.", limits.runs)
    add("counter", "runs_started", "Programs started in this process.", runner.started)
    add("counter", "runs_ended", "Runs of all processes that ended, by how.", ended)
    add("counter", "guarded", "Texts that guards kept back in runs of all processes.", guarded)
    add("gauge", "readers", "Open event streams and WebSockets.", len(service.readers))
    add("gauge", "readers_limit", "How many there may be.", limits.readers)
    add("counter", "readers_seen", "Event streams and WebSockets so far.", service.readers_seen)
    add("gauge", "feeds", "Runs that are read in this process.", len(run_log.buffers))
    add("gauge", "log_reachable", "Whether the log can be read.", int(tail.reachable))
    add("counter", "log_entries_read", "Entries of the log read.", tail.entries_read)
    delay = "Seconds from an event to its reading here, of the latest one of another process."
    add("gauge", "log_delay_seconds", delay, round(tail.delay_s, 4))
    add("gauge", "sink_buffered_events", "Events not yet in the log.", sink.buffered)
    add("gauge", "sink_buffered_bytes", "Their size.", sink.buffered_bytes)
    add("counter", "sink_dropped_events", "Events lost before the log.", sink.dropped)
    sent = middleware.bytes_sent
    add("counter", "sent_bytes", "Bytes of response bodies and messages.", sent)
    add("gauge", "draining", "Whether this process is about to stop.", int(service.draining))
    add("counter", "requests", "Answered requests by method and status.", requests)
    return "\n".join([*lines, *_of_process(), "# EOF\n"])


def _of_process() -> Iterator[str]:
    """What Prometheus's own clients say of a process; memory and descriptors where there is ``/proc``."""
    times = os.times()
    yield "# TYPE process_cpu_seconds counter\n# UNIT process_cpu_seconds seconds"
    yield f"process_cpu_seconds_total {times.user + times.system}"
    with contextlib.suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
        yield "# TYPE process_resident_memory_bytes gauge\n# UNIT process_resident_memory_bytes bytes"
        yield f"process_resident_memory_bytes {pages * os.sysconf('SC_PAGE_SIZE')}"
        yield "# TYPE process_open_fds gauge"
        yield f"process_open_fds {sum(1 for _ in Path('/proc/self/fd').iterdir())}"
