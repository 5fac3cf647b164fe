"""Redis Streams, through redis-py; Valkey and others that speak Redis work as well.

One entry has one field, ``d``: an envelope. Every command names one key, so that Redis Cluster's
rule about keys is kept whatever the keys are. A batch is one ``MULTI``: either all of its entries
are in the stream or none, in order.

Groups are consumer groups. A member that dies leaves its entries pending; ``XAUTOCLAIM`` hands
them to another when they have been idle for long enough.
"""
