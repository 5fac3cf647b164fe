"""What serving runs costs: one run to many readers, many runs to one reader each.

    python bench/serving.py                 all, beside a bare Starlette StreamingResponse
    python bench/serving.py --readers 200 --runs 100 --rounds 1

The server is a process of its own, with uvicorn; three kinds of it take turns, round after round.

bare        an ``asyncio.Queue`` per reader; each event is encoded once and yielded from a
            ``StreamingResponse``, one event a write. No log, no resume, no heartbeat, no limits.
streamll    each event is written into an SQLite log and served from there: ``create_app`` with the
            runs in its own process, which hand their events to the log's sink.
elsewhere   the same, but another process writes the log, so that every event is read from it. Its
            writing is not counted.

All get the same events at the same pace and send the same frames; no program runs, so that only the
delivery is measured. CPU is that of the server's process with all its threads, from before the first
event until the last reader has left. Latency is from creating an event to its arrival at a reader in
another process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

TIMESTAMP = re.compile(rb'"timestamp":([0-9.]+)')
TIMED = 50
"""Readers that look at every frame's timestamp; the others count frames."""


# --- the server ---------------------------------------------------------------------------------


def run_id(number: int) -> str:
    """As real ids are: in no order."""
    return f"{number * 0x9E3779B97F4A7C15 % 2**64:032x}"


def token(run: str, number: int):
    from streamll.core.events import Identity, TokenEvent

    identity = Identity(run_id=run, path=("QA", "predict"), predictor="predict", call_id="c" * 32)
    return TokenEvent(
        seq=number, timestamp=time.time(), identity=identity, field="answer", token="token ",
        token_index=number, offset=6 * number,
    )  # fmt: skip


async def produce(runs: int, tokens: int, pace: float, put) -> None:
    """``tokens`` events of each run, ``pace`` seconds apart, the runs evenly spread in between."""
    begun = time.monotonic()
    for number in range(tokens):
        for run in range(runs):
            put(token(run_id(run), number))
            if run % 16 == 15:
                due = begun + (number + run / runs) * pace
                await asyncio.sleep(max(0.0, due - time.monotonic()))
        await asyncio.sleep(max(0.0, begun + (number + 1) * pace - time.monotonic()))


