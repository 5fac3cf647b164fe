"""Everything is killed, at random and under load, and what every reader had is counted.

    python bench/chaos.py                          ten minutes, Redis
    python bench/chaos.py --minutes 2 --broker rabbitmq
    python bench/chaos.py --minutes 0.2 --every 1 --seed 7

Three server processes behind nginx, clients that start runs there and read them, producers whose own
programs write into the same log, and an ``EventConsumer`` that reads all of it. Every few seconds one
of them is killed (SIGKILL), or the broker's node is, and started again; only the first of each kind and
the consumer are spared, whose memory, threads and descriptors are looked at before and afterwards.

The text of a run is its name with the numbers of its words, so that what is missing, doubled, mixed up with another
run's or out of order is seen in any of them. A client that was killed goes on with what it had written down, at the
id it had last. A run ends whole, or as lost where its process was killed: then with the beginning of its text.
The exit code is 1 if anything else was seen. (SQLite has no node to kill.)
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import multiprocessing
import os
import random
import re
import resource
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

if __name__ != "chaos":  # this folder has a brokers.py, the tests have a folder of that name
    sys.path[0] = str(Path(__file__).resolve().parent.parent / "tests")

processes = multiprocessing.get_context("forkserver")
PRELOAD = (
    "dspy", "httpx", "uvicorn", "redis.asyncio", "streamll.serve.app", "streamll.capture.stream",
    "streamll.capture.tap.waits", "streamll.capture.reply.lm_call", "streamll.consumer.consumer",
    "streamll.brokers.redis.sink", "streamll.brokers.redis.source", "streamll.brokers.sqlite.sink",
    "streamll.brokers.sqlite.source",
)  # fmt: skip
SERVERS = 3
WORD = re.compile(r"[a-z0-9]+w[0-9]+")
START_S = 600.0
"""How long a broker may take to start: a busy machine, or a log to repair, is no fault."""
END_S = 180.0
"""How long the runs may take to end once nothing is killed any more."""
MORE = {"threads": 6, "descriptors": 12}
"""So many a process may have afterwards that it had no use for before: pools of threads grow as needed."""
NGINX = {
    "passed": ["max_fails=0"],
    "location": "proxy_http_version 1.1; proxy_set_header Host $http_host; proxy_read_timeout 1h;"
    "proxy_connect_timeout 2s; proxy_next_upstream error timeout http_503;",
    "level": "emerg",
}


def text_of(name: str, words: int) -> str:
    return " ".join(f"{name}w{number}" for number in range(words))


class Plan:
    """What all the processes know: where everything is, how much load, and until when."""

    def __init__(self, folder: str, log: str, model: str, options: argparse.Namespace) -> None:
        self.folder, self.log, self.model = Path(folder), log, model
        self.words, self.pace = options.words, options.pace
        self.runs, self.lost_s = options.runs, options.lost_seconds
        self.url = ""

    @property
    def loaded(self) -> bool:
        """Whether runs are to be started."""
        return (self.folder / "load").exists()

    async def wait_loaded(self) -> None:
        while not self.loaded:  # noqa: ASYNC110 - another process says so
            await asyncio.sleep(0.2)

    def load(self, *, on: bool) -> None:
        flag = self.folder / "load"
        flag.touch() if on else flag.unlink(missing_ok=True)


def program(plan: Plan) -> Any:
    import dspy

    qa = dspy.Predict("question -> answer")
    qa.set_lm(dspy.LM("openai/practice", api_base=plan.model, api_key="none", cache=False))
    dspy.configure(adapter=dspy.ChatAdapter())
    return qa


# --- what runs in processes of its own ------------------------------------------------------------


def provide(words: int, pace: float, told: Any) -> None:
    """The provider: answers a question with the text of that name."""
    from streamll.testing import PracticeServer, Reply

    with PracticeServer(pace=pace) as server:
        server.respond(
            lambda asked: Reply({"answer": text_of(asked.prompt.inputs["question"], words)})
        )
        told.send(server.openai_url)
        while True:
            time.sleep(1)
            server.requests[:-1000] = []


def serve(plan: Plan, _name: str, port: int) -> None:
    import uvicorn

    from streamll.serve import Limits, create_app

    limits = Limits(lost_seconds=plan.lost_s)
    app = create_app({"qa": program(plan)}, log=plan.log, limits=limits, viewer=False)
    uvicorn.run(app, port=port, log_level="error", access_log=False)


def produce(plan: Plan, name: str, _port: int) -> None:
    """Programs that no server runs. What has ended here is written down once the log has it."""
    import streamll
    from streamll.sinks import open_sink

    sink: Any = open_sink(plan.log)
    qa = streamll.instrument(program(plan), fields=["answer"], sinks=[sink])
    born = f"{name}x{os.getpid()}"
    journal = Journal(plan.folder / f"{name}.ended")

    async def one(number: int) -> None:
        for turn in range(1_000_000):
            await plan.wait_loaded()
            run = f"{born}x{number}x{turn}"
            await qa.acall(question=run)
            while sink.statistics().buffered:  # noqa: ASYNC110 - a sink has no event for it
                await asyncio.sleep(0.02)
            journal.write(run)

    async def main() -> None:
        await asyncio.gather(*(one(number) for number in range(plan.runs)))

    asyncio.run(main())


class Client:
    """Starts runs through nginx and reads them, and goes on with those it had when it was killed."""

    UNKNOWN_S = 15.0
    """So long a run is asked for that the log never had: its server was killed before."""

    def __init__(self, plan: Plan, name: str, http: Any) -> None:
        place = plan.folder / f"{name}.read"
        self._had = readings(place)
        self._plan, self._http, self._journal = plan, http, Journal(place)
        self._born = f"{name}x{os.getpid()}"
        self._open = [run for run, each in self._had.items() if not each.over]

    async def work(self, number: int) -> None:
        while self._open:
            run = self._open.pop()
            await self._follow(run, self._had[run].last_id)
        for turn in range(1_000_000):
            await self._plan.wait_loaded()
            run = await self._start(f"{self._born}x{number}x{turn}")
            if run is None:
                await asyncio.sleep(0.2)
            else:
                await self._follow(run, None)

    async def _start(self, name: str) -> str | None:
        import httpx

        with contextlib.suppress(httpx.HTTPError):
            answer = await self._http.post("/runs", json={"inputs": {"question": name}})
            if answer.status_code == 202:
                run: str = answer.json()["run_id"]
                self._journal.write(json.dumps({"run": run, "name": name}))
                return run
        return None

    async def _follow(self, run: str, last: str | None) -> None:
        import httpx

        until = math.inf
        while True:
            with contextlib.suppress(httpx.HTTPError):
                headers = {} if last is None else {"last-event-id": last}
                opened = self._http.stream("GET", f"/runs/{run}/events", headers=headers)
                async with opened as answer:
                    if answer.status_code == 404:
                        until = min(until, time.monotonic() + self.UNKNOWN_S)
                    async for place, data in frames(answer):
                        last = place
                        self._journal.write(f'{{"run": "{run}", "event": {data}}}')
                        if any(f'"event_type":"{end}"' in data for end in ENDS):
                            return
            if time.monotonic() > until:
                self._journal.write(json.dumps({"run": run, "gone": True}))
                return
            await asyncio.sleep(0.2)


async def frames(answer: Any) -> AsyncGenerator[tuple[str, str], None]:
    """Id and data of an event stream's frames; those without an id are in no log."""
    rest = ""
    async for text in answer.aiter_text():
        *whole, rest = (rest + text).split("\n\n")
        for frame in whole:
            if frame.startswith("id: "):
                place, _, data = frame[4:].partition("\ndata: ")
                yield place, data


