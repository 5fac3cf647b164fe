"""E10: when a circuit breaker opens, lets one call try, and closes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamll.core.errors import CircuitOpen, ConfigurationError
from streamll.flow.breaker import CircuitBreaker


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_breaker_opens_tries_and_closes():
    clock = Clock()
    breaker = CircuitBreaker(failures=3, open_seconds=30, name="provider", clock=clock)
    for _ in range(2):
        breaker.permit()
        breaker.failed()
    breaker.permit()
    breaker.succeeded()
    for _ in range(3):
        breaker.permit()
        breaker.failed()
    assert breaker.state == "open"
    clock.now = 12.0
    with pytest.raises(CircuitOpen, match="provider failed 3 times in a row") as refused:
        breaker.permit()
    assert refused.value.retry_after == 18.0
    clock.now = 30.0
    assert breaker.state == "half-open"
    breaker.permit()
    with pytest.raises(CircuitOpen):
        breaker.permit()  # one tries, the others wait for what comes of it
    breaker.failed()
    assert breaker.state == "open"
    clock.now = 60.0
    breaker.permit()
    breaker.left()  # it was cancelled: the next may try
    breaker.permit()
    breaker.succeeded()
    assert breaker.state == "closed"


@pytest.mark.parametrize("late", ["succeeded", "failed", "left"])
def test_calls_that_began_before_it_opened_neither_close_it_nor_prolong_it(late):
    """Ten streams are under way; nine fail at once, and one ends in the middle of the outage."""
    clock = Clock()
    breaker = CircuitBreaker(failures=9, open_seconds=30, clock=clock)
    for _ in range(10):
        breaker.permit()
    for _ in range(9):
        breaker.failed()
    clock.now = 20.0
    getattr(breaker, late)()
    assert breaker.state == "open"
    clock.now = 30.0
    breaker.permit()
    breaker.succeeded()
    assert breaker.state == "closed"


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "left"])
def test_only_the_trial_counts_while_it_is_under_way(outcome):
    clock = Clock()
    breaker = CircuitBreaker(failures=1, open_seconds=10, clock=clock)
    old, failing = breaker.permit(), breaker.permit()
    assert breaker.counts(old)
    assert breaker.counts(failing)
    breaker.failed()
    clock.now = 11.0
    trial = breaker.permit()
    assert not breaker.counts(old)
    assert breaker.counts(trial)
    getattr(breaker, outcome)()
    assert breaker.counts(old) == (breaker.state == "closed") == (outcome == "succeeded")


@given(st.lists(st.sampled_from(["succeeded", "failed", "left", "wait"]), max_size=40))
def test_a_breaker_is_open_exactly_after_so_many_failures_in_a_row(story):
    clock = Clock()
    breaker = CircuitBreaker(failures=3, open_seconds=10, clock=clock)
    in_a_row = 0
    for what in story:
        if what == "wait":
            clock.now += 10
            continue
        try:
            breaker.permit()
        except CircuitOpen:
            assert in_a_row >= 3
            continue
        getattr(breaker, what)()
        in_a_row = {"succeeded": 0, "failed": in_a_row + 1, "left": in_a_row}[what]
        assert (breaker.state == "closed") == (in_a_row < 3)


def test_a_breaker_needs_a_failure_to_open():
    with pytest.raises(ConfigurationError):
        CircuitBreaker(0)
    with pytest.raises(ConfigurationError):
        CircuitBreaker(1, math.nan)
