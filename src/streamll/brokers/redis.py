"""Redis Streams, through redis-py; Valkey and others that speak Redis work as well.

One entry has one field, ``d``: an envelope. Every command names one key, so that Redis Cluster's
rule about keys is kept whatever the keys are. A batch is one ``MULTI``: either all of its entries
are in the stream or none, in order.

Groups are consumer groups. A member that dies leaves its entries pending; ``XAUTOCLAIM`` hands
them to another when they have been idle for long enough.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from streamll.brokers import redis_client
from streamll.brokers.opening import without_password
from streamll.brokers.outbox import Parcel
from streamll.brokers.overview import LOOK_BACK, Overview
from streamll.brokers.redis_ahead import Ahead, is_place, place_of
from streamll.brokers.sink import BrokerSink, fill
from streamll.brokers.source import LIMIT, WAIT, Entry, Options, dead_letters
from streamll.core.errors import ConfigurationError

if TYPE_CHECKING:
    import redis.asyncio

URL = "redis://localhost:6379"
TARGET = "streamll:events"
FIELD = b"d"
DEAD_LETTERS = 10_000
PENDING = 100_000
"""More than a member ever has in its hands at once."""

PAGE = 500
"""Entries that are read backwards at once."""

A_DAY = 86_400.0
IDLE_SECONDS = 1.0
"""After so long a sink looks whether its connection is still there, before it relies on it."""


class RedisSink(BrokerSink):
    """Appends events to a Redis stream.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``; ``redis_url`` is the same.
        stream_key: the stream; ``target`` is the same. May hold names of the context and
            ``run_id``, such as ``"run:{conversation_id}"``: then there is one stream for each.
        maxlen: about how many entries a stream keeps; ``None`` keeps all.
        ttl: seconds after its last entry that a stream is kept. By default one day where
            there is a stream per run or conversation, for ever where there is one.
        options: see ``BrokerSink``.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        redis_url: str | None = None,
        stream_key: str | None = None,
        target: str | None = None,
        maxlen: int | None = 100_000,
        ttl: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.url = redis_client.checked(url or redis_url or URL)
        self.stream_key = stream_key or target or TARGET
        self.maxlen = maxlen
        self.ttl = A_DAY if ttl is None and "{" in self.stream_key else ttl

    @property
    def destination(self) -> str:
        return f"{without_password(self.url)} {self.stream_key}"

    def _connect(self) -> _Writer:
        return _Writer(self.url, self.stream_key, self.maxlen, self.ttl)

    def _explain(self, error: BaseException) -> str:
        return redis_client.explained(error, self.url, heard=self._confirmed > 0)


class _Writer:
    """A sink's connection: one write and its answers per batch.

    Commands are packed here. What the client does around each costs more than all else that
    happens to a batch (docs/decisions/0012-few-wakes.md).
    """

    def __init__(self, url: str, key: str, maxlen: int | None, ttl: float | None) -> None:
        self._key = key
        self._limit = () if maxlen is None else (b"MAXLEN", b"~", b"%d" % maxlen)
        self._ttl = None if ttl is None else b"%d" % int(ttl * 1000)
        self._client: Any = redis_client.client(url)
        self._connection: Any = self._client.connection_pool.make_connection()
        self._connection.connect()
        self._used = time.monotonic()

    def send(self, parcels: list[Parcel]) -> None:
        keys: dict[str, list[bytes]] = {}
        for parcel in parcels:
            keys.setdefault(fill(self._key, parcel), []).append(parcel.body)
        batches = [
            self._commands(key.encode("utf-8", "replace"), bodies) for key, bodies in keys.items()
        ]
        self._see_that_it_is_there()
        self._connection.send_packed_command([b"".join(map(b"".join, batches))], check_health=False)
        for commands in batches:
            for _ in commands:
                self._check(self._connection.read_response(disable_decoding=True))

    def close(self) -> None:
        self._connection.disconnect()
        self._client.close()

    def _commands(self, key: bytes, bodies: list[bytes]) -> list[bytes]:
        commands = [_packed(b"XADD", key, *self._limit, b"*", FIELD, body) for body in bodies]
        if self._ttl is not None:
            commands.append(_packed(b"PEXPIRE", key, self._ttl))
        if len(commands) == 1:
            return commands
        return [_packed(b"MULTI"), *commands, _packed(b"EXEC")]

    def _see_that_it_is_there(self) -> None:
        """Connect again where the server ended a connection that was long idle."""
        now = time.monotonic()
        if now - self._used > IDLE_SECONDS:
            try:
                usable = not self._connection.can_read()
            except Exception:  # noqa: BLE001 - that is the answer
                usable = False
            if not usable:
                self._connection.disconnect()
                self._connection.connect()
        self._used = now

    def _check(self, answer: Any) -> None:
        """Raise what went wrong inside a transaction; what went wrong outside was raised."""
        for each in answer if isinstance(answer, list) else ():
            if isinstance(each, Exception):
                raise each