def read(plan: Plan, name: str, _port: int) -> None:
    import httpx

    async def main() -> None:
        limits = httpx.Limits(max_keepalive_connections=0)
        options: Any = {"timeout": 60, "trust_env": False, "limits": limits}
        async with httpx.AsyncClient(base_url=plan.url, **options) as http:
            client = Client(plan, name, http)
            await asyncio.gather(*(client.work(number) for number in range(plan.runs)))

    asyncio.run(main())


def consume(plan: Plan, name: str, _port: int) -> None:
    """An ``EventConsumer`` that reads the log from its beginning; says what it saw at SIGUSR1."""
    from streamll.consumer import EventConsumer
    from streamll.core.events import TERMINAL
    from streamll.core.wire import encode

    consumer = EventConsumer(plan.log, start="beginning", lost_seconds=plan.lost_s)
    opened: dict[str, Reading] = {}
    seen = Counter[str]()
    wrong: list[str] = []
    names: set[str] = set()
    over: set[str] = set()

    @consumer.subscribe
    async def hear(event: Any) -> None:  # sync handlers would have threads of their own
        if event.run_id is None or event.seq is None:
            return
        if event.run_id in over:
            wrong.append(f"{event.run_id}: {event.event_type} {event.seq} behind its end")
            return
        reading = opened.setdefault(event.run_id, Reading(event.run_id))
        reading.take(json.loads(encode(event)))
        if event.event_type in TERMINAL:
            wrong.extend(reading.check(plan.words))
            seen[reading.ending] += 1
            if reading.ending == "whole":
                names.add(reading.name)
            over.add(event.run_id)
            del opened[event.run_id]

    def report(*_: Any) -> None:
        told = {"seen": seen, "wrong": wrong, "names": sorted(names), "open": list(opened)}
        temporary = plan.folder / f"{name}.new"
        temporary.write_text(json.dumps(told))
        temporary.rename(plan.folder / f"{name}.report")

    signal.signal(signal.SIGUSR1, lambda *_: threading.Thread(target=report).start())
    (plan.folder / f"{name}.ready").touch()  # before, the signal would have ended it
    consumer.run_sync()


