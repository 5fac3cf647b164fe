"""The bridge between threads and event loops: order, bounds, errors, contexts, leaving."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import time

import pytest

from streamll.flow.bridge import Background, Bridge, aopened, opened

number = contextvars.ContextVar("number", default=0)


class Source:
    """Counts up, as a blocking or an async generator, and knows what becomes of it."""

    def __init__(self, limit=10**9, error=None, pause=0.0):
        self.limit, self.error, self.pause = limit, error, pause
        self.made = 0
        self.closed = threading.Event()
        self.go_on = threading.Event()  # ends a pause in a thread
        self.thread = None

    def blocking(self):
        self.thread = threading.current_thread()
        try:
            while self.made < self.limit:
                self.made += 1
                yield self.made
                self.go_on.wait(self.pause)
            if self.error is not None:
                raise self.error
        finally:
            self.closed.set()

    async def suspending(self):
        self.thread = threading.current_thread()
        try:
            while self.made < self.limit:
                self.made += 1
                yield self.made
                await asyncio.sleep(self.pause)
            if self.error is not None:
                raise self.error
        finally:
            self.closed.set()


@pytest.fixture(params=["blocking", "suspending"])
def side(request):
    return request.param


def read_sync(bridge, limit=None):
    return [item for item, _ in zip(bridge, range(limit or 10**9), strict=False)]


def read_async(bridge, limit=None):
    async def main():
        got = []
        async for item in bridge:
            got.append(item)
            if len(got) == limit:
                break
        await bridge.aclose()
        return got

    return asyncio.run(main())


@pytest.fixture(params=[read_sync, read_async], ids=["sync", "async"])
def read(request):
    return request.param


def test_every_item_comes_once_and_in_order(read, side):
    source = Source(500)
    assert read(Bridge(getattr(source, side)())) == list(range(1, 501))
    assert source.closed.is_set()


def test_an_error_comes_after_the_items_before_it(read, side):
    bridge, got = Bridge(getattr(Source(3, ValueError("bad")), side)()), []

    async def areading():
        async for item in bridge:
            got.append(item)

    def reading():
        for item in bridge:
            got.append(item)

    with pytest.raises(ValueError, match="bad"):
        reading() if read is read_sync else asyncio.run(areading())
    assert got == [1, 2, 3]


def test_only_an_async_source_of_an_async_reader_shares_its_thread(read, side):
    source = Source(1)
    read(Bridge(getattr(source, side)()))
    shares = source.thread is threading.current_thread()
    assert shares == (side == "suspending" and read is read_async)


def test_a_reader_that_waits_makes_the_source_wait(side):
    source = Source()
    bridge = Bridge(getattr(source, side)(), capacity=4)
    next(bridge)
    time.sleep(0.1)
    assert source.made <= 2 * 4 + 2
    bridge.close()
    assert source.closed.wait(60)


def test_leaving_closes_the_source(read, side):
    source = Source()
    assert read(Bridge(getattr(source, side)()), 3) == [1, 2, 3]
    assert source.closed.wait(60)


def test_dropping_the_bridge_closes_the_source(side):
    source = Source()
    bridge = Bridge(getattr(source, side)())
    next(bridge)
    del bridge
    gc.collect()
    assert source.closed.wait(60)


def test_a_bridge_that_is_never_read_starts_nothing(side):
    source = Source()
    Bridge(getattr(source, side)()).close()
    assert source.made == 0


def test_a_cancelled_read_loses_nothing(side):
    async def main():
        bridge, got = Bridge(getattr(Source(3, pause=0.05), side)()), []
        while True:
            try:
                got.append(await asyncio.wait_for(anext(bridge), 0.01))
            except asyncio.TimeoutError:
                continue
            except StopAsyncIteration:
                return got

    assert asyncio.run(main()) == [1, 2, 3]


def test_closing_ends_a_pending_read(side):
    async def main():
        source = Source(pause=60)
        bridge = Bridge(getattr(source, side)())
        assert await anext(bridge) == 1
        reading = asyncio.create_task(anext(bridge))
        await asyncio.sleep(0.01)
        await bridge.aclose()
        with pytest.raises(StopAsyncIteration):
            await reading
        source.go_on.set()
        assert await asyncio.to_thread(source.closed.wait, 60)

    asyncio.run(main())


def test_a_source_sees_the_context_its_bridge_was_made_in(read):
    def blocking():
        yield number.get()

    async def suspending():
        yield number.get()

    token = number.set(7)
    bridges = [Bridge(blocking()), Bridge(suspending())]
    number.reset(token)
    assert [read(bridge) for bridge in bridges] == [[7], [7]]


def test_any_source_can_be_opened_either_way(side):
    assert list(opened(getattr(Source(3), side)())) == [1, 2, 3]

    async def main():
        async with aopened(getattr(Source(3), side)()) as items:
            return [item async for item in items]

    assert asyncio.run(main()) == [1, 2, 3]


def test_what_begins_in_an_empty_context_knows_nothing_of_who_made_it():
    name = contextvars.ContextVar("name", default="nobody's")
    name.set("mine")
    found = []
    for context in (None, contextvars.Context()):
        background = Background("test", context)
        background.start_thread(lambda: found.append(name.get()))
        background.join(60)
    assert found == ["mine", "nobody's"]
