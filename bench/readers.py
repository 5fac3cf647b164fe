"""What a reader costs: thousands of event streams over three server processes.

    python bench/readers.py                              10,000 readers of 1,000 runs
    python bench/readers.py --readers 1000 --runs 100    on a machine with less to spare

Three kinds of server take turns, with the same readers at the same pace:

streamll    three processes of ``create_app`` on one log (SQLite, or ``--log redis``); another process writes
            the runs into it. Every reader reads its run from its first event on.
starlette   three processes with a bare ``StreamingResponse``: a queue for each reader, one frame a write. No log.
nginx       three workers that send a file of the same frames at the same rate (``limit_rate``).

Readers are plain sockets in processes of their own, over which they are spread evenly, as over the servers. Each
checks that all words of its run come, once and in order. CPU is that of all server processes together while everybody
reads; memory (PSS) is what they have more than before the first reader came. Of the first two kinds
all readers are there before the second event; nginx sends from the first moment on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import re
import resource
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent
sys.path.insert(0, str(BENCH))
from serving import run_id, token  # noqa: E402

# This folder has a brokers.py, the tests have a folder of that name.
sys.path[:] = [each for each in sys.path if Path(each).resolve() != BENCH]
sys.path.insert(0, str(BENCH.parent / "tests"))

SERVERS = 3
CLIENTS = 4
SPARE = 300
"""Descriptors that a process needs besides its readers' or sockets."""
ARRIVING = 20
"""Readers of a process that have asked and got nothing yet."""
WORD = b"token "
PLACE = re.compile(rb"^id: ([0-9a-f]+):([0-9]+)", re.MULTILINE)
processes = multiprocessing.get_context("spawn")


# --- servers --------------------------------------------------------------------------------------


def frame_of(event: Any) -> bytes:
    from streamll.core.wire import encode

    place = f"{event.run_id}:{event.seq}:{event.offset + len(event.token)}"
    return b"id: %s\ndata: %s\n\n" % (place.encode(), encode(event))


def serve(kind: str, port: int, log: str, runs: int) -> None:
    import uvicorn

    allow_descriptors()
    if kind == "streamll":
        from streamll.serve import Limits, create_app

        limits = Limits(readers=100_000, lost_seconds=3600)  # nobody reports its runs

        app: Any = create_app(print, log=log, limits=limits, viewer=False)
    else:
        app = bare_app(runs)
    uvicorn.run(app, port=port, log_level="error", access_log=False, backlog=4096)


def bare_app(runs: int) -> Any:
    from starlette.applications import Starlette
    from starlette.responses import Response, StreamingResponse

    from streamll.serve.log.frames import HEADERS

    queues: dict[str, list[asyncio.Queue[bytes]]] = {}
    tasks = set()

    async def events(request: Any) -> Any:
        run, queue = request.path_params["run"], asyncio.Queue[bytes]()
        queues.setdefault(run, []).append(queue)
        number = int(request.query_params["number"])

        async def frames() -> Any:
            yield frame_of(token(run_id(number), 0))
            while True:
                yield await queue.get()

        return StreamingResponse(frames(), headers=dict(HEADERS))

    async def go(request: Any) -> Any:
        async def write() -> None:
            def put(event: Any) -> None:
                frame = frame_of(event)
                for queue in queues.get(event.run_id, ()):
                    queue.put_nowait(frame)

            tokens, pace = request.query_params["tokens"], request.query_params["pace"]
            await produce(runs, int(tokens), float(pace), put)

        tasks.add(asyncio.create_task(write()))
        return Response()

    app = Starlette()
    app.add_route("/runs/{run}/events", events)
    app.add_route("/go", go, methods=["POST"])
    return app


async def produce(runs: int, tokens: int, pace: float, put: Any) -> None:
    """All but the first event of each run, ``pace`` seconds apart, the runs evenly spread."""
    begun = time.monotonic()
    for number in range(1, tokens):
        for run in range(runs):
            put(token(run_id(run), number))
            if run % 16 == 15:
                due = begun + (number - 1 + run / runs) * pace
                await asyncio.sleep(max(0.0, due - time.monotonic()))


