"""What asking a model costs the process that asks: CPU microseconds per chunk, side by side.

Every client asks the same provider (a process of its own, over loopback HTTP) for the same stream
of chat completion chunks and hands its reader the text of each. The figure is the CPU time of
this process, all its threads included, divided by the chunks. Clients take turns, round after
round, so that a busy machine disturbs all of them alike; the median counts, and a ratio is the
median of the rounds' ratios.

    pip install openai litellm httpx
    python bench/models.py --chunks 2000 --rounds 7
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from importlib import metadata
from typing import NamedTuple

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # no look-up over the network
logging.getLogger("dspy").setLevel(logging.ERROR)
warnings.filterwarnings("ignore")

import _paths as paths  # noqa: E402
from _provider import pieces, provider  # noqa: E402

Call = Callable[[], str]
MESSAGES = [{"role": "user", "content": paths.QUESTION}]
MODEL = "gpt-4o-mini"
OURS, SDK = "streamll iModel", "openai SDK"
TARGET = 5.0
"""How many times cheaper than the openai SDK a stream of ours is to be."""


# --- ours -------------------------------------------------------------------------------------


def imodel_sync(url: str) -> Call:
    from streamll.services import iModel

    model = iModel("openai", MODEL, base_url=url)
    return lambda: "".join(model.invoke_stream(messages=MESSAGES))


def imodel_async(url: str) -> Call:
    from streamll.services import iModel

    model = iModel("openai", MODEL, base_url=url)

    async def call() -> str:
        return "".join([chunk async for chunk in model.invoke_stream(messages=MESSAGES)])

    return paths.in_loop(call)


# --- others -----------------------------------------------------------------------------------


def openai_sync(url: str) -> Call:
    import openai

    client = openai.OpenAI(base_url=url, api_key="none")

    def call() -> str:
        stream = client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
        return "".join(c.choices[0].delta.content or "" for c in stream if c.choices)

    return call


def openai_async(url: str) -> Call:
    import openai

    client = openai.AsyncOpenAI(base_url=url, api_key="none")

    async def call() -> str:
        stream = await client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
        return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])

    return paths.in_loop(call)


def litellm_sync(url: str) -> Call:
    import litellm

    def call() -> str:
        stream = litellm.completion(
            f"openai/{MODEL}", MESSAGES, stream=True, api_base=url, api_key="none"
        )
        return "".join(c.choices[0].delta.content or "" for c in stream if c.choices)

    return call


def litellm_async(url: str) -> Call:
    import litellm

    async def call() -> str:
        stream = await litellm.acompletion(
            f"openai/{MODEL}", MESSAGES, stream=True, api_base=url, api_key="none"
        )
        return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])

    return paths.in_loop(call)


def text_of_line(line: str) -> str:
    if not line.startswith("data: {"):
        return ""
    choices = json.loads(line[6:])["choices"]
    return (choices[0]["delta"].get("content") or "") if choices else ""


def httpx_sync(url: str) -> Call:
    import httpx

    client, body = httpx.Client(), {"model": MODEL, "messages": MESSAGES, "stream": True}

    def call() -> str:
        with client.stream("POST", f"{url}/chat/completions", json=body) as response:
            return "".join(map(text_of_line, response.iter_lines()))

    return call


def httpx_async(url: str) -> Call:
    import httpx

    client, body = httpx.AsyncClient(), {"model": MODEL, "messages": MESSAGES, "stream": True}

    async def call() -> str:
        async with client.stream("POST", f"{url}/chat/completions", json=body) as response:
            return "".join([text_of_line(line) async for line in response.aiter_lines()])

    return paths.in_loop(call)


# --- side by side -----------------------------------------------------------------------------


class Client(NamedTuple):
    name: str
    mode: str
    make: Callable[[str], Call]


CLIENTS = [
    Client("raw socket + msgspec", "sync", paths.floor_sync),
    Client("raw socket + msgspec", "async", paths.floor_async),
    Client("dspy.lm15 router", "sync", paths.engine_sync),
    Client("dspy.lm15 router", "async", paths.engine_async),
    Client(OURS, "sync", imodel_sync),
    Client(OURS, "async", imodel_async),
    Client("httpx + json", "sync", httpx_sync),
    Client("httpx + json", "async", httpx_async),
    Client(SDK, "sync", openai_sync),
    Client(SDK, "async", openai_async),
    Client("LiteLLM", "sync", litellm_sync),
    Client("LiteLLM", "async", litellm_async),
]


def measure(address: str, pace: int, chunks: int, rounds: int) -> dict[Client, list[float]]:
    """CPU microseconds per chunk of every client, once per round."""
    url = f"{address}/{pace}/{chunks}/v1"
    calls = {client: client.make(url) for client in CLIENTS}
    spent: dict[Client, list[float]] = {client: [] for client in CLIENTS}
    expected = "".join(pieces(chunks))
    for number in range(rounds + 1):  # the first warms up
        for client, call in calls.items():
            gc.collect()
            begin = time.process_time()
            text = call()
            seconds = time.process_time() - begin
            if text != expected:
                print(f"{client.name} ({client.mode}) lost text", file=sys.stderr)
            if number:
                spent[client].append(seconds / len(pieces(chunks)) * 1e6)
    return spent


def ratio(costs: list[float], others: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(costs, others, strict=True))


def table(spent: dict[Client, list[float]]) -> str:
    by_key = {(client.name, client.mode): costs for client, costs in spent.items()}
    rows = [f"{'':22}{'':>7}{'µs/chunk':>10}{'spread':>17}{'openai SDK ÷':>14}"]
    for client, costs in spent.items():
        rows.append(
            f"{client.name:22}{client.mode:>7}{statistics.median(costs):10.1f}"
            f"{f'{min(costs):.1f}–{max(costs):.1f}':>17}"
            f"{ratio(by_key[SDK, client.mode], costs):14.1f}"
        )
    return "\n".join(rows)


def verdicts(spent: dict[Client, list[float]]) -> str:
    by_key = {(client.name, client.mode): costs for client, costs in spent.items()}
    said = []
    for mode in ("sync", "async"):
        times = ratio(by_key[SDK, mode], by_key[OURS, mode])
        met = "met" if times >= TARGET else "MISSED"
        said.append(f"{mode} {times:.1f} times ({met})")
    return f"Cheaper than the openai SDK: {', '.join(said)}; the target is {TARGET:g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chunks", type=int, default=2000, help="in bursts")
    parser.add_argument("--paced-chunks", type=int, default=500, help="one at a time")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--paced-rounds", type=int, default=3)
    options = parser.parse_args()
    versions = ", ".join(
        f"{n} {metadata.version(n)}" for n in ("dspy", "openai", "litellm", "httpx")
    )
    print(
        f"CPU per chunk; {versions}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    with provider() as address:
        print(f"\nIn bursts: {options.chunks} chunks at once, {options.rounds} rounds, median")
        bursts = measure(address, 0, options.chunks, options.rounds)
        print(f"{table(bursts)}\n{verdicts(bursts)}")
        chunks, rounds = options.paced_chunks, options.paced_rounds
        print(f"\nPaced: {chunks} chunks, each in a packet of its own, 1 ms apart, {rounds} rounds")
        paced = measure(address, 1, chunks, rounds)
        print(table(paced))


if __name__ == "__main__":
    main()