class Journal:
    """Lines that a kill leaves whole: each is one write."""

    def __init__(self, place: Path) -> None:
        self._file = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, line: str) -> None:
        os.write(self._file, line.encode() + b"\n")


# --- what was read --------------------------------------------------------------------------------


class Reading:
    """One run as one reader had it."""

    def __init__(self, run: str, name: str = "") -> None:
        self.run, self.name = run, name
        self.text, self.next_seq = "", 0
        self.gone = False
        self.last: dict[str, Any] | None = None
        self.last_id: str | None = None
        self.wrong: list[str] = []

    def take(self, event: dict[str, Any]) -> None:
        kind, seq = event["event_type"], event["seq"]
        if self.over:
            self.wrong.append(f"{self.run}: {kind} {seq} behind its end")
        if event["run_id"] != self.run:
            self.wrong.append(f"{self.run}: an event of {event['run_id']}")
        if seq != self.next_seq:
            what = "missing or out of order" if seq > self.next_seq else "again"
            self.wrong.append(f"{self.run}: {seq} where {self.next_seq} is due: {what}")
        self.next_seq = seq + event.get("count", 1)
        self.last_id = f"{self.run}:{self.next_seq - 1}"
        if kind == "token":
            if event.get("offset", 0) != len(self.text):
                self.wrong.append(
                    f"{self.run}: text at {event.get('offset', 0)}, {len(self.text)} due"
                )
            self.text += event["token"]
            self.last_id += f":{len(self.text)}"
        self.last = event

    @property
    def over(self) -> bool:
        return self.gone or (self.last is not None and self.last["event_type"] in ENDS)

    @property
    def ending(self) -> str:
        if self.gone:
            return "never logged"
        if self.last is None or not self.over:
            return "open"
        if self.last["event_type"] == "run.end":
            return "whole"
        return str(self.last.get("error_type", self.last["event_type"]))

    def check(self, words: int) -> list[str]:
        """What is wrong with it."""
        found = WORD.match(self.text)
        name = self.name or (found[0].rpartition("w")[0] if found else "")
        self.name, expected = name, text_of(name, words)
        if self.ending == "whole" and self.text != expected:
            self.wrong.append(f"{self.run}: a wrong text: {self.text[:60]!r}")
        if name and not expected.startswith(self.text):
            self.wrong.append(f"{self.run}: not the beginning of its text: {self.text[-60:]!r}")
        if self.ending not in {"whole", "RunLost", "never logged"}:
            self.wrong.append(f"{self.run}: ended as {self.ending}")
        return self.wrong


ENDS = {"run.end", "run.error", "run.cancelled"}


def readings(place: Path) -> dict[str, Reading]:
    """What a client has written down."""
    found: dict[str, Reading] = {}
    if place.exists():
        with place.open("rb") as lines:
            for line in lines:
                told = json.loads(line)
                reading = found.setdefault(told["run"], Reading(told["run"], told.get("name", "")))
                reading.gone = reading.gone or "gone" in told
                if "event" in told:
                    reading.take(told["event"])
    return found


# --- the parts, and their end -----------------------------------------------------------------------


