"""Appending events to a Redis stream."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from streamll.brokers.opening import without_password
from streamll.brokers.redis import client as redis_client
from streamll.brokers.send_buffer import PendingEntry
from streamll.brokers.sink import BrokerSink, fill

if TYPE_CHECKING:
    pass
from streamll.brokers.redis.client import FIELD, TARGET, URL

DAY_S = 86_400.0

IDLE_CHECK_S = 1.0
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
        self.ttl = DAY_S if ttl is None and "{" in self.stream_key else ttl

    @property
    def destination(self) -> str:
        return f"{without_password(self.url)} {self.stream_key}"

    def _connect(self) -> RedisTransport:
        return RedisTransport(self.url, self.stream_key, self.maxlen, self.ttl)

    def _explain(self, error: BaseException) -> str:
        return redis_client.describe(error, self.url, heard=self._confirmed > 0)


class RedisTransport:
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

    def send(self, entries: list[PendingEntry]) -> None:
        keys: dict[str, list[bytes]] = {}
        for entry in entries:
            keys.setdefault(fill(self._key, entry), []).append(entry.body)
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
        if now - self._used > IDLE_CHECK_S:
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