def begin(run: str) -> Any:
    """A run's first event, as a program writes it."""
    from streamll.core.events import Identity, RunStart

    return RunStart(timestamp=time.time(), seq=0, identity=Identity(run_id=run), program="QA")


def write(log: str, runs: int, tokens: int, pace: float, told: Any) -> None:
    """The process that the runs are in."""
    import msgspec

    from streamll.brokers.opening import open_sink

    sink: Any = open_sink(log, **({"maxlen": None} if log.startswith("redis") else {}))

    def put(event: Any) -> None:
        sink.put(msgspec.structs.replace(event, seq=event.seq + 1))

    for run in range(runs):
        sink.put(begin(run_id(run)))
        put(token(run_id(run), 0))
    while sink.statistics().buffered:
        time.sleep(0.05)
    told.send("begun")
    told.recv()
    asyncio.run(produce(runs, tokens, pace, put))
    sink.stop()


NGINX = """
daemon off;
{user}
pid {folder}/pid;
error_log stderr emerg;
worker_processes {servers};
worker_rlimit_nofile {descriptors};
events {{ worker_connections {descriptors}; }}
http {{
    access_log off;
    {temporary}
    keepalive_timeout 0;
    server {{
        listen 127.0.0.1:{port} backlog=4096 reuseport;
        root {folder}/files;
        default_type text/event-stream;
        limit_rate_after {first};
        limit_rate {rate};
    }}
}}
"""


def start_nginx(folder: Path, port: int, options: argparse.Namespace) -> tuple[Any, int]:
    """Its process, and how many bytes a second each reader gets."""
    from serve import nginx

    for run in range(options.runs):
        place = folder / "files" / "runs" / run_id(run)
        place.mkdir(parents=True)
        frames = [frame_of(token(run_id(run), number)) for number in range(options.tokens * 4)]
        (place / "events").write_bytes(b"".join(frames))
    rate = int(len(frames[-1]) / options.pace)
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    text = NGINX.format(
        folder=folder,
        port=port,
        servers=SERVERS,
        descriptors=descriptors,
        first=len(frames[0]),  # at once, as the others send it
        rate=rate,
        temporary=nginx.temporary_paths(folder),
        user="" if os.getuid() else "user root;",  # the folder is ours alone
    )
    (folder / "nginx.conf").write_text(text)
    return nginx.start(folder), rate


# --- readers --------------------------------------------------------------------------------------


class Reader:
    __slots__ = ("last", "rest", "run", "socket", "words", "wrong")

    def __init__(self, number: int, port: int) -> None:
        self.run = run_id(number).encode()
        self.last, self.words, self.wrong, self.rest = -1, 0, 0, b""
        self.socket = socket.create_connection(("127.0.0.1", port))
        path = b"/runs/%s/events?number=%d" % (self.run, number)
        self.socket.sendall(b"GET %s HTTP/1.1\r\nhost: localhost\r\n\r\n" % path)
        self.socket.settimeout(0)

    def take(self) -> bool:
        """Read what there is; False at the end."""
        data = self.socket.recv(65536)
        end = (data := self.rest + data).rfind(b"\n\n") + 2
        if end < 2:
            self.rest = data
            return bool(data)
        self.rest, whole = data[end:], data[:end]
        self.words += whole.count(WORD)
        for run, seq in PLACE.findall(whole):
            self.wrong += run != self.run or int(seq) <= self.last
            self.last = int(seq)
        return True


