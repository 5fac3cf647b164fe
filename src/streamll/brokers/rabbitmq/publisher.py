"""An AMQP 0-9-1 client that publishes with confirms, over a plain socket.

A sink's thread has nothing to do while its batch is in flight. aio-pika needs an event loop, which
for a sink is one on another thread, and takes it a dozen turns for a confirmed message: a
millisecond of CPU per batch, of which a fifth is left here (docs/decisions/0012-few-wakes.md). The
frames are pamqp's and the errors aiormq's, as aio-pika's are.

What this does not do: reconnect, consume, send heartbeats. A sink's thread ends when there is nothing
to do, so heartbeats are switched off (Tune-Ok, 4.2.7): a connection may be idle for as long as it likes.
That the network is silent is found out by the wait for a reply, while something is on its way, and by the
kernel's keep-alive probes otherwise (docs/decisions/0033-a-cluster-of-rabbitmq.md).
"""

from __future__ import annotations

import contextlib
import functools
import selectors
import socket
import ssl
from collections import Counter, defaultdict
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from streamll.brokers.rabbitmq import client as rabbitmq_client
from streamll.brokers.rabbitmq.address import PORTS, Node
from streamll.brokers.send_buffer import PendingEntry
from streamll.brokers.sink import Transport, fill

KEEP_ALIVE_PROBES = 3

NO_HEARTBEAT = 0

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
SHORTSTR_BYTES = 255
"""The longest routing key (AMQP 0-9-1, 4.2.5.3)."""
MAX_FRAME_BYTES = 131_072
FRAME_HEADER_BYTES, FRAME_END_BYTES = 7, 1
BODY_SIZE_AT = 11
"""Where a content header frame has the size of the body, in eight bytes (4.2.6.1)."""

CACHED_METHODS = 1000
PERSISTENT = 2
CONTROL, DECLARING, PUBLISHING = 0, 1, 2
"""Channels: RabbitMQ closes one whose request it refuses, so publishing has its own."""


