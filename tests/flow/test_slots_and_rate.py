"""B6, E10: how many at once and how many per second, for threads and tasks alike."""

from __future__ import annotations

import asyncio
import math
import threading

import pytest

from streamll.core.errors import ConfigurationError
from streamll.flow.limits import Limits, Rate, Slots


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_slots_are_never_more_than_asked_for_threads_and_tasks_alike():
    slots, most, lock = Slots(), [0], threading.Lock()

    def under_way():
        with lock:
            most[0] = max(most[0], slots.taken)

    def thread():
        for _ in range(50):
            assert slots.take(3, timeout=60)
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
        each.join(60)
        assert not each.is_alive()
    assert 1 <= most[0] <= 3
    assert slots.taken == 0


def test_who_came_first_is_served_first_threads_and_tasks_alike():
    slots, served, threads = Slots(), [], []
    assert slots.take(1)

    def thread(number):
        assert slots.take(1, timeout=60)
        served.append(number)
        slots.give()

    async def task(number):
        await slots.take_async(1)
        served.append(number)
        slots.give()

    async def main():
        tasks = []
        for number in range(20):
            if number % 2:
                threads.append(threading.Thread(target=thread, args=(number,)))
                threads[-1].start()
            else:
                tasks.append(asyncio.create_task(task(number)))
            while len(slots._waiting) <= number:  # noqa: ASYNC110 - a thread comes as well
                await asyncio.sleep(0.001)
        slots.give()
        await asyncio.gather(*tasks)

    asyncio.run(asyncio.wait_for(main(), 60))
    for each in threads:
        each.join(60)
    assert served == list(range(20))
    assert slots.taken == 0


def test_a_cancelled_or_late_waiter_takes_no_slot():
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
    "wrong",
    [
        lambda: Rate(0),
        lambda: Rate(math.nan),
        lambda: Rate(1, math.nan),
        lambda: Slots().take(0),
        lambda: Slots().take(math.nan),
        lambda: Limits(math.nan),
        lambda: Limits(requests_per_minute=math.nan),
    ],
)
def test_impossible_slots_and_rates_are_refused(wrong):
    with pytest.raises(ConfigurationError):
        wrong()
