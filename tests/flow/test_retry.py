"""B3: how long to wait before a retry, and when to give up."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamll.core.errors import ConfigurationError
from streamll.flow.retry import Backoff


def test_delays_double_and_their_upper_half_is_random():
    backoff = Backoff(attempts=3, base=2.0)
    assert [backoff.delay(n, draw=lambda: 1.0) for n in (1, 2, 3, 4)] == [2.0, 4.0, 8.0, None]
    assert [backoff.delay(n, draw=lambda: 0.0) for n in (1, 2, 3)] == [1.0, 2.0, 4.0]
    assert backoff.delay(1, 5.0, draw=lambda: 0.0) == 5.0
    assert backoff.delay(1, 0.0) == 0.0
    assert backoff.delay(1, 61.0) is None


@given(st.integers(1, 100), st.floats(0, 100), st.floats(0, 1), st.none() | st.floats(-10, 1e6))
def test_a_delay_is_never_beyond_the_cap_nor_before_the_hint(failures, base, draw, hint):
    backoff = Backoff(attempts=50, base=base, cap=60)
    delay = backoff.delay(failures, hint, draw=lambda: draw)
    if failures > 50 or (hint is not None and hint > 60):
        assert delay is None
    elif hint is not None and hint >= 0:
        assert hint <= delay <= hint + 1
    else:
        assert 0 <= delay <= 60


def test_an_impossible_backoff_is_refused():
    with pytest.raises(ConfigurationError):
        Backoff(base=-1)
    with pytest.raises(ConfigurationError):
        Backoff(cap=math.nan)
