"""Logs that other processes read: SQLite, Redis, RabbitMQ. Sink and source in one file each.

Nothing here imports dspy. A broker's client library is imported when a sink or source of it is
made, so that a program needs only the one it uses.
"""
