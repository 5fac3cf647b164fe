"""X9, B7: a channel keeps its bound by the policy it was given, and says what it did."""

from __future__ import annotations

import asyncio
import gc
import math
import threading
import time

import pytest
from run_events import RunEvents, accounted, drain

from streamll.core.errors import ChannelClosed, ChannelOverflow, ConfigurationError
from streamll.core.events import RunEnd, StreamGap, TokenEvent
from streamll.core.ordering import OrderCheck
from streamll.flow.bridge import Mapped
from streamll.flow.buffer import HARD_LIMIT
from streamll.flow.channel import Channel
from streamll.flow.dual import DualIterator

BOUND = 60


def in_thread(function, *args):
    """Run ``function`` in a thread; ``join`` gives its result within a bound."""

    class Running(threading.Thread):
        def run(self):
            try:
                self.result = function(*args)
            except BaseException as error:
                self.result = error

        def outcome(self):
            self.join(BOUND)
            assert not self.is_alive(), "still waiting"
            return self.result

    thread = Running(daemon=True)
    thread.start()
    return thread


def wait_until(condition):
    deadline = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.001)


# --- any policy ---------------------------------------------------------------------------------


def test_items_come_in_the_order_they_were_put():
    channel = Channel[int](10)
    for number in range(5):
        channel.put(number)
    assert [channel.get() for _ in range(3)] == [0, 1, 2]
    assert channel.get_batch(10) == [3, 4]


def test_a_closed_channel_gives_what_it_holds_and_then_ends():
    channel = Channel[str](10, name="events")
    channel.put("last")
    channel.close()
    channel.close()
    assert channel.get() == "last"
    for _ in range(2):
        with pytest.raises(ChannelClosed, match="'events'"):
            channel.get()


def test_what_comes_after_the_end_is_discarded_and_counted():
    channel = Channel[str](10)
    channel.close()
    channel.put("too late")
    assert channel.statistics().discarded == 1
    with pytest.raises(ChannelClosed):
        channel.get()


def test_an_abandoned_channel_keeps_nothing_and_makes_nobody_wait():
    channel = Channel[int](2)
    for number in range(3):
        channel.put(number)
    assert channel.full
    channel.abandon()
    channel.put(3)
    assert not channel.full
    assert channel.wait_for_space(0)
    statistics = channel.statistics()
    assert (statistics.buffered, statistics.discarded) == (0, 4)
    with pytest.raises(ChannelClosed):
        channel.get()


def test_get_gives_up_in_time():
    with pytest.raises(TimeoutError):
        Channel[int](1).get(timeout=0.01)


def test_a_blocked_reader_gets_what_another_thread_puts():
    channel = Channel[str](1)
    reader = in_thread(channel.get)
    wait_until(lambda: channel.statistics().waiting_readers == 1)
    channel.put("hello")
    assert reader.outcome() == "hello"


def test_a_reader_on_an_event_loop_gets_what_a_thread_puts():
    async def main():
        channel = Channel[str](1)
        task = asyncio.create_task(channel.get_async())
        await asyncio.sleep(0)
        thread = in_thread(channel.put, "hello")
        result = await asyncio.wait_for(task, BOUND)
        thread.outcome()
        return result

    assert asyncio.run(main()) == "hello"


def test_closing_and_abandoning_wake_every_waiter():
    for end in (Channel.close, Channel.abandon):
        channel = Channel[int](1)
        readers = [in_thread(channel.get) for _ in range(3)]
        wait_until(lambda channel=channel: channel.statistics().waiting_readers == 3)
        end(channel)
        assert all(isinstance(reader.outcome(), ChannelClosed) for reader in readers)


def test_a_cancelled_reader_loses_no_item():
    async def main():
        channel = Channel[int](10)
        for number in range(200):
            task = asyncio.create_task(channel.get_async())
            await asyncio.sleep(0)
            channel.put(number)  # wakes the task ...
            task.cancel()  # ... which is cancelled before it runs
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.wait_for(channel.get_async(), BOUND) == number

    asyncio.run(main())


def test_a_cancelled_reader_passes_its_wake_up_on():
    async def main():
        channel = Channel[str](10)
        first = asyncio.create_task(channel.get_async())
        await asyncio.sleep(0)
        second = asyncio.create_task(channel.get_async())
        await asyncio.sleep(0)
        channel.put("for the second")
        first.cancel()
        assert await asyncio.wait_for(second, BOUND) == "for the second"

    asyncio.run(main())


