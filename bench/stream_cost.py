"""What streaming costs the process that does it: CPU microseconds per chunk, side by side.

Every path answers the same ChainOfThought question over loopback HTTP, from a provider in a
process of its own, and must hand its reader all of both fields. The figure is the CPU time of
this process, all its threads included, divided by the chunks of the answer, so it contains the
call itself (prompt, parsing, history) as well. Paths take turns, round after round, so that a
busy machine disturbs all of them alike; the median counts.

    python bench/stream_cost.py --chunks 2000 --rounds 7
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import platform
import statistics
import sys
import time
import warnings
from importlib import metadata
from typing import NamedTuple

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # no look-up over the network
logging.getLogger("dspy").setLevel(logging.ERROR)
warnings.filterwarnings("ignore")

import _paths as paths  # noqa: E402
from _provider import FIELDS, field_text, pieces, provider  # noqa: E402

FLOOR, ENGINE, STREAMIFY = "raw socket + msgspec", "DSPy's engine alone", "dspy.streamify"


class Path(NamedTuple):
    name: str
    mode: str  # "sync" or "async"
    make: object

    @property
    def whole_reply(self) -> bool:
        """The lowest paths know nothing of fields: their reader sees the reply as it is."""
        return self.name in {FLOOR, ENGINE}


PATHS = [
    Path(FLOOR, "sync", paths.floor_sync),
    Path(FLOOR, "async", paths.floor_async),
    Path(ENGINE, "sync", paths.engine_sync),
    Path(ENGINE, "async", paths.engine_async),
    Path("streamll.instrument", "sync", paths.instrument_sync),
    Path("streamll.instrument", "async", paths.instrument_async),
    Path("streamll.stream", "sync", paths.stream_sync),
    Path("streamll.stream", "async", paths.stream_async),
    Path(STREAMIFY, "sync", paths.streamify_sync),
    Path(STREAMIFY, "async", paths.streamify_async),
]


def letters(text: str) -> str:
    return "".join(text.split())


def complete(path: Path, text: str, chunks: int) -> bool:
    if path.whole_reply:
        return text == "".join(pieces(chunks))
    expected = field_text(chunks // len(FIELDS)) * len(FIELDS)
    if path.name == STREAMIFY:  # leaves blanks and delimiters at field ends
        return letters(expected) in letters(text) or letters(text) in letters(expected)
    return text == expected


def measure(address: str, pace: int, chunks: int, rounds: int) -> dict[Path, list[float]]:
    """CPU microseconds per chunk of every path, once per round."""
    url = f"{address}/{pace}/{chunks}/v1"
    calls = {path: path.make(url) for path in PATHS}
    spent: dict[Path, list[float]] = {path: [] for path in PATHS}
    for number in range(rounds + 1):  # the first warms up
        for path, call in calls.items():
            gc.collect()
            begin = time.process_time()
            text = call()
            seconds = time.process_time() - begin
            if not complete(path, text, chunks):
                print(f"{path.name} ({path.mode}) did not deliver the whole text", file=sys.stderr)
            if number:
                spent[path].append(seconds / len(pieces(chunks)) * 1e6)
    return spent


def table(spent: dict[Path, list[float]]) -> str:
    """Medians; a ratio is the median of the rounds' ratios, whatever else the machine did."""
    by_key = {(path.name, path.mode): costs for path, costs in spent.items()}
    rows = [f"{'':24}{'':>7}{'µs/chunk':>10}{'spread':>16}{'× engine':>10}{'streamify ÷':>13}"]
    for path, costs in spent.items():
        engine, streamify = by_key[ENGINE, path.mode], by_key[STREAMIFY, path.mode]
        rows.append(
            f"{path.name:24}{path.mode:>7}{statistics.median(costs):10.1f}"
            f"{f'{min(costs):.1f}–{max(costs):.1f}':>16}"
            f"{ratio(costs, engine):10.2f}{ratio(streamify, costs):13.1f}"
        )
    return "\n".join(rows)


def ratio(costs: list[float], others: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(costs, others, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chunks", type=int, default=2000, help="of the answer in bursts")
    parser.add_argument("--paced-chunks", type=int, default=1000, help="of the paced answer")
    parser.add_argument("--rounds", type=int, default=7, help="in bursts")
    parser.add_argument("--paced-rounds", type=int, default=5)
    options = parser.parse_args()

    print(
        f"CPU per chunk; DSPy {metadata.version('dspy')}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    with provider() as address:
        print(f"\nIn bursts: {options.chunks} chunks at once, {options.rounds} rounds, median")
        print(table(measure(address, 0, options.chunks, options.rounds)))
        chunks, rounds = options.paced_chunks, options.paced_rounds
        print(f"\nPaced: {chunks} chunks, each in a packet of its own, 1 ms apart, {rounds} rounds")
        print(table(measure(address, 1, chunks, rounds)))


if __name__ == "__main__":
    main()
