"""Detects that the program was stopped (Ctrl-Z) while a thread slept, without a signal handler.

Signal handlers belong to the program, and only its main thread could set one. If a sleep takes a
second longer than requested, while the process computed next to nothing and the thread did not
wait for a processor, the program was stopped. A false positive costs little: rows that could have
been overwritten are drawn once more below.
"""

from __future__ import annotations

import time
from pathlib import Path

QUEUED = Path("/proc/thread-self/schedstat")
STOP_S = 1.0
"""Excess over the requested time that counts as a stop; nobody types ``fg`` in less."""


def sleep(seconds: float) -> bool:
    """Sleep; returns whether the program was stopped meanwhile."""
    began, busy = time.monotonic(), _busy()
    time.sleep(seconds)
    beyond = time.monotonic() - began - seconds
    return beyond > STOP_S and _busy() - busy < beyond / 2


def _busy() -> float:
    """Seconds of CPU time of this process plus those this thread has waited for a processor."""
    try:
        waited = int(QUEUED.read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        waited = 0.0
    return time.process_time() + waited