class Part:
    """A process that is started again when it was killed."""

    def __init__(self, plan: Plan, work: Any, name: str, port: int = 0) -> None:
        self.name, self._plan, self._work, self._port = name, plan, work, port
        self.process: Any = None
        self.start()

    def start(self) -> None:
        self.process = processes.Process(
            target=self._work, args=(self._plan, self.name, self._port), daemon=True
        )
        self.process.start()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


class Node:
    """The broker's: the same for the killer."""

    name = "broker"

    def __init__(self, server: Any) -> None:
        self.server = server

    def kill(self) -> None:
        self.server.kill()

    def start(self) -> None:
        self.server.start(START_S)


def state(pid: int) -> dict[str, int]:
    """Memory (MB), threads and descriptors of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return {
        "MB": int(re.search(r"VmRSS:\s+(\d+)", status)[1]) // 1024,  # type: ignore[index]
        "threads": int(re.search(r"Threads:\s+(\d+)", status)[1]),  # type: ignore[index]
        "descriptors": sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
    }


def broker(kind: str, folder: Path) -> tuple[str, Any]:
    from brokers import servers

    if kind == "sqlite":
        return f"sqlite:///{folder}/log.db", None
    if kind == "redis":
        server: Any = servers.RedisServer(folder / "broker", servers.redis_binary())
    else:
        server = servers.RabbitMQServer(folder / "broker")
    server.start()
    return server.url, server


class Chaos:
    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        from brokers.servers import free_port
        from serve.nginx import Nginx

        self.options, self.random = options, random.Random(options.seed)
        self.log, self.server = broker(options.broker, folder)
        ours, theirs = processes.Pipe()
        self.provider = processes.Process(
            target=provide, args=(options.words, options.pace, theirs), daemon=True
        )
        self.provider.start()
        self.plan = plan = Plan(str(folder), self.log, ours.recv(), options)
        ports = [free_port() for _ in range(SERVERS)]
        self.servers = [Part(plan, serve, f"server{n}", port) for n, port in enumerate(ports)]
        self.nginx = Nginx(folder, *ports, **NGINX)
        plan.url = self.nginx.url
        self.consumer = Part(plan, consume, "consumer")
        self.producers = [Part(plan, produce, f"p{n}") for n in range(options.producers)]
        self.clients = [Part(plan, read, f"c{n}") for n in range(options.clients)]
        self.spared = [self.servers[0], self.producers[0], self.clients[0], self.consumer]
        self.kills = Counter[str]()
        self.wait_answers(ports)

    def wait_answers(self, ports: list[int]) -> None:
        from brokers.servers import listens, wait_until

        for port in ports:
            wait_until(lambda port=port: listens(port), 120, "a server listens")
        ready = self.plan.folder / "consumer.ready"
        wait_until(ready.exists, 120, "the consumer can be asked")

    def run(self) -> bool:
        """True if all was right."""
        options = self.options
        self.plan.load(on=True)
        time.sleep(options.warm_up)
        self.settle("before")
        before = {part.name: state(part.process.pid) for part in self.spared}
        self.plan.load(on=True)
        until = time.monotonic() + options.minutes * 60
        while time.monotonic() + options.every < until:
            time.sleep(options.every * self.random.uniform(0.5, 1.5))
            self.kill_one()
        settled = self.settle("afterwards")
        after = {part.name: state(part.process.pid) for part in self.spared}
        return self.report(before, after, settled=settled)

    def kill_one(self) -> None:
        parts: list[Any] = [self.servers, self.producers, self.clients]
        kind = self.random.choice(parts if self.server is None else [*parts, None])
        part: Any = Node(self.server) if kind is None else self.random.choice(kind)
        if part in self.spared:
            part = self.random.choice(kind[1:])
        part.kill()
        time.sleep(self.random.uniform(0, 0.5))
        part.start()
        self.kills[part.name if kind is None else type_of(part)] += 1

    def settle(self, when: str) -> bool:
        """No load, until every run has ended that was begun; False where some do not."""
        self.plan.load(on=False)
        until = time.monotonic() + END_S
        while time.monotonic() < until:
            time.sleep(1)
            self.told = self.ask_consumer()
            waiting = [
                f"{part.name}: {run}"
                for part in self.clients
                for run, each in readings(self.plan.folder / f"{part.name}.read").items()
                if not each.over
            ]
            if not self.told["open"] and not waiting:
                return True
        print(f"{when}: not ended: {self.told['open'][:5]} {waiting[:5]}")
        return False

    def ask_consumer(self) -> dict[str, Any]:
        place = self.plan.folder / "consumer.report"
        place.unlink(missing_ok=True)
        os.kill(self.consumer.process.pid, signal.SIGUSR1)
        until = time.monotonic() + 60
        while not place.exists():
            if time.monotonic() > until:
                raise SystemExit("the consumer does not answer any more")
            time.sleep(0.05)
        told: dict[str, Any] = json.loads(place.read_text())
        return told

    def report(self, before: dict[str, Any], after: dict[str, Any], *, settled: bool) -> bool:
        wrong: list[str] = []
        endings, events = Counter[str](), 0
        whole = set(self.told["names"])
        for part in self.clients:
            for each in readings(self.plan.folder / f"{part.name}.read").values():
                wrong += [f"{part.name}: {what}" for what in each.check(self.options.words)]
                endings[each.ending] += 1
                events += each.next_seq
                if each.ending == "whole" and each.name not in whole:
                    wrong.append(f"{each.run} was whole for {part.name}, and not in the log")
        wrong += [f"consumer: {what}" for what in self.told["wrong"]]
        for part in self.producers:
            ended = (self.plan.folder / f"{part.name}.ended").read_text().split()
            wrong += [f"{run} is not whole in the log" for run in ended if run not in whole]
        kills = ", ".join(f"{count} × {name}" for name, count in sorted(self.kills.items()))
        print(f"killed: {kills or 'nothing'}")
        print(f"read by clients: {events} events of {sum(endings.values())} runs: {shown(endings)}")
        print(f"read by the consumer: {shown(self.told['seen'])}")
        print(f"\n{'':12}{'MB':>12}{'threads':>14}{'descriptors':>14}")
        for name, was in before.items():
            now = after[name]
            print(f"{name:12}" + "".join(f"{f'{was[k]} → {now[k]}':>14}" for k in was))
            more = {kind: now[kind] - was[kind] for kind in MORE}
            if any(more[kind] > MORE[kind] for kind in MORE):
                wrong.append(f"{name} has more threads or descriptors than before")
            if now["MB"] > was["MB"] + self.options.more_mb:
                wrong.append(f"{name} has grown")
        wrong += [] if settled else ["some runs do not end"]
        if "RunLost" in endings and not self.kills["server"]:
            wrong.append("runs were lost whose server lives")
        print("\nwrong: " + ("nothing" if not wrong else f"{len(wrong)} times"))
        for each in wrong[:20]:
            print(f"  {each}")
        return not wrong

    def close(self) -> None:
        for part in [*self.servers, *self.producers, *self.clients, self.consumer]:
            part.kill()
        self.provider.kill()
        self.nginx.stop()
        if self.server is not None:
            self.server.stop()


def type_of(part: Part) -> str:
    names = {"s": "server", "p": "producer", "c": "client"}
    return names[part.name[0]]


def shown(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--broker", choices=["redis", "rabbitmq", "sqlite"], default="redis")
    parser.add_argument("--every", type=float, default=3.0, help="seconds from kill to kill")
    parser.add_argument("--runs", type=int, default=4, help="at once, of a client and a producer")
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--producers", type=int, default=3)
    parser.add_argument("--words", type=int, default=60, help="of a run")
    parser.add_argument("--pace", type=float, default=0.05, help="seconds from word to word")
    parser.add_argument("--lost-seconds", type=float, default=10.0)
    parser.add_argument("--warm-up", type=float, default=15.0, help="seconds of load before")
    parser.add_argument(
        "--more-mb", type=int, default=40, help="that a process may have afterwards"
    )
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    options.seed = random.randrange(10_000) if options.seed is None else options.seed
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    processes.set_forkserver_preload(list(PRELOAD))
    print(
        f"{options.minutes:g} minutes on {options.broker}, seed {options.seed}, "
        f"load {os.getloadavg()[0]:.1f} of {os.cpu_count()} cores"
    )
    with tempfile.TemporaryDirectory(prefix="chaos") as place:
        chaos = Chaos(Path(place), options)
        try:
            right = chaos.run()
        finally:
            chaos.close()
    own = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"load {os.getloadavg()[0]:.1f}, CPU of the children that ended {own.ru_utime:.0f} s")
    raise SystemExit(not right)


if __name__ == "__main__":
    main()
