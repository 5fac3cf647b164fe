"""Runs the tests again and again while other processes burn every core: ``under_load.py [TIMES] [ARGS …]``.

``TIMES`` (10 by default) is how often; ``ARGS`` go to ``make test``. For each run one line says how it
ended, how long it took and what the machine's load was; the first that fails shows its last lines and
ends the series. Exit code 0: all were green.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
BURN = "while True: pass"
SHOWN_LINES = 60


@contextmanager
def busy_cores() -> Iterator[None]:
    """One process for each core that never waits."""
    command = [sys.executable, "-c", BURN]
    burning = [subprocess.Popen(command) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in burning:
            process.kill()
            process.wait()


def run(arguments: str) -> tuple[bool, str]:
    """Whether the tests passed, and what they printed. Raises ``FileNotFoundError`` without make."""
    done = subprocess.run(
        [str(shutil.which("make")), "test", f"ARGS={arguments}"],
        cwd=ROOT,
        env={**os.environ, "CI": "true"},  # a skipped test is a failure
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode == 0, done.stdout


def main(times: int, arguments: str) -> bool:
    with busy_cores():
        for number in range(1, times + 1):
            began = time.monotonic()
            passed, output = run(arguments)
            took, lines = time.monotonic() - began, output.strip().splitlines()
            summary = lines[-1].strip("= ") if passed else "failed"
            load = os.getloadavg()[0]
            print(
                f"{number:2}/{times}  {took / 60:5.1f} min  load {load:4.1f}  {summary}", flush=True
            )
            if not passed:
                print("\n".join(lines[-SHOWN_LINES:]))
                return False
    return True


if __name__ == "__main__":
    given = sys.argv[1:]
    count = int(given.pop(0)) if given and given[0].isdigit() else 10
    sys.exit(0 if main(count, " ".join(given)) else 1)
