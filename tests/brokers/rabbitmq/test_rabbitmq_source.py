"""What a source of RabbitMQ's does when its connection ends at an unfortunate moment."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from brokers.backends import unique_name
from brokers.blockable import through
from brokers.sample_runs import BOUND
from brokers.servers import Wire, wait_until
from streamll.brokers.opening import open_sink, open_source
from streamll.brokers.rabbitmq import client, groups
from streamll.brokers.source import SourceOptions
from streamll.core.events import Status
from streamll.core.wire import decode_batch

pytestmark = pytest.mark.usefixtures("patient_clients")


def write(url: str, target: str, *messages: str) -> None:
    """Each in an entry of its own."""
    sink = open_sink(url, target=target, batch_size=1)
    for message in messages:
        sink.put(Status(message=message))
    assert sink.stop(BOUND)


def test_a_call_that_never_ends_is_a_failed_connection_once_that_is_closed(server_of):
    """As an acknowledgement over a broken one. A cancellation would end the task that waits for it, and
    with it what else is to be done of that run.
    """

    async def main() -> None:
        options = SourceOptions(target=unique_name(), group="g")
        source = open_source(server_of("rabbitmq").url, options)
        await source.connect()
        pending = asyncio.ensure_future(source._on_loop(asyncio.Event().wait))
        cancelled = asyncio.ensure_future(source._on_loop(asyncio.Event().wait))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        await source.close()
        with pytest.raises(ConnectionError, match="disconnected meanwhile"):
            await asyncio.wait_for(pending, BOUND)

    asyncio.run(main())


def test_who_is_cancelled_while_it_closes_leaves_no_thread(server_of, new_threads):
    """As a reader over HTTP whose client has left: whatever it waits for is cancelled, again and again."""

    async def main() -> None:
        source = open_source(server_of("rabbitmq").url, SourceOptions(target=unique_name()))
        await source.connect()
        for call in (source.close, source.exists):
            task = asyncio.ensure_future(call())
            await asyncio.sleep(0)
            while not task.done():
                task.cancel()
                await asyncio.sleep(0)
        deadline = asyncio.get_running_loop().time() + BOUND
        while new_threads(client.THREAD_NAME):
            assert asyncio.get_running_loop().time() < deadline, "its threads end"
            await asyncio.sleep(0.01)

    asyncio.run(main())


def test_what_is_published_while_a_reader_of_what_is_new_connects_again_is_read(server_of):
    """D3: it was told that it is connected, so what comes after that is its own, also where the
    connection broke at once.
    """
    server, target = server_of("rabbitmq"), unique_name()
    write(server.url, target, "before")

    async def main(wire: Wire) -> None:
        source = open_source(through(wire, server), SourceOptions(target=target))
        await source.connect()
        wire.cut()
        await asyncio.to_thread(write, server.url, target, "meanwhile")
        wire.mend()
        await source.connect()
        read: list = []
        while "meanwhile" not in read:
            for entry in await source.read():
                read += [event.message for event in decode_batch(entry.body)]
        await source.close()

    with contextlib.closing(Wire(server.port)) as wire:
        asyncio.run(asyncio.wait_for(main(wire), BOUND))


def test_messages_on_their_way_to_a_member_are_in_the_lag(server_of, monkeypatch):
    """D4: RabbitMQ no longer counts what it has sent, and the member only what has arrived."""
    url, target = server_of("rabbitmq").url, unique_name()
    counted, on_the_way = asyncio.Event(), []
    counts, receive = groups.queue_counts, groups.GroupMember._receive

    async def receive_late(member, message) -> None:
        on_the_way.append(message)
        await counted.wait()
        await receive(member, message)

    async def count(connection, name):
        found = await counts(connection, name)
        if name.endswith(".history"):  # it is counted last
            counted.set()
        return found

    async def main() -> None:
        source = open_source(url, SourceOptions(target=target, group="g", member="m"))
        await source.connect()
        await asyncio.to_thread(write, url, target, "a", "b", "c")
        await asyncio.to_thread(wait_until, lambda: len(on_the_way) == 3, BOUND, "all are sent")
        queue = (source._connection, f"{target}.group.g")
        assert await source._on_loop(counts, *queue) == (0, 1)
        monkeypatch.setattr(groups, "queue_counts", count)
        assert await source.lag() == 3
        await source.close()

    monkeypatch.setattr(groups.GroupMember, "_receive", receive_late)
    asyncio.run(asyncio.wait_for(main(), BOUND))
