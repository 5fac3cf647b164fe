"""Bounds in time that a busy machine does not break.

``BOUND`` ends a test that would hang; nothing is promised by it. Where time itself is promised, as
in "closed within 0.1 s", a ``Stopwatch`` leaves out what the machine made its processes wait:

    watch = Stopwatch()
    stream.close()
    assert watch.until(request.wait_closed()) < 0.1

On an idle machine that is the clock's time. On one whose cores are always wanted by others it is
close to nothing: then the order of events has to say what was promised.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

BOUND = 60
"""Seconds after which a test gives up waiting."""

PRESSURE = [Path("/proc/pressure", each) for each in ("cpu", "io", "memory")]
"""For how long, in all, some process has waited for a core, a disk or memory."""
CORES = os.cpu_count() or 1
"""Pressure is the mean of all cores that have work: who waits for one of them, while the others do not keep
anybody waiting, has waited up to so many times as long.
"""
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
UNKNOWN_SHARE = 0.9
"""The share of the time that counts as waiting where the system does not tell."""


class Stopwatch:
    """Seconds since it was made, without those for which this machine kept processes waiting."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self._waited = _waited()

    @property
    def seconds(self) -> float:
        return self.until(time.monotonic())

    def until(self, moment: float) -> float:
        """To a moment of ``time.monotonic``, at most now."""
        took = moment - self.began
        if self._waited is None:
            return took * (1 - UNKNOWN_SHARE)
        return took - (_waited() - self._waited)


def _waited() -> float | None:
    """Seconds lost so far, at most: to other processes, to the disk, and to other virtual machines."""
    try:
        stalls = [path.read_text("ascii") for path in PRESSURE]
        stolen = Path("/proc/stat").read_text("ascii").split(maxsplit=9)[8]
    except OSError:
        return None
    microseconds = sum(int(each.split("total=", 1)[1].split()[0]) for each in stalls)
    return CORES * microseconds / 1_000_000 + int(stolen) / TICKS_PER_S
