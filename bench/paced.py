"""Tokens as providers send them, one a packet: how many streams one process can read, and at what cost.

N streams of 50 tokens a second are started at 100 a second; then come seconds in which all of them
run, and those are measured: the CPU time of this process per token, and the time from a token's
sending to its reader. The provider has a process of its own (``_wheel.py``), and so has every
measurement; the ways take turns, round after round, and a ratio is the median of the rounds' own.

    python bench/paced.py --streams 100 300 1000 --rounds 3
    python bench/paced.py --only stream-async --streams 300      # one way, for a profiler

Then: what a call costs whose reply is 20 chunks at once, where waking up plays no part.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Awaitable, Callable
from importlib import metadata
from urllib.parse import urlsplit

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # no look-up over the network
logging.getLogger("dspy").setLevel(logging.ERROR)
warnings.filterwarnings("ignore")

import dspy  # noqa: E402
from _paths import QUESTION, REQUEST, Floor, request_bytes  # noqa: E402
from _wheel import provider  # noqa: E402
from dspy._vendor.lm15.transports import StdlibAsyncTransport, StdlibTransport  # noqa: E402
from dspy.clients.engines.lm15_engine import AsyncLM15Engine, LM15Engine  # noqa: E402
from dspy.lm15 import AsyncLMRouter, LMRouter, RouterConfig  # noqa: E402
from dspy.streaming import StreamListener, StreamResponse  # noqa: E402

INTERVAL_MS = 20
STARTED_PER_S = 100
SETTLE_S, MEASURED_S, SPARE_S = 0.5, 4.0, 3.0
CHUNKS_OF_A_CALL, CALLS = 20, 60
STAMP = re.compile(r"(\d+):(\d+)")

Note = Callable[[str], None]


class Seen:
    """What one reader saw, and when."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.times: list[float] = []

    def note(self, text: str) -> None:
        self.texts.append(text)
        self.times.append(time.monotonic())

    def delays(self, begin: float, end: float) -> list[float]:
        """Milliseconds of each token that came in the time. Raises where one was lost or moved."""
        delays, expected = [], 0
        for text, at in zip(self.texts, self.times, strict=True):
            for number, sent in STAMP.findall(text):
                if int(number) != expected:
                    raise SystemExit(f"token {number} came in place of {expected}")
                expected += 1
                if begin <= at < end:
                    delays.append(at * 1e3 - int(sent) / 1e3)
        return delays


# --- the ways: each reads one stream -----------------------------------------------------------


def config(url: str, transport: type) -> RouterConfig:
    return RouterConfig(
        api_keys={"openai-chat": "none"}, base_urls={"openai-chat": url},
        transport=transport(max_connections=2000, read_timeout=600),
    )  # fmt: skip


class Program(dspy.Module):
    def __init__(self, lm: dspy.LM) -> None:
        super().__init__()
        self.predict = dspy.Predict("question -> answer")
        self.set_lm(lm)

    def forward(self, question: str) -> dspy.Prediction:
        return self.predict(question=question)

    async def aforward(self, question: str) -> dspy.Prediction:
        return await self.predict.acall(question=question)


class SyncProgram(Program):
    aforward = None


del SyncProgram.aforward


def language_model(url: str) -> dspy.LM:
    """An LM whose engine may hold a connection for each stream; DSPy's own hold 100."""
    engine = LM15Engine(config(url, StdlibTransport))
    async_engine = AsyncLM15Engine(config(url, StdlibAsyncTransport))
    return dspy.LM("openai/x", engine=engine, async_engine=async_engine, cache=False)


def floor_async(url: str) -> Callable[[Note], Awaitable[None]]:
    address, request = urlsplit(url), request_bytes(url)

    class Client(asyncio.Protocol):
        def __init__(self, note: Note) -> None:
            self.floor, self.note = Floor(), note
            self.floor.text = self
            self.append = note  # of the floor's text
            self.done = asyncio.get_running_loop().create_future()

        def data_received(self, data: bytes) -> None:
            self.floor.feed(data)
            if self.floor.ended and not self.done.done():
                self.done.set_result(None)

    async def read(note: Note) -> None:
        loop = asyncio.get_running_loop()
        transport, client = await loop.create_connection(
            lambda: Client(note), address.hostname, address.port
        )
        transport.write(request)
        try:
            await client.done
        finally:
            transport.close()

    return read