def test_a_reader_whose_loop_is_closed_does_not_swallow_the_wake_up():
    channel = Channel[str](10)
    loop = asyncio.new_event_loop()
    lost = loop.create_task(channel.get_async())
    loop.run_until_complete(asyncio.sleep(0))
    wait_until(lambda: channel.statistics().waiting_readers == 1)
    loop.close()
    reader = in_thread(channel.get)
    wait_until(lambda: channel.statistics().waiting_readers == 2)
    channel.put("for the thread")
    assert reader.outcome() == "for the thread"
    lost._log_destroy_pending = False  # it was abandoned on purpose


def test_a_put_from_a_finalizer_inside_the_channel_neither_blocks_nor_gets_lost():
    channel = Channel[str](10)

    class Trailing:
        def __del__(self):
            channel.put("from the finalizer")

    item = Trailing()
    item.cycle = item
    del item
    with channel._lock:  # as if the collector had run while this thread was inside
        gc.collect()
    channel.put("afterwards")
    assert drain(channel) == ["from the finalizer", "afterwards"]


def test_statistics_wake_a_reader_for_the_items_they_found():
    channel = Channel[str](10)
    reader = in_thread(channel.get)
    wait_until(lambda: channel.statistics().waiting_readers == 1)
    with channel._lock:
        channel.put("put while somebody looked")
    channel.statistics()
    assert reader.outcome() == "put while somebody looked"


def test_an_end_that_another_reader_has_seen_wakes_those_who_wait():
    channel = Channel[str](10)
    reader = in_thread(channel.get)
    wait_until(lambda: channel.statistics().waiting_readers == 1)
    with channel._lock:
        channel.close()  # as if a reader had been inside: it takes over
    with pytest.raises(ChannelClosed):
        channel.get()
    assert isinstance(reader.outcome(), ChannelClosed)


def test_impossible_options_are_refused():
    with pytest.raises(ConfigurationError, match="at least 1"):
        Channel(0)
    with pytest.raises(ConfigurationError, match="at least 1"):
        Channel(math.nan)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="block, coalesce"):
        Channel(1, "wait")  # type: ignore[arg-type]


# --- block --------------------------------------------------------------------------------------


def test_block_a_producer_waits_from_the_capacity_until_half_is_read():
    run, channel = RunEvents(), Channel(4)
    for event in run.tokens(4):
        assert not channel.full
        channel.put(event)
    assert channel.full
    producer = in_thread(channel.wait_for_space)
    wait_until(lambda: channel.statistics().waiting_producers == 1)
    channel.get()
    assert channel.full
    channel.get()
    assert not channel.full
    assert producer.outcome() is True


def test_block_waiting_for_space_gives_up_in_time():
    channel = Channel(1)
    channel.put(RunEvents().token())
    assert channel.wait_for_space(0.01) is False


def test_block_an_async_producer_waits_on_its_loop():
    async def main():
        run, channel = RunEvents(), Channel(2)
        seen = []

        async def produce():
            for event in run.tokens(50):
                channel.put(event)
                if channel.full:
                    await channel.wait_for_space_async()
            channel.close()

        task = asyncio.create_task(produce())
        try:
            while True:
                seen.append(await asyncio.wait_for(channel.get_async(), BOUND))
                assert channel.statistics().buffered <= 2
        except ChannelClosed:
            await task
        return seen

    assert [event.token_index for event in asyncio.run(main())] == list(range(50))


def test_block_on_an_event_loop_a_thread_wait_returns_at_once():
    async def main():
        channel = Channel(1)
        channel.put(RunEvents().token())
        assert channel.full
        assert channel.wait_for_space(BOUND)

    asyncio.run(main())


def test_block_abandoning_wakes_waiting_producers():
    channel = Channel(1)
    channel.put(RunEvents().token())
    producer = in_thread(channel.wait_for_space)
    wait_until(lambda: channel.statistics().waiting_producers == 1)
    channel.abandon()
    assert producer.outcome() is True