class ConfirmingPublisher(Transport):
    """A sink's connection to one node. Each wait for RabbitMQ is bounded by ``heartbeat`` (seconds).

    It creates ``log``: its exchange, and its stream queue with ``arguments``.

    Raises what aio-pika would: ``OSError``, ``ssl.SSLError`` and ``aiormq.exceptions``.
    """

    def __init__(
        self, node: Node, heartbeat: int, log: str, arguments: dict[str, Any], routing_key: str
    ) -> None:
        from pamqp import body, commands, frame, header

        self._amqp: Any = commands
        self._marshal = frame.marshal
        self._unmarshal: Any = frame.unmarshal
        self._body: Any = body.ContentBody
        persistent = commands.Basic.Properties(
            content_type="application/json", delivery_mode=PERSISTENT
        )
        self._properties = frame.marshal(
            header.ContentHeader(body_size=0, properties=persistent), PUBLISHING
        )
        self._cached_method = functools.lru_cache(CACHED_METHODS)(self._method)  # once per run
        self._frame_bytes = MAX_FRAME_BYTES
        self._published = 0
        self._received = bytearray()
        self._log = log
        self._routing_key = routing_key
        self._socket = connect(node.url, heartbeat)
        try:
            self._socket.settimeout(heartbeat or rabbitmq_client.CONFIRM_TIMEOUT_S)
            self._handshake(node.url)
            self._request(PUBLISHING, commands.Channel.Open())
            self._request(PUBLISHING, commands.Confirm.Select())
            self._declare_log(arguments)
        except BaseException:
            self._socket.close()
            raise

    def _declare_log(self, arguments: dict[str, Any]) -> None:
        """Create the exchange and the stream queue of a log, if they do not exist."""
        from aiormq.exceptions import ChannelPreconditionFailed

        amqp, name, queue = self._amqp, self._log, f"{self._log}.log"
        self._request(DECLARING, amqp.Channel.Open())
        self._request(
            DECLARING, amqp.Exchange.Declare(exchange=name, exchange_type="topic", durable=True)
        )
        declare = amqp.Queue.Declare(queue=queue, durable=True, arguments=arguments)
        try:
            self._request(DECLARING, declare)
        except ChannelPreconditionFailed:  # it exists with other arguments, which stay
            return
        self._request(DECLARING, amqp.Queue.Bind(queue=queue, exchange=name, routing_key="#"))
        self._request(DECLARING, amqp.Channel.Close(200, "", 0, 0))

    def send(self, entries: list[PendingEntry]) -> None:
        for batch in _one_per_run(entries):
            self._publish(batch)

    def _publish(self, entries: list[PendingEntry]) -> None:
        """Publish and return when all of them are confirmed."""
        amqp = self._amqp
        frames: list[bytes] = []
        unconfirmed: set[int] = set()
        for entry in entries:
            self._published += 1
            unconfirmed.add(self._published)
            frames += self._message(
                fill(self._routing_key, entry.run_id, entry.context), entry.body
            )
        self._socket.sendall(b"".join(frames))
        while unconfirmed:
            reply = self._reply(PUBLISHING)
            if isinstance(reply, amqp.Basic.Nack):
                from aiormq.exceptions import DeliveryError

                raise DeliveryError(None, reply)
            if reply.multiple:
                unconfirmed = {tag for tag in unconfirmed if tag > reply.delivery_tag}
            else:
                unconfirmed.discard(reply.delivery_tag)

    def is_lost(self, idle: float) -> bool:
        """Whether the connection has ended: that is all RabbitMQ sends unasked."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            return bool(selector.select(0))

    def close(self) -> None:
        """Close the connection, with a handshake if RabbitMQ answers."""
        with contextlib.suppress(Exception):
            self._socket.settimeout(rabbitmq_client.CLOSE_TIMEOUT_S)
            self._request(CONTROL, self._amqp.Connection.Close(200, "", 0, 0))
        self._socket.close()

    def _handshake(self, url: str) -> None:
        """Start, tune and open the connection (AMQP 0-9-1, 2.2.4)."""
        parts = urlsplit(url)
        user, password = unquote(parts.username or "guest"), unquote(parts.password or "guest")
        external = parse_qs(parts.query).get("auth", [""])[0].lower() == "external"
        amqp = self._amqp
        self._socket.sendall(PROTOCOL_HEADER)
        self._reply(CONTROL)
        capabilities = {"authentication_failure_close": True, "publisher_confirms": True}
        tune = self._request(
            CONTROL,
            amqp.Connection.StartOk(
                client_properties={"product": "streamll", "capabilities": capabilities},
                mechanism="EXTERNAL" if external else "PLAIN",
                response="" if external else f"\0{user}\0{password}",
            ),
        )
        self._frame_bytes = min(tune.frame_max or MAX_FRAME_BYTES, MAX_FRAME_BYTES)
        self._send(CONTROL, amqp.Connection.TuneOk(tune.channel_max, tune.frame_max, NO_HEARTBEAT))
        self._request(CONTROL, amqp.Connection.Open(virtual_host=unquote(parts.path[1:]) or "/"))

    def _message(self, key: str, body: bytes) -> list[bytes]:
        """Frames: method, content header with the body's size, and the body in pieces."""
        room = self._frame_bytes - FRAME_HEADER_BYTES - FRAME_END_BYTES
        header, at = self._properties, BODY_SIZE_AT
        return [
            self._cached_method(key),
            header[:at] + len(body).to_bytes(8, "big") + header[at + 8 :],
            *(
                self._marshal(self._body(body[start : start + room]), PUBLISHING)
                for start in range(0, len(body), room)
            ),
        ]

    def _method(self, key: str) -> bytes:
        """The ``Basic.Publish`` frame."""
        short = key.encode("utf-8", "replace")[:SHORTSTR_BYTES].decode("utf-8", "ignore")
        publish = self._amqp.Basic.Publish(exchange=self._log, routing_key=short)
        frame: bytes = self._marshal(publish, PUBLISHING)
        return frame

    def _request(self, channel: int, frame: Any) -> Any:
        self._send(channel, frame)
        return self._reply(channel)

    def _send(self, channel: int, frame: Any) -> None:
        self._socket.sendall(self._marshal(frame, channel))

    def _reply(self, channel: int) -> Any:
        """The next frame of a channel. Raises the error that closes channel or connection."""
        amqp = self._amqp
        while True:
            number, frame = self._frame()
            if isinstance(frame, amqp.Connection.Close):
                from aiormq.connection import exception_by_code as connection_error

                with contextlib.suppress(OSError):
                    self._send(CONTROL, amqp.Connection.CloseOk())
                raise connection_error(frame)
            if isinstance(frame, amqp.Channel.Close):
                from aiormq.channel import exception_by_code as channel_error

                self._send(number, amqp.Channel.CloseOk())
                raise channel_error(frame)
            if number == channel and frame.name != "Heartbeat":
                return frame

    def _frame(self) -> tuple[int, Any]:
        header = self._read(FRAME_HEADER_BYTES)
        if header.startswith(b"AMQP"):  # the server offers another protocol version
            from aiormq.exceptions import IncompatibleProtocolError

            raise IncompatibleProtocolError
        size = int.from_bytes(header[3:7], "big")
        _, channel, frame = self._unmarshal(header + self._read(size + FRAME_END_BYTES))
        return channel, frame

    def _read(self, size: int) -> bytes:
        received = self._received
        while len(received) < size:
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionResetError("RabbitMQ closed the connection")
            received += data
        read = bytes(received[:size])
        del received[:size]
        return read


