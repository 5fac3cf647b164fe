"""Publishing to RabbitMQ with confirms, through a plain socket.

A sink's thread has nothing to do while its batch is on its way. aio-pika needs an event loop, which
for a sink is one on another thread, and a confirmed message takes it a dozen turns: a millisecond
of CPU for each batch, of which a fifth is left here (docs/decisions/0012-few-wakes.md). The frames
are pamqp's and the errors aiormq's, as aio-pika's are.

What this does not do: reconnect, consume, send heartbeats. RabbitMQ ends a connection from which it
has heard nothing for two minutes; ``gone`` tells.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from streamll.brokers.rabbitmq import client as rabbitmq_client

HEARTBEAT_S = 60
FRESH_S = 1.0
"""A connection that was used so recently is relied upon without a look at it."""

PORTS = {"amqp": 5672, "amqps": 5671}
KEY_BYTES = 255
FRAME_BYTES = 131_072
HEADER, TRAILER = 7, 1
SIZE_AT = 11
"""Where the frame of a message's properties says how long it is, in eight bytes."""

METHODS = 1000
PERSISTENT = 2
ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED = 403, 404, 406
CONTROL, DECLARING, PUBLISHING = 0, 1, 2
"""Channels: one whose question is refused is closed, so what is published has its own."""


class ConfirmingPublisher:
    """A connection that publishes. ``seconds`` bound each wait for RabbitMQ.

    Raises what aio-pika would: ``OSError``, ``ssl.SSLError`` and ``aiormq.exceptions``.
    """

    def __init__(self, url: str, seconds: float) -> None:
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
        self._methods: dict[tuple[str, str], bytes] = {}
        self._seconds = seconds
        self._received = bytearray()
        self._frame_bytes = FRAME_BYTES
        self._published = 0
        self._used = time.monotonic()
        self._socket = connected(url)
        try:
            self._socket.settimeout(seconds)
            self._introduce(url)
            self._ask(PUBLISHING, commands.Channel.Open())
            self._ask(PUBLISHING, commands.Confirm.Select())
        except BaseException:
            self._socket.close()
            raise

    def declare_log(self, name: str, max_bytes: int) -> None:
        """Make the exchange and the stream queue of a log, if they are not there."""
        from aiormq.exceptions import ChannelPreconditionFailed

        amqp, queue = self._amqp, f"{name}.log"
        limits = {"x-queue-type": "stream", "x-max-length-bytes": max_bytes}
        self._ask(DECLARING, amqp.Channel.Open())
        self._ask(
            DECLARING, amqp.Exchange.Declare(exchange=name, exchange_type="topic", durable=True)
        )
        try:
            self._ask(DECLARING, amqp.Queue.Declare(queue=queue, durable=True, arguments=limits))
        except ChannelPreconditionFailed:  # it is there, with limits somebody else has chosen
            return
        self._ask(DECLARING, amqp.Queue.Bind(queue=queue, exchange=name, routing_key="#"))
        self._ask(
            DECLARING, amqp.Channel.Close(reply_code=200, reply_text="", class_id=0, method_id=0)
        )

    def publish(self, exchange: str, messages: Iterable[tuple[str, bytes]]) -> None:
        """Publish bodies under their routing keys; return when all of them are confirmed."""
        amqp = self._amqp
        frames: list[bytes] = []
        waiting: set[int] = set()
        for key, body in messages:
            self._published += 1
            waiting.add(self._published)
            frames += self._message(exchange, key, body)
        self._socket.sendall(b"".join(frames))
        while waiting:
            answer = self._answer(PUBLISHING)
            if isinstance(answer, amqp.Basic.Nack):
                raise _not_taken(answer)
            if answer.multiple:
                waiting = {tag for tag in waiting if tag > answer.delivery_tag}
            else:
                waiting.discard(answer.delivery_tag)
        self._used = time.monotonic()

    def gone(self) -> bool:
        """Whether RabbitMQ has ended the connection, or will have because it was idle."""
        idle = time.monotonic() - self._used
        if idle < FRESH_S:
            return False
        if idle > HEARTBEAT_S:
            return True
        self._socket.settimeout(0)
        try:
            while data := self._socket.recv(65536):
                self._received += data
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError:
            return True
        finally:
            self._socket.settimeout(self._seconds)
        return True

    def close(self) -> None:
        """Say goodbye, if RabbitMQ listens, and close the connection."""
        amqp = self._amqp
        goodbye = amqp.Connection.Close(reply_code=200, reply_text="", class_id=0, method_id=0)
        with contextlib.suppress(Exception):
            self._socket.settimeout(rabbitmq_client.CLOSE_TIMEOUT_S)
            self._ask(CONTROL, goodbye)
        self._socket.close()

    # --- inside ---------------------------------------------------------------------------------

    def _introduce(self, url: str) -> None:
        parts = urlsplit(url)
        user, password = unquote(parts.username or "guest"), unquote(parts.password or "guest")
        external = parse_qs(parts.query).get("auth", [""])[0].lower() == "external"
        amqp = self._amqp
        self._socket.sendall(b"AMQP\x00\x00\x09\x01")
        self._answer(CONTROL)
        tune = self._ask(
            CONTROL,
            amqp.Connection.StartOk(
                client_properties={
                    "product": "streamll",
                    "capabilities": {
                        "authentication_failure_close": True,
                        "publisher_confirms": True,
                    },
                },
                mechanism="EXTERNAL" if external else "PLAIN",
                response="" if external else f"\0{user}\0{password}",
            ),
        )
        self._frame_bytes = min(tune.frame_max or FRAME_BYTES, FRAME_BYTES)
        self._send(CONTROL, amqp.Connection.TuneOk(tune.channel_max, tune.frame_max, HEARTBEAT_S))
        self._ask(CONTROL, amqp.Connection.Open(virtual_host=unquote(parts.path[1:]) or "/"))

    def _message(self, exchange: str, key: str, body: bytes) -> list[bytes]:
        room = self._frame_bytes - HEADER - TRAILER
        return [
            self._method(exchange, key),
            self._properties[:SIZE_AT]
            + len(body).to_bytes(8, "big")
            + self._properties[SIZE_AT + 8 :],
            *(
                self._marshal(self._body(body[at : at + room]), PUBLISHING)
                for at in range(0, len(body), room)
            ),
        ]

    def _method(self, exchange: str, key: str) -> bytes:
        """The frame that says where to, made once for each run."""
        method = self._methods.get((exchange, key))
        if method is None:
            if len(self._methods) >= METHODS:
                self._methods.clear()
            short = key.encode("utf-8", "replace")[:KEY_BYTES].decode("utf-8", "ignore")
            publish = self._amqp.Basic.Publish(exchange=exchange, routing_key=short)
            method = self._methods[exchange, key] = self._marshal(publish, PUBLISHING)
        return method

    def _ask(self, channel: int, question: Any) -> Any:
        self._send(channel, question)
        return self._answer(channel)

    def _send(self, channel: int, frame: Any) -> None:
        self._socket.sendall(self._marshal(frame, channel))

    def _answer(self, channel: int) -> Any:
        """The next frame on a channel. Raises what RabbitMQ ends channel or connection with."""
        amqp = self._amqp
        while True:
            place, frame = self._frame()
            if isinstance(frame, amqp.Connection.Close):
                with contextlib.suppress(OSError):
                    self._send(CONTROL, amqp.Connection.CloseOk())
                raise _ended(frame)
            if isinstance(frame, amqp.Channel.Close):
                self._send(place, amqp.Channel.CloseOk())
                raise _refused(frame)
            if place == channel and frame.name != "Heartbeat":
                return frame

    def _frame(self) -> tuple[int, Any]:
        received = self._received
        while True:
            if len(received) >= HEADER:
                if received.startswith(b"AMQP"):
                    raise _incompatible()
                end = HEADER + int.from_bytes(received[3:7], "big") + TRAILER
                if len(received) >= end:
                    _, channel, frame = self._unmarshal(bytes(received[:end]))
                    del received[:end]
                    return channel, frame
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionResetError("RabbitMQ ended the connection")
            received += data


