"""One iterator for ``for`` and ``async for``: cancelled reads, closing, errors."""

from __future__ import annotations

import asyncio
import threading

import pytest

from streamll.flow.bridge import Derived
from streamll.flow.channel import Channel
from streamll.flow.dual import DualIterator


class Items(DualIterator):
    """What is put into its channel."""

    def __init__(self):
        self.channel = Channel(100)
        self.closed = 0

    def _read(self):
        return self.channel.get_batch(2)

    async def _aread(self):
        return await self.channel.get_batch_async(2)

    def _feed(self, read):
        return read

    def leave(self):
        super().leave()
        self.closed += 1
        self.channel.abandon()


class Doubled(Derived):
    """Every item twice; ``0`` fails."""

    def _feed(self, read):
        yield read
        yield 10 // read and read


def items_of(*values):
    stream = Items()
    for value in values:
        stream.channel.put(value)
    stream.channel.close()
    return stream


def read_sync(stream):
    return list(stream)


def read_async(stream):
    async def main():
        return [item async for item in stream]

    return asyncio.run(main())


@pytest.fixture(params=[read_sync, read_async], ids=["sync", "async"])
def read(request):
    return request.param


def test_items_come_in_order_and_the_end_closes_the_stream(read):
    stream = items_of(1, 2, 3)
    assert read(stream) == [1, 2, 3]
    assert stream.closed
    assert read(stream) == []


def test_an_error_while_items_are_made_closes_the_stream_and_ends_it(read):
    source = items_of(1, 0, 2)
    stream = Doubled(source)
    got = []

    def collecting():
        for item in stream:
            got.append(item)

    async def acollecting():
        async for item in stream:
            got.append(item)

    with pytest.raises(ZeroDivisionError):
        collecting() if read is read_sync else asyncio.run(acollecting())
    assert got == [1, 1, 0]
    assert source.closed
    assert read(stream) == []


def test_leaving_a_loop_closes_the_stream():
    stream = items_of(1, 2, 3)
    for _ in stream:
        break
    assert stream.closed
    assert list(stream) == []


def test_leaving_an_async_loop_closes_the_stream():
    async def main():
        stream = items_of(1, 2, 3)
        async for _ in stream:
            break
        return stream.closed

    assert asyncio.run(main())


@pytest.mark.parametrize("wrap", [lambda s: s, Doubled], ids=["itself", "derived"])
@pytest.mark.parametrize("loop", [lambda s: s, aiter], ids=["stream", "loop"])
def test_a_cancelled_read_loses_nothing(wrap, loop):
    async def main():
        source = Items()
        stream = loop(wrap(source))
        got, timeouts = [], 0
        pending = [1, 2, 3]
        while True:
            try:
                got.append(await asyncio.wait_for(anext(stream), 0.01))
            except asyncio.TimeoutError:
                timeouts += 1
                source.channel.put(pending.pop(0)) if pending else source.channel.close()
            except StopAsyncIteration:
                return got, timeouts

    got, timeouts = asyncio.run(main())
    assert got == ([1, 2, 3] if wrap is not Doubled else [1, 1, 2, 2, 3, 3])
    assert timeouts >= 4


@pytest.mark.parametrize("wrap", [lambda s: s, Doubled], ids=["itself", "derived"])
def test_closing_ends_a_pending_async_read(wrap):
    async def main():
        stream = wrap(Items())
        reading = asyncio.create_task(anext(stream))
        await asyncio.sleep(0.01)
        await stream.aclose()
        with pytest.raises(StopAsyncIteration):
            await reading

    asyncio.run(main())


def test_closing_from_another_thread_ends_a_waiting_read():
    stream, got = Doubled(Items()), []
    reader = threading.Thread(target=lambda: got.extend(stream))
    reader.start()
    stream.close()
    reader.join(60)
    assert not reader.is_alive()
    assert got == []


def test_one_sided_streams_name_the_other_loop():
    class OnlyAsync(DualIterator):
        async def _aread(self):
            raise StopAsyncIteration

    with pytest.raises(TypeError, match="read with `async for`"):
        list(OnlyAsync())
    assert read_async(OnlyAsync()) == []
