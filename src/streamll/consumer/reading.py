"""Reading a source across any number of connections."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable

from streamll.brokers.source import Entry, Source


async def follow(
    source: Source,
    connected: Callable[[int], None],
    failed: Callable[[Exception, int], Awaitable[None]],
    stopping: Callable[[], bool] = lambda: False,
) -> AsyncGenerator[list[Entry], None]:
    """What ``source`` reads, batch by batch; a batch is empty where nothing came for a while.

    Args:
        connected: called with each connection, and how many attempts in a row have failed before.
        failed: gets each failure, and how many there have been in a row. It waits and returns to
            have it tried again, or raises.
        stopping: ends it, once what was read has been taken.
    """
    failures = 0
    while not stopping():
        try:
            await source.connect()
            connected(failures)
            failures = 0
            while not stopping():
                yield await source.read()
        except Exception as error:  # noqa: BLE001 - brokers fail in their own ways
            failures += 1
            await failed(error, failures)
