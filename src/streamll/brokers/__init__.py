"""Logs that other processes read: SQLite, Redis, RabbitMQ. A room for each, with its sink and source;
beside them what they share: the sink's way to any of them (``sink``, ``buffer``), the source's shape.

Nothing here imports dspy. A broker's client library is imported when a sink or source of it is
made, so that a program needs only the one it uses.
"""
