"""Whether a model really streams: one question, timed chunk by chunk."""

from __future__ import annotations

import statistics
import time
from enum import Enum
from itertools import pairwise

import msgspec

from streamll.chat.model import iModel

QUESTION = "Write the numbers from one to fifty as words, separated by commas. Nothing else."
CHARACTERS_PER_TOKEN = 4.0
"""A rule of thumb, for providers that report no usage."""
EXCELLENT_TOKENS_PER_CHUNK = 2.0
GOOD_TOKENS_PER_CHUNK = 12.0
FEW_CHUNKS = 3
"""So few say nothing about how a longer answer would arrive."""
BURST_SHARE = 0.1
"""Chunks that arrive within this part of the whole time were buffered somewhere…"""
BURST_MIN_S = 0.5
"""… unless the whole answer took no longer than this."""


class Verdict(str, Enum):
    """In the words of the guide's table of providers."""

    EXCELLENT = "excellent"
    GOOD = "good"
    PARTIAL = "partial"
    LIMITED = "limited"
    FAILED = "failed"

    @property
    def streams(self) -> bool:
        return self in {Verdict.EXCELLENT, Verdict.GOOD}


NOTES = {
    Verdict.EXCELLENT: "true token-by-token streaming",
    Verdict.GOOD: "small pieces, a few tokens each",
    Verdict.PARTIAL: "streams in large chunks, not tokens",
    Verdict.LIMITED: "the full response as one chunk",
    Verdict.FAILED: "no answer",
}


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured. Times are seconds; ``tokens`` as the provider counts, else estimated.

    ``mean_chunk`` is in characters. ``tokens_per_second`` is measured from the first chunk.
    ``oddities`` are sentences about what is unusual in the frames, where somebody listened to them.
    """

    model: str
    verdict: Verdict
    note: str
    chunks: int = 0
    characters: int = 0
    tokens: int = 0
    time_to_first_token: float | None = None
    duration: float = 0.0
    tokens_per_second: float | None = None
    mean_chunk: float | None = None
    longest_gap: float | None = None
    error: str | None = None
    oddities: tuple[str, ...] = ()


async def probe(model: iModel, question: str = QUESTION) -> Probe:
    """Ask ``model``, and judge how its answer arrived. An error is a verdict, too."""
    began = time.monotonic()
    stream = None
    try:
        stream = model.invoke_stream(messages=question)
        moments = [time.monotonic() - began async for _ in stream]
    except Exception as error:  # noqa: BLE001 - it is what the probe found
        return Probe(
            model=model.name,
            verdict=Verdict.FAILED,
            note=NOTES[Verdict.FAILED],
            chunks=stream.chunks if stream is not None else 0,
            duration=time.monotonic() - began,
            error=f"{type(error).__name__}: {error}".split("\n", 1)[0],
        )
    counted = getattr(stream.usage, "output_tokens", None)
    return judged(model.name, [len(chunk) for chunk in stream.read], moments, counted)


def judged(model: str, sizes: list[int], moments: list[float], counted: int | None = None) -> Probe:
    """The result for chunks of these ``sizes`` (characters) at these ``moments`` (seconds)."""
    if not sizes:
        note = "an empty answer"
        return Probe(model=model, verdict=Verdict.FAILED, note=note, tokens=counted or 0)
    characters = sum(sizes)
    tokens = counted or max(1, round(characters / CHARACTERS_PER_TOKEN))
    first, last = moments[0], moments[-1]
    verdict, note = _verdict(len(sizes), tokens, first, last)
    return Probe(
        model=model,
        verdict=verdict,
        note=note,
        chunks=len(sizes),
        characters=characters,
        tokens=tokens,
        time_to_first_token=first,
        duration=last,
        tokens_per_second=tokens / (last - first) if last > first else None,
        mean_chunk=statistics.fmean(sizes),
        longest_gap=max((b - a for a, b in pairwise(moments)), default=None),
    )


def _verdict(chunks: int, tokens: int, first: float, last: float) -> tuple[Verdict, str]:
    few, per_chunk = chunks <= FEW_CHUNKS, tokens / chunks
    if not few and last > BURST_MIN_S and last - first < BURST_SHARE * last:
        return Verdict.LIMITED, "many chunks, but all at once: something holds them back"
    if chunks == 1:
        verdict = Verdict.LIMITED
    elif per_chunk <= EXCELLENT_TOKENS_PER_CHUNK:
        verdict = Verdict.EXCELLENT
    elif per_chunk <= GOOD_TOKENS_PER_CHUNK and not few:
        verdict = Verdict.GOOD
    else:
        verdict = Verdict.PARTIAL
    return verdict, NOTES[verdict]
