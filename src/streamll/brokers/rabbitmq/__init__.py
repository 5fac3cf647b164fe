"""RabbitMQ 3.9 and newer. Sinks publish through ``publisher``, sources read by aio-pika.

A log called ``streamll`` is a durable topic exchange of that name. Bound to it are

* ``streamll.log``, a stream queue: it keeps everything (up to ``max_bytes``), and any number of
  readers go through it from wherever they want;
* for each group ``streamll.group.<name>``, a quorum queue whose messages are shared by the group's
  members, each until it is acknowledged. What was published before it was made comes to a group
  that wants it through a queue beside it, see ``groups``.

Messages are persistent and confirmed; their routing key is the run's id. Dead letters go to a log
like this one, ``streamll.dead``.

A batch holds at most one message of each run before its confirmation is awaited, so that a message
that was refused is sent again before the run's next one.
"""