def usage() -> dict[str, float]:
    spent = resource.getrusage(resource.RUSAGE_SELF)
    pages = Path("/proc/self/statm").read_text()
    resident = int(pages.split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {"cpu": spent.ru_utime + spent.ru_stime, "memory": resident}


def bare_app():
    from starlette.responses import StreamingResponse

    from streamll.core.wire import encode
    from streamll.serve.log.frames import HEADERS

    queues: dict[str, list[asyncio.Queue[bytes | None]]] = {}

    def put(event):
        place = f"{event.run_id}:{event.seq}:{event.offset + len(event.token)}"
        frame = b"id: %s\ndata: %s\n\n" % (place.encode(), encode(event))
        for queue in queues.get(event.run_id, ()):
            queue.put_nowait(frame)

    async def events(request):
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        queues.setdefault(request.path_params["run_id"], []).append(queue)

        async def frames():
            yield b": \n\n"
            while True:
                yield await queue.get()

        return StreamingResponse(frames(), headers=dict(HEADERS))

    return controlled(put, [("/runs/{run_id}/events", events)])


def streamll_app(log: str, *, elsewhere: bool):
    from streamll.serve import Limits, create_app, runner

    async def always(self, position):  # the readers come before the first event
        return True

    runner.Runner.has_more = always
    app = create_app(print, log=log, limits=Limits(readers=100_000), viewer=False)
    put = None if elsewhere else app.service.runner.run_log.sink.put
    return controlled(put, [], app, log)


def write_log(log: str, runs: str, tokens: str, pace: str) -> None:
    """The process that the runs are in, where that is not the server's."""
    from streamll.brokers.opening import open_sink

    sink = open_sink(log)
    asyncio.run(produce(int(runs), int(tokens), float(pace), sink.put))
    sink.stop()


def controlled(put, routes, mounted=None, log=""):
    """The application under test, with routes to start the events and to look at the process."""
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse

    tasks = set()

    async def go(request):
        query = request.query_params
        numbers = query["runs"], query["tokens"], query["pace"]
        if put is None:
            command = (sys.executable, __file__, "--write", log, *numbers)
            tasks.add(await asyncio.create_subprocess_exec(*command))
        else:
            runs, tokens, pace = numbers
            task = asyncio.create_task(produce(int(runs), int(tokens), float(pace), put))
            tasks.add(task)
        return JSONResponse({})

    async def look(_):
        return JSONResponse(usage())

    app = Starlette()
    app.add_route("/bench/go", go)
    app.add_route("/bench/usage", look)
    for path, route in routes:
        app.add_route(path, route)
    if mounted is not None:
        app.mount("/", mounted)
    return app


def serve(kind: str, port: int, log: str) -> None:
    import uvicorn

    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    app = bare_app() if kind == "bare" else streamll_app(log, elsewhere=kind == "elsewhere")
    uvicorn.run(app, port=port, log_level="warning", access_log=False, backlog=4096)


# --- the readers --------------------------------------------------------------------------------


async def read(port: int, run: str, expected: int, latencies: list[float] | None, ready) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    writer.write(f"GET /runs/{run}/events HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    await reader.readuntil(b"\n\n")
    ready()
    count = 0
    while count < expected:
        data = await reader.read(2**18)
        if not data:
            break
        count += data.count(b"data: {")
        if latencies is not None:
            now = time.time()
            latencies += [now - float(found) for found in TIMESTAMP.findall(data)]
    writer.close()
    return count


def look(port: int) -> dict[str, float]:
    """The CPU and memory of the server's process."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/bench/usage") as answer:
        return json.load(answer)


def go(port: int, runs: int, tokens: int, pace: float) -> None:
    """Have the events begin."""
    query = f"runs={runs}&tokens={tokens}&pace={pace}"
    urllib.request.urlopen(f"http://127.0.0.1:{port}/bench/go?{query}").close()


async def measure(port: int, runs: int, readers: int, tokens: int, pace: float) -> dict[str, float]:
    latencies: list[float] = []
    begun, before = 0, look(port)
    everybody = asyncio.Event()

    def ready() -> None:
        nonlocal begun
        begun += 1
        if begun == readers:
            everybody.set()

    tasks = []
    for number in range(readers):
        timed = latencies if number % max(1, readers // TIMED) == 0 else None
        reading = read(port, run_id(number % runs), tokens, timed, ready)
        tasks.append(asyncio.create_task(reading))
        if number % 50 == 49:
            await asyncio.sleep(0.05)
    await asyncio.wait_for(everybody.wait(), 60)
    await asyncio.sleep(1)
    start = look(port)
    begun_at = time.monotonic()
    await asyncio.to_thread(go, port, runs, tokens, pace)
    counts = await asyncio.wait_for(asyncio.gather(*tasks), 300)
    end = look(port)
    took = time.monotonic() - begun_at
    delivered = sum(counts)
    latencies.sort()
    return {
        "lost": tokens * readers - delivered,
        "delivered/s": delivered / took,
        "cpu_us": (end["cpu"] - start["cpu"]) / delivered * 1e6,
        "p50_ms": statistics.median(latencies) * 1e3,
        "p99_ms": latencies[int(len(latencies) * 0.99)] * 1e3,
        "kb_per_reader": (start["memory"] - before["memory"]) / readers / 1024,
    }


@contextlib.contextmanager
def server(kind: str) -> Iterator[int]:
    """A server's process of this kind; gives its port."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    with tempfile.TemporaryDirectory() as place:
        log = f"sqlite:///{place}/log.db"
        server = subprocess.Popen([sys.executable, __file__, "--serve", kind, str(port), log])
        try:
            for _ in range(300):
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield port
        finally:
            server.kill()
            server.wait()


KINDS = ("bare", "streamll", "elsewhere")


def compare(rounds: int, **numbers) -> None:
    got: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind in KINDS:
            with server(kind) as port:
                got[kind].append(asyncio.run(measure(port, **numbers)))
    print(
        f"{'':10}{'lost':>6}{'per s':>9}{'µs CPU/event':>14}{'× bare':>8}{'p50 ms':>9}{'p99 ms':>9}"
        f"{'KB/reader':>11}"
    )
    for kind in KINDS:
        middle = {key: statistics.median(each[key] for each in got[kind]) for key in got[kind][0]}
        times = statistics.median(
            each["cpu_us"] / bare["cpu_us"]
            for each, bare in zip(got[kind], got["bare"], strict=True)
        )
        print(
            f"{kind:10}{sum(each['lost'] for each in got[kind]):6.0f}{middle['delivered/s']:9.0f}"
            f"{middle['cpu_us']:14.1f}{times:8.2f}{middle['p50_ms']:9.1f}{middle['p99_ms']:9.1f}"
            f"{middle['kb_per_reader']:11.1f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--readers", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve[0], int(options.serve[1]), options.serve[2])
        return
    if options.write:
        write_log(*options.write)
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    cases = {
        f"one run to {options.readers} readers, 10 tokens/s": {
            "runs": 1, "readers": options.readers, "tokens": 100, "pace": 0.1,
        },
        f"{options.runs} runs to one reader each, 10 tokens/s a run": {
            "runs": options.runs, "readers": options.runs, "tokens": 100, "pace": 0.1,
        },
    }  # fmt: skip
    load = os.getloadavg()[0]
    print(f"medians of {options.rounds} rounds; {os.cpu_count()} cores, load {load:.1f}")
    for title, numbers in cases.items():
        print(f"\n{title}")
        compare(options.rounds, **numbers)


if __name__ == "__main__":
    main()
