"""Reading a log: one stream, the shards it is spread over, or all streams that match a pattern."""

from __future__ import annotations

import msgspec

from streamll.brokers.redis import pattern
from streamll.brokers.redis.servers import servers_of
from streamll.brokers.redis.sharded import ShardedSource
from streamll.brokers.redis.stream import StreamSource
from streamll.brokers.source import Source, SourceOptions


def RedisSource(url: str, options: SourceOptions) -> Source:  # noqa: N802 - as the other brokers' class
    """The source that reads the log of this URL.

    Raises:
        ConfigurationError: a part of the URL makes no sense, ``start`` is no cursor of such a log, a
            group is to share several streams, or redis-py is missing.
    """
    target, glob = pattern.names(options.target)
    if glob is not None:
        return pattern.PatternSource(url, options, glob)
    options = msgspec.structs.replace(options, target=target)
    sharded = "shards" in servers_of(url).place.options
    return ShardedSource(url, options) if sharded else StreamSource(url, options)
