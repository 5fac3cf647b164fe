"""What a source of RabbitMQ's does when its connection ends at an unfortunate moment."""

from __future__ import annotations

import asyncio

import pytest

from brokers.backends import unique_name
from brokers.sample_runs import BOUND
from streamll.brokers.opening import open_source
from streamll.brokers.rabbitmq import client
from streamll.brokers.source import SourceOptions


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
