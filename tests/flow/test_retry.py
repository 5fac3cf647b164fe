"""B3: how long to wait, when to give up, when to leave a service alone, how many at once."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamll.core.errors import CircuitOpen, ConfigurationError
from streamll.flow.breaker import CircuitBreaker
from streamll.flow.limits import Rate, Slots
from streamll.flow.retry import Backoff
from streamll.flow.timers import Timers


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


def test_a_backoff_that_cannot_be():
    with pytest.raises(ConfigurationError):
        Backoff(base=-1)


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


def test_slots_are_never_more_than_asked_for_threads_and_tasks_alike():
    slots, most, lock = Slots(), [0], threading.Lock()

    def under_way():
        with lock:
            most[0] = max(most[0], slots.taken)

    def thread():
        for _ in range(50):
            assert slots.take(3, timeout=10)
            under_way()
            slots.give()

    async def task():
        for _ in range(50):
            await slots.take_async(3)
            under_way()
            await asyncio.sleep(0)
            slots.give()

    async def main():
        await asyncio.gather(*(task() for _ in range(5)))

    threads = [threading.Thread(target=thread) for _ in range(3)]
    threads.append(threading.Thread(target=lambda: asyncio.run(main())))
    for each in threads:
        each.start()
    for each in threads:
        each.join(20)
        assert not each.is_alive()
    assert 1 <= most[0] <= 3
    assert slots.taken == 0


def test_who_is_cancelled_or_too_late_takes_no_slot():
    slots = Slots()
    assert slots.take(1)
    assert not slots.take(1, timeout=0.01)

    async def main():
        waiting = asyncio.create_task(slots.take_async(1))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())
    slots.give()
    assert slots.taken == 0
    assert slots.take(1, timeout=0)


def test_a_rate_spaces_things_out():
    clock = Clock()
    rate = Rate(10, burst=2, clock=clock)
    assert [round(rate.reserve(), 6) for _ in range(4)] == [0.0, 0.0, 0.1, 0.2]
    clock.now = 10.0
    assert [round(rate.reserve(), 6) for _ in range(3)] == [0.0, 0.0, 0.1]


@pytest.mark.parametrize(
    "wrong", [lambda: Rate(0), lambda: CircuitBreaker(0), lambda: Slots().take(0)]
)
def test_limits_that_cannot_be(wrong):
    with pytest.raises(ConfigurationError):
        wrong()


def test_timers_fire_in_order_on_one_thread_and_none_after_being_cancelled():
    timers, fired, done = Timers(), [], threading.Event()
    now = time.monotonic()
    for place in (3, 1, 2):
        timers.at(
            now + place * 0.02, lambda place=place: fired.append((place, threading.get_ident()))
        )
    timers.at(now + 0.03, lambda: fired.append("cancelled")).cancel()
    timers.at(now + 0.05, lambda: 1 / 0)  # what goes wrong in one is not another's business
    timers.at(now + 0.1, done.set)
    assert done.wait(5)
    assert [place for place, _ in fired] == [1, 2, 3]
    assert len({thread for _, thread in fired}) == 1
