"""B7, B9: threads and event loops on both sides of one channel, in earnest."""

from __future__ import annotations

import asyncio
import contextlib
import random
import resource
import sys
import threading
import time

import hypothesis
import pytest
from hypothesis import strategies as st

from streamll.core.errors import ChannelClosed
from streamll.flow.channel import Channel

BOUND = 240
"""Seconds: with so many switches between threads, a busy machine takes its time."""


@pytest.fixture(autouse=True)
def switch_threads_often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


class Crowd:
    """Threads that must all have ended within a bound, and what went wrong in them."""

    def __init__(self):
        self.threads: list[threading.Thread] = []
        self.errors: list[BaseException] = []

    def start(self, function, *args):
        def run():
            try:
                function(*args)
            except BaseException as error:
                self.errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        self.threads.append(thread)
        thread.start()

    def join(self):
        deadline = time.monotonic() + BOUND
        for thread in self.threads:
            thread.join(max(deadline - time.monotonic(), 0))
        assert not any(thread.is_alive() for thread in self.threads), "somebody still waits"
        assert not self.errors


def produce(channel, name, count):
    for number in range(count):
        channel.put((name, number))
        if channel.full:
            channel.wait_for_space()


def produce_on_a_loop(channel, names, count):
    async def one(name):
        for number in range(count):
            channel.put((name, number))
            if channel.full:
                await channel.wait_for_space_async()
            elif number % 7 == 0:
                await asyncio.sleep(0)

    async def main():
        await asyncio.gather(*map(one, names))

    asyncio.run(main())


def read(channel, seen, limit):
    try:
        while True:
            seen.extend(channel.get_batch(limit))
    except ChannelClosed:
        pass


def read_impatiently(channel, seen):
    try:
        while True:
            with contextlib.suppress(TimeoutError):
                seen.append(channel.get(timeout=0.0005))
    except ChannelClosed:
        pass


def read_on_a_loop(channel, seen_by, seed):
    """Two readers on one loop; each is cancelled now and then while it waits."""
    chance = random.Random(seed)

    async def one(seen):
        while True:
            task = asyncio.ensure_future(channel.get_async())
            if chance.random() < 0.3:
                await asyncio.sleep(0)
                task.cancel()
            try:
                seen.append(await task)
            except asyncio.CancelledError:
                continue
            except ChannelClosed:
                return

    async def main():
        await asyncio.gather(*map(one, seen_by))

    asyncio.run(main())


@pytest.mark.parametrize("seed", range(4))
def test_every_item_arrives_once_and_in_its_producers_order(seed):
    channel = Channel[tuple](8)
    count = 2_000
    seen: list[list[tuple]] = [[] for _ in range(5)]
    readers, producers = Crowd(), Crowd()
    readers.start(read, channel, seen[0], 1)
    readers.start(read, channel, seen[1], 5)
    readers.start(read_impatiently, channel, seen[2])
    readers.start(read_on_a_loop, channel, seen[3:], seed)
    for name in "ab":
        producers.start(produce, channel, name, count)
    producers.start(produce_on_a_loop, channel, "cd", count)
    producers.join()
    channel.close()
    readers.join()
    everything = [item for one in seen for item in one]
    assert sorted(everything) == [(name, number) for name in "abcd" for number in range(count)]
    for one in seen:
        for name in "abcd":
            own = [number for who, number in one if who == name]
            assert own == sorted(own)
    statistics = channel.statistics()
    assert (statistics.received, statistics.delivered) == (4 * count, 4 * count)
    assert statistics.waiting_readers == statistics.waiting_producers == 0


@hypothesis.given(
    end=st.sampled_from(["close", "abandon"]),
    after=st.integers(0, 30),
    capacity=st.integers(1, 4),
    from_reader=st.booleans(),
)
@hypothesis.settings(max_examples=40, deadline=None)
def test_ending_it_from_either_side_at_any_moment_leaves_nobody_waiting(
    end, after, capacity, from_reader
):
    channel = Channel[tuple](capacity)
    crowd = Crowd()

    def read_then_end():
        for _ in range(after):
            channel.get()
        getattr(channel, end)()

    def put_then_end():
        for number in range(after):
            channel.put(("ender", number))
        getattr(channel, end)()

    crowd.start(read_then_end if from_reader else put_then_end)
    crowd.start(produce, channel, "a", 60)
    crowd.start(produce_on_a_loop, channel, "b", 60)
    seen: list[list[tuple]] = [[], [], []]
    if not from_reader:
        crowd.start(read, channel, seen[0], 3)
        crowd.start(read_on_a_loop, channel, seen[1:], after)
    crowd.join()
    statistics = channel.statistics()
    assert statistics.waiting_readers == statistics.waiting_producers == 0
    assert not channel.full


def test_hundreds_of_readers_on_loops_wake_one_by_one():
    async def main():
        channel = Channel[int](1_000)
        tasks = [asyncio.create_task(channel.get_async()) for _ in range(500)]
        await asyncio.sleep(0)
        producer = threading.Thread(target=lambda: [channel.put(n) for n in range(500)])
        producer.start()
        results = await asyncio.wait_for(asyncio.gather(*tasks), BOUND)
        producer.join()
        return results

    assert sorted(asyncio.run(main())) == list(range(500))


def test_a_waiting_reader_costs_no_cpu():
    sys.setswitchinterval(10)  # who waits for the interpreter looks so often whether it is free
    channel = Channel[int](1)
    slept = []

    def wait():
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
        read(channel, [], 1)
        slept.append(resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before)

    reader = threading.Thread(target=wait, daemon=True)
    reader.start()
    reader.join(0.3)
    channel.close()
    reader.join(BOUND)
    assert slept[0] < 10  # how often it gave up its core: who looks every 10 ms does it 30 times
