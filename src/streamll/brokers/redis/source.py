"""Reading a log: one stream, or the shards it is spread over."""

from __future__ import annotations

from streamll.brokers.redis.servers import servers_of
from streamll.brokers.redis.sharded import ShardedSource
from streamll.brokers.redis.stream import StreamSource
from streamll.brokers.source import Source, SourceOptions


def RedisSource(url: str, options: SourceOptions) -> Source:  # noqa: N802 - as the other brokers' class
    """The source that reads the log of this URL.

    Raises:
        ConfigurationError: a part of the URL makes no sense, ``start`` is no cursor of such a log, or
            redis-py is missing.
    """
    sharded = "shards" in servers_of(url).place.options
    return ShardedSource(url, options) if sharded else StreamSource(url, options)
