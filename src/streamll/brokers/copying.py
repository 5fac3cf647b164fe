"""Copying a log, or single entries, as they are: past a sink's packing, ids included; looking one up.

Because ids stay, a reader recognises duplicates in the copy as in the original, and a copy that is
made twice is read once. Entries that are not streamll's are counted and left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec

from streamll.brokers.failures import Diagnosis
from streamll.brokers.opening import default_target, open_sink, open_source
from streamll.brokers.send_buffer import PendingEntry
from streamll.brokers.sink import BrokerSink, Transport
from streamll.brokers.source import Entry, Source, SourceOptions
from streamll.core.errors import BrokerError, ConfigurationError, WireError
from streamll.core.urls import without_password
from streamll.core.wire import decode_batch


class CopyResult(msgspec.Struct):
    """How much was copied, and how many entries were not streamll's."""

    entries: int = 0
    events: int = 0
    left: int = 0


async def copy_log(
    source_url: str,
    sink_url: str,
    *,
    source_target: str | None = None,
    sink_target: str | None = None,
    since: float | None = None,
) -> CopyResult:
    """Copy what a log holds now.

    ``since`` (seconds since the epoch) leaves out entries whose last event is older. The copy has
    the log's own name; a log with its broker's default name gets the other broker's default.

    Raises:
        ConfigurationError: there is no such log, or nothing is in it.
        BrokerError: one of the brokers cannot be reached.
    """
    usual = default_target(source_url)
    target = source_target or usual
    kept = default_target(sink_url) if target == usual else target
    options = SourceOptions(target=target, start="beginning", waits=False)
    source = open_source(source_url, options)
    sink = _broker_sink(sink_url, sink_target or kept)
    result, read = CopyResult(), 0
    if await log_exists(source_url, target):
        async with connected(source):
            explained = functools.partial(_explained, sink.destination, sink._diagnose)  # noqa: SLF001
            with explained():
                transport = _transport(sink)
            with contextlib.closing(transport):
                while entries := await source.read():
                    read += len(entries)
                    pending = [made for each in entries if (made := _pending(each, since, result))]
                    if pending:
                        with explained():
                            transport.send(pending)
    if not read:
        where = without_password(source_url)
        raise ConfigurationError(f"{where} has no log {target!r}, or nothing is in it")
    return result


async def log_exists(url: str, target: str) -> bool:
    """Whether there is such a log; none is created. Raises ``BrokerError`` if nobody can say."""
    source = open_source(url, SourceOptions(target=target))
    with _explained(source.name, source.diagnose):
        return await source.exists()


@contextlib.asynccontextmanager
async def connected(source: Source) -> AsyncIterator[None]:
    try:
        with _explained(source.name, source.diagnose):
            await source.connect()
        yield
    finally:
        await source.close()


@contextlib.contextmanager
def _explained(name: str, diagnose: Callable[[BaseException], Diagnosis]) -> Iterator[None]:
    """Raise what a broker's client raises as a ``BrokerError`` that says what to do."""
    try:
        yield
    except Exception as error:
        raise BrokerError(f"{name}: {diagnose(error).reason}") from error


async def has_run(url: str, target: str, run_id: str) -> bool:
    """Whether the log has something of a run now.

    Raises:
        ConfigurationError: there is no such log.
        BrokerError: the broker cannot be reached.
    """
    if not await log_exists(url, target):
        raise ConfigurationError(f"{without_password(url)} has no log {target!r}")
    options = SourceOptions(target=target, start="beginning", run_id=run_id, waits=False)
    source = open_source(url, options)
    async with connected(source):
        while entries := await source.read():
            for entry in entries:
                with contextlib.suppress(WireError):
                    if any(event.run_id == run_id for event in decode_batch(entry.body)):
                        return True
    return False


async def append(url: str, target: str, body: bytes) -> None:
    """Append one body to a log, on a thread of its own, and return when it is confirmed.

    Raises what the broker's client raises. Not the event loop's own threads: the program may
    keep all of those busy.
    """

    def write() -> None:
        with contextlib.closing(_transport(_broker_sink(url, target))) as transport:
            transport.send([PendingEntry(body)])

    executor = ThreadPoolExecutor(1, "streamll-append")
    try:
        await asyncio.get_running_loop().run_in_executor(executor, write)
    finally:
        executor.shutdown(wait=False)


def _broker_sink(url: str, target: str) -> BrokerSink:
    sink = open_sink(url, target=target)
    assert isinstance(sink, BrokerSink)
    return sink


def _transport(sink: BrokerSink) -> Transport:
    return sink._connect()  # noqa: SLF001 - entries go as they are, not through its buffer


def _pending(entry: Entry, since: float | None, result: CopyResult) -> PendingEntry | None:
    try:
        events = decode_batch(entry.body)
    except WireError:
        result.left += 1
        return None
    if not events or (since is not None and events[-1].timestamp < since):
        return None
    result.entries += 1
    result.events += len(events)
    return PendingEntry.of(events, entry.body)
