"""Random streams of every wire, as ``tests/capture/dialects/test_fuzz.py`` checks them, many of them.

    python bench/fuzz_wires.py                  a million streams, over all wires and checks
    python bench/fuzz_wires.py 20000            so many
    python bench/fuzz_wires.py 20000 --seed 7   others

One process for each core. Prints what failed with the seed that shows it, and exits with 1 then.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/capture/dialects"))
BATCH = 500


def run(job: tuple[int, int, int, int]) -> tuple[int, int, Counter[str], dict[str, int]]:
    """One batch of seeds: how many failures of each kind, and a seed of each."""
    from fuzz_checks import CHECKS
    from fuzzing import WRITERS

    wire, check, begin, count = job
    failures: Counter[str] = Counter()
    seeds: dict[str, int] = {}
    for seed in range(begin, begin + count):
        try:
            CHECKS[check](WRITERS[wire], seed)
        except Exception as error:
            kind = f"{type(error).__name__}: {str(error)[:120]}"
            failures[kind] += 1
            seeds.setdefault(kind, seed)
    return wire, check, failures, seeds


def main() -> int:
    from fuzz_checks import CHECKS
    from fuzzing import WRITERS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("streams", nargs="?", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    given = parser.parse_args()
    pairs = [(w, c) for w in range(len(WRITERS)) for c in range(len(CHECKS))]
    each = max(1, given.streams // len(pairs))
    jobs = [
        (wire, check, given.seed + begin, min(BATCH, each - begin))
        for begin in range(0, each, BATCH)
        for wire, check in pairs
    ]
    begun, failed = time.monotonic(), 0
    with multiprocessing.Pool(given.processes) as pool:
        for wire, check, failures, seeds in pool.imap_unordered(run, jobs):
            failed += sum(failures.values())
            for kind, count in failures.items():
                where = f"{WRITERS[wire].name}: {CHECKS[check].__name__}"
                print(f"{where}, seed {seeds[kind]} (and {count - 1} more): {kind}", flush=True)
    total, seconds = each * len(pairs), time.monotonic() - begun
    print(f"{total:,} streams in {seconds:,.0f} s, {failed} failures")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
