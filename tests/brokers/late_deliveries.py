"""A way to RabbitMQ on which one delivery comes late, as on a machine that has too much to do."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

from brokers.servers import Wire

DELIVERY = b"\x00\x3c\x00\x3c"
"""The class and method with which the frame of a ``basic.deliver`` begins."""

LATE_S = 1.1
"""More than any wait for entries that might come; less than those for an answer."""


class LateDeliveries(Wire):
    """Of each connection, the delivery by this number (from 1) comes late, and all behind it."""

    def __init__(self, port: int, number: int) -> None:
        self._number = number
        super().__init__(port)

    def _forward(self, one: socket.socket, other: socket.socket, flows: threading.Event) -> None:
        with contextlib.suppress(OSError):
            if one.recv(4, socket.MSG_PEEK) not in (b"AMQP", b""):  # what RabbitMQ says
                self._forward_late(one, other)
        super()._forward(one, other, flows)

    def _forward_late(self, one: socket.socket, other: socket.socket) -> None:
        """Frame by frame, up to the one that is late."""
        deliveries = 0
        with one.makefile("rb") as frames:
            while heading := frames.read(7):
                rest = frames.read(int.from_bytes(heading[3:], "big") + 1)
                if heading[0] == 1 and rest.startswith(DELIVERY):
                    deliveries += 1
                    if deliveries == self._number:
                        time.sleep(LATE_S)
                other.sendall(heading + rest)
