"""A sink before another one: coarse text comes to it in small pieces, at an even pace."""

from __future__ import annotations

import time
from typing import Any

from streamll.core.errors import ConfigurationError
from streamll.core.events import TERMINAL, Event
from streamll.flow.buffer import Policy
from streamll.sinks.base import BaseSink
from streamll.streams.smoothing import Pace, Smoother, Unit


class SmoothSink(BaseSink):
    """What ``streamll.streams.smooth`` is for a stream, for a sink.

    >>> streamll.configure(sinks=[SmoothSink(TerminalSink())])  # doctest: +SKIP

    Args:
        sink: gets the smoothed events.
        unit: ``"word"`` or ``"grapheme"`` (what a reader sees as one character).
        interval: longest pause between two pieces, in seconds. Runs at the same time share it.
        buffer_size: see ``BaseSink``.
        overflow: see ``BaseSink``.

    Pieces are numbered anew, so ``seq`` is no position in a log: not for the sinks of brokers.

    Raises:
        ConfigurationError: what is no sink, such as a sink's class; another ``unit``, or a negative
            ``interval``.
    """

    def __init__(
        self,
        sink: BaseSink,
        unit: Unit = "word",
        *,
        interval: float = 0.03,
        buffer_size: int = 10_000,
        overflow: Policy = "coalesce",
    ) -> None:
        super().__init__(buffer_size=buffer_size, overflow=overflow)
        if isinstance(sink, type) or not hasattr(sink, "catch_up"):
            name = getattr(sink, "__name__", type(sink).__name__)
            raise ConfigurationError(f"SmoothSink takes a sink, such as TerminalSink(), not {name}")
        self.sink = sink
        self.local = sink.local
        self._unit: Unit = unit
        self._pace = Pace(interval)
        Smoother(unit, self._pace)
        self._runs: dict[str | None, Smoother] = {}

    def handle_event(self, event: Event) -> None:
        run = self._runs.get(event.run_id)
        if run is None:
            run = self._runs[event.run_id] = Smoother(self._unit, self._pace)
        for pause, piece in run.feed(event):
            time.sleep(pause)
            self.sink.put(piece)
        if event.event_type in TERMINAL:
            del self._runs[event.run_id]

    def catch_up(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until both sinks have handled everything put so far."""
        deadline = time.monotonic() + timeout
        done = super().catch_up(timeout)
        return self.sink.catch_up(max(0.0, deadline - time.monotonic())) and done

    def stop(self, timeout: float = 10.0) -> bool:
        """Give the other sink everything put so far, and stop both.

        False if ``timeout`` seconds were not enough.
        """
        deadline = time.monotonic() + timeout
        done = super().stop(timeout)
        return self.sink.stop(max(0.0, deadline - time.monotonic())) and done

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_runs": {}}
