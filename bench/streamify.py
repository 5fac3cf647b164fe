"""``streamll.streamify`` beside ``dspy.streamify``: CPU per chunk, and whether it stays flat.

    python bench/streamify.py

Two text fields with a listener each, in every adapter's form, from 200 to 20,000 chunks in one
burst; a synchronous program read on an event loop, as most are. The figure is this process's CPU
time divided by the chunks, the call itself included, which is what makes short answers dearer.
"Right" says whether both fields' text came out as the program returned it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import platform
import statistics
import time
import warnings
from importlib import metadata

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
logging.getLogger("dspy").setLevel(logging.ERROR)
warnings.filterwarnings("ignore")

import dspy  # noqa: E402
from _provider import FIELDS, pieces, provider  # noqa: E402

import streamll  # noqa: E402

ADAPTERS = {"chat": dspy.ChatAdapter, "json": dspy.JSONAdapter, "xml": dspy.XMLAdapter}
SIDES = {
    "streamll": (streamll.streamify, streamll.StreamListener),
    "dspy": (dspy.streamify, dspy.streaming.StreamListener),
}


async def call(side: str, url: str, form: str, is_async: bool) -> tuple[float, bool]:
    """CPU seconds of one call, and whether the streamed text is the program's."""
    streamify, listener = SIDES[side]
    program = dspy.Predict("question -> reasoning, answer")
    streaming = streamify(
        program, stream_listeners=[listener(name) for name in FIELDS], is_async_program=is_async
    )
    parts: dict[str, list[str]] = {name: [] for name in FIELDS}
    prediction = None
    lm = dspy.LM("openai/gpt-4o-mini", api_base=url, api_key="none", cache=False)
    gc.collect()
    begin = time.process_time()
    with dspy.context(lm=lm, adapter=ADAPTERS[form]()):
        async for value in streaming(question="What does it cost to watch?"):
            if isinstance(value, dspy.streaming.StreamResponse):
                parts[value.signature_field_name].append(value.chunk)
            elif isinstance(value, dspy.Prediction):
                prediction = value
    spent = time.process_time() - begin
    texts = {name: "".join(said) for name, said in parts.items()}
    return spent, all(texts[name] == prediction[name] for name in FIELDS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chunks", type=int, nargs="+", default=[200, 2_000, 20_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--async-program", action="store_true", help="acall on the reader's loop")
    options = parser.parse_args()
    print(
        f"µs of CPU per chunk, median of {options.rounds}; DSPy {metadata.version('dspy')}, "
        f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )
    print(f"{'':18}" + "".join(f"{f'{chunks:,} chunks':>22}" for chunks in options.chunks))
    with provider() as address:
        for form in ADAPTERS:
            for side in SIDES:
                cells = [
                    cell(side, address, form, chunks, options.rounds, options.async_program)
                    for chunks in options.chunks
                ]
                print(f"{form:6}{side:12}" + "".join(f"{each:>22}" for each in cells), flush=True)


def cell(side: str, address: str, form: str, chunks: int, rounds: int, is_async: bool) -> str:
    url = f"{address}/0/{chunks}/{form}/v1"
    results = [asyncio.run(call(side, url, form, is_async)) for _ in range(rounds + 1)][1:]
    each = statistics.median(spent for spent, _ in results) / len(pieces(chunks, form)) * 1e6
    return f"{each:.1f} {'right' if all(right for _, right in results) else 'wrong'}"


if __name__ == "__main__":
    main()
