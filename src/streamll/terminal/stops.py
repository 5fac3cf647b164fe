"""Ctrl-Z: whether the program was stopped between two frames, told without a signal handler.

Handlers belong to the program, and only its main thread could set one. But it is known when the next
frame is due, and whoever writes first after ``fg`` (the ticker, a run's end, a ``print``) sees that it
is late. ``noticed`` is asked right before a write that overwrites rows, so that it does not matter
whether the stop came between two frames or while one was being drawn.
"""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path

from streamll.terminal.output import Output

TASKS = Path("/proc/self/task")
STOP_S = 1.0
"""So late a frame counts as a stop; nobody types ``fg`` in less."""


class Stops:
    """If a frame is a second late, while the process computed next to nothing, the thread that draws
    did not wait for a processor, and no write waited for a terminal that is paused (Ctrl-S), the
    program was stopped. A false positive costs little: rows that could have been overwritten are
    drawn once more below.
    """

    def __init__(self) -> None:
        self._due = math.inf
        self._thread = 0
        self._spent = 0.0

    def expect(self, seconds: float | None) -> None:
        """This thread draws again in so many seconds; ``None``: not by itself."""
        self._due = math.inf if seconds is None else time.monotonic() + seconds
        self._thread = threading.get_native_id()
        self._spent = self._spending()

    def noticed(self) -> bool:
        """Whether the program was stopped since ``expect``; told once."""
        late = time.monotonic() - self._due
        if late < STOP_S or self._spending() - self._spent > late / 2:
            return False
        self._due = math.inf
        return True

    def _spending(self) -> float:
        """Seconds of CPU time of this process, of writing, and of waiting for a processor."""
        try:
            queued = (TASKS / str(self._thread) / "schedstat").read_text().split()[1]
        except (OSError, IndexError):
            queued = "0"
        return time.process_time() + Output.writing_s + int(queued) / 1e9