def read(first: int, count: int, runs: int, tokens: int, ports: list[int], told: Any) -> None:
    """``count`` readers, from number ``first`` on; tells how many words they have had."""
    allow_descriptors()
    selector = selectors.EpollSelector()
    readers = []
    for number in range(first, first + count):
        reader = Reader(number % runs, ports[number % len(ports)])
        readers.append(reader)
        selector.register(reader.socket, selectors.EVENT_READ, reader)
        while sum(not each.words for each in readers[-2 * ARRIVING :]) >= ARRIVING:
            take_all(selector, 0.1)
    while not all(reader.words for reader in readers):
        take_all(selector, 0.1)
    told.send({"ready": len(readers)})
    deadline = None
    while True:
        take_all(selector, 0.1)
        if told.poll():
            asked = told.recv()
            if asked == "look":
                told.send(sum(reader.words for reader in readers))
            else:
                deadline = time.monotonic() + asked
        done = all(reader.words >= tokens for reader in readers)
        if deadline is not None and (done or time.monotonic() > deadline):
            break
    told.send(
        {
            "words": sum(reader.words for reader in readers),
            "lost": sum(max(0, tokens - reader.words) for reader in readers),
            "twice": sum(max(0, reader.words - tokens) for reader in readers),
            "wrong": sum(reader.wrong for reader in readers),
        }
    )


def take_all(selector: Any, seconds: float) -> None:
    for key, _ in selector.select(seconds):
        try:
            if not key.data.take():
                selector.unregister(key.fileobj)
        except BlockingIOError:
            pass


# --- measuring ------------------------------------------------------------------------------------


def cpu_s(pids: list[int]) -> float:
    ticks = 0
    for pid in pids:
        ticks += sum(
            map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13])
        )
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_kb(pids: list[int]) -> int:
    found = (Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids)
    return sum(int(re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)[1]) for text in found)  # type: ignore[index]


