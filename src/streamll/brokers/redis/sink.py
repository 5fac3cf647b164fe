"""Appending events to a Redis stream."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType

from streamll.brokers.failures import Diagnosis
from streamll.brokers.opening import given_once, only_value, without_password
from streamll.brokers.redis import client as redis_client
from streamll.brokers.redis.client import FIELD, URL
from streamll.brokers.send_buffer import PendingEntry
from streamll.brokers.sink import BrokerSink, Transport, fill
from streamll.core.errors import ConfigurationError

TARGET = "streamll:events"
DEAD_LETTERS = ":dead"

DAY_S = 86_400.0
MAXLEN = 100_000


class RedisSink(BrokerSink):
    """Appends events to a Redis stream.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``; ``redis_url`` is a synonym. By default the
            Redis of this machine. May have ``maxlen`` and ``ttl`` as options:
            ``redis://localhost?maxlen=500000&ttl=86400``.
        stream_key: the stream; ``target`` is a synonym. May contain ``{run_id}`` and names of the
            context, such as ``"run:{conversation_id}"``: then each has a stream of its own.
        maxlen: about how many entries a stream keeps, 100,000 by default; ``None``, in a URL
            ``none``, keeps all.
        ttl: seconds after its last entry that a stream is kept. By default one day if there is a
            stream per run or conversation, for ever if there is one.
        options: see ``BrokerSink``.

    Raises:
        ConfigurationError: a URL or option that cannot work, or redis-py is missing.
        TypeError: two synonyms with different values, or an option with another one in the URL.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        redis_url: str | None = None,
        stream_key: str | None = None,
        target: str | None = None,
        maxlen: int | UnsetType | None = UNSET,
        ttl: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        given = only_value(url=url, redis_url=redis_url) or URL
        self.url, in_url = redis_client.check_url(given)
        self.stream_key = only_value(stream_key=stream_key, target=target) or TARGET
        self.key_template = self.stream_key
        self.maxlen: Any = given_once("maxlen", maxlen, in_url, MAXLEN, missing=UNSET)
        expires = "{" in self.stream_key
        self.ttl: float | None = given_once("ttl", ttl, in_url, DAY_S if expires else None)
        if (self.maxlen is not None and self.maxlen < 1) or not (self.ttl is None or self.ttl > 0):
            raise ConfigurationError("maxlen must be at least 1, and ttl greater than 0")
        self.destination = f"{without_password(self.url)} {self.stream_key}"

    def _connect(self) -> RedisTransport:
        return RedisTransport(self)

    def _diagnose(self, error: BaseException) -> Diagnosis:
        return redis_client.diagnose(error, self.url, answered=self._counts["handled"] > 0)


class RedisTransport(Transport):
    """A sink's connection: one write per batch, then its replies.

    The commands are packed here (RESP, https://redis.io/docs/latest/develop/reference/protocol-spec/):
    what the client does around each costs more than everything else that happens to a batch
    (docs/decisions/0012-few-wakes.md).
    """

    def __init__(self, sink: RedisSink) -> None:
        self._key = sink.stream_key
        self._limit = () if sink.maxlen is None else (b"MAXLEN", b"~", b"%d" % sink.maxlen)
        self._ttl_ms = None if sink.ttl is None else b"%d" % int(sink.ttl * 1000)
        self._client: Any = redis_client.client(sink.url)
        self._connection: Any = self._client.connection_pool.make_connection()
        self._connection.connect()

    def send(self, entries: list[PendingEntry]) -> None:
        keys: dict[str, list[bytes]] = {}
        for entry in entries:
            keys.setdefault(fill(self._key, entry), []).append(entry.body)
        commands = [
            command
            for key, bodies in keys.items()
            for command in self._commands(key.encode("utf-8", "replace"), bodies)
        ]
        self._connection.send_packed_command([b"".join(commands)], check_health=False)
        for _ in commands:
            reply = self._connection.read_response(disable_decoding=True)
            for each in reply if isinstance(reply, list) else ():
                if isinstance(each, Exception):  # inside the reply to EXEC
                    raise each

    def is_lost(self, idle: float) -> bool:
        return bool(self._connection.can_read())

    def close(self) -> None:
        self._connection.disconnect()
        self._client.close()

    def _commands(self, key: bytes, bodies: list[bytes]) -> list[bytes]:
        commands = [_packed(b"XADD", key, *self._limit, b"*", FIELD, body) for body in bodies]
        if self._ttl_ms is not None:
            commands.append(_packed(b"PEXPIRE", key, self._ttl_ms))
        if len(commands) == 1:
            return commands
        return [_packed(b"MULTI"), *commands, _packed(b"EXEC")]


def _packed(*parts: bytes) -> bytes:
    """A command as an array of bulk strings."""
    return b"*%d\r\n%b" % (
        len(parts),
        b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts]),
    )
