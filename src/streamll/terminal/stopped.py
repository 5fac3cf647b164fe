"""Whether the program was stopped (Ctrl-Z) while a thread slept, without a signal handler.

Handlers are the program's own, and only its main thread could set one. A sleep that takes a second
longer than asked for, in which the process computed next to nothing and nothing made the thread
wait for a processor, was a stop. Taking something else for one costs little: rows that could have
been overwritten are drawn once more below.
"""

from __future__ import annotations

import time
from pathlib import Path

QUEUED = Path("/proc/thread-self/schedstat")
LONG = 1.0
"""Seconds beyond the time asked for; nobody types ``fg`` in less."""


def sleep(seconds: float) -> bool:
    """Sleep; whether the program was stopped meanwhile."""
    began, busy = time.monotonic(), _busy()
    time.sleep(seconds)
    beyond = time.monotonic() - began - seconds
    return beyond > LONG and _busy() - busy < beyond / 2


def _busy() -> float:
    """Seconds that this process has computed and this thread has waited for its turn."""
    try:
        waited = int(QUEUED.read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        waited = 0.0
    return time.process_time() + waited
