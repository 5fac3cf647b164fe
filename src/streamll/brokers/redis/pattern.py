"""Reading all streams whose names match a pattern as one log: what was written first is read first.

New streams are found by ``SCAN`` on every primary, which is also how deleted ones are forgotten. Where a
server has all keys, two ``XREAD BLOCK`` wait for them: one names the few streams that had something
lately, the other all the rest, so that a token costs no list of a thousand names. A cluster answers for
one key at a time, so each primary is asked for its keys in a pipeline: often for the few, less often for
the rest.

A cursor is a time, and how far the streams were read that had something ``REREAD_MS`` before or later:
``1700000000000;run:a=1700000000123-0;run:b=1700000000456-2``. The others were read up to that time. So
the entries must have the ids that Redis gives them, which are times.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import re
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from streamll.brokers.failures import Diagnosis
from streamll.brokers.overview import ENTRIES_OUTSIDE_RUNS, LOOK_BACK_ENTRIES, Overview, time_of
from streamll.brokers.redis.diagnosis import diagnose
from streamll.brokers.redis.primaries import Primaries
from streamll.brokers.redis.servers import KeyClient, servers_of
from streamll.brokers.redis.stream import (
    FIRST_ID,
    PAGE_ENTRIES,
    REREAD_MS,
    body_of,
    entries_by_stream,
    id_text,
    place_of_id,
    where_it_left_off,
)
from streamll.brokers.redis.urls import Address
from streamll.brokers.source import READ_BATCH_ENTRIES, Entry, Source, SourceOptions
from streamll.core.errors import ConfigurationError

SCAN_S = 1.0
"""How often new streams are looked for, by default …"""

SCAN_SHARE = 0.1
"""… unless that takes more than this share of the time."""

LIVE_S = 10.0
"""A stream that had something so lately is among the few that are asked for often."""

LIVE_BLOCK_MS = 100
"""The longest until a stream is among those."""

LIVE_POLL_S = 0.02
"""How often a primary of a cluster is asked for those, and …"""

QUIET_POLL_S = 1.0
"""… for all the others."""

AHEAD_ENTRIES = 4096
"""About how many entries are read ahead."""

LAST_OF_MS = 2**64 - 1
"""The highest number that an entry can have in its millisecond."""


def names(target: str) -> tuple[str, str | None]:
    r"""The stream that a reader's target names, and Redis's pattern if it names several.

    With an asterisk it is a pattern, in which ``*`` is any text, ``?`` any character, and ``\*``, ``\?``
    and ``\\`` are these characters. A target whose asterisks are all written so is one stream's name.
    """
    if "*" not in target:
        return target, None
    parts = re.findall(r"\\([*?\\])|([*?])|(.)", target, re.DOTALL)
    if not any(wild == "*" for _, wild, _ in parts):
        return re.sub(r"\\([*?\\])", r"\1", target), None
    glob = "".join(
        wild or re.sub(r"([*?[\\])", r"\\\1", own or other) for own, wild, other in parts
    )
    return target, glob


class PatternSource(Source):
    """Reads all streams that match ``pattern``, those as well that appear later."""

    def __init__(self, url: str, options: SourceOptions, pattern: str) -> None:
        self._servers = servers_of(url)
        place = self._servers.place
        self.name = f"{place.shown} {options.target}"
        if options.group is not None:
            raise ConfigurationError(
                f"{self.name}: a group shares one log, and {options.target!r} are several; a log that "
                "is in several streams for a group has ?shards=12 in its URL, and one name"
            )
        if "shards" in place.options:
            raise ConfigurationError(
                f"{self.name}: the shards of a log have its name, without *; leave out one of the two"
            )
        self._pattern = pattern
        self._options = options
        self._scan_s: float = place.options.get("scan_seconds", SCAN_S)
        self._base, self._recent = _start(options.start)
        """The time up to which the streams were read that ``_recent`` has not, and these, each with its
        part of the cursor; the latest are last."""
        self._after = {key: part.rpartition("=")[2] for key, part in self._recent.items()}
        """How far the reader has been given each stream."""
        self._floors: dict[bytes, str] = {}  # where this reader began
        self._first_base = self._base
        self._begun = options.start != "new"
        self._answered = False
        self._keys: set[bytes] = set()
        self._ends: dict[bytes, tuple[int, int]] | None = None
        """Of each stream, where a reader that does not wait is done."""
        self._primaries = Primaries(self._servers)
        self._buffers: dict[bytes, deque[Entry]] = {}
        """What was read and not returned yet."""
        self._unfinished: set[bytes] = set()
        """Streams that may have more, which could be older than what others have."""
        self._watches: dict[tuple[Address | None, bool], _Watch] = {}
        self._live: dict[bytes, float] = {}
        self._looked: dict[bytes, float] = {}
        """By the server's clock: when each was found to have no more."""
        self._limit = 0.0
        """The earliest of these times, as it was when streams were looked for last."""
        self._clock = 0.0  # the servers' time less this process's, the slowest one's
        self._scan_at = 0.0

    def diagnose(self, error: BaseException) -> Diagnosis:
        return diagnose(error, self._servers, answered=self._answered)

    async def connect(self) -> None:
        await self.close()
        try:
            await self._discover()
            if not self._begun:
                await self._begin_at_the_end()
            elif self._answered:
                await self._go_back()
            if not self._options.waits:
                self._ends = {
                    key: place_of_id(found[0][0]) for key, found in (await self._last()).items()
                }
        except Exception:
            self._servers.forget()
            raise
        self._unfinished = set(self._keys)
        self._answered = self._begun = True

    async def exists(self) -> bool:
        is_connected = self._primaries.is_connected
        try:
            for address in await self._primaries.find():
                async for keys in self._primaries.streams(address, self._pattern):
                    if keys:
                        return True
            return False
        finally:
            if not is_connected:
                await self._primaries.aclose()

    async def read(self) -> list[Entry]:
        try:
            return await self._read()
        except Exception:
            self._servers.forget()
            raise

    async def was_trimmed(self, after: str, entry: str) -> bool:
        key, _, before = _parts(entry)
        if after.startswith(f"{key}="):
            before = _parts(after)[1]
        client = KeyClient(self._servers, unquote_to_bytes(key))
        try:
            first = await client.xrange(unquote_to_bytes(key), count=1)
            if first and place_of_id(first[0][0]) <= place_of_id(before):
                return False
            if before != FIRST_ID and place_of_id(before)[1] != LAST_OF_MS:
                return True
            stream = await client.xinfo_stream(unquote_to_bytes(key))
            return bool(stream.get("entries-added", math.inf) > stream["length"])
        finally:
            await client.aclose()

    async def overview(self, runs: int) -> list[bytes]:
        """The streams that had something last are searched first."""
        overview = Overview(runs, outside=max(ENTRIES_OUTSIDE_RUNS, len(self._keys)))
        page = min(PAGE_ENTRIES, _ahead_of_each(self._keys))
        ends = await self._primaries.ask_each({key: _backwards("+", page) for key in self._keys})
        latest = sorted(
            ((place_of_id(at), key, fields) for key, found in ends.items() for at, fields in found),
            key=lambda each: each[:2],
            reverse=True,
        )
        for _, _, fields in latest:
            overview.add(body_of(fields))
            if runs and overview.complete:
                break
        left = LOOK_BACK_ENTRIES - len(latest)
        for key in dict.fromkeys(key for _, key, _ in latest):
            found = ends[key]
            size = page
            while len(found) == size and left > 0 and not overview.complete:
                size = PAGE_ENTRIES
                before = f"({id_text(found[-1][0])}"
                found = (await self._primaries.ask_each({key: _backwards(before, size)}))[key]
                left -= len(found)
                for _, fields in found:
                    overview.add(body_of(fields))
        return sorted(overview.bodies, key=time_of)

    async def close(self) -> None:
        watches, self._watches = self._watches, {}
        for watch in watches.values():
            watch.task.cancel()
        await asyncio.gather(*(watch.task for watch in watches.values()), return_exceptions=True)
        self._buffers.clear()
        await self._primaries.aclose()

    # --- which streams there are ------------------------------------------------------------------

    async def _discover(self) -> None:
        began = time.monotonic()
        found: set[bytes] = set()
        clocks = []
        for address in await self._primaries.find():
            clocks.append(await self._primaries.time_ms(address) - time.monotonic() * 1000)
            async for keys in self._primaries.streams(address, self._pattern):
                found |= keys
        self._clock = min(clocks)
        self._learn(found, began * 1000 + self._clock)
        took = time.monotonic() - began
        self._scan_at = time.monotonic() + max(self._scan_s, took / SCAN_SHARE)

    def _learn(self, found: set[bytes], at: float) -> None:
        for key in found - self._keys:
            self._unfinished.add(key)
            if self._answered:  # it has just begun
                self._live[key] = time.monotonic()
            self._after.setdefault(key, _end_of(self._base))
        for key in self._keys - found:
            self._looked.pop(key, None)
            self._live.pop(key, None)
        self._unfinished &= found
        self._keys = found
        needed = found | self._recent.keys() | self._buffers.keys()  # what was read is given out
        for key in self._after.keys() - needed:
            del self._after[key]
        quiet = (self._looked[key] for key in found if key in self._looked)
        self._limit = min(at, min(quiet, default=at))

    # --- where to read --------------------------------------------------------------------------

    async def _begin_at_the_end(self) -> None:
        """Behind what there is now. Streams that are found later were made later."""
        self._base = self._first_base = int(self._limit) - REREAD_MS
        last = {key: id_text(found[0][0]) for key, found in (await self._last()).items()}
        self._after = {key: last.get(key, _end_of(self._base)) for key in self._keys}
        self._floors = dict(self._after)
        for key in sorted(last, key=lambda key: place_of_id(last[key])):
            if place_of_id(last[key])[0] >= self._base:
                self._recent[key] = _part(key, last[key])

    async def _last(self) -> dict[bytes, Any]:
        """The last entry of each stream that has one."""
        ends = await self._primaries.ask_each({key: _backwards("+", 1) for key in self._keys})
        return {key: found for key, found in ends.items() if found}

    async def _go_back(self) -> None:
        """A new primary may lack what was read last, and number its own from its own clock."""
        for key in self._keys & self._recent.keys():
            floor = self._floors.get(key, _end_of(self._first_base))
            client = KeyClient(self._servers, key)
            try:
                self._after[key] = await where_it_left_off(client, key, self._after[key], floor)
            finally:
                await client.aclose()

    # --- reading --------------------------------------------------------------------------------

    async def _read(self) -> list[Entry]:
        if time.monotonic() >= self._scan_at:
            await self._discover()
        self._gather()
        await self._finish()
        if not self._buffers and self._options.waits:
            self._watch()
            tasks = [watch.task for watch in self._watches.values()]
            if tasks:
                timeout = self._options.read_timeout
                await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            else:
                await asyncio.sleep(min(self._options.read_timeout, self._scan_s))
            self._gather()
        entries = self._in_order()
        if self._options.waits:
            self._watch()
        return entries

    async def _finish(self) -> None:
        """Read on where there may be more, so that the next entry of every stream is known."""
        keys = [key for key in self._unfinished if key not in self._buffers]
        if not keys:
            return
        for address, own in self._primaries.by_server(keys).items():
            began = self._now_ms()
            self._take(own, await self._look(address, own), began)

    def _watch(self) -> None:
        """Wait for news of the streams that had no more."""
        since = time.monotonic() - LIVE_S
        for key in [key for key, at in self._live.items() if at < since]:
            del self._live[key]
        known = {key for watch in self._watches.values() for key in watch.keys}
        known |= self._unfinished | self._buffers.keys()
        for is_live in (True, False):
            if not is_live and all((a, False) in self._watches for a in self._servers.primaries()):
                return
            wanted = self._live.keys() & self._keys if is_live else self._keys - self._live.keys()
            for address, keys in self._primaries.by_server(wanted - known).items():
                if (address, is_live) not in self._watches:
                    self._watches[address, is_live] = _Watch(
                        keys,
                        self._now_ms(),
                        asyncio.create_task(self._news(address, keys, is_live=is_live)),
                    )

    async def _news(
        self, address: Address | None, keys: list[bytes], *, is_live: bool
    ) -> Mapping[bytes, list[Entry]]:
        if self._servers.kind == "cluster":
            await asyncio.sleep(LIVE_POLL_S if is_live else QUIET_POLL_S)
            return await self._look(address, keys)
        block_ms = int(self._options.read_timeout * 1000)
        return await self._look(
            address, keys, min(block_ms, LIVE_BLOCK_MS) if is_live else block_ms
        )

    def _gather(self) -> None:
        """What the watches have found."""
        for name in [name for name, watch in self._watches.items() if watch.task.done()]:
            watch = self._watches.pop(name)
            self._take(watch.keys, watch.task.result(), watch.began)

    def _take(
        self, keys: Iterable[bytes], found: Mapping[bytes, list[Entry]], began: float
    ) -> None:
        keys = list(keys)
        most = _ahead_of_each(keys)
        for key in keys:
            if key not in self._keys:
                continue  # it was forgotten meanwhile; one that is back is found again
            entries = found.get(key)
            if self._ends is not None:
                end = self._ends.get(key, (0, 0))
                entries = [each for each in entries or () if place_of_id(each.cursor) <= end]
            if entries:
                self._live[key] = time.monotonic()
                self._buffers[key] = deque(entries)
            if entries and len(entries) >= most:
                self._unfinished.add(key)
                self._looked.pop(key, None)
            else:
                self._unfinished.discard(key)
                self._looked[key] = began

    def _in_order(self) -> list[Entry]:
        """What comes first in any of the streams, as far as that is known."""
        heads = [(place_of_id(each[0].cursor), key) for key, each in self._buffers.items()]
        heapq.heapify(heads)
        entries: list[Entry] = []
        while heads and len(entries) < READ_BATCH_ENTRIES:
            key = heads[0][1]
            buffer = self._buffers[key]
            entries.append(self._placed(key, buffer.popleft()))
            if buffer:
                heapq.heapreplace(heads, (place_of_id(buffer[0].cursor), key))
                continue
            heapq.heappop(heads)
            del self._buffers[key]
            if key in self._unfinished:
                break
        return entries

    def _placed(self, key: bytes, entry: Entry) -> Entry:
        """An entry of a stream as the log's."""
        own, before = entry.cursor, self._after[key]
        self._after[key] = own
        self._recent.pop(key, None)
        self._recent[key] = part = _part(key, own)
        base = int(min(place_of_id(own)[0], self._limit)) - REREAD_MS
        if base > self._base:
            self._base = base
            for old, its in list(self._recent.items()):
                if place_of_id(its.rpartition("=")[2])[0] >= base:
                    break
                del self._recent[old]
        cursor = ";".join([str(self._base), *self._recent.values()])
        return Entry(cursor=cursor, body=entry.body, place=f"{part}={before}")

    async def _look(
        self, address: Address | None, keys: list[bytes], block_ms: int | None = None
    ) -> Mapping[bytes, list[Entry]]:
        """What streams of one server have that was not read; of one that has gone meanwhile, nothing."""
        most = _ahead_of_each(keys)
        keys = [key for key in keys if key in self._after]
        if not keys:
            return {}
        places = [self._after[key] for key in keys]
        if self._servers.kind == "cluster":
            commands = {
                key: ("XREAD", "COUNT", most, "STREAMS", key, after)
                for key, after in zip(keys, places, strict=True)
            }
            found: dict[bytes, list[Entry]] = {}
            for reply in (await self._primaries.pipelined(address, commands)).values():
                found.update(entries_by_stream(reply))
            return found
        block = () if block_ms is None else ("BLOCK", block_ms)
        command = ("XREAD", "COUNT", most, *block, "STREAMS", *keys, *places)
        return entries_by_stream(await self._primaries.ask(address, *command))

    def _now_ms(self) -> float:
        return time.monotonic() * 1000 + self._clock


