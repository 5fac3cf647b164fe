"""RabbitMQ 3.9 and newer, over AMQP 0-9-1 (https://www.rabbitmq.com/amqp-0-9-1-reference).

A log called ``streamll`` is a durable topic exchange of that name. Bound to it are

* ``streamll.log``, a stream queue (``x-queue-type: stream``, ``x-max-length-bytes``;
  https://www.rabbitmq.com/docs/streams): it keeps every message up to its size limit, and any
  number of readers consume it from an ``x-stream-offset``, which is the cursor;
* per group ``streamll.group.<name>``, a quorum queue whose messages are shared by the group's
  members, each until it is acknowledged. Messages older than the group: see ``groups``.

Messages are persistent, routed by the run's id, and published with confirms
(https://www.rabbitmq.com/docs/confirms). Dead letters go to a log of their own, ``streamll.dead``.

In a cluster both kinds of queues have replicas on several nodes, and any node takes and gives their
messages, except that a stream is read on a node that has a replica. ``address`` says which nodes there
are and which is next.

A batch has at most one message of each run in flight, so that a message that was refused is sent
again before the run's next one.
"""