def connected(url: str) -> socket.socket:
    """A socket to the URL's server; with TLS if it begins with ``amqps``."""
    parts = urlsplit(url)
    host = parts.hostname or "localhost"
    address = (host, parts.port or PORTS[parts.scheme])
    plain = socket.create_connection(address, rabbitmq_client.CONNECT_TIMEOUT_S)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if parts.scheme == "amqp":
        return plain
    try:
        return _tls(parts.query).wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise


def _tls(query: str) -> ssl.SSLContext:
    """What the URL says of certificates, in aio-pika's words."""
    said = {name: values[0] for name, values in parse_qs(query).items()}
    context = ssl.create_default_context(
        cafile=said.get("cafile"), capath=said.get("capath"), cadata=said.get("cadata")
    )
    if "certfile" in said:
        context.load_cert_chain(said["certfile"], said.get("keyfile"))
    if said.get("no_verify_ssl", "0") != "0":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _ended(close: Any) -> Any:
    """The error for a connection that RabbitMQ ends."""
    from aiormq import exceptions

    if close.reply_code == ACCESS_REFUSED:
        return exceptions.AuthenticationError(close.reply_text)
    return exceptions.ConnectionClosed(close.reply_code, close.reply_text)


def _refused(close: Any) -> Any:
    """The error for a channel that RabbitMQ ends."""
    from aiormq import exceptions

    kinds = {
        ACCESS_REFUSED: exceptions.ChannelAccessRefused,
        NOT_FOUND: exceptions.ChannelNotFoundEntity,
        PRECONDITION_FAILED: exceptions.ChannelPreconditionFailed,
    }
    if close.reply_code in kinds:
        return kinds[close.reply_code](close.reply_text)
    return exceptions.ChannelClosed(close.reply_code, close.reply_text)


def _not_taken(nack: Any) -> Any:
    from aiormq.exceptions import DeliveryError

    return DeliveryError(None, nack)


def _incompatible() -> Any:
    from aiormq.exceptions import IncompatibleProtocolError

    return IncompatibleProtocolError()