def _packed(*parts: bytes) -> bytes:
    """A command as it travels."""
    return b"*%d\r\n%b" % (
        len(parts),
        b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts]),
    )


class RedisSource:
    """Reads a stream, alone or as a member of a group."""

    def __init__(self, url: str, options: Options) -> None:
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
        self._ahead = Ahead(options.target)

    @property
    def place(self) -> str:
        return f"{without_password(self._url)} {self._options.target}"

    def hopeless(self, error: BaseException) -> str | None:
        return redis_client.hopeless(error, self._url, self._options.target)

    def explain(self, error: BaseException) -> str:
        return redis_client.explained(error, self._url, heard=self._heard)

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

    def pass_over(self, receipt: object) -> None:
        """Nothing tells whether there is something of others in between."""

    async def acknowledge(self, entry: Entry) -> None:
        await self._redis.execute_command(
            "XACK", self._options.target, self._options.group, entry.cursor
        )

    async def keep(self, entries: Sequence[Entry]) -> None:
        held = {entry.cursor for entry in entries}
        mine = [entry_id for entry_id in await self._pending(held) if entry_id in held]
        if mine:
            await self._redis.execute_command(
                "XCLAIM", self._options.target, self._options.group, self._options.member,
                0, *mine, "JUSTID",
            )  # fmt: skip

    async def bury(self, body: bytes) -> None:
        await self._redis.execute_command(
            "XADD", dead_letters(self._options), "MAXLEN", "~", DEAD_LETTERS, "*", FIELD, body
        )

    async def overview(self, runs: int) -> list[bytes]:
        overview, before = Overview(runs), "+"
        for _ in range(LOOK_BACK // PAGE):
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
                    lag = await Ahead(self._options.target).count(self._redis, last)
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
        answer = await self._redis.execute_command(
            "XREAD", "COUNT", LIMIT, "BLOCK", int(WAIT * 1000),
            "STREAMS", self._options.target, self._after,
        )  # fmt: skip
        entries = _entries(answer)
        if entries:
            self._after = entries[-1].cursor
            self._ahead.read(len(entries), self._after)
        return entries

    async def _read_as_member(self) -> list[Entry]:
        answer = await self._redis.execute_command(
            "XREADGROUP", "GROUP", self._options.group, self._options.member,
            "COUNT", LIMIT, "BLOCK", int(WAIT * 1000), "STREAMS", self._options.target, ">",
        )  # fmt: skip
        return _entries(answer)

    async def _read_own(self) -> list[Entry]:
        """What this member was given before the connection broke, and may never have seen."""
        answer = await self._redis.execute_command(
            "XREADGROUP", "GROUP", self._options.group, self._options.member,
            "COUNT", LIMIT, "STREAMS", self._options.target, self._own,
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
            int(self._options.claim_after * 1000), self._claim_from, "COUNT", LIMIT,
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
