"""Redis Streams, through redis-py; Valkey and other servers of the protocol work as well.

Follows Redis 6.2's commands (https://redis.io/docs/latest/develop/data-types/streams/). An entry of
the stream has one field, ``d``: an envelope (docs/wire.md).

* Writing: ``XADD key MAXLEN ~ n * d body``, in a ``MULTI``/``EXEC`` per key and batch: all of its
  entries are in the stream or none, in order. ``PEXPIRE`` renews a key's time to live.
  With ``replicas=``, and on clusters and under Sentinels, ``WAIT`` follows.
* Reading: ``XREAD`` behind an entry id, which is the cursor.
* Groups: ``XREADGROUP >`` gives each entry to one member and keeps it pending until ``XACK``.
  ``XPENDING … IDLE`` finds other members' entries that have been idle too long, and ``XCLAIM`` takes them
  over; ``XCLAIM … JUSTID`` resets the idle time of one's own without counting a delivery.

Every command names one key, as Redis Cluster requires. ``servers`` knows who has it: one server, a
cluster's primary, or the one that Sentinels name; ``transport`` and ``stream`` write and read there.
With ``?shards=`` a log is several such streams (``shards``, ``sharded``); a target with ``*`` is read as
all streams that match (``pattern``, with ``primaries`` for what many keys are asked at once).
"""