def woken_async(url: str) -> Callable[[Note], Awaitable[None]]:
    """The floor, whose text is read with ``async for``: a task is woken for each packet."""
    address, request = urlsplit(url), request_bytes(url)

    class Client(asyncio.Protocol):
        def __init__(self) -> None:
            self.floor = Floor()
            self.woken = asyncio.get_running_loop().create_future()

        def data_received(self, data: bytes) -> None:
            self.floor.feed(data)
            if not self.woken.done():
                self.woken.set_result(None)

        def __aiter__(self) -> Client:
            return self

        async def __anext__(self) -> str:
            while not self.floor.text:
                if self.floor.ended:
                    raise StopAsyncIteration
                self.woken = asyncio.get_running_loop().create_future()
                await self.woken
            return self.floor.text.pop(0)

    async def read(note: Note) -> None:
        loop = asyncio.get_running_loop()
        transport, client = await loop.create_connection(Client, address.hostname, address.port)
        transport.write(request)
        try:
            async for text in client:
                note(text)
        finally:
            transport.close()

    return read


def engine_async(url: str) -> Callable[[Note], Awaitable[None]]:
    router = AsyncLMRouter(config(url, StdlibAsyncTransport))

    async def read(note: Note) -> None:
        async for event in router.stream(REQUEST):
            if event.type == "delta" and event.delta.type == "text":
                note(event.delta.text)

    return read


def stream_async(url: str) -> Callable[[Note], Awaitable[None]]:
    import streamll

    stream = streamll.stream(Program(language_model(url)), fields=["answer"])

    async def read(note: Note) -> None:
        async with stream(question=QUESTION) as events:
            async for event in events:
                if event.event_type == "token":
                    note(event.token)

    return read


def instrument_async(url: str) -> Callable[[Note], Awaitable[None]]:
    qa, by_run = instrumented(Program(language_model(url)))

    async def read(note: Note) -> None:
        by_run.append(note)
        await qa.acall(question=QUESTION)

    return read


def instrumented(program: dspy.Module) -> tuple[dspy.Module, list[Note]]:
    """The program with one sink, which tells each reader of its own run."""
    import streamll
    from streamll.sinks import BaseSink

    waiting: list[Note] = []
    notes: dict[str, Note] = {}

    class Listening(BaseSink):
        def handle_event(self, event):
            if event.event_type == "token":
                notes[event.identity.run_id](event.token)
            elif event.event_type == "run.start":
                notes[event.identity.run_id] = waiting.pop()

    return streamll.instrument(program, stream_fields=["answer"], sinks=[Listening()]), waiting


def streamify_async(url: str) -> Callable[[Note], Awaitable[None]]:
    program = Program(language_model(url))

    async def read(note: Note) -> None:  # one listener cannot be used twice at once
        listeners = [StreamListener("answer")]
        qa = dspy.streamify(program, stream_listeners=listeners, is_async_program=True)
        async for chunk in qa(question=QUESTION):
            if isinstance(chunk, StreamResponse):
                note(chunk.chunk)

    return read


def floor_sync(url: str) -> Callable[[Note], None]:
    import socket

    address, request = urlsplit(url), request_bytes(url)

    def read(note: Note) -> None:
        floor = Floor()
        floor.text = type("Text", (), {"append": staticmethod(note)})
        with socket.create_connection((address.hostname, address.port)) as connection:
            connection.sendall(request)
            while not floor.ended and (data := connection.recv(65536)):
                floor.feed(data)

    return read


def engine_sync(url: str) -> Callable[[Note], None]:
    router = LMRouter(config(url, StdlibTransport))

    def read(note: Note) -> None:
        for event in router.stream(REQUEST):
            if event.type == "delta" and event.delta.type == "text":
                note(event.delta.text)

    return read


def stream_sync(url: str) -> Callable[[Note], None]:
    import streamll

    stream = streamll.stream(SyncProgram(language_model(url)), fields=["answer"])

    def read(note: Note) -> None:
        with stream(question=QUESTION) as events:
            for event in events:
                if event.event_type == "token":
                    note(event.token)

    return read


def instrument_sync(url: str) -> Callable[[Note], None]:
    qa, by_run = instrumented(SyncProgram(language_model(url)))

    def read(note: Note) -> None:
        by_run.append(note)
        qa(question=QUESTION)

    return read


