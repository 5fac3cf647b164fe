"""Appending events to a Redis stream."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType

from streamll.brokers.failures import Diagnosis
from streamll.brokers.opening import given_once, only_value
from streamll.brokers.redis import servers, transport
from streamll.brokers.redis.diagnosis import diagnose
from streamll.brokers.redis.urls import URL
from streamll.brokers.sink import BrokerSink, Transport
from streamll.core.errors import ConfigurationError

TARGET = "streamll:events"
DEAD_LETTERS = servers.DEAD_LETTERS

DAY_S = 86_400.0
MAXLEN = 100_000


class RedisSink(BrokerSink):
    """Appends events to a Redis stream.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``, of a server or a node of a cluster;
            ``redis+cluster://host:port,host:port/``; or
            ``redis+sentinel://host:port,host:port/service`` (both also ``rediss+…``). ``redis_url`` is
            a synonym. By default the Redis of this machine. May have ``maxlen``, ``ttl`` and
            ``replicas`` as options: ``redis://localhost?maxlen=500000&ttl=86400``.
        stream_key: the stream; ``target`` is a synonym. May contain ``{run_id}`` and names of the
            context, such as ``"run:{conversation_id}"``: then each has a stream of its own.
        maxlen: about how many entries a stream keeps, 100,000 by default; ``None``, in a URL
            ``none``, keeps all.
        ttl: seconds after its last entry that a stream is kept. By default one day if there is a
            stream per run or conversation, for ever if there is one.
        replicas: how many replicas must have a batch before it counts as delivered. By default one
            on a cluster or under Sentinels, unless there is none, and none on a single server. A
            number that is given is insisted on.
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
        replicas: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        given = only_value(url=url, redis_url=redis_url) or URL
        self._servers = servers.servers_of(given)
        place = self._servers.place
        self.url, in_url = place.bare, place.options
        self.stream_key = only_value(stream_key=stream_key, target=target) or TARGET
        self.key_template = self.stream_key
        self.maxlen: Any = given_once("maxlen", maxlen, in_url, MAXLEN, missing=UNSET)
        expires = "{" in self.stream_key
        self.ttl: float | None = given_once("ttl", ttl, in_url, DAY_S if expires else None)
        if (self.maxlen is not None and self.maxlen < 1) or not (self.ttl is None or self.ttl > 0):
            raise ConfigurationError("maxlen must be at least 1, and ttl greater than 0")
        self.replicas: int | None = given_once("replicas", replicas, in_url, None)
        if self.replicas is not None and self.replicas < 0:
            raise ConfigurationError("replicas must not be negative")
        self._shards: int | None = in_url.get("shards")
        if self._shards is not None and "{" in self.stream_key:
            raise ConfigurationError(
                f"{place.shown!r}: shards= spreads one log over several streams; with "
                f"{self.stream_key!r} there are several already"
            )
        self.source_url, self.destination = given, f"{place.shown} {self.stream_key}"

    def _connect(self) -> Transport:
        writing = transport.Writing(
            template=self.stream_key,
            limit=() if self.maxlen is None else (b"MAXLEN", b"~", b"%d" % self.maxlen),
            ttl_ms=None if self.ttl is None else b"%d" % int(self.ttl * 1000),
            replicas=self.replicas,
            shards=self._shards,
        )
        return transport.connect(writing, self._servers)

    def _diagnose(self, error: BaseException) -> Diagnosis:
        return diagnose(error, self._servers, answered=self._counts["handled"] > 0)
