"""Many streams through one process: CPU per token and memory per stream, from 1 to 1,000 at once.

Each of 1, 10, 100, 1,000 streams at once reads the same answers from a provider in a process of
its own, so a token costs the same everywhere unless the number of streams makes it dearer. All
CPU time of this process counts, the calls themselves included. For memory, the streams stay in
the middle of their answers, and the growth of this process's resident memory is divided by them.

    python bench/many_streams.py --chunks 500 --rounds 3
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import statistics
import subprocess
import sys
import time
import tracemalloc
import warnings
from pathlib import Path

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # no look-up over the network
logging.getLogger("dspy").setLevel(logging.ERROR)
warnings.filterwarnings("ignore")

import dspy  # noqa: E402
from _provider import FIELDS, field_text, provider  # noqa: E402
from dspy import lm15  # noqa: E402
from dspy._vendor.lm15.transports import StdlibAsyncTransport, StdlibTransport  # noqa: E402
from dspy.clients.engines.lm15_engine import AsyncLM15Engine, LM15Engine  # noqa: E402

import streamll  # noqa: E402
from streamll import StreamConfig  # noqa: E402

AT_ONCE = (1, 10, 100, 1_000)
CONFIG = StreamConfig(timeout=600, first_token_timeout=300, idle_timeout=300)


class Program(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict = dspy.ChainOfThought("question -> answer")

    async def aforward(self, question):
        return await self.predict.acall(question=question)


def language_model(url: str) -> dspy.LM:
    """An LM whose engine may hold a connection for each stream; DSPy's own hold 100."""

    def config(transport):
        return lm15.RouterConfig(
            api_keys={"openai-chat": "none"}, base_urls={"openai-chat": url},
            transport=transport(max_connections=max(AT_ONCE), read_timeout=600),
        )  # fmt: skip

    engines = LM15Engine(config(StdlibTransport)), AsyncLM15Engine(config(StdlibAsyncTransport))
    return dspy.LM("openai/x", engine=engines[0], async_engine=engines[1], cache=False)


async def read(number: int, expected: str) -> None:
    words = []
    stream = streamll.stream(Program(), config=CONFIG, keep_text=False)
    async with stream(question=f"question {number}") as events:
        words += [event.token async for event in events if event.event_type == "token"]
    if "".join(words) != expected:
        raise SystemExit(f"stream {number} lost or mixed text")


async def in_batches(at_once: int, streams: int, expected: str) -> None:
    for start in range(0, streams, at_once):
        await asyncio.gather(*(read(start + n, expected) for n in range(at_once)))


def cpu_per_token(url: str, at_once: int, streams: int, chunks: int) -> float:
    """Microseconds."""
    expected = field_text(chunks // len(FIELDS)) * len(FIELDS)
    with dspy.context(lm=language_model(f"{url}/0/{chunks}/v1"), disable_history=True):
        gc.collect()
        began = time.process_time()
        asyncio.run(in_batches(at_once, streams, expected))
        return (time.process_time() - began) / (streams * chunks) * 1e6


def allocated() -> float:
    """Kilobytes that Python objects take: exact also for a single stream."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0] / 1024 if tracemalloc.is_tracing() else 0.0


def resident() -> int:
    """Kilobytes of the process, which grow by pages and whole arenas."""
    gc.collect()
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


async def memory_per_stream(at_once: int, program: dspy.Module) -> tuple[float, float]:
    """Kilobytes of a stream whose reply has begun and which waits for its next token."""
    stream = streamll.stream(program, config=CONFIG)
    before, objects = resident(), allocated()
    calls = [stream(question=f"question {n}") for n in range(at_once)]
    opened = await asyncio.gather(*(call.__aenter__() for call in calls))
    for events in opened:
        async for event in events:
            if event.event_type == "lm.start":
                break
    await asyncio.sleep(1 + at_once / 200)
    grown, made = resident() - before, allocated() - objects
    for call in calls:
        await call.__aexit__(None, None, None)
    return made / at_once, grown / at_once


KINDS = {
    "async": Program,
    "sync, a thread each": lambda: dspy.ChainOfThought("question -> answer"),
}


def print_memory(url: str, kind: str, at_once: int, tracing: bool) -> None:
    """In a process of its own: memory that was freed before would hide what streams take."""
    program = KINDS[kind]()
    with dspy.context(lm=language_model(url), disable_history=True):
        asyncio.run(memory_per_stream(2, program))  # what is loaded on first use
        if tracing:
            tracemalloc.start()
        print(asyncio.run(memory_per_stream(at_once, program))[0 if tracing else 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--memory", nargs=4, metavar=("URL", "KIND", "N", "HOW"), help=argparse.SUPPRESS
    )
    options = parser.parse_args()
    if options.memory:
        url, kind, at_once, how = options.memory
        print_memory(url, kind, int(at_once), how == "objects")
        return
    with provider() as url:
        cpu_per_token(url, 1, 5, options.chunks)  # what is loaded on first use
        costs: dict[int, list[float]] = {at_once: [] for at_once in AT_ONCE}
        for _ in range(options.rounds):
            for at_once in AT_ONCE:
                streams = max(at_once, 200)
                costs[at_once].append(cpu_per_token(url, at_once, streams, options.chunks))
        print(f"{'streams at once':>16} {'CPU µs per token':>18} {'× of one':>9}")
        for at_once in AT_ONCE:
            ratios = [c / one for c, one in zip(costs[at_once], costs[1], strict=True)]
            print(
                f"{at_once:>16} {statistics.median(costs[at_once]):>18.1f} "
                f"{statistics.median(ratios):>9.2f}"
            )
        silent = f"{url}/600000/{options.chunks}/v1"  # one frame, then nothing
        print(
            f"\n{'streams at once':>16} {'KB of objects':>14} {'× of one':>9} {'KB resident':>12}"
        )
        for kind in KINDS:
            one = None
            for at_once in AT_ONCE:
                arguments = ["--memory", silent, kind, str(at_once)]
                made, grown = (
                    float(subprocess.check_output([sys.executable, __file__, *arguments, how]))
                    for how in ("objects", "resident")
                )
                one = one or made
                shown = f"{grown:.0f}" if at_once > 1 else "–"
                print(f"{at_once:>16} {made:>14.0f} {made / one:>9.2f} {shown:>12}  {kind}")


if __name__ == "__main__":
    main()