def test_block_who_waits_for_room_waits_for_a_reader_that_was_interrupted():
    """Nobody else can see that this is overfull: a flood would go on for as long."""
    run, channel = RunEvents(), Channel(2)
    with channel._lock:  # as if a reader had been inside
        for _ in range(2 * HARD_LIMIT):
            channel.put(run.custom())
        assert not channel.overfull
        producer = in_thread(channel.wait_for_room)
    wait_until(lambda: channel.statistics().waiting_producers == 1)
    channel.abandon()
    assert producer.outcome() is True


def test_block_on_a_loop_custom_events_past_ten_times_the_bound_are_lost_and_announced():
    """Lifecycle events are not: they are admitted however many there are."""
    run, channel = RunEvents(), Channel(2)
    for _ in range(20):
        channel.put(run.module())
    assert channel.overfull

    async def flood():
        for _ in range(3):
            channel.put(run.custom())
            channel.put(run.status())
        channel.put(run.end())

    asyncio.run(flood())
    events = drain(channel)
    assert len(events) == 22
    gap, end = events[-2:]
    assert isinstance(gap, StreamGap)
    assert (gap.count, gap.run_id, gap.seq) == (6, "run", None)
    assert isinstance(end, RunEnd)
    assert accounted(channel.statistics())


def test_block_a_thread_past_ten_times_the_bound_waits_for_room():
    run, channel = RunEvents(), Channel(1)
    for _ in range(10):
        channel.put(run.custom())
    assert channel.overfull
    producer = in_thread(channel.wait_for_room)
    wait_until(lambda: channel.statistics().waiting_producers == 1)
    channel.get()
    assert producer.outcome() is True
    assert not channel.overfull
    assert channel.full


# --- coalesce -----------------------------------------------------------------------------------


def test_coalesce_merges_tokens_at_capacity_and_loses_nothing():
    run, channel = RunEvents(), Channel(10, "coalesce")
    tokens = run.tokens(1_000)
    for event in tokens:
        channel.put(event)
    statistics = channel.statistics()
    assert statistics.buffered <= 10
    assert statistics.dropped == 0
    assert accounted(statistics)
    read = drain(channel)
    assert "".join(event.token for event in read) == "".join(event.token for event in tokens)
    assert sum(event.count for event in read) == 1_000


def test_coalesce_never_makes_a_producer_wait():
    run, channel = RunEvents(), Channel(1, "coalesce")
    for event in run.tokens(100):
        channel.put(event)
    assert not channel.full
    assert channel.wait_for_space(0)
    assert channel.wait_for_room(0)


def test_coalesce_keeps_the_exact_order_of_a_run():
    run, channel = RunEvents(), Channel(3, "coalesce")
    for _ in range(3):
        for event in [run.token(), run.token(), run.module()]:
            channel.put(event)
    seqs = [(event.seq, getattr(event, "count", 1)) for event in drain(channel)]
    assert [seq for seq, _ in seqs] == sorted(seq for seq, _ in seqs)
    position = 0
    for seq, count in seqs:
        assert seq == position
        position += count


def test_coalesce_merges_each_of_many_interleaved_runs():
    runs = [RunEvents(f"run {number}") for number in range(10)]
    channel = Channel(20, "coalesce")
    for _ in range(100):
        for run in runs:
            channel.put(run.token("x"))
    assert channel.statistics().buffered <= 20
    read = drain(channel)
    for run in runs:
        own = [event for event in read if event.run_id == run.run_id]
        assert "".join(event.token for event in own) == "x" * 100


def test_coalesce_interleaved_calls_of_one_run_stay_within_ten_times_the_bound():
    run, channel = RunEvents(), Channel(5, "coalesce")
    for _ in range(200):
        for call in range(20):
            channel.put(run.token("x", f"call {call}"))
            assert channel.statistics().buffered <= 50
    check = OrderCheck(holes=True)
    texts: dict[str, str] = {}
    for event in drain(channel):
        check.check(event)
        assert isinstance(event, TokenEvent)
        assert event.offset == len(texts.get(event.call_id, ""))
        texts[event.call_id] = texts.get(event.call_id, "") + event.token
    assert set(texts.values()) == {"x" * 200}


def test_coalesce_costs_the_same_per_token_however_many_merge():
    def seconds(count):
        channel = Channel(100, "coalesce")
        events = RunEvents().tokens(count)
        started = time.thread_time()  # without what threads of other tests still do
        for event in events:
            channel.put(event)
        drain(channel)
        return time.thread_time() - started

    few = min(seconds(2_000) for _ in range(3))
    many = min(seconds(20_000) for _ in range(3))
    assert many < 30 * few