def children_of(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def allow_descriptors() -> int:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def wait_listens(port: int) -> None:
    for _ in range(1200):
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit("a server does not listen")


def measure(kind: str, options: argparse.Namespace, folder: Path) -> dict[str, float]:
    stops: list[Any] = []
    try:
        return measured(kind, options, folder, stops)
    finally:
        for stop in reversed(stops):
            stop()


def started(
    kind: str, ports: list[int], log: str, options: Any, folder: Path, stops: list[Any]
) -> list[int]:
    """The processes that serve; nginx has one port for all."""
    if kind == "nginx":
        nginx, _ = start_nginx(folder, ports[0], options)
        stops += [nginx.wait, nginx.terminate]
        wait_listens(ports[0])
        return children_of(nginx.pid)
    pids = []
    for port in ports:
        arguments = (kind, port, log, options.runs)
        server = processes.Process(target=serve, args=arguments, daemon=True)
        server.start()
        stops.append(server.kill)
        pids.append(server.pid)
    for port in ports:
        wait_listens(port)
    return pids


def measured(kind: str, options: Any, folder: Path, stops: list[Any]) -> dict[str, float]:
    ports, log, start = [free_port() for _ in range(SERVERS)], "", None
    if kind == "streamll":
        log = f"sqlite:///{folder}/log.db"
        if options.log == "redis":
            log = start_redis(folder, stops)
        ours, theirs = processes.Pipe()
        numbers = (options.runs, options.tokens, options.pace)
        writer = processes.Process(target=write, args=(log, *numbers, theirs), daemon=True)
        writer.start()
        stops.append(writer.kill)
    pids = started(kind, ports, log, options, folder, stops)
    ports = ports[:1] if kind == "nginx" else ports
    if kind == "streamll":
        start = lambda: ours.send("go")  # noqa: E731
        assert ours.recv() == "begun"
    elif kind == "starlette":
        start = lambda: [post(port, options) for port in ports]  # noqa: E731
    time.sleep(1)
    memory, spent, began = memory_kb(pids), cpu_s(pids), time.monotonic()
    share, pipes = options.readers // CLIENTS, []
    for number in range(CLIENTS):
        ours_too, theirs = processes.Pipe()
        arguments = (number * share, share, options.runs, options.tokens, ports, theirs)
        client = processes.Process(target=read, args=arguments, daemon=True)
        client.start()
        stops.append(client.kill)
        pipes.append(ours_too)
    readers = sum(pipe.recv()["ready"] for pipe in pipes)
    connect_s, connect_cpu = time.monotonic() - began, cpu_s(pids) - spent
    time.sleep(2)
    words_before, grown = sum(ask(pipe) for pipe in pipes), memory_kb(pids) - memory
    spent, began = cpu_s(pids), time.monotonic()
    if start is not None:
        start()
    seconds = options.tokens * options.pace if start is None else 600.0
    for pipe in pipes:
        pipe.send(seconds)
    ends = [pipe.recv() for pipe in pipes]
    spent, took = cpu_s(pids) - spent, time.monotonic() - began
    delivered = sum(end["words"] for end in ends) - words_before
    return {
        "readers": readers,
        "lost": 0 if start is None else sum(end["lost"] for end in ends),
        "wrong": sum(end["wrong"] + (end["twice"] if start else 0) for end in ends),
        "per s": delivered / took,
        "µs CPU/event": spent / delivered * 1e6,
        "% of a core": spent / took * 100,
        "KB/reader": grown / readers,
        "ms CPU to connect": connect_cpu / readers * 1e3,
        "connect s": connect_s,
    }


def ask(pipe: Any) -> int:
    pipe.send("look")
    words: int = pipe.recv()
    return words


def post(port: int, options: argparse.Namespace) -> None:
    with socket.create_connection(("127.0.0.1", port)) as asking:
        path = f"/go?tokens={options.tokens}&pace={options.pace}"
        asking.sendall(f"POST {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        asking.recv(1000)


def start_redis(folder: Path, stops: list[Any]) -> str:
    """A private one, whose writes are on disk within a second."""
    code = (
        "import sys, json; sys.path[0] = sys.argv[1]\n"
        "from pathlib import Path; from brokers import servers\n"
        "s = servers.RedisServer(Path(sys.argv[2]), servers.redis_binary(), '--appendfsync', 'everysec')\n"
        "s.start(); print(json.dumps([s.url, s.process.pid]), flush=True); sys.stdin.read(); s.stop()"
    )
    command = [sys.executable, "-c", code, str(BENCH.parent / "tests"), str(folder / "redis")]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdin is not None
    assert holder.stdout is not None
    url, _ = json.loads(holder.stdout.readline())
    stops += [holder.wait, holder.stdin.close]
    return str(url)


KINDS = ("streamll", "starlette", "nginx")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--readers", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=30, help="events of a run")
    parser.add_argument("--pace", type=float, default=2.0, help="seconds from event to event")
    parser.add_argument("--log", choices=["sqlite", "redis"], default="sqlite")
    parser.add_argument("--only", choices=KINDS)
    options = parser.parse_args()
    needed = max(options.readers // SERVERS, options.readers // CLIENTS) + SPARE
    if (allowed := allow_descriptors()) < needed:
        raise SystemExit(f"{needed} descriptors are needed, {allowed} allowed: ulimit -n {needed}")
    print(
        f"{options.readers} readers of {options.runs} runs, an event every {options.pace:g} s; "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {allowed} descriptors"
    )
    print(f"{'':10}{'lost':>6}{'wrong':>6}{'per s':>8}{'µs CPU/event':>14}{'% of a core':>13}"
          f"{'KB/reader':>11}{'ms CPU to connect':>19}{'load':>6}")  # fmt: skip
    for kind in [options.only] if options.only else KINDS:
        with tempfile.TemporaryDirectory(prefix="readers") as place:
            got = measure(kind, options, Path(place))
        print(
            f"{kind:10}{got['lost']:6.0f}{got['wrong']:6.0f}{got['per s']:8.0f}"
            f"{got['µs CPU/event']:14.1f}{got['% of a core']:13.1f}{got['KB/reader']:11.1f}"
            f"{got['ms CPU to connect']:19.2f}{os.getloadavg()[0]:6.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
