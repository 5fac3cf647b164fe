"""A log that is spread over several streams: which of them a run is in, and what they are called.

``?shards=6`` in a URL makes six streams of ``streamll:events``: ``streamll:events:0`` to ``:5``. On a
cluster they are at several primaries. All of a run is in one of them; what belongs to no run is in the
first.
"""

from __future__ import annotations

from zlib import crc32

import msgspec

from streamll.brokers.redis.servers import DEAD_LETTERS
from streamll.brokers.send_buffer import PendingEntry


class _RunIdOnly(msgspec.Struct):
    run_id: str | None = None


_decoder = msgspec.json.Decoder(_RunIdOnly)


def shard_of(run_id: str | None, shards: int) -> int:
    """The number of a run's shard: the same in every process and version."""
    return 0 if run_id is None else crc32(run_id.encode("utf-8", "replace")) % shards


def shard_of_entry(entry: PendingEntry, shards: int) -> int:
    run_id = entry.run_id
    if run_id is None:  # an entry that is written as it is: its body tells
        try:
            run_id = _decoder.decode(entry.body).run_id
        except msgspec.MsgspecError:
            run_id = None
    return shard_of(run_id, shards)


def shard_name(log: str, number: int) -> str:
    """The stream of a shard. ``x:dead`` has ``x:3:dead`` beside ``x:3``."""
    name = log.removesuffix(DEAD_LETTERS)
    return f"{name}:{number}{log[len(name) :]}"
