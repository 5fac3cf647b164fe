"""Runs the tests again and again while other processes burn every core: ``under_load.py [TIMES] [--log FILE] [ARGS …]``.

``TIMES`` (10 by default) is how often; ``ARGS`` go to ``make test``. Each run is one line: when it began, of which
commit, how long it took, the machine's load, and how many tests passed and failed. ``--log FILE`` appends
these lines to a file, and what a failed run printed beside it, as ``FILE.N``; a series that was interrupted
is taken up there: runs of the same commit that were green count. The first that fails ends the series.
Exit code 0: all were green.
"""

from __future__ import annotations

import argparse
import os
import re
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
GREEN = "green"


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


def state_of_sources() -> str:
    """The commit, and whether files differ from it. Raises ``FileNotFoundError`` without Git."""
    git = [str(shutil.which("git")), "describe", "--always", "--abbrev=10", "--dirty=+changes"]
    done = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


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


def counts(output: str) -> str:
    """What pytest says at its end, such as ``3 failed, 90 passed``."""
    told: list[str] = re.findall(r"^=* ?(\d+ \w+(?:, \d+ \w+)*) in [\d.]+s", output, re.MULTILINE)
    return told[-1] if told else "no test ran"


def green_runs(log: Path | None, of: str) -> int:
    """How many a series has already."""
    if log is None or not log.exists():
        return 0
    lines = log.read_text("utf-8").splitlines()
    return sum(of in line.split() and GREEN in line.split() for line in lines)


def main(times: int, log: Path | None, arguments: str) -> bool:
    of = " ".join([state_of_sources(), *arguments.split()]).replace(" ", "_")
    done = green_runs(log, of)
    with busy_cores():
        for number in range(done + 1, times + 1):
            at, began = time.strftime("%Y-%m-%d %H:%M"), time.monotonic()
            passed, output = run(arguments)
            minutes, load = (time.monotonic() - began) / 60, os.getloadavg()
            line = (
                f"{number:2}/{times}  {at}  {of}  {minutes:5.1f} min  load {load[0]:.1f} {load[2]:.1f}"
                f"  {GREEN if passed else 'FAILED'}  {counts(output)}"
            )
            print(line, flush=True)
            if log is not None:
                with log.open("a", encoding="utf-8") as file:
                    file.write(f"{line}\n")
            if not passed:
                print("\n".join(output.strip().splitlines()[-SHOWN_LINES:]))
                if log is not None:
                    log.with_name(f"{log.name}.{number}").write_text(output, "utf-8")
                return False
    return True


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="Run the tests while other processes burn every core."
    )
    parser.add_argument("times", type=int, nargs="?", default=10)
    parser.add_argument("--log", type=Path, metavar="FILE")
    given, passed_on = parser.parse_known_args()
    sys.exit(0 if main(given.times, given.log, " ".join(passed_on)) else 1)