# --- drop_oldest --------------------------------------------------------------------------------


def test_drop_oldest_drops_tokens_first_and_announces_their_number_in_their_place():
    run, channel = RunEvents(), Channel(4, "drop_oldest")
    for event in [run.start(), *run.tokens(8), run.end()]:
        channel.put(event)
    start, gap, *rest = drain(channel)
    assert start.event_type == "run.start"
    assert isinstance(gap, StreamGap)
    assert (gap.count, gap.reason) == (6, "overflow")
    assert [event.seq for event in rest] == [7, 8, 9]
    assert accounted(channel.statistics())


def test_drop_oldest_never_drops_lifecycle_events():
    run, channel = RunEvents(), Channel(2, "drop_oldest")
    lifecycle = [run.start(), *(run.module() for _ in range(10)), run.end()]
    for event in lifecycle:
        channel.put(event)
        channel.put(run.token())
    assert [e for e in drain(channel) if e.event_type not in ("token", "stream.gap")] == lifecycle


def test_drop_oldest_announces_losses_of_several_runs_one_by_one():
    one, two, channel = RunEvents("one"), RunEvents("two"), Channel(1, "drop_oldest")
    for _ in range(5):
        channel.put(one.token())
        channel.put(two.token())
    gaps = [event for event in drain(channel) if isinstance(event, StreamGap)]
    assert sorted((gap.run_id, gap.count) for gap in gaps) == [("one", 5), ("two", 4)]


def test_drop_oldest_holds_its_bound_however_marks_and_lifecycle_alternate():
    run, channel = RunEvents(), Channel(10, "drop_oldest")
    for _ in range(1_000):
        channel.put(run.token())
    buffer = channel._buffer
    assert buffer.size == 10
    assert len(buffer.settled) + len(buffer.fresh) <= 11


# --- fail ---------------------------------------------------------------------------------------


def test_fail_raises_on_both_sides_after_what_was_admitted_is_read():
    run, channel = RunEvents(), Channel(3, "fail", name="strict")
    for event in run.tokens(3):
        channel.put(event)
    with pytest.raises(ChannelOverflow, match="'strict'.*more than 3"):
        channel.put(run.token())
    with pytest.raises(ChannelOverflow):
        channel.put(run.end())
    assert [channel.get().seq for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ChannelOverflow):
        channel.get()
    assert accounted(channel.statistics())


def test_fail_lifecycle_and_custom_events_may_exceed_the_capacity():
    run, channel = RunEvents(), Channel(1, "fail")
    for event in (run.token(), run.module(), run.status(), run.end()):
        channel.put(event)
    assert len(drain(channel)) == 4


def test_fail_wakes_a_waiting_async_reader_with_the_error():
    async def main():
        channel = Channel(1, "fail")
        run = RunEvents()

        async def read_all():
            while True:
                await channel.get_async()

        task = asyncio.create_task(read_all())
        await asyncio.sleep(0)
        channel.put(run.token())
        with pytest.raises(ChannelOverflow):
            channel.put(run.token())
        with pytest.raises(ChannelOverflow):
            await asyncio.wait_for(task, BOUND)

    asyncio.run(main())


def test_an_interrupt_that_comes_before_its_reader_waits_is_not_lost():
    channel = Channel()
    channel.interrupt()
    assert channel.get_batch(1, timeout=BOUND) == []
    with pytest.raises(TimeoutError):
        channel.get_batch(1, timeout=0)
    channel.interrupt()
    channel.put("item")
    assert channel.get_batch(1, timeout=BOUND) == ["item"]


def test_an_interrupt_comes_before_a_task_waits():
    channel = Channel()

    async def read():
        channel.interrupt()
        return await asyncio.wait_for(channel.get_batch_async(1), BOUND)

    assert asyncio.run(read()) == []


def test_a_mapped_stream_that_is_closed_just_before_its_reader_waits_ends():
    """As ``events.tokens()``, closed by another thread."""

    class Source(DualIterator):
        closed_by_loop = False
        channel = Channel()

        def _read(self):
            if not mapped.is_over:
                in_thread(mapped.close).outcome()
            return self.channel.get_batch(1)

        def interrupt(self):
            self.channel.interrupt()

    mapped = Mapped(Source(), lambda item: [item])
    assert in_thread(list, mapped).outcome() == []