class _Watch:
    """A look at some streams that is under way, and when it began."""

    def __init__(
        self, keys: list[bytes], began: float, task: asyncio.Task[Mapping[bytes, list[Entry]]]
    ) -> None:
        self.keys, self.began, self.task = keys, began, task


def _ahead_of_each(keys: Iterable[bytes]) -> int:
    """How many entries of each of some streams are read at once."""
    return max(1, min(READ_BATCH_ENTRIES, AHEAD_ENTRIES // max(1, len(list(keys)))))


def _backwards(before: str, count: int) -> tuple[Any, ...]:
    return ("XREVRANGE", before, "-", "COUNT", count)


def _end_of(base: int) -> str:
    """Behind everything that is older than this time (ms)."""
    return FIRST_ID if base <= 0 else f"{base - 1}-{LAST_OF_MS}"


def _part(key: bytes, entry_id: str) -> str:
    return f"{quote(key, safe=':{}')}={entry_id}"


def _parts(place: str) -> tuple[str, str, str]:
    """Of an entry's place: the stream, the entry's id, and what was read of the stream before."""
    key, entry_id, before = place.split("=")
    return key, entry_id, before


def _start(start: str) -> tuple[int, dict[bytes, str]]:
    """The time and the streams of a cursor."""
    if start in ("new", "beginning"):
        return 0, {}
    if not re.fullmatch(r"[0-9]+(;[^;=]+=[0-9]+-[0-9]+)*", start):
        raise ConfigurationError(f"start={start!r} is no cursor of the streams of a pattern")
    base, *parts = start.split(";")
    return int(base), {unquote_to_bytes(part.partition("=")[0]): part for part in parts}
