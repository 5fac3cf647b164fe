"""Does a model really stream? One question, timed chunk by chunk."""

from __future__ import annotations

import statistics
import time
from enum import Enum
from itertools import pairwise

import msgspec

from streamll.chat.model import iModel

QUESTION = "Write the numbers from one to fifty as words, separated by commas. Nothing else."
CHARACTERS_PER_TOKEN = 4.0  # a rule of thumb, for providers that do not count
A_FEW_CHUNKS = 3
TOKENS_OF_A_TOKEN_STREAM = 2.0
TOKENS_OF_A_GOOD_STREAM = 12.0
BURST = 0.1
"""Chunks that arrive within this part of the whole time were held back somewhere."""
LONG_ENOUGH = 0.5
"""Seconds before the first chunk from which on the spread of the others says anything."""


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
HELD_BACK = "many chunks, but all at once: something holds them back"


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured. Times are seconds; ``tokens`` as the provider counts, else estimated.

    ``mean_chunk`` is in characters. ``tokens_per_second`` is after the first token.
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


async def probe(model: iModel, question: str = QUESTION) -> Probe:
    """Ask ``model`` and say how its answer came. What goes wrong is the verdict, not an error."""
    began = time.monotonic()
    stream = None
    try:
        stream = model.invoke_stream(messages=question)
        moments = [time.monotonic() - began async for _ in stream]
    except Exception as error:  # noqa: BLE001 - that is what was to be found out
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
    """The verdict on chunks of these sizes (characters) at these moments (seconds)."""
    characters = sum(sizes)
    tokens = counted or max(1, round(characters / CHARACTERS_PER_TOKEN))
    if not sizes:
        return Probe(
            model=model, verdict=Verdict.FAILED, note="an empty answer", tokens=counted or 0
        )
    first, last = moments[0], moments[-1]
    gaps = [later - earlier for earlier, later in pairwise(moments)]
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
        longest_gap=max(gaps, default=None),
    )


def _verdict(chunks: int, tokens: int, first: float, last: float) -> tuple[Verdict, str]:
    if chunks == 1:
        return Verdict.LIMITED, NOTES[Verdict.LIMITED]
    if chunks > A_FEW_CHUNKS and last > LONG_ENOUGH and last - first < BURST * last:
        return Verdict.LIMITED, HELD_BACK
    each = tokens / chunks
    if each <= TOKENS_OF_A_TOKEN_STREAM:
        verdict = Verdict.EXCELLENT
    elif each <= TOKENS_OF_A_GOOD_STREAM and chunks > A_FEW_CHUNKS:
        verdict = Verdict.GOOD
    else:
        verdict = Verdict.PARTIAL
    return verdict, NOTES[verdict]
