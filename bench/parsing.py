"""CPU per chunk of the field parsers alone, beside ``dspy.streaming.StreamListener.receive``.

    python bench/parsing.py              ours, and DSPy's where a run takes seconds
    python bench/parsing.py --ours       without importing dspy

One reply of markdown prose in two ``str`` fields, cut into chunks of four characters, as a
provider's tokens are; the time covers making the pieces. "text" is a reply in which most of
the text is plain, "dense" one full of what the format has to hold back or decode.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import time
from xml.sax.saxutils import escape

from streamll.core.parsing.chat import ChatParser
from streamll.core.parsing.json import JSONParser
from streamll.core.parsing.xml import XMLParser

SIZES = (1_000, 10_000, 100_000)
CHUNK = 4
FIELDS = {"reasoning": True, "answer": True}
TEXT = (
    "Machine learning systems improve with data rather than with hand-written rules; that is "
    "why their quality depends on what they were shown.\n\n- **First**, collect examples, and "
    "keep some of them aside.\n- Then fit `f(x)` and look at arr[[0]] before you trust it.\n\n"
)
DENSE = 'if a[0] < 1 && "b":\n    [[x]] = "\\d"\n\n[[ ## no\n'


def chat(fields: dict[str, str]) -> str:
    sections = "\n\n".join(f"[[ ## {name} ## ]]\n{text}" for name, text in fields.items())
    return sections + "\n\n[[ ## completed ## ]]\n"


def xml(fields: dict[str, str]) -> str:
    return "\n".join(f"<{name}>\n{escape(text)}\n</{name}>" for name, text in fields.items())


FORMATS = {
    "Chat": (ChatParser, chat),
    "JSON": (JSONParser, json.dumps),
    "XML": (XMLParser, xml),
}


def cut(render, sample: str, chunks: int) -> list[str]:
    """About so many chunks of a reply whose first field is short and whose second is long."""
    size = chunks * CHUNK
    density = len(render(dict.fromkeys(FIELDS, sample * 10))) / (20 * len(sample))
    text = (sample * (int(size / density) // len(sample) + 1)).strip()
    reply = render({"reasoning": text[: len(text) // 4], "answer": text[len(text) // 4 :]})
    return [reply[at : at + CHUNK] for at in range(0, len(reply), CHUNK)]


def measure(run, chunks: list[str]) -> float:
    """CPU microseconds per chunk, the best of a few runs."""
    best = float("inf")
    for _ in range(max(1, min(5, 300_000 // len(chunks)))):
        gc.collect()
        start = time.process_time()
        run(chunks)
        best = min(best, time.process_time() - start)
    return best / len(chunks) * 1e6


def ours(parser):
    def run(chunks: list[str]) -> None:
        feed = (made := parser(FIELDS)).feed
        for chunk in chunks:
            feed(chunk)
        made.finish()

    return run


def theirs(adapter):
    """DSPy's listeners, one for each field, given the same text in its own envelope."""
    import dspy
    from dspy.streaming import StreamListener
    from dspy.streaming.streaming_listener import settings
    from litellm import ModelResponseStream
    from litellm.types.utils import Delta, StreamingChoices

    predict = dspy.Predict("question -> reasoning, answer")

    def run(envelopes: list[ModelResponseStream]) -> None:
        with settings.context(adapter=adapter):
            listeners = [StreamListener(name, predict=predict) for name in FIELDS]
            for envelope in envelopes:
                for listener in listeners:
                    listener.receive(envelope)

    def envelopes(chunks: list[str]) -> list[ModelResponseStream]:
        return [
            ModelResponseStream(choices=[StreamingChoices(delta=Delta(content=chunk))])
            for chunk in chunks
        ]

    return lambda chunks: measure(run, envelopes(chunks))


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--ours", action="store_true", help="without importing dspy")
    only_ours = arguments.parse_args().ours

    print(f"{'µs per chunk':32}" + "".join(f"{size:>10,}" for size in SIZES) + "   chunks")
    for kind, sample in (("text", TEXT), ("dense", DENSE)):
        for name, (parser, render) in FORMATS.items():
            run = ours(parser)
            figures = [measure(run, cut(render, sample, size)) for size in SIZES]
            row(f"{name}Parser, {kind}", figures)
    if only_ours:
        return

    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # no network
    from dspy.adapters import ChatAdapter, JSONAdapter, XMLAdapter

    for adapter in (ChatAdapter(), JSONAdapter(), XMLAdapter()):
        name = type(adapter).__name__.removesuffix("Adapter")
        timed = theirs(adapter)
        sizes = SIZES[:1] if name == "JSON" else SIZES[:2]  # JSON: quadratic
        row(f"2 StreamListeners, {name}", [timed(cut(FORMATS[name][1], TEXT, n)) for n in sizes])


def row(name: str, figures: list[float]) -> None:
    print(f"{name:32}" + "".join(f"{figure:10.2f}" for figure in figures))


if __name__ == "__main__":
    main()
