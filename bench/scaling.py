"""What one core of each part carries, and how it grows with nodes: the figures of docs/scaling.md.

    python bench/scaling.py                            all, some minutes
    python bench/scaling.py --only logs --events 200000
    python bench/scaling.py --only nodes --rounds 5
    python bench/scaling.py --only gateway

logs      one producer, one broker, one reader: CPU per token event of each, events a second, and what a
          million events take of memory and disk. `streaming` is 500 runs at once, whose tokens come one
          by one, so that an entry holds one event; `burst` is run after run at full speed, as with a
          model that answers at once: then an entry holds many.
late      a reader that comes late, or to another process than the run's: SQLite has an index, in Redis and RabbitMQ
          it reads past the entries of others. Here all of them come before its run.
nodes     a Redis Cluster of one, two and three primaries, each with a replica; a stream for each of 300 runs.
gateway   what a server process spends on an event that it delivers, and on a reader that waits.

All parts share this machine's cores, so events a second say little about several nodes, and CPU per event
much: what one core of the busiest node carries is how many events a second the log takes. CPU is counted
by the system, for each process with its children; the load is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType

sys.path.pop(0)  # this folder, whose module `brokers` would hide that of the tests
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from brokers.redis_nodes import RedisCluster
from brokers.servers import RabbitMQServer, RedisServer, redis_binary

sys.path.append(str(Path(__file__).parent))

import serving

from streamll.consumer import EventConsumer
from streamll.core.positions import Position
from streamll.serve.log.run_log import RunLog
from streamll.sinks import open_sink

RUNS_AT_ONCE = 500
NODES_RUNS = 300
TICKS_PER_S = os.sysconf("SC_CLK_TCK")

Events = Callable[[int], Iterator[object]]


def streaming(count: int, runs: int = RUNS_AT_ONCE) -> Iterator[object]:
    """Token events of so many runs in turn: no two of one run stand together."""
    ids = [serving.run_id(number) for number in range(runs)]
    for number in range(count):
        yield serving.token(ids[number % runs], number // runs)


def burst(count: int) -> Iterator[object]:
    """One run after the other, 500 tokens each."""
    for number in range(count):
        yield serving.token(serving.run_id(number // 500), number % 500)


# --- what processes use -----------------------------------------------------------------------------


def descendants(pid: int) -> set[int]:
    parents = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                stat = (place / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(place.name)] = int(stat[1])
    found, more = {pid}, True
    while more:
        more = {each for each, parent in parents.items() if parent in found} - found
        found |= more
    return found


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process and those it started have used."""
    total = 0
    for each in descendants(pid):
        try:
            stat = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(stat[11]) + int(stat[12])
    return total / TICKS_PER_S


def disk_of(folder: Path) -> int:
    return sum(each.stat().st_blocks * 512 for each in folder.rglob("*") if each.is_file())


# --- one producer, one broker, one reader -----------------------------------------------------------


def write(url: str, events: list, **options) -> dict[str, float]:
    """From the first ``put`` until the last is confirmed."""
    sink = open_sink(url, buffer_size=2_000_000, max_buffer_bytes=2**30, **options)
    wall, cpu = time.perf_counter(), time.process_time()
    for event in events:
        sink.put(event)
    assert sink.stop(600), sink.statistics()
    took, spent = time.perf_counter() - wall, time.process_time() - cpu
    told = sink.statistics()
    assert told.handled == len(events), told  # none merged, none dropped
    count = len(events)
    return {"per_s": count / took, "cpu_us": spent / count * 1e6, "entries": told.entries / count}


def read(url: str, target: str, count: int) -> None:
    """A process that reads a log from its beginning; prints what it used."""

    async def main() -> tuple[float, float]:
        consumer, left = EventConsumer(url, target, start="beginning"), count
        wall, cpu = time.perf_counter(), time.process_time()
        async for _ in consumer:
            left -= 1
            if not left:
                break
        return time.perf_counter() - wall, time.process_time() - cpu

    took, spent = asyncio.run(main())
    print(json.dumps({"per_s": count / took, "cpu_us": spent / count * 1e6}))


