"""Reading a log's shards as one log: what comes first in any of them is read first.

A cursor is the number of the shard that an entry is in, and how far every shard had been read by then:
``2:1700000000000-0,0-0,1700000000123-4``. So any entry's cursor is a place in the whole log.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

import msgspec

from streamll.brokers.failures import Diagnosis
from streamll.brokers.overview import time_of
from streamll.brokers.redis.servers import servers_of
from streamll.brokers.redis.shards import shard_name, shard_of
from streamll.brokers.redis.stream import StreamSource
from streamll.brokers.source import Entry, Source, SourceOptions
from streamll.core.errors import ConfigurationError


class ShardedSource(Source):
    """Reads all shards, each on a connection of its own; of one run, only the run's."""

    def __init__(self, url: str, options: SourceOptions) -> None:
        place = servers_of(url).place
        count: int = place.options["shards"]
        self.name = f"{place.shown} {options.target}"
        self._waits = options.waits
        self._shards = [
            StreamSource(
                url,
                msgspec.structs.replace(options, target=shard_name(options.target, n), start=start),
            )
            for n, start in enumerate(_starts(options.start, count))
        ]
        own = None if options.run_id is None else shard_of(options.run_id, count)
        self._reading = list(range(count)) if own is None else [own]
        # Reports of what belongs to no run are in the first one.
        self._connecting = self._reading if own is None else sorted({0, own})
        self._places: dict[int, str] = {}  # how far the reader has been given each shard
        self._reads: dict[int, asyncio.Task[list[Entry]]] = {}
        self._failure: BaseException | None = None

    def diagnose(self, error: BaseException) -> Diagnosis:
        return self._shards[0].diagnose(error)

    async def connect(self) -> None:
        await self.close()
        self._failure = None
        for number, place in self._places.items():  # what was read ahead is read again
            self._shards[number].position = place
        for result in await asyncio.gather(
            *(self._shards[n].connect() for n in self._connecting), return_exceptions=True
        ):
            if isinstance(result, BaseException):
                raise result
        for number, shard in enumerate(self._shards):
            self._places.setdefault(number, shard.position)

    async def exists(self) -> bool:
        return any(await asyncio.gather(*(shard.exists() for shard in self._shards)))

    async def read(self) -> list[Entry]:
        """What the first shards have that have anything; nothing, once none of them had any."""
        quiet: set[int] = set()
        while True:
            if self._failure is not None:
                raise self._failure
            for number in self._reading:
                if number not in self._reads and (self._waits or number not in quiet):
                    self._reads[number] = asyncio.create_task(self._shards[number].read())
            await asyncio.wait(self._reads.values(), return_when=asyncio.FIRST_COMPLETED)
            entries = []
            for number in [n for n in self._reading if n in self._reads and self._reads[n].done()]:
                task = self._reads.pop(number)
                if task.cancelled() or task.exception() is not None:
                    # Told with the next read: what the others have is not lost by it.
                    self._failure = task.exception() if not task.cancelled() else OSError("closed")
                    continue
                found = task.result()
                quiet.add(number)
                entries += self._placed(number, found)
            if entries:
                return entries
            if quiet.issuperset(self._reading):
                return []

    async def acknowledge(self, entry: Entry) -> None:
        number, own = entry.receipt
        await self._shards[number].acknowledge(own)

    async def extend_claim(self, entries: Sequence[Entry]) -> None:
        mine: dict[int, list[Entry]] = {}
        for entry in entries:
            number, own = entry.receipt
            mine.setdefault(number, []).append(own)
        for number, own in mine.items():
            await self._shards[number].extend_claim(own)

    async def was_trimmed(self, after: str, entry: str) -> bool:
        number, places = _parse(entry)
        before = after if after == "beginning" else _parse(after)[1][number]
        return await self._shards[number].was_trimmed(before, places[number])

    async def overview(self, runs: int) -> list[bytes]:
        found = await asyncio.gather(*(self._shards[n].overview(runs) for n in self._connecting))
        return sorted((body for bodies in found for body in bodies), key=time_of)

    async def lag(self) -> int | None:
        lags = [await shard.lag() for shard in self._shards]
        known = [lag for lag in lags if lag is not None]
        return sum(known) if len(known) == len(lags) else None

    async def close(self) -> None:
        reads, self._reads = self._reads, {}
        for task in reads.values():
            task.cancel()
        await asyncio.gather(*reads.values(), return_exceptions=True)
        for shard in self._shards:
            await shard.close()

    def _placed(self, number: int, entries: list[Entry]) -> list[Entry]:
        """The entries of a shard as the log's."""
        placed = []
        for entry in entries:
            self._places[number] = entry.cursor
            cursor = f"{number}:{','.join(self._places[n] for n in range(len(self._shards)))}"
            own = (number, entry)
            placed.append(
                Entry(cursor=cursor, body=entry.body, deliveries=entry.deliveries, receipt=own)
            )
        return placed


def _starts(start: str, count: int) -> list[str]:
    """Where each shard is to be read from."""
    if start in ("new", "beginning"):
        return [start] * count
    if re.fullmatch(r"\d+:[0-9]+-[0-9]+(,[0-9]+-[0-9]+)*", start):
        places = _parse(start)[1]
        if len(places) == count:
            return places
    raise ConfigurationError(f"start={start!r} is no cursor of a log with shards={count}")


def _parse(cursor: str) -> tuple[int, list[str]]:
    number, _, places = cursor.partition(":")
    return int(number), places.split(",")
