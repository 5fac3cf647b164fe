"""What a server costs that nobody talks to, and how soon it tells what another process writes.

    python bench/idle.py [sqlite redis rabbitmq] [--seconds 20]

Over a log in each broker, on private servers as the tests start them. CPU is that of ``streamll serve``'s process with all its threads, beside uvicorn with an application
that does nothing. Latency is from the creation of an event in this process to its arrival at an SSE
reader of the server, half a second apart, so that the server has fallen asleep in between.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "brokers"))
import servers

from streamll.core.events import Identity, RunStart, Status
from streamll.sinks import open_sink

BARE = """
import uvicorn
async def app(scope, receive, send):
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
uvicorn.run(app, port=0)
"""
EVENTS = 20


def process(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def cpu_s(pid: int) -> float:
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def idle_percent(server: subprocess.Popen[str], seconds: float) -> float:
    time.sleep(10)  # it has started
    before = cpu_s(server.pid)
    time.sleep(seconds)
    return 100 * (cpu_s(server.pid) - before) / seconds


def latencies_ms(url: str, log: str) -> list[float]:
    sink, found = open_sink(log), []
    identity = Identity(run_id="0" * 32)
    sink.put(RunStart(seq=0, timestamp=time.time(), identity=identity, program="p"))
    with urllib.request.urlopen(f"{url}/runs/{identity.run_id}/events") as response:
        for seq in range(1, EVENTS + 1):
            time.sleep(0.6)
            sink.put(Status(seq=seq, timestamp=time.time(), identity=identity, message="m"))
            while True:
                line = response.readline()
                if line.startswith(b"data:") and (event := json.loads(line[5:]))["seq"] == seq:
                    found.append(1000 * (time.time() - event["timestamp"]))
                    break
    sink.stop()
    return found


@contextlib.contextmanager
def log_in(broker: str, folder: str) -> Iterator[str]:
    """The URL of a log in this broker."""
    if broker == "sqlite":
        yield f"sqlite:///{folder}/log.db"
        return
    server = servers.started(
        {
            "redis": lambda: servers.RedisServer(Path(folder), servers.redis_binary()),
            "rabbitmq": lambda: servers.RabbitMQServer(Path(folder)),
        }[broker]
    )
    try:
        yield server.url
    finally:
        server.stop()


def measure(what: str, arguments: tuple[str, ...], seconds: float, log: str | None = None) -> None:
    server = process(*arguments)
    try:
        text = f"{what:<28}{idle_percent(server, seconds):6.2f} % of a core"
        if log is not None:
            found = latencies_ms("http://127.0.0.1:8123", log)
            text += f", latency {statistics.median(found):.1f} ms, {max(found):.1f} at most"
        print(text, flush=True)
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    brokers = ("sqlite", "redis", "rabbitmq")
    parser.add_argument("brokers", nargs="*", default=brokers, metavar="BROKER")
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "idle_program.py")
        program.write_text("def echo(question: str):\n    return question\n")
        os.environ["PYTHONPATH"] = os.pathsep.join([folder, *sys.path])
        measure("uvicorn, no application", ("-c", BARE), options.seconds)
        for broker in options.brokers:
            with log_in(broker, str(Path(folder, broker))) as log:
                serve = ("-m", "streamll", "serve", "--port", "8123", "--log", log)
                what = f"streamll serve, {broker}"
                measure(what, (*serve, "idle_program:echo"), options.seconds, log)


if __name__ == "__main__":
    main()
