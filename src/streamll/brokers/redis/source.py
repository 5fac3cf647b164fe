"""Reading a Redis stream, alone or as the member of a group."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from streamll.brokers.opening import without_password
from streamll.brokers.overview import LOOK_BACK_ENTRIES, Overview
from streamll.brokers.redis import client as redis_client
from streamll.brokers.redis.lag import RedisLag, is_place, place_of
from streamll.brokers.source import (
    READ_BATCH_ENTRIES,
    READ_TIMEOUT_S,
    Entry,
    SourceOptions,
    dead_letters,
)
from streamll.core.errors import ConfigurationError

if TYPE_CHECKING:
    import redis.asyncio
from streamll.brokers.redis.client import FIELD

DEAD_LETTERS_MAXLEN = 10_000

PENDING = 100_000
"""More than a member ever has in its hands at once."""

PAGE = 500
"""Entries that are read backwards at once."""


class RedisSource:
    """Reads a stream, alone or as a member of a group."""

    def __init__(self, url: str, options: SourceOptions) -> None:
        self._url = redis_client.checked(url)
        self._heard = False
        self._options = options
        self._client: redis.asyncio.Redis | None = None
        self._after: str | None = None if options.start == "new" else options.start
        if self._after == "beginning":
            self._after = "0-0"
        if self._after is not None and not is_place(self._after):
            raise ConfigurationError(f"start={options.start!r} is no place in a Redis stream")
        self._own: str | None = None
        self._next_claim = 0.0
        self._claim_from = "0-0"
        self._ahead = RedisLag(options.target)

    @property
    def name(self) -> str:
        return f"{without_password(self._url)} {self._options.target}"

    def fatal_reason(self, error: BaseException) -> str | None:
        return redis_client.fatal_reason(error, self._url, self._options.target)

    def describe(self, error: BaseException) -> str:
        return redis_client.describe(error, self._url, heard=self._heard)

    async def connect(self) -> None:
        await self.close()
        self._client = redis_client.async_client(self._url)
        if self._options.group is not None:
            await self._join()
            self._own = "0-0"  # what was given to this member and got lost with the connection
        elif self._after is None:
            self._after = await self._last()
        else:
            await self._redis.ping()
        self._heard = True

    async def read(self) -> list[Entry]:
        if self._options.group is None:
            return await self._read_alone()
        if self._own is not None:
            return await self._read_own()
        claimed = await self._claim()
        return claimed or await self._read_as_member()

    def skip(self, receipt: object) -> None:
        """Nothing tells whether there is something of others in between."""

    async def acknowledge(self, entry: Entry) -> None:
        await self._redis.execute_command(
            "XACK", self._options.target, self._options.group, entry.cursor
        )

    async def extend_claim(self, entries: Sequence[Entry]) -> None:
        held = {entry.cursor for entry in entries}
        mine = [entry_id for entry_id in await self._pending(held) if entry_id in held]
        if mine:
            await self._redis.execute_command(
                "XCLAIM", self._options.target, self._options.group, self._options.member,
                0, *mine, "JUSTID",
            )  # fmt: skip

    async def dead_letter(self, body: bytes) -> None:
        await self._redis.execute_command(
            "XADD",
            dead_letters(self._options),
            "MAXLEN",
            "~",
            DEAD_LETTERS_MAXLEN,
            "*",
            FIELD,
            body,
        )

    async def overview(self, runs: int) -> list[bytes]:
        overview, before = Overview(runs), "+"
        for _ in range(LOOK_BACK_ENTRIES // PAGE):
            page = await self._redis.xrevrange(self._options.target, before, "-", count=PAGE)
            for _, fields in page:
                overview.add(_body(fields))
            if len(page) < PAGE or overview.complete:
                break
            before = f"({_text(page[-1][0])}"
        return overview.bodies

    async def lag(self) -> int | None:
        if self._options.group is None:
            return await self._ahead.count(self._redis, self._after)
        for group in await self._redis.xinfo_groups(self._options.target):
            if group["name"].decode() == self._options.group:
                lag = group.get("lag")
                if lag is None:  # Redis 6.2, or a group that began in the middle
                    last = _text(group["last-delivered-id"])
                    lag = await RedisLag(self._options.target).count(self._redis, last)
                return int(lag) + int(group["pending"])
        return None

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                await client.aclose()

    # --- inside ---------------------------------------------------------------------------------

    @property
    def _redis(self) -> Any:
        if self._client is None:
            raise ConnectionError("not connected")
        return self._client

    async def _last(self) -> str:
        newest = await self._redis.xrevrange(self._options.target, count=1)
        return newest[0][0].decode() if newest else "0-0"

    async def _join(self) -> None:
        from redis.exceptions import ResponseError

        start = {"new": "$", "beginning": "0-0"}.get(self._options.start, self._options.start)
        try:
            await self._redis.xgroup_create(
                self._options.target, self._options.group, id=start, mkstream=True
            )
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):  # the group is there already
                raise

    async def _read_alone(self) -> list[Entry]:
        patience = ("BLOCK", int(READ_TIMEOUT_S * 1000)) if self._options.waits else ()
        answer = await self._redis.execute_command(
            "XREAD",
            "COUNT",
            READ_BATCH_ENTRIES,
            *patience,
            "STREAMS",
            self._options.target,
            self._after,
        )
        entries = _entries(answer)
        if entries:
            self._after = entries[-1].cursor
            self._ahead.read(len(entries), self._after)
        return entries

    async def _read_as_member(self) -> list[Entry]:
        answer = await self._redis.execute_command(
            "XREADGROUP", "GROUP", self._options.group, self._options.member,
            "COUNT", READ_BATCH_ENTRIES, "BLOCK", int(READ_TIMEOUT_S * 1000), "STREAMS", self._options.target, ">",
        )  # fmt: skip
        return _entries(answer)

    async def _read_own(self) -> list[Entry]:
        """What this member was given before the connection broke, and may never have seen."""
        answer = await self._redis.execute_command(
            "XREADGROUP", "GROUP", self._options.group, self._options.member,
            "COUNT", READ_BATCH_ENTRIES, "STREAMS", self._options.target, self._own,
        )  # fmt: skip
        entries = _entries(answer)
        self._own = entries[-1].cursor if entries else None
        return entries

    async def _claim(self) -> list[Entry]:
        """What silent members had, a page of the group's pending entries at a time."""
        if time.monotonic() < self._next_claim:
            return []
        self._claim_from, found, *_ = await self._redis.execute_command(
            "XAUTOCLAIM", self._options.target, self._options.group, self._options.member,
            int(self._options.claim_after * 1000), self._claim_from, "COUNT", READ_BATCH_ENTRIES,
        )  # fmt: skip
        if _text(self._claim_from) == "0-0":  # that was the last page
            self._next_claim = time.monotonic() + self._options.claim_after / 3
        entries = _entries([(self._options.target, found)])
        if entries:
            counts = await self._pending(entry.cursor for entry in entries)
            for entry in entries:
                entry.deliveries = counts.get(entry.cursor, 2)
        return entries

    async def _pending(self, entry_ids: Iterable[str]) -> dict[str, int]:
        """What this member has not acknowledged around these, and how often each was given out."""
        places = sorted(entry_ids, key=place_of)
        pending = await self._redis.xpending_range(
            self._options.target,
            self._options.group,
            min=places[0],
            max=places[-1],
            count=PENDING,
            consumername=self._options.member,
        )
        return {_text(each["message_id"]): each["times_delivered"] for each in pending}


def _entries(answer: Any) -> list[Entry]:
    """The entries of an answer to XREAD, XREADGROUP or XAUTOCLAIM; deleted ones are left out."""
    if not answer:
        return []
    streams = list(answer.items()) if isinstance(answer, dict) else answer
    found = streams[0][1]
    if found and isinstance(found[0], list) and found[0] and isinstance(found[0][0], (list, tuple)):
        found = found[0]
    return [
        Entry(cursor=_text(entry_id), body=_body(fields))
        for entry_id, fields in found
        if fields is not None
    ]


def _body(fields: Any) -> bytes:
    """An entry's envelope; what has none is somebody else's, and is shown as it is."""
    pairs = (
        fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=False))
    )
    body = pairs.get(FIELD)
    return body if isinstance(body, bytes) else repr(pairs).encode()


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
