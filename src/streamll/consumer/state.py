"""What a consumer counts, and whether it shall go on."""

from __future__ import annotations

import threading

import msgspec


class ConsumerStatistics(msgspec.Struct, kw_only=True):
    """Counts since the consumer was created.

    Attributes:
        received: events read, duplicates left out.
        handled: events all of whose handlers have returned.
        duplicates: events that were read again and left out.
        retried: calls of handlers that were repeated.
        dead_lettered: events whose handler failed for good, and a group's unreadable entries.
        malformed: entries that are not streamll's, or damaged.
        redelivered: entries that were given to a member of the group before.
        reconnects: connections made after the first one.
        lag: entries of the group that are not acknowledged yet. ``None`` without a group, or while
            the broker cannot know; RabbitMQ leaves out what other members hold.
        connected: whether the log is being read.
    """

    received: int = 0
    handled: int = 0
    duplicates: int = 0
    retried: int = 0
    dead_lettered: int = 0
    malformed: int = 0
    redelivered: int = 0
    reconnects: int = 0
    lag: int | None = None
    connected: bool = False


class ConsumerState:
    """Shared by a consumer and its sessions, across threads."""

    def __init__(self) -> None:
        self.stopping = False
        self.connected = threading.Event()
        self.counts = ConsumerStatistics()

    def statistics(self) -> ConsumerStatistics:
        return msgspec.structs.replace(self.counts, connected=self.connected.is_set())