def connect(url: str, heartbeat: int) -> socket.socket:
    """A socket to the URL's server; with TLS if it begins with ``amqps``.

    The kernel finds out within ``heartbeat`` seconds that the other side is gone, also while nothing
    is sent; 0 leaves that to the system's own settings.
    """
    parts = urlsplit(url)
    host = parts.hostname or "localhost"
    context = _tls(parts.query) if parts.scheme == "amqps" else None
    address = (host, parts.port or PORTS[parts.scheme])
    plain = socket.create_connection(address, rabbitmq_client.CONNECT_TIMEOUT_S)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in keep_alive(heartbeat).items():
        if hasattr(socket, name):  # they differ between systems
            plain.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return context.wrap_socket(plain, server_hostname=host) if context else plain


def keep_alive(heartbeat: int) -> dict[str, int]:
    """The socket's options: after half of the seconds without a packet the kernel sends probes, and
    ends the connection once nothing was answered for all of them (the last one, milliseconds).
    """
    if not heartbeat:
        return {}
    idle = max(heartbeat // 2, 1)
    probes = max(min(heartbeat - idle, KEEP_ALIVE_PROBES), 1)
    return {
        "TCP_KEEPIDLE": idle,
        "TCP_KEEPALIVE": idle,  # macOS's name
        "TCP_KEEPINTVL": max((heartbeat - idle) // probes, 1),
        "TCP_KEEPCNT": probes,
        "TCP_USER_TIMEOUT": 1000 * heartbeat,
    }


def _tls(query: str) -> ssl.SSLContext:
    """What the URL's options say of certificates, with aio-pika's names."""
    options = {name: values[0] for name, values in parse_qs(query).items()}
    context = ssl.create_default_context(
        cafile=options.get("cafile"), capath=options.get("capath"), cadata=options.get("cadata")
    )
    if "certfile" in options:
        context.load_cert_chain(options["certfile"], options.get("keyfile"))
    if options.get("no_verify_ssl", "0") != "0":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _one_per_run(entries: list[PendingEntry]) -> list[list[PendingEntry]]:
    """The entries in batches that hold at most one of each run, each run's in order."""
    batches: defaultdict[int, list[PendingEntry]] = defaultdict(list)
    counts: Counter[str | None] = Counter()
    for entry in entries:
        batches[counts[entry.run_id]].append(entry)
        counts[entry.run_id] += 1
    return list(batches.values())
