"""How long the pauses between a reply's chunks were, in a few numbers.

As counts by length, so that a histogram of them is exact, however long the reply.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from itertools import groupby, pairwise
from statistics import fmean

GAP_BOUNDS_S = tuple(0.01 * 2**n for n in range(14))
"""Gaps between two neighbouring bounds are told as one: the buckets that OpenTelemetry advises."""


def chunk_gaps(times: Iterable[float]) -> tuple[tuple[float, int], ...]:
    """The pauses between ``times`` as pairs of seconds (a mean) and number, the shortest first."""
    gaps = sorted(after - before for before, after in pairwise(times))
    groups = (list(group) for _, group in groupby(gaps, lambda gap: bisect_left(GAP_BOUNDS_S, gap)))
    return tuple((_mean(group), len(group)) for group in groups)


def _mean(ordered: list[float]) -> float:
    """The mean; never beyond the least or greatest value by a rounding error."""
    return min(max(fmean(ordered), ordered[0]), ordered[-1])
