"""What it costs to send tokens through a broker, beside doing it by hand.

    python bench/brokers.py [--events 100000] [--only redis]

Private servers, as the tests start them. Every row says events per second of wall time, and CPU
microseconds of this process per event, threads included.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "brokers"))

import servers
from runs import make_run

from streamll.consumer import EventConsumer
from streamll.core.events import Status, TokenEvent
from streamll.core.wire import encode
from streamll.sinks import open_sink


def measured(what: str, count: int, work: Callable[[], object]) -> float:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"  {what:<52} {count / wall:>10,.0f}/s  {cpu / count * 1e6:>6.1f} µs CPU")
    return count / wall


def through_sink(url: str, events: list, **options) -> Callable[[], None]:
    sink = open_sink(url, target=f"bench{time.monotonic_ns()}", buffer_size=1_000_000, **options)

    def work() -> None:
        for event in events:
            sink.put(event)
        assert sink.stop(120)

    return work


def redis_pipelines(url: str, events: list, size: int = 100) -> Callable[[], None]:
    import redis

    def work() -> None:
        with redis.Redis.from_url(url) as client:
            for start in range(0, len(events), size):
                pipeline = client.pipeline(transaction=False)
                for event in events[start : start + size]:
                    pipeline.xadd("plain", {"d": encode(event)}, maxlen=100_000, approximate=True)
                pipeline.execute()

    return work


def redis_pipelines_async(url: str, events: list, size: int = 100) -> Callable[[], None]:
    import redis.asyncio

    async def main() -> None:
        async with redis.asyncio.Redis.from_url(url) as client:
            for start in range(0, len(events), size):
                pipeline = client.pipeline(transaction=False)
                for event in events[start : start + size]:
                    pipeline.xadd("plain", {"d": encode(event)}, maxlen=100_000, approximate=True)
                await pipeline.execute()

    return lambda: asyncio.run(main())


def plain_aio_pika(url: str, events: list) -> Callable[[], None]:
    import aio_pika

    async def main() -> None:
        connection = await aio_pika.connect(url)
        async with connection:
            channel = await connection.channel(publisher_confirms=True)
            exchange = await channel.declare_exchange("plain", "topic", durable=True)
            queue = await channel.declare_queue("plain", durable=True)
            await queue.bind(exchange, "#")
            for start in range(0, len(events), 100):
                await asyncio.gather(
                    *(
                        exchange.publish(aio_pika.Message(encode(event), delivery_mode=2), "run")
                        for event in events[start : start + 100]
                    )
                )

    return lambda: asyncio.run(main())


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
        f"  {'latency at ' + str(per_second) + ' events/s, sink to handler':<52} "
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
        f"  {'an event until streamll tail has printed it':<52} "
        f"p50 {statistics.median(took):.1f} ms  p99 {took[int(len(took) * 0.99)]:.1f} ms"
    )


class Nothing:
    def put(self, event) -> None: ...


def slowdown(url: str, tokens: int = 2000) -> None:
    """A program that emits one token per ms: wall time with the sink against with none."""

    def program(sink) -> tuple[float, float]:
        events = make_run("r", ["token "] * tokens)
        wall, cpu = time.perf_counter(), time.process_time()
        for event in events:
            time.sleep(0.001)
            sink.put(event)
        return time.perf_counter() - wall, time.process_time() - cpu

    sink = open_sink(url, target=f"slow{time.monotonic_ns()}")
    ratios, costs = [], []
    for _ in range(3):
        base, base_cpu = program(Nothing())
        wall, cpu = program(sink)
        ratios.append(wall / base)
        costs.append((cpu - base_cpu) / tokens * 1e6)
    sink.stop(30)
    print(
        f"  {'slowdown of a program at one token per ms':<52} "
        f"{statistics.median(ratios) - 1:+.1%}  ({statistics.median(costs):.0f} µs CPU per token)"
    )


def redis_benchmark(server: servers.Server) -> None:
    binary = Path(servers.redis_cli()).with_name("redis-benchmark")
    answer = subprocess.run(
        [str(binary), "-p", str(server.port), "-n", "200000", "-P", "64", "-q", "--csv",
         "XADD", "floor", "MAXLEN", "~", "100000", "*", "d", "x" * 280],
        env=server.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    rate = answer.stdout.strip().splitlines()[-1].split(",")[-7].strip('"')
    print(f"  {'redis-benchmark -P 64, XADD of 280 bytes (the floor)':<52} {float(rate):>10,.0f}/s")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--only", choices=["redis", "rabbitmq", "sqlite"])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    events = make_run("r1", [f"word{i % 7} " for i in range(options.events - 6)])
    count = len(events)
    print(f"{count:,} token events, {len(encode(events[99]))} bytes of JSON each by themselves")
    with tempfile.TemporaryDirectory() as folder:
        if options.only in (None, "sqlite"):
            url = f"sqlite:///{folder}/log.db"
            print("SQLite")
            for _ in range(options.rounds):
                measured("SQLiteSink", count, through_sink(url, events))
            latency(url)
            tail(url)
            slowdown(url)
        if options.only in (None, "redis"):
            server = servers.RedisServer(
                Path(folder, "redis"), servers.redis_binary(), "--appendfsync", "everysec"
            )
            with servers.running(server):
                bench_redis(server, events, options.rounds)
        if options.only in (None, "rabbitmq"):
            with servers.running(servers.RabbitMQServer(Path(folder, "rabbitmq"))) as server:
                bench_rabbitmq(server, events, options.rounds)


def bench_redis(server, events: list, rounds: int) -> None:
    print("Redis")
    redis_benchmark(server)
    ratios = []
    for _ in range(rounds):
        plain = measured(
            "redis-py, pipelines of 100 XADDs", len(events), redis_pipelines(server.url, events)
        )
        measured(
            "redis.asyncio, pipelines of 100 XADDs",
            len(events),
            redis_pipelines_async(server.url, events),
        )
        ours = measured("RedisSink", len(events), through_sink(server.url, events))
        ratios.append(ours / plain)
    print(f"  RedisSink is {statistics.median(ratios):.1f} times as fast as redis-py's pipelines")
    latency(server.url)
    tail(server.url)
    slowdown(server.url)


def bench_rabbitmq(server, events: list, rounds: int) -> None:
    print("RabbitMQ, with confirms")
    fewer = events[: len(events) // 10]
    ratios = []
    for _ in range(rounds):
        plain = measured(
            "aio-pika, 100 publishes at a time", len(fewer), plain_aio_pika(server.url, fewer)
        )
        ours = measured("RabbitMQSink", len(events), through_sink(server.url, events))
        ratios.append(ours / plain)
    print(f"  RabbitMQSink is {statistics.median(ratios):.0f} times as fast as plain aio-pika")
    latency(server.url)
    tail(server.url)
    slowdown(server.url)


if __name__ == "__main__":
    assert threading.current_thread() is threading.main_thread()
    main()
