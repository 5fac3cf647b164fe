"""The streams of own routes (``sse_response``, ``websocket_stream``), which end when the process does.

A server waits for its readers before it stops, and they for their programs: up to minutes. So at
SIGTERM and SIGINT every program that runs here for a reader is cancelled, and its reader gets the
end of the run, in its format. A reader of a run of another process is sent away, to resume.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

from streamll.serve.log.run_log import AWAY_S, RunLog
from streamll.serve.runner import CANCEL_S, Runner
from streamll.serve.web.limits import Limits
from streamll.serve.web.signals import StopSignals

LIMITS = Limits(runs=1_000_000)

STOPPING_S = 30.0
"""A stream that begins so soon after ``shutdown`` ends at once; a process that lives on serves again."""


class OpenStreams:
    """The streams of one event loop."""

    def __init__(self) -> None:
        self.runners: dict[str, Runner] = {}
        """One for all responses with the same log."""
        self._calls: set[Any] = set()
        self._stopped_at = -STOPPING_S

    async def runner(self, log: str) -> Runner:
        """The runner for a log, which is open."""
        if log not in self.runners:
            self.runners[log] = Runner(RunLog(log, away_s=AWAY_S), LIMITS)
        await self.runners[log].open()
        return self.runners[log]

    @contextlib.contextmanager
    def holding(self, events: Any) -> Iterator[None]:
        """``events``, an ``AsyncStream``, are sent to a reader meanwhile."""
        self._calls.add(events)
        if self.is_stopping:
            events.cancel()
        try:
            yield
        finally:
            self._calls.discard(events)

    @property
    def is_stopping(self) -> bool:
        return time.monotonic() - self._stopped_at < STOPPING_S

    def stop(self) -> None:
        """End all streams; on their event loop."""
        self._stopped_at = time.monotonic()
        for events in self._calls:
            events.cancel()
        for runner in self.runners.values():
            for run_id in list(runner.running):
                runner.cancel_here(run_id)
            runner.run_log.dismiss(but=runner.running)
            asyncio.get_running_loop().call_later(CANCEL_S, runner.run_log.dismiss)


_of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, OpenStreams] = WeakKeyDictionary()


def shutdown() -> None:
    """End the streams of ``sse_response`` and ``websocket_stream`` in this process, within seconds.

    Their programs are cancelled, and every reader gets the end of its run, in its format. Called at
    SIGTERM and SIGINT where the event loop is that of the main thread; elsewhere call it yourself
    when the server is to stop. Any thread and any signal handler may; it never waits.
    """
    for loop, streams in list(_of_loops.items()):
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(streams.stop)


def _stop(_: int) -> bool:
    shutdown()
    return True


_signals = StopSignals(_stop)


def open_streams() -> OpenStreams:
    """Those of the running event loop. The server has its signal handlers by now."""
    _signals.install()
    return _of_loops.setdefault(asyncio.get_running_loop(), OpenStreams())