def streamify_sync(url: str) -> Callable[[Note], None]:
    program = SyncProgram(language_model(url))

    def read(note: Note) -> None:
        listeners = [StreamListener("answer")]
        qa = dspy.streamify(program, stream_listeners=listeners, async_streaming=False)
        for chunk in qa(question=QUESTION):
            if isinstance(chunk, StreamResponse):
                note(chunk.chunk)

    return read


WAYS = {
    "floor-async": floor_async,
    "woken-async": woken_async,
    "engine-async": engine_async,
    "instrument-async": instrument_async,
    "stream-async": stream_async,
    "streamify-async": streamify_async,
    "floor-sync": floor_sync,
    "engine-sync": engine_sync,
    "instrument-sync": instrument_sync,
    "stream-sync": stream_sync,
    "streamify-sync": streamify_sync,
}
NAMES = {
    "floor": "raw protocol + msgspec",
    "woken": "the same, async for",
    "engine": "DSPy's engine alone",
    "instrument": "streamll.instrument",
    "stream": "streamll.stream",
    "streamify": "dspy.streamify",
}
SYNC_STREAMS = 100
"""A thread for each, or two: more say nothing new."""


# --- one measurement -----------------------------------------------------------------------------


async def run_async(read: Callable[[Note], Awaitable[None]], seen: list[Seen], profile: object):
    tasks = []
    for each in seen:
        tasks.append(asyncio.create_task(read(each.note)))
        await asyncio.sleep(1 / STARTED_PER_S)
    await asyncio.sleep(SETTLE_S)
    measured = await asyncio.create_task(steady(profile))
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=10)
    return measured


async def steady(profile: object) -> tuple[float, float, float]:
    profile.enable()
    begin, cpu = time.monotonic(), time.process_time()
    await asyncio.sleep(MEASURED_S)
    measured = begin, time.monotonic(), time.process_time() - cpu
    profile.disable()
    return measured


def run_sync(read: Callable[[Note], None], seen: list[Seen]) -> tuple[float, float, float]:
    for each in seen:
        threading.Thread(target=read, args=(each.note,), daemon=True).start()
        time.sleep(1 / STARTED_PER_S)
    time.sleep(SETTLE_S)
    begin, cpu = time.monotonic(), time.process_time()
    time.sleep(MEASURED_S)
    return begin, time.monotonic(), time.process_time() - cpu


def measure(way: str, url: str, streams: int, options: argparse.Namespace) -> dict[str, float]:
    import cProfile

    profile = (
        cProfile.Profile(builtins=False)
        if options.profile
        else argparse.Namespace(enable=lambda: None, disable=lambda: None)
    )
    seconds = streams / STARTED_PER_S + SETTLE_S + MEASURED_S + SPARE_S
    tokens = int(seconds * 1000 / INTERVAL_MS)
    read = WAYS[way](f"{url}/{INTERVAL_MS}/{tokens}/{options.form}/v1")
    seen = [Seen() for _ in range(streams)]
    gc.collect()
    if way.endswith("-async"):
        begin, end, cpu = run(run_async(read, seen, profile), options.uvloop)
    else:
        begin, end, cpu = run_sync(read, seen)
    delays = [delay for each in seen for delay in each.delays(begin, end)]
    if options.profile:
        profile.dump_stats(options.profile)
    due = streams * (end - begin) * 1000 / INTERVAL_MS
    hundredths = statistics.quantiles(delays, n=100) if len(delays) > 1 else [float("nan")] * 99
    return {
        "cpu": cpu / max(len(delays), 1) * 1e6,
        "p50": hundredths[49],
        "p99": hundredths[98],
        "kept": len(delays) / due,
    }


def run(coroutine, with_uvloop: bool):
    if with_uvloop:
        import uvloop

        return uvloop.run(coroutine)
    return asyncio.run(coroutine)


