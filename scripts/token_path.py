"""Count the calls and files of streamll that one token passes, from the socket to its reader.

    python scripts/token_path.py            # the counts
    python scripts/token_path.py --calls    # and each function, in the order of the first token

A practice provider sends one token per packet. The same program runs twice, with a short and a
long answer; what the long answer cost more, divided by its further tokens, is what one token costs.
Only Python functions in ``src/streamll`` count, not the practice provider, and no library's. Four
readers are measured: a ``for`` and an ``async for`` over ``streamll.stream`` in the same process, an
``EventConsumer`` of an SQLite log behind a sink, and a browser's event stream from ``streamll serve``
over such a log; in these two, writer and reader together.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from types import CodeType, FrameType

import dspy
import uvicorn

import streamll
from streamll.serve import create_app
from streamll.testing import PracticeServer

SOURCE = str(Path(streamll.__file__).parent)
PRACTICE = str(Path(SOURCE) / "testing")
SHORT, LONG = 40, 160  # tokens of the two answers
PACE_S = 0.004  # between two packets: a token is read before the next one is sent
JSON = {"content-type": "application/json"}
OFTEN = 0.5  # calls per token from which on a function belongs to a token's way

Calls = Counter[CodeType]


@contextmanager
def counted(calls: Calls) -> Iterator[None]:
    """Count every call of a streamll function, on any thread, while the block runs."""
    lock = threading.Lock()

    def hook(frame: FrameType, event: str, argument: object) -> None:
        del argument
        code = frame.f_code
        name = code.co_filename
        if event == "call" and name.startswith(SOURCE) and not name.startswith(PRACTICE):
            with lock:
                calls[code] += 1

    threading.setprofile(hook)
    sys.setprofile(hook)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]


def in_memory(server: PracticeServer, tokens: int) -> Calls:
    """The calls of one program whose answer is read in a loop."""
    calls: Calls = Counter()
    server.script({"answer": "word " * tokens})
    program = dspy.Predict("question -> answer")
    with counted(calls), streamll.stream(program)(question="?") as events:
        seen = sum(event.event_type == "token" for event in events)
    assert seen >= tokens, seen
    return calls


def in_a_loop(server: PracticeServer, tokens: int) -> Calls:
    """The same on an event loop."""
    calls: Calls = Counter()
    server.script({"answer": "word " * tokens})
    program = dspy.Predict("question -> answer")

    async def read() -> int:
        async with streamll.stream(program)(question="?") as events:
            return sum([event.event_type == "token" async for event in events])

    with counted(calls):
        seen = asyncio.run(read())
    assert seen >= tokens, seen
    return calls


def through_a_log(server: PracticeServer, tokens: int) -> Calls:
    """The calls of one program with a sink on an SQLite log, and of a consumer of that log."""
    calls: Calls = Counter()
    server.script({"answer": "word " * tokens})
    with tempfile.TemporaryDirectory() as folder, counted(calls):
        url = f"sqlite:///{folder}/log.db"
        sink = streamll.open_sink(url, batch_size=1, flush_interval=0)
        program = streamll.instrument(
            dspy.Predict("question -> answer"), stream_fields=["answer"], sinks=[sink]
        )
        consumer = streamll.EventConsumer(url, start="beginning")
        consumer.on("run.end")(lambda event: consumer.stop_soon())
        seen: list[object] = []
        consumer.on("token")(seen.append)
        reader = threading.Thread(target=consumer.run_sync)
        reader.start()
        program(question="?")
        sink.stop()
        reader.join(60)
    assert seen
    return calls


def through_a_server(server: PracticeServer, tokens: int) -> Calls:
    """The calls of a served program and of its one reader over HTTP."""
    calls: Calls = Counter()
    server.script({"answer": "word " * tokens})
    with tempfile.TemporaryDirectory() as folder, counted(calls):
        app = create_app(dspy.Predict("question -> answer"), log=f"sqlite:///{folder}/log.db")
        serving = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="on"))
        thread = threading.Thread(target=serving.run)
        thread.start()
        while not serving.started:
            time.sleep(0.01)
        port = serving.servers[0].sockets[0].getsockname()[1]
        client = HTTPConnection("127.0.0.1", port, timeout=60)
        client.request("POST", "/runs", json.dumps({"inputs": {"question": "?"}}), JSON)
        run_id = json.load(client.getresponse())["run_id"]
        client.request("GET", f"/runs/{run_id}/events")
        seen = client.getresponse().read().count(b'"event_type":"token"')
        serving.should_exit = True
        thread.join()
    assert seen, seen
    return calls


def per_token(measure: Callable[[PracticeServer, int], Calls]) -> dict[CodeType, float]:
    """How often each function was called for one further token."""
    with PracticeServer(pace=PACE_S, packets=True) as server:
        dspy.configure(lm=server.lm(cache=False))
        measure(server, SHORT)  # imports, first-use caches
        short, long = measure(server, SHORT), measure(server, LONG)
    further = LONG - SHORT
    return {
        code: (long[code] - short[code]) / further
        for code in long
        if long[code] - short[code] >= OFTEN * further
    }


def report(title: str, way: dict[CodeType, float], *, functions: bool) -> None:
    files = {code.co_filename for code in way}
    print(f"{title}: {sum(way.values()):.0f} calls in {len(files)} files per token")
    if functions:
        for code, count in way.items():
            place = Path(code.co_filename).relative_to(SOURCE)
            print(f"  {count:5.1f}  {place}:{code.co_firstlineno} {code.co_name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", action="store_true", help="list the functions, too")
    functions: bool = parser.parse_args().calls
    logging.getLogger("dspy").setLevel(logging.ERROR)
    report("for", per_token(in_memory), functions=functions)
    report("async for", per_token(in_a_loop), functions=functions)
    report("through an SQLite log", per_token(through_a_log), functions=functions)
    report("through a server", per_token(through_a_server), functions=functions)


if __name__ == "__main__":
    main()
