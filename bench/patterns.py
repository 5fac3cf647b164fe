"""What a reader by pattern costs: a thousand idle streams and ten busy ones, on one server and on a cluster.

    python bench/patterns.py                       --idle 1000 --busy 10 --pace 0.02 --seconds 10

CPU is that of the reader's process, first while nothing comes, then while each busy stream gets an entry
every ``--pace`` seconds; the delay is from writing an entry to its reading.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent
# This folder has a brokers.py, the tests have a folder of that name.
sys.path[:] = [each for each in sys.path if Path(each).resolve() != BENCH]
sys.path.insert(0, str(BENCH.parent / "tests"))


def start(kind: str, folder: Path) -> Any:
    from brokers import redis_nodes, servers

    if kind == "cluster":
        server: Any = redis_nodes.RedisCluster(folder)
    else:
        server = servers.RedisServer(folder, servers.redis_binary(), "--appendonly", "no")
    server.start()
    return server


def client_of(kind: str, port: int) -> Any:
    import redis

    return (
        redis.RedisCluster(port=port, host="127.0.0.1")
        if kind == "cluster"
        else redis.Redis(port=port)
    )


def write(kind: str, port: int, options: argparse.Namespace) -> None:
    """In a process of its own: an entry is the time at which it is written."""
    client, begun = client_of(kind, port), time.time()
    for turn in range(int(options.seconds / options.pace)):
        for number in range(options.busy):
            client.xadd(f"run:busy{number}", {b"d": b"%r" % time.time()})
        time.sleep(max(0.0, begun + (turn + 1) * options.pace - time.time()))


async def measure(kind: str, server: Any, options: argparse.Namespace) -> None:
    from streamll.brokers.opening import open_source
    from streamll.brokers.source import SourceOptions

    source = open_source(server.url, SourceOptions(target="run:*"))
    await source.connect()
    expected = int(options.seconds / options.pace) * options.busy
    delays: list[float] = []

    async def read(seconds: float, enough: int) -> float:
        """Per cent of a core."""
        spent, begun = time.process_time(), time.monotonic()
        while time.monotonic() < begun + seconds or len(delays) < enough:
            entries, now = await source.read(), time.time()
            delays.extend(now - float(entry.body) for entry in entries)
        return (time.process_time() - spent) / (time.monotonic() - begun) * 100

    idle = await read(options.seconds, 0)
    writer = await asyncio.create_subprocess_exec(*sys.orig_argv, "--write", kind, str(server.port))
    busy = await read(options.seconds, expected)
    await writer.wait()
    await source.close()
    delays.sort()
    p50, p99 = (delays[int(len(delays) * part)] * 1000 for part in (0.5, 0.99))
    rate = len(delays) / options.seconds
    print(
        f"{kind:8}{len(delays):7} of {expected}{rate:8.0f}{idle:11.1f}{busy:11.1f}{p50:9.1f}{p99:9.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--idle", type=int, default=1000, help="streams that get nothing")
    parser.add_argument("--busy", type=int, default=10, help="streams that get entries")
    parser.add_argument("--pace", type=float, default=0.02, help="seconds from entry to entry")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        write(options.write[0], int(options.write[1]), options)
        return
    print(f"{options.idle} idle streams, {options.busy} busy; load {os.getloadavg()[0]:.1f}")
    print(
        f"{'':8}{'entries':>12}{'per s':>11}{'% idle':>11}{'% busy':>11}{'p50 ms':>9}{'p99 ms':>9}"
    )
    for kind in ("server", "cluster"):
        with tempfile.TemporaryDirectory(prefix="patterns") as folder:
            server = start(kind, Path(folder))
            try:
                client = client_of(kind, server.port)
                for number in range(options.idle):
                    client.xadd(f"run:idle{number}", {b"d": b"0"})
                asyncio.run(measure(kind, server, options))
            finally:
                server.stop()


if __name__ == "__main__":
    main()