def cost_of_a_call(way: str, url: str) -> dict[str, float]:
    """Milliseconds of CPU for one call whose reply comes at once."""
    url = f"{url}/0/{CHUNKS_OF_A_CALL}/plain/v1"
    if way == "program-async":
        program = Program(language_model(url))

        async def read(_: Note) -> None:
            await program.acall(question=QUESTION)

    else:
        read = WAYS[way](url)

    async def calls() -> float:
        for _ in range(CALLS // 3):
            await read(lambda _: None)
        begin = time.process_time()
        for _ in range(CALLS):
            await read(lambda _: None)
        return (time.process_time() - begin) / CALLS * 1e3

    return {"ms": asyncio.run(calls())}


# --- all of them -----------------------------------------------------------------------------------


def in_own_process(*arguments: str) -> dict[str, float] | None:
    try:
        output = subprocess.run(
            [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, check=True, timeout=180
        ).stdout
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
        return None
    return json.loads(output.splitlines()[-1])


def ratio(ours: list[dict | None], theirs: list[dict | None], key: str) -> float:
    both = [(a[key], b[key]) for a, b in zip(ours, theirs, strict=True) if a and b]
    return statistics.median(a / b for a, b in both) if both else float("nan")


def middle(results: list[dict | None], key: str) -> float:
    values = [result[key] for result in results if result]
    return statistics.median(values) if values else float("nan")


def compare(url: str, streams: int, mode: str, options: argparse.Namespace) -> None:
    ways = [way for way in options.ways if way.endswith(mode)]
    passed_on = ["--url", url, "--streams", str(streams), "--form", options.form]
    passed_on += ["--uvloop"] if options.uvloop else []
    results: dict[str, list[dict | None]] = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way in ways:
            results[way].append(in_own_process("--only", way, *passed_on))
    print(f"\n{streams} streams, {mode}")
    print(
        f"{'':24}{'µs/token':>10}{'× floor':>9}{'streamify ÷':>13}{'p50 ms':>9}{'p99 ms':>9}{'in time':>9}"
    )
    floor = results.get(f"floor-{mode}", [])
    streamify = results.get(f"streamify-{mode}", [])
    for way, each in results.items():
        over = ratio(each, floor, "cpu") if floor else float("nan")
        under = ratio(streamify, each, "cpu") if streamify else float("nan")
        print(
            f"{NAMES[way.partition('-')[0]]:24}{middle(each, 'cpu'):10.1f}{over:9.2f}{under:13.1f}"
            f"{middle(each, 'p50'):9.1f}{middle(each, 'p99'):9.1f}{middle(each, 'kept'):9.0%}",
            flush=True,
        )


def compare_calls(url: str, options: argparse.Namespace) -> None:
    names = {
        "program-async": "the program without streamll",
        "instrument-async": NAMES["instrument"],
        "stream-async": NAMES["stream"],
        "streamify-async": NAMES["streamify"],
    }
    results: dict[str, list[dict | None]] = {way: [] for way in names}
    for _ in range(options.rounds):
        for way in names:
            results[way].append(in_own_process("--call", way, "--url", url))
    print(f"\nA call whose reply is {CHUNKS_OF_A_CALL} chunks at once, async")
    print(f"{'':30}{'ms of CPU':>10}{'more':>8}")
    alone = middle(results["program-async"], "ms")
    for way, name in names.items():
        print(
            f"{name:30}{middle(results[way], 'ms'):10.2f}{middle(results[way], 'ms') - alone:8.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--form", default="plain", choices=["plain", "padded"])
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--only", choices=list(WAYS), help="measure one way, in this process")
    parser.add_argument("--profile", help="with --only: where to write a profile")
    parser.add_argument("--call", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    if options.call:
        tell(cost_of_a_call(options.call, options.url))
    elif options.url:
        tell(measure(options.only, options.url, options.streams[0], options))
    elif options.only:
        with provider() as url:
            result = measure(options.only, url, options.streams[0], options)
        tell(result)
    else:
        report(options)


def tell(result: dict[str, float]) -> None:
    """Print the result, and end at once: threads may still be reading."""
    print(json.dumps(result), flush=True)
    os._exit(0)


def report(options: argparse.Namespace) -> None:
    print(
        f"{1000 // INTERVAL_MS} tokens/s each; DSPy {metadata.version('dspy')}, "
        f"Python {platform.python_version()}, {'uvloop' if options.uvloop else 'asyncio'}, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    with provider() as url:
        for streams in options.streams:
            compare(url, streams, "async", options)
        if SYNC_STREAMS in options.streams:
            compare(url, SYNC_STREAMS, "sync", options)
        compare_calls(url, options)


if __name__ == "__main__":
    main()
