"""What serving runs costs: one run to many readers, many runs to one reader each.

    python bench/serving.py                 both, beside a bare Starlette StreamingResponse
    python bench/serving.py --readers 200   smaller

The server is a process of its own, with uvicorn. "bare" keeps an ``asyncio.Queue`` per reader,
puts each encoded frame into it and yields it from a ``StreamingResponse``: it has no log, no
resume, no heartbeat. "streamll" writes each event into an SQLite log and serves readers from
there. Both get the same events at the same pace, created in the server's process; the time from
creating an event to its arrival in the reader's process is the latency.
"""

from __future__ import annotations

import argparse
import asyncio
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
from pathlib import Path

TIMESTAMP = re.compile(rb'"timestamp":([0-9.]+)')
TIMED = 50
"""Readers that look at every frame's timestamp; the others count frames."""


# --- the server ---------------------------------------------------------------------------------


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
            put(token(f"bench-run-number-{run:010}", number))
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
    from streamll.serve.frames import HEADERS

    queues: dict[str, list[asyncio.Queue[bytes | None]]] = {}

    def put(event):
        frame = b"id: %s:%d\ndata: %s\n\n" % (event.run_id.encode(), event.seq, encode(event))
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


def streamll_app(log: str):
    from streamll.serve import Limits, create_app, service

    async def always(self, position):  # the readers come before the first event
        return True

    service.Service.has_more = always
    app = create_app(print, log=log, limits=Limits(readers=100_000), viewer=False)
    return controlled(app._service.runner.journal.sink.put, [], app)


def controlled(put, routes, mounted=None):
    """The application under test, with routes to start the events and to look at the process."""
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse

    tasks = set()

    async def go(request):
        query = request.query_params
        numbers = int(query["runs"]), int(query["tokens"]), float(query["pace"])
        tasks.add(asyncio.create_task(produce(*numbers, put)))
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
    app = bare_app() if kind == "bare" else streamll_app(log)
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


async def measure(port: int, runs: int, readers: int, tokens: int, pace: float) -> dict[str, float]:
    def look() -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/bench/usage") as answer:
            return json.load(answer)

    latencies: list[float] = []
    begun, before = 0, look()
    everybody = asyncio.Event()

    def ready() -> None:
        nonlocal begun
        begun += 1
        if begun == readers:
            everybody.set()

    tasks = []
    for number in range(readers):
        timed = latencies if number % max(1, readers // TIMED) == 0 else None
        run = f"bench-run-number-{number % runs:010}"
        tasks.append(asyncio.create_task(read(port, run, tokens, timed, ready)))
        if number % 50 == 49:
            await asyncio.sleep(0.05)
    await asyncio.wait_for(everybody.wait(), 60)
    await asyncio.sleep(1)
    start = look()
    begun_at = time.monotonic()
    go = f"http://127.0.0.1:{port}/bench/go?runs={runs}&tokens={tokens}&pace={pace}"
    await asyncio.to_thread(lambda: urllib.request.urlopen(go).close())
    counts = await asyncio.wait_for(asyncio.gather(*tasks), 300)
    end = look()
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


def run(kind: str, **numbers) -> dict[str, float]:
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
            return asyncio.run(measure(port, **numbers))
        finally:
            server.kill()
            server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--readers", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve[0], int(options.serve[1]), options.serve[2])
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
    for title, numbers in cases.items():
        print(f"\n{title}")
        print(
            f"{'':10}{'lost':>6}{'per s':>9}{'µs CPU/event':>14}{'p50 ms':>9}{'p99 ms':>9}{'KB/reader':>11}"
        )
        for kind in ("bare", "streamll"):
            got = run(kind, **numbers)
            print(
                f"{kind:10}{got['lost']:6.0f}{got['delivered/s']:9.0f}{got['cpu_us']:14.1f}"
                f"{got['p50_ms']:9.1f}{got['p99_ms']:9.1f}{got['kb_per_reader']:11.1f}"
            )


if __name__ == "__main__":
    main()
