"""What it costs to send tokens through a broker, beside doing it by hand.

    python bench/brokers.py [--events 100000] [--rounds 5] [--pairs 60] [--only redis]

Private servers, as the tests start them, with what is written on disk within a second (Redis) or
confirmed (RabbitMQ). Who is compared takes turns, round after round; a ratio is the median of the
rounds' own ratios. CPU is that of this process with all its threads, and beside it the server's.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "brokers"))

import servers
from _slowdown import apart, of_a_program, of_a_sleeper
from sample_runs import make_run

from streamll.consumer import EventConsumer
from streamll.core.events import Status, TokenEvent
from streamll.core.wire import decode_batch, encode
from streamll.sinks import open_sink

Work = Callable[[], object]


# --- how fast -----------------------------------------------------------------------------------


def through_sink(url: str, events: list) -> Work:
    """From the first ``put`` until the last event is confirmed."""

    def work() -> None:
        sink = open_sink(url, target=f"bench{time.monotonic_ns()}", buffer_size=1_000_000)
        for event in events:
            sink.put(event)
        assert sink.stop(120)
        assert sink.statistics().handled == len(events)  # none merged, none dropped

    return work


def redis_pipelines(url: str, bodies: Callable[[], list[bytes]], size: int = 100) -> Work:
    import redis

    def work() -> None:
        with redis.Redis.from_url(url) as client:
            ready = bodies()
            for start in range(0, len(ready), size):
                pipeline = client.pipeline(transaction=False)
                for body in ready[start : start + size]:
                    pipeline.xadd("plain", {"d": body}, maxlen=100_000, approximate=True)
                pipeline.execute()

    return work


def redis_pipelines_async(url: str, events: list, size: int = 100) -> Work:
    import redis.asyncio

    async def main() -> None:
        async with redis.asyncio.Redis.from_url(url) as client:
            for start in range(0, len(events), size):
                pipeline = client.pipeline(transaction=False)
                for event in events[start : start + size]:
                    pipeline.xadd("plain", {"d": encode(event)}, maxlen=100_000, approximate=True)
                await pipeline.execute()

    return lambda: asyncio.run(main())


def plain_aio_pika(url: str, events: list) -> Work:
    import aio_pika

    async def main() -> None:
        connection = await aio_pika.connect(url)
        async with connection:
            channel = await connection.channel(publisher_confirms=True)
            exchange = await channel.declare_exchange("plain", "topic", durable=True)
            queue = await channel.declare_queue(
                "plain.log", durable=True, arguments={"x-queue-type": "stream"}
            )
            await queue.bind(exchange, "#")
            for start in range(0, len(events), 100):
                await asyncio.gather(
                    *(
                        exchange.publish(aio_pika.Message(encode(event), delivery_mode=2), "run")
                        for event in events[start : start + 100]
                    )
                )

    return lambda: asyncio.run(main())


def take_turns(ways: dict[str, tuple[int, Work]], rounds: int, server=None) -> dict[str, list]:
    """Events per second of each way in each round, by name; prints the medians."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    own: dict[str, list[float]] = {name: [] for name in ways}
    theirs: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (count, work) in ways.items():
            wall, cpu, other = time.perf_counter(), time.process_time(), cpu_of(server)
            work()
            rates[name].append(count / (time.perf_counter() - wall))
            own[name].append((time.process_time() - cpu) / count * 1e6)
            theirs[name].append((cpu_of(server) - other) / count * 1e6)
    for name in ways:
        rate, spread = (
            statistics.median(rates[name]),
            f"{min(rates[name]):,.0f}–{max(rates[name]):,.0f}",
        )
        print(
            f"  {name:<44}{rate:>10,.0f}/s {f'({spread})':<22}"
            f"{statistics.median(own[name]):>6.1f} µs CPU"
            + (f" + {statistics.median(theirs[name]):.1f} of the server" if server else "")
        )
    return rates


def times(rates: dict[str, list], ours: str, other: str) -> str:
    """How many times as fast, round by round."""
    ratios = [a / b for a, b in zip(rates[ours], rates[other], strict=True)]
    return f"{statistics.median(ratios):.1f} times (at least {min(ratios):.1f}) as fast as {other}"


def cpu_of(server) -> float:
    """Seconds of CPU that a server has used, where the system tells."""
    if server is None or not Path("/proc/self/stat").exists():
        return 0.0
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# --- how late -----------------------------------------------------------------------------------


def latency(url: str, per_second: int = 1000, seconds: float = 5) -> None:
    """From the event's creation to a handler in another event loop of this process."""
    target = f"latency{time.monotonic_ns()}"
    took: list[float] = []
    consumer = EventConsumer(url, target)

    @consumer.on("token")
    async def handle(event) -> None:
        took.append(time.time() - event.timestamp)

    consumer.start()
    consumer.wait_connected(30)
    sink = open_sink(url, target=target)
    count = int(per_second * seconds)
    runs = [make_run(f"r{n}", [])[:3] for n in range(10)]
    for run in runs:
        for event in run:
            sink.put(event)
    began = time.perf_counter()
    cpu = time.process_time()
    for n in range(count):
        identity = runs[n % 10][2].identity
        sink.put(
            TokenEvent(
                seq=3 + n // 10,
                timestamp=time.time(),
                identity=identity,
                field="answer",
                token="token ",
                token_index=n // 10,
                offset=n // 10 * 6,
            )
        )
        time.sleep(max(0, began + (n + 1) / per_second - time.perf_counter()))
    sink.stop(30)
    deadline = time.monotonic() + 30
    while len(took) < count and time.monotonic() < deadline:
        time.sleep(0.01)
    cpu = time.process_time() - cpu
    consumer.stop()
    took.sort()
    half, most = statistics.median(took) * 1000, took[int(len(took) * 0.99)] * 1000
    print(
        f"  {'latency at ' + str(per_second) + ' events/s, sink to handler':<44}"
        f"p50 {half:.1f} ms  p99 {most:.1f} ms  ({cpu / count * 1e6:.0f} µs CPU, both ends)"
    )


