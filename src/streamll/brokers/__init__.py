"""Logs that other processes read: SQLite, Redis, RabbitMQ.

Each broker is a package of its own; its sink and source stand side by side, since they share keys.
What they have in common is here: ``sink.BrokerSink`` (batching, retries, bounds, counters, forks)
over a ``send_buffer.SendBuffer``, and the ``source.Source`` that ``consumer`` and ``serve`` read.

To add a broker, add one package ``<name>/`` and one line per URL scheme in ``opening.BROKERS``:

* ``<name>/sink.py``: ``TARGET``, the default log name; ``DEAD_LETTERS``, the suffix of the log for
  dead letters; and ``<Name>Sink(BrokerSink)`` with ``destination``, ``source_url``, ``_connect()`` and, to explain
  failures, ``_diagnose(error)``. ``_connect()`` returns a ``sink.Transport``: ``send(entries)``,
  which returns when the broker has confirmed them, ``close()``, and ``is_lost(idle)`` where a
  broker may close an idle connection.
* ``<name>/source.py``: ``<Name>Source(Source)``, made of a URL and ``SourceOptions``, with ``name``,
  ``diagnose``, ``connect``, ``read`` and ``close``; ``acknowledge`` and ``extend_claim`` if it has
  groups; ``overview`` if a server shall list the log's runs.
* its name and how to reach it in ``tests/brokers/backends.py``: the contract, which includes groups
  and ``overview``, then runs on it.

``tests/brokers/folder`` is a whole broker of the smallest kind, without these.

Nothing here imports dspy. A broker's client library is imported when one of its sinks or sources
is created, so that a program needs only the client it uses.
"""
