"""Pauses between chunks, grouped: count and sum stay exact, and so do a histogram's buckets."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamll.core.gaps import GAP_BOUNDS_S, chunk_gaps


@given(st.lists(st.floats(0, 200), max_size=40))
def test_no_gap_changes_its_bucket(gaps):
    times = [0.0]
    for gap in gaps:
        times.append(times[-1] + gap)
    grouped = chunk_gaps(times)
    actual = [after - before for before, after in pairwise(times)]
    assert sum(count for _, count in grouped) == len(gaps)
    assert sum(seconds * count for seconds, count in grouped) == pytest.approx(sum(actual))
    buckets = Counter(bisect_left(GAP_BOUNDS_S, gap) for gap in actual)
    told = {bisect_left(GAP_BOUNDS_S, seconds): count for seconds, count in grouped}
    assert told == buckets


def test_one_chunk_or_none_has_no_gap():
    assert chunk_gaps([]) == chunk_gaps([3.0]) == ()
