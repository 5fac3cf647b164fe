"""B4: merged streams: nothing lost, nothing doubled, fair, bounded; leaving closes every source."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from profiles import thorough

from streamll.core.errors import ChannelClosed, StreamllError
from streamll.flow.channel import Channel
from streamll.streams.merge import MergedStream, aggregate_streams
from streamll.streams.stream_events import Error


def read_sync(merged):
    return list(merged)


def read_async(merged):
    async def main():
        return [tagged async for tagged in merged]

    return asyncio.run(main())


@pytest.fixture(params=[read_sync, read_async], ids=["sync", "async"])
def read(request):
    return request.param


async def counting(n, name="", fail_after=None):
    for i in range(n):
        if i == fail_after:
            raise ValueError(name)
        yield i


def by_source(tagged):
    found = defaultdict(list)
    for source, item in tagged:
        found[source].append(item)
    return dict(found)


@pytest.mark.parametrize("kind", [lambda n: iter(range(n)), counting], ids=["iterator", "async"])
def test_every_item_comes_once_in_order_with_its_source(read, kind):
    got = by_source(read(aggregate_streams([kind(100), kind(3), kind(50)])))
    assert got == {0: list(range(100)), 1: list(range(3)), 2: list(range(50))}


def test_sources_have_names_and_may_be_none(read):
    assert by_source(read(aggregate_streams({"a": [1], "b": [2]}))) == {"a": [1], "b": [2]}
    assert read(aggregate_streams([])) == []


def test_one_failing_source_does_not_end_the_others(read):
    got = by_source(read(aggregate_streams([counting(20), counting(9, "bad", fail_after=2)])))
    assert got[0] == list(range(20))
    *items, error = got[1]
    assert items == [0, 1]
    assert isinstance(error, Error)
    assert isinstance(error.error, ValueError)


def test_stop_on_error_raises_the_first_error(read):
    begun, closed = threading.Event(), []

    def endless():
        try:
            begun.set()
            while True:
                yield 1
        finally:
            closed.append(True)

    async def failing():
        await asyncio.to_thread(begun.wait, 60)  # one that has not begun has nothing to close
        async for item in counting(1, "bad", fail_after=0):
            yield item

    with pytest.raises(ValueError, match="bad"):
        read(aggregate_streams([endless(), failing()], stop_on_error=True))
    deadline = time.monotonic() + 60
    while not closed and time.monotonic() < deadline:
        time.sleep(0.01)
    assert closed


def test_sources_take_turns(read):
    """A fast source cannot crowd out a slow one: at most as many turns as there are sources."""
    ready = threading.Barrier(2, timeout=60)
    made, made_by_then = 0, []

    def late():
        ready.wait()
        for number in range(10):
            yield number
            made_by_then.append(made)  # of the fast one's, once this one was in the buffer

    def fast():
        nonlocal made
        yield "first"
        ready.wait()
        for number in range(1000):
            made += 1
            yield number

    merged = [tagged.source for tagged in read(aggregate_streams([fast(), late()], buffer_size=8))]
    places = [place for place, source in enumerate(merged) if source == 1]
    before = [merged[:place].count(0) for place in places]
    assert all(n <= then + 12 for n, then in zip(before, made_by_then, strict=True))


def test_a_reader_that_waits_makes_the_sources_wait(new_threads):
    made = [0, 0]

    def source(place):
        while True:
            made[place] += 1
            yield made[place]

    with aggregate_streams([source(0), source(1)], buffer_size=5) as merged:
        next(merged)
        time.sleep(0.2)
        assert max(made) <= 5 + 3
        for _ in range(20):
            next(merged)
    for thread in new_threads():
        thread.join(60)
    assert new_threads() == []  # that would go on


def test_leaving_early_closes_the_sources_and_their_threads(new_threads):
    begun, closed = threading.Barrier(5, timeout=60), []

    def source(name):
        try:
            begun.wait()  # one that has not begun has nothing to close
            while True:
                yield name
        finally:
            closed.append(name)

    for _ in aggregate_streams([source(n) for n in range(5)]):
        break
    deadline = time.monotonic() + 60
    while (len(closed) < 5 or new_threads()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sorted(closed) == list(range(5))
    assert new_threads() == []


def test_cancelling_the_reader_leaves_no_task():
    async def main():
        had = asyncio.Semaphore(0)

        async def silent():
            yield 1
            await asyncio.Event().wait()

        async def read():
            async for _ in aggregate_streams([silent(), silent()]):
                had.release()

        task = asyncio.create_task(read())
        for _ in range(2):
            await asyncio.wait_for(had.acquire(), 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:  # the tasks of the sources notice
            await asyncio.wait(others, timeout=60)
        return len(asyncio.all_tasks())

    assert asyncio.run(main()) == 1


def test_a_merged_stream_is_read_once():
    merged = aggregate_streams([[1]])
    assert len(list(merged)) == 1
    with pytest.raises(StreamllError, match="read once"):
        list(merged)


def test_a_stream_that_is_given_twice_is_refused():
    async def numbers():
        yield 1

    for stream in (iter([1]), numbers()):
        with pytest.raises(StreamllError, match="given twice"):
            aggregate_streams({"one": stream, "two": stream})
    again = [1]
    assert len(list(aggregate_streams([again, again]))) == 2


def test_a_string_is_not_a_source():
    with pytest.raises(TypeError):
        aggregate_streams(["a question"])


# --- a model ------------------------------------------------------------------------------------


class Tap:
    """A source that says what it is told to, when it is told to."""

    def __init__(self) -> None:
        self.channel: Channel[object] = Channel(1000)
        self.closed = False

    def __iter__(self):
        return self

    def __next__(self):
        try:
            item = self.channel.get(timeout=60)
        except ChannelClosed:
            raise StopIteration from None
        if isinstance(item, Exception):
            raise item
        return item

    def close(self):
        self.closed = True
        self.channel.abandon()


class MergeModel(RuleBasedStateMachine):
    """Sources speak, fail, end; the reader reads or leaves; in any order, each in its thread."""

    @initialize(sources=st.integers(1, 3), buffer_size=st.integers(1, 4))
    def make(self, sources, buffer_size):
        self.buffer_size = buffer_size
        self.taps = [Tap() for _ in range(sources)]
        self.merged = MergedStream(self.taps, buffer_size=buffer_size)
        self.merged._start(on_loop=False)
        self.said = [[] for _ in self.taps]
        self.read = [[] for _ in self.taps]
        self.over = [False for _ in self.taps]
        self.left = False

    @rule(who=st.integers(0, 2), times=st.integers(1, 12))
    def speak(self, who, times):
        who %= len(self.taps)
        for _ in range(times):
            if not self.over[who]:
                self.said[who].append(len(self.said[who]))
                self.taps[who].channel.put((who, self.said[who][-1]))

    @rule(who=st.integers(0, 2), how=st.sampled_from(["speaks on"] * 6 + ["end", "fail"]))
    def end(self, who, how):
        who %= len(self.taps)
        if how == "speaks on" or self.over[who]:
            return
        self.over[who] = True
        if how == "fail":
            self.said[who].append("failed")
            self.taps[who].channel.put(ValueError())
        self.taps[who].channel.close()

    @rule(times=st.integers(1, 10))
    def take(self, times):
        for _ in range(times):
            unread = sum(map(len, self.said)) - sum(map(len, self.read))
            if self.left or not unread:
                return
            self.note(next(self.merged).event)

    def note(self, item):
        if isinstance(item, Error):
            who = next(
                place for place, said in enumerate(self.said)
                if said[-1:] == ["failed"] and len(self.read[place]) == len(said) - 1
            )  # fmt: skip
            self.read[who].append("failed")
        else:
            who, number = item
            self.read[who].append(number)
        assert self.read[who] == self.said[who][: len(self.read[who])]

    @rule(leaves=st.sampled_from([False] * 9 + [True]))
    def leave(self, leaves):
        if leaves and not self.left:
            self.left = True
            self.merged.close()

    @invariant()
    def bounds(self):
        for producer in self.merged._producers if hasattr(self, "merged") else ():
            assert producer.channel.statistics().buffered <= self.buffer_size + 1

    def teardown(self):
        if not hasattr(self, "merged"):
            return
        if not self.left:
            for place, tap in enumerate(self.taps):
                self.over[place] = True
                tap.channel.close()
            for tagged in self.merged:
                self.note(tagged.event)
            assert self.read == self.said
            self.merged.close()
        for producer in self.merged._producers:
            producer.join(60)
            assert not producer._thread.is_alive()
        assert all(tap.closed for tap in self.taps)


def test_merged_streams_against_a_model():
    """Nothing lost, nothing doubled, bounds kept, nothing left behind, whenever anyone leaves."""
    settings = hypothesis.settings(max_examples=thorough(60), stateful_step_count=20, deadline=None)
    hypothesis.stateful.run_state_machine_as_test(MergeModel, settings=settings)
