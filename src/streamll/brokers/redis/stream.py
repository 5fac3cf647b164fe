"""Reading one Redis stream, alone or as a member of a group."""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Sequence
from typing import Any

from streamll.brokers.failures import Diagnosis
from streamll.brokers.overview import LOOK_BACK_ENTRIES, Overview
from streamll.brokers.redis.client import FIELD
from streamll.brokers.redis.diagnosis import diagnose
from streamll.brokers.redis.servers import KeyClient, find_async, key_on_cluster, servers_of
from streamll.brokers.source import READ_BATCH_ENTRIES, Entry, Source, SourceOptions
from streamll.core.errors import ConfigurationError

FIRST_ID = "0-0"

MAX_PENDING = 100_000
"""More than a member ever has in its hands at once."""

REREAD_MS = 10_000
"""How much of the log is read again, at most, where its end was lost in a failover: more than the
clocks of its servers differ."""

PAGE_ENTRIES = 500
"""Entries that are read backwards at once."""


class StreamSource(Source):
    """Reads a stream, alone or as a member of a group."""

    def __init__(self, url: str, options: SourceOptions) -> None:
        self._servers = servers_of(url)
        self.name = f"{self._servers.place.shown} {options.target}"
        self._answered = False
        self._options = options
        self._block_ms = int(options.read_timeout * 1000)
        self._key, self._group, self._member = options.target, options.group, options.member
        self._client: KeyClient | None = None
        starts = {"new": None, "beginning": FIRST_ID}
        self._after: str | None = starts.get(options.start, options.start)
        if self._after is not None and not re.fullmatch(r"[0-9]+(-[0-9]+)?", self._after):
            raise ConfigurationError(f"start={options.start!r} is no cursor of a Redis stream")
        self._end: tuple[int, int] | None = None  # where a reader that does not wait is done
        # What this member was given before the connection broke, it may never have seen.
        self._own_after: str | None = None
        self._claim_at = 0.0
        self._claim_from = FIRST_ID
        self._trimmed = 0
        self._floor: str | None = None  # where this reader began
        self._newest: str | None = None  # what the group has given this member last

    @property
    def position(self) -> str:
        """The cursor of what was read last, or of where this reader begins."""
        return self._after or FIRST_ID

    @position.setter
    def position(self, place: str) -> None:
        if self._group is None:
            self._after = place

    def diagnose(self, error: BaseException) -> Diagnosis:
        return diagnose(error, self._servers, answered=self._answered)

    async def connect(self) -> None:
        await self.close()
        self._client = await self._new_client()
        if self._group is not None:
            try:
                # A failover may have lost it: it begins again behind what this member was given.
                begin = self._newest or self._after or "$"
                await self._redis.xgroup_create(self._key, self._group, id=begin, mkstream=True)
            except Exception as error:
                if "BUSYGROUP" not in str(error):  # it exists
                    raise
            self._own_after = FIRST_ID
        elif self._after is None:
            newest = await self._redis.xrevrange(self._key, count=1)
            self._after = id_text(newest[0][0]) if newest else FIRST_ID
        elif self._floor is None:
            await self._redis.ping()
        else:
            self._after = await where_it_left_off(self._redis, self._key, self._after, self._floor)
        if not self._options.waits:
            newest = await self._redis.xrevrange(self._key, count=1)
            self._end = place_of_id(newest[0][0] if newest else FIRST_ID)
        self._floor = self._floor or self._after
        self._answered = True

    async def exists(self) -> bool:
        client = await self._new_client()
        try:
            return bool(await client.exists(self._key))
        finally:
            await client.aclose()

    async def read(self) -> list[Entry]:
        if self._group is None:
            block = self._block_ms if self._options.waits else None
            streams = {self._key: self._after}
            entries = _entries(await self._redis.xread(streams, READ_BATCH_ENTRIES, block))
            if self._end is not None:
                entries = [each for each in entries if place_of_id(each.cursor) <= self._end]
            if entries:
                self._after = entries[-1].cursor
            return entries
        if self._own_after is not None:
            return await self._read_own(self._own_after)
        return await self._claim() or await self._read_new()

    async def _read_new(self) -> list[Entry]:
        entries = await self._read_as_member(">", self._block_ms)
        self._newest = entries[-1].cursor if entries else self._newest
        return entries

    async def acknowledge(self, entry: Entry) -> None:
        await self._redis.xack(self._key, self._group, entry.cursor)

    async def extend_claim(self, entries: Sequence[Entry]) -> None:
        mine = list({entry.cursor for entry in entries} & (await self._deliveries()).keys())
        if mine:
            await self._redis.xclaim(self._key, self._group, self._member, 0, mine, justid=True)

    async def was_trimmed(self, after: str, entry: str) -> bool:
        if after not in (FIRST_ID, "beginning"):
            return not await self._redis.xrange(self._key, after, after, count=1)
        stream = await self._redis.xinfo_stream(self._key)
        return bool(stream.get("entries-added", math.inf) > stream["length"])  # Redis before 7

    async def overview(self, runs: int) -> list[bytes]:
        overview, before = Overview(runs), "+"
        for _ in range(LOOK_BACK_ENTRIES // PAGE_ENTRIES):
            page = await self._redis.xrevrange(self._key, before, "-", count=PAGE_ENTRIES)
            for _, fields in page:
                overview.add(body_of(fields))
            if len(page) < PAGE_ENTRIES or overview.complete:
                break
            before = f"({id_text(page[-1][0])}"
        return overview.bodies

    async def lag(self) -> int | None:
        """As ``XINFO GROUPS`` has it: unknown to Redis before 7.0, and of a group that began at a
        cursor until it has caught up.

        Redis counts what was trimmed as still to be read. How much that is shows where the number
        can be known otherwise: when the group is at the stream's end, or before its beginning.
        """
        if self._group is None:
            return None
        # The groups first: a group that is behind what was written in between is not at the end.
        groups = await self._redis.xinfo_groups(self._key)
        stream = await self._redis.xinfo_stream(self._key)
        for group in groups:
            if id_text(group["name"]) == self._group:
                told, known = group.get("lag"), _unread(stream, group["last-delivered-id"])
                if known is None and told is not None:
                    known = max(told - self._trimmed, 0)
                elif known is not None and told is not None:
                    self._trimmed = max(told - known, 0)  # what was written in between was not
                return None if known is None else known + int(group["pending"])
        return None

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                await client.aclose()

    async def _new_client(self) -> KeyClient:
        await find_async(self._servers)
        if self._servers.kind == "cluster":
            self._key = key_on_cluster(self._options.target)
        return KeyClient(self._servers, self._key)

    @property
    def _redis(self) -> KeyClient:
        if self._client is None:
            raise ConnectionError("not connected")
        return self._client

    async def _read_as_member(self, after: str, block: int | None = None) -> list[Entry]:
        """New entries of the group (``>``), or those pending for this member behind an id."""
        streams = {self._key: after}
        return _entries(
            await self._redis.xreadgroup(
                self._group, self._member, streams, READ_BATCH_ENTRIES, block
            )
        )

    async def _read_own(self, after: str) -> list[Entry]:
        """What is pending for this member behind an id, a page of it.

        To read that counts as a delivery, which is taken back: most of it is in this member's hands,
        and a connection that breaks says nothing about the entries.
        """
        deliveries = await self._deliveries()
        own = [each for each in deliveries if place_of_id(each) > place_of_id(after)]
        if not own:
            self._own_after = None
            return []
        entries = await self._read_as_member(after)
        before: dict[int, list[str]] = {}
        for entry in entries:
            entry.deliveries = deliveries.get(entry.cursor, 1)
            before.setdefault(entry.deliveries, []).append(entry.cursor)
        for count, ids in before.items():
            await self._redis.xclaim(
                self._key, self._group, self._member, 0, ids, retrycount=count, justid=True
            )
        # Not the last entry: those behind it may have been deleted, and others come after them.
        self._own_after = own[:READ_BATCH_ENTRIES][-1]
        return entries

    async def _claim(self) -> list[Entry]:
        """Take over what silent members hold, a page of the group's pending entries at a time.

        Not what this member holds itself and was kept from reporting, as XAUTOCLAIM does: it counts as
        a delivery, and the member after this one would take the entry for one that ends processes.
        """
        if time.monotonic() < self._claim_at:
            return []
        idle_ms = int(self._options.claim_after * 1000)
        page = await self._redis.xpending_range(
            self._key, self._group, self._claim_from, "+", READ_BATCH_ENTRIES, idle=idle_ms
        )
        if len(page) == READ_BATCH_ENTRIES:
            self._claim_from = f"({id_text(page[-1]['message_id'])}"
        else:
            self._claim_from = FIRST_ID
            self._claim_at = time.monotonic() + self._options.claim_interval
        deliveries = {
            id_text(each["message_id"]): each["times_delivered"]
            for each in page
            if id_text(each["consumer"]) != self._member
        }
        if not deliveries:
            return []
        found = await self._redis.xclaim(
            self._key, self._group, self._member, idle_ms, list(deliveries)
        )
        entries = _entries([(self._key, found)])
        for entry in entries:
            entry.deliveries = deliveries[entry.cursor] + 1
        return entries

    async def _deliveries(self) -> dict[str, int]:
        """The entries that are pending for this member, and how often each was delivered."""
        pending = await self._redis.xpending_range(
            self._key, self._group, "-", "+", MAX_PENDING, consumername=self._member
        )
        return {id_text(each["message_id"]): each["times_delivered"] for each in pending}


def _unread(stream: Any, delivered: bytes) -> int | None:
    """How many entries a group has not been given, unless it is in the middle of the stream."""
    first, group_at = stream["first-entry"], place_of_id(delivered)
    if first is None or group_at >= place_of_id(stream["last-generated-id"]):
        return 0
    return int(stream["length"]) if place_of_id(first[0]) > group_at else None


async def where_it_left_off(client: KeyClient, key: str | bytes, after: str, floor: str) -> str:
    """Where to read on behind a failover: a new primary may lack the last entries that were read,
    and number its own from its own clock. What comes again is known by the entries' ids.
    """
    if await client.xrange(key, after, after, count=1):
        return after
    if not await client.xrevrange(key, after, "-", count=1):
        return after  # it was trimmed, or has become empty
    milliseconds, _ = place_of_id(after)
    return max(f"{max(milliseconds - REREAD_MS, 0)}-0", floor, key=place_of_id)


def place_of_id(entry_id: bytes | str) -> tuple[int, int]:
    milliseconds, _, number = id_text(entry_id).partition("-")
    return int(milliseconds), int(number or 0)


def _entries(reply: Any) -> list[Entry]:
    """The entries in a reply to XREAD, XREADGROUP or XCLAIM; deleted ones are left out."""
    if not reply:
        return []
    [found] = entries_by_stream(reply).values()
    return found


def entries_by_stream(reply: Any) -> dict[Any, list[Entry]]:
    """As ``_entries``, of several streams."""
    streams: dict[Any, list[Entry]] = {}
    for key, told in (reply.items() if isinstance(reply, dict) else reply) if reply else ():
        has_level = told and isinstance(told[0], list)  # RESP3 has one more
        streams[key] = [
            Entry(cursor=id_text(entry_id), body=body_of(fields))
            for entry_id, fields in (told[0] if has_level else told)
            if fields  # None or empty: deleted, but still pending
        ]
    return streams


def body_of(fields: dict[Any, Any]) -> bytes:
    """An entry's envelope; an entry of another program is shown as it is."""
    body = fields.get(FIELD)
    return body if isinstance(body, bytes) else repr(fields).encode()


def id_text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