def read_elsewhere(url: str, target: str, count: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--read", url, target, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    return json.loads(done.stdout.splitlines()[-1])


class SQLiteLog:
    name, pid, options = "SQLite", None, MappingProxyType({})

    def __init__(self, folder: Path) -> None:
        self.folder, self.url = folder, f"sqlite:///{folder}/log.db"

    def memory(self) -> int:
        return 0

    def stop(self) -> None:
        pass


class RedisLog:
    name, options = "Redis", MappingProxyType({"maxlen": None})

    def __init__(self, folder: Path) -> None:
        self._server = RedisServer(folder, redis_binary(), "--appendfsync", "everysec")
        self._server.start()
        self.folder, self.url, self.pid = folder, self._server.url, self._server.process.pid
        self.stop = self._server.stop

    def memory(self) -> int:
        import redis

        with redis.Redis.from_url(self.url) as client:
            return int(client.info("memory")["used_memory"])


class RabbitMQLog:
    name, options = "RabbitMQ", MappingProxyType({"max_bytes": 20 * 2**30})

    def __init__(self, folder: Path) -> None:
        self._server = RabbitMQServer(folder)
        self._server.start()
        self.folder, self.url, self.pid = folder, self._server.url, self._server.process.pid
        self.stop = self._server.stop

    def memory(self) -> int:
        return 0  # a stream is in files


def logs(options: argparse.Namespace) -> None:
    print(
        f"\nOne producer, one broker, one reader: {options.events:,} token events, µs CPU an event"
    )
    print(
        f"{'':20}{'producer':>10}{'broker':>8}{'reader':>8}{'broker':>8}{'written':>11}{'read':>11}"
        f"{'events':>9}{'a million events':>20}"
    )
    print(
        f"{'':20}{'':>10}{'writes':>8}{'':>8}{'reads':>8}{'a second':>11}{'a second':>11}"
        f"{'an entry':>9}{'memory MB':>11}{'disk MB':>9}"
    )
    for kind in (SQLiteLog, RedisLog, RabbitMQLog):
        with tempfile.TemporaryDirectory() as place:
            log = kind(Path(place) / "broker")
            log.folder.mkdir(exist_ok=True)
            try:
                for how in (streaming, burst):
                    one_log(log, how, options)
            finally:
                log.stop()


def one_log(log, how: Events, options: argparse.Namespace) -> None:
    def broker() -> float:
        return 0.0 if log.pid is None else cpu_of(log.pid)

    warm, count, rows = f"warm-{how.__name__}", options.events, []
    write(log.url, list(how(2000)), target=warm, **log.options)
    for number in range(options.rounds):
        target = f"{how.__name__}-{number}"
        memory, disk, spent = log.memory(), disk_of(log.folder), broker()
        wrote = write(log.url, list(how(count)), target=target, **log.options)
        memory, disk = log.memory() - memory, disk_of(log.folder) - disk
        written = broker()
        got = read_elsewhere(log.url, target, count)
        rows.append(
            {
                "producer": wrote["cpu_us"],
                "writes": (written - spent) / count * 1e6,
                "reader": got["cpu_us"],
                "reads": (broker() - written) / count * 1e6,
                "written": wrote["per_s"],
                "read": got["per_s"],
                "packed": 1 / wrote["entries"],
                "memory": memory / count,  # bytes an event: MB a million
                "disk": disk / count,
            }
        )
    row = {name: statistics.median(each[name] for each in rows) for name in rows[0]}
    server = "{:8.1f}".format if log.pid is not None else lambda _: f"{'–':>8}"
    print(
        f"{log.name + ', ' + how.__name__:20}{row['producer']:10.1f}{server(row['writes'])}{row['reader']:8.1f}"
        f"{server(row['reads'])}{row['written']:11,.0f}{row['read']:11,.0f}{row['packed']:9.1f}"
        f"{row['memory']:11.0f}{row['disk']:9.0f}",
        flush=True,
    )


# --- a reader that comes late -----------------------------------------------------------------------


def late(options: argparse.Namespace) -> None:
    print(
        f"\nA server looks for the beginning of a run, in a log of {options.events:,} entries of others"
    )
    print(f"{'':20}{'ms':>8}{'µs CPU an entry':>17}{'of the broker':>15}")
    for kind in (SQLiteLog, RedisLog, RabbitMQLog):
        with tempfile.TemporaryDirectory() as place:
            log = kind(Path(place) / "broker")
            log.folder.mkdir(exist_ok=True)
            try:
                events = list(streaming(options.events))
                write(log.url, [*events, serving.token("late", 0)], **log.options)
                rows = [look_for_the_last(log, options.events) for _ in range(options.rounds)]
            finally:
                log.stop()
        took, own, server = (statistics.median(each) for each in zip(*rows, strict=True))
        shown = f"{server:15.1f}" if log.pid is not None else f"{'–':>15}"
        print(f"{log.name:20}{took * 1e3:8.0f}{own:17.1f}{shown}", flush=True)


def look_for_the_last(log, count: int) -> tuple[float, float, float]:
    """Seconds, and µs of CPU for each entry of the log: this process's, and the broker's."""

    async def main() -> None:
        async for [item, *_] in RunLog(log.url).history(Position("late")):
            assert item.event.run_id == "late"
            return
        raise AssertionError("the run was not found")

    def broker() -> float:
        return 0.0 if log.pid is None else cpu_of(log.pid)

    wall, cpu, spent = time.perf_counter(), time.process_time(), broker()
    asyncio.run(main())
    took, used = time.perf_counter() - wall, time.process_time() - cpu
    return took, used / count * 1e6, (broker() - spent) / count * 1e6


# --- one, two and three primaries -------------------------------------------------------------------


def nodes(options: argparse.Namespace) -> None:
    print(
        f"\nRedis Cluster, a replica for each primary, {options.events:,} token events of {NODES_RUNS} "
        "runs, a stream each; µs CPU an event"
    )
    print(
        f"{'primaries':>9}{'events a second':>17}{'producer':>10}{'primaries':>11}{'busiest':>9}"
        f"{'replicas':>10}{'a core of the busiest carries':>32}"
    )
    for count in (1, 2, 3):
        with tempfile.TemporaryDirectory() as place:
            cluster = RedisCluster(Path(place), primaries=count)
            cluster.start()
            try:
                rows = [on_cluster(cluster, number, options) for number in range(options.rounds)]
            finally:
                cluster.stop()
        row = {name: statistics.median(each[name] for each in rows) for name in rows[0]}
        carries = f"{1e6 / row['busiest']:,.0f} events a second"
        print(
            f"{count:9}{row['per_s']:17,.0f}{row['producer']:10.1f}{row['primaries']:11.1f}"
            f"{row['busiest']:9.1f}{row['replicas']:10.1f}{carries:>32}",
            flush=True,
        )


def on_cluster(cluster: RedisCluster, number: int, options: argparse.Namespace) -> dict[str, float]:
    pids = [node.process.pid for node in cluster.servers]
    events = list(streaming(options.events, NODES_RUNS))
    before = [cpu_of(pid) for pid in pids]
    wrote = write(cluster.url, events, stream_key=f"bench{number}:{{run_id}}", maxlen=None)
    spent = [(cpu_of(pid) - was) / len(events) * 1e6 for pid, was in zip(pids, before, strict=True)]
    primaries = spent[: cluster.primaries]
    return {
        "per_s": wrote["per_s"],
        "producer": wrote["cpu_us"],
        "primaries": sum(primaries),
        "busiest": max(primaries),
        "replicas": sum(spent[cluster.primaries :]),
    }


# --- a server process -------------------------------------------------------------------------------


def gateway(options: argparse.Namespace) -> None:
    print("\nOne server process that reads a log which others write")
    print(
        f"{'':34}{'µs CPU a delivery':>18}{'deliveries of a core':>22}{'KB a reader':>13}{'lost':>6}"
    )
    cases = {"one run to 1,000 readers": (1, 1000), "300 runs to one reader each": (300, 300)}
    for title, (runs, readers) in cases.items():
        got = [
            serving.run("elsewhere", runs=runs, readers=readers, tokens=options.tokens, pace=0.1)
            for _ in range(options.rounds)
        ]
        row = {name: statistics.median(each[name] for each in got) for name in got[0]}
        lost = sum(each["lost"] for each in got)
        print(
            f"{title:34}{row['cpu_us']:18.1f}{1e6 / row['cpu_us']:20,.0f}/s{row['kb_per_reader']:13.1f}{lost:6.0f}",
            flush=True,
        )


PARTS = {"logs": logs, "late": late, "nodes": nodes, "gateway": gateway}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--read", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        read(options.read[0], options.read[1], int(options.read[2]))
        return
    for name, part in PARTS.items():
        if options.only in (None, name):
            load = os.getloadavg()[0]
            print(
                f"\n{os.cpu_count()} cores, load {load:.1f}, medians of {options.rounds} rounds",
                end="",
            )
            part(options)


if __name__ == "__main__":
    main()