def tail(url: str, events: int = 200) -> None:
    """From an event's put to its line of ``streamll tail --json``, one event every 20 ms."""
    target = f"tail{time.monotonic_ns()}"
    sink = open_sink(url, target=target)
    sink.put(Status(message="the log is there"))
    assert sink.catch_up(30)
    command = ["tail", url, "--target", target, "--from", "beginning", "--json"]
    took = []
    with subprocess.Popen(
        [sys.executable, "-m", "streamll", *command], stdout=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        for n in range(events):
            time.sleep(0.02)
            began = time.perf_counter()
            sink.put(Status(message=str(n)))
            process.stdout.readline()
            took.append((time.perf_counter() - began) * 1000)
        process.terminate()
    sink.stop(30)
    took.sort()
    print(
        f"  {'an event until streamll tail has printed it':<44}"
        f"p50 {statistics.median(took):.1f} ms  p99 {took[int(len(took) * 0.99)]:.1f} ms"
    )


# --- each broker --------------------------------------------------------------------------------


def bench_sqlite(url: str, events: list, options: argparse.Namespace) -> None:
    print("SQLite")
    take_turns({"SQLiteSink": (len(events), through_sink(url, events))}, options.rounds)
    at_leisure(url, None, options)


def bench_redis(server, events: list, options: argparse.Namespace) -> None:
    print("Redis, append-only file written every second")
    redis_benchmark(server)
    plain, ours = "redis-py, pipelines of 100 XADDs", "RedisSink"
    ready, count = [encode(event) for event in events], len(events)
    ways = {
        plain: (count, redis_pipelines(server.url, lambda: [encode(event) for event in events])),
        "the same, JSON made beforehand": (count, redis_pipelines(server.url, lambda: ready)),
        "redis.asyncio, pipelines of 100 XADDs": (count, redis_pipelines_async(server.url, events)),
        ours: (count, through_sink(server.url, events)),
    }
    rates = take_turns(ways, options.rounds, server)
    print(f"  RedisSink: {times(rates, ours, plain)}")
    print(f"  RedisSink: {times(rates, ours, 'the same, JSON made beforehand')}")
    check_redis(server, events)
    at_leisure(server.url, server, options)


def check_redis(server, events: list) -> None:
    """Everybody's events are there to be read."""
    import redis

    with redis.Redis.from_url(server.url) as client:
        logs = client.keys("bench*")
        for key in (b"plain", logs[0]):
            found = [body for _, fields in client.xrange(key) for body in fields.values()]
            readable = sum(len(decode_batch(body)) for body in found)
            assert readable >= len(events) * 0.99, (key, readable)  # MAXLEN ~ is about
        client.delete(b"plain", *logs)


def redis_benchmark(server: servers.Server) -> None:
    binary = Path(servers.redis_cli()).with_name("redis-benchmark")
    answer = subprocess.run(
        [str(binary), "-p", str(server.port), "-n", "200000", "-P", "64", "-q", "--csv",
         "XADD", "floor", "MAXLEN", "~", "100000", "*", "d", "x" * 280],
        env=server.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    rate = answer.stdout.strip().splitlines()[-1].split(",")[-7].strip('"')
    print(f"  {'redis-benchmark -P 64, XADD of 280 bytes':<44}{float(rate):>10,.0f}/s")


def bench_rabbitmq(server, events: list, options: argparse.Namespace) -> None:
    print("RabbitMQ, a stream queue, with confirms")
    plain, ours = "aio-pika, 100 publishes at a time", "RabbitMQSink"
    fewer = events[: len(events) // 10]
    ways = {
        plain: (len(fewer), plain_aio_pika(server.url, fewer)),
        ours: (len(events), through_sink(server.url, events)),
    }
    rates = take_turns(ways, options.rounds, server)
    print(f"  RabbitMQSink: {times(rates, ours, plain)}")
    at_leisure(server.url, server, options)


def at_leisure(url: str, server, options: argparse.Namespace) -> None:
    """A token every millisecond: how late they are, and how late the program gets."""
    latency(url)
    tail(url)
    of_a_sleeper(url, options.pairs)
    of_a_program(url, options.pairs // 4)
    if hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) > 1:
        print("  with this process on one core and the server on another:")
        with apart(server):
            of_a_sleeper(url, options.pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--only", choices=["redis", "rabbitmq", "sqlite"])
    parser.add_argument("--rounds", type=int, default=5, help="of the ways to send")
    parser.add_argument("--pairs", type=int, default=60, help="of the program with and without")
    options = parser.parse_args()
    events = make_run("r1", [f"word{i % 7} " for i in range(options.events - 6)])
    print(
        f"{len(events):,} token events, {len(encode(events[99]))} bytes of JSON each by themselves; "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory() as folder:
        if options.only in (None, "sqlite"):
            bench_sqlite(f"sqlite:///{folder}/log.db", events, options)
        if options.only in (None, "redis"):
            server = servers.RedisServer(
                Path(folder, "redis"), servers.redis_binary(), "--appendfsync", "everysec"
            )
            with servers.running(server):
                bench_redis(server, events, options)
        if options.only in (None, "rabbitmq"):
            with servers.running(servers.RabbitMQServer(Path(folder, "rabbitmq"))) as server:
                bench_rabbitmq(server, events, options)
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
