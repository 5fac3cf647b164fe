"""aio-pika as sink and source use it: URLs, connections, and what a failure means."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from streamll.brokers.failures import Diagnosis, check_files, diagnose_connection
from streamll.brokers.opening import (
    client_library,
    positive_count,
    split,
    take_options,
    without_password,
)

SCHEMES = ("amqp", "amqps")
URL = "amqp://localhost"

CONFIRM_TIMEOUT_S = 10.0
"""A RabbitMQ that confirms nothing for so long counts as away; it confirms nothing while a memory
or disk alarm blocks publishers."""

LOG_MAX_BYTES = 2 * 2**30
"""How much a log keeps by default."""

CONNECT_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 1.0
HEARTBEAT_S = 10
THREAD_NAME = "streamll-rabbitmq"
"""Of the threads on which sources have their connections."""

_CERTIFICATE_OPTIONS = ("cafile", "certfile", "keyfile")


OPTIONS: dict[str, Callable[[str], Any]] = {"max_bytes": positive_count}
"""A sink's arguments that its URL may have as well, for whoever creates the log."""

CLIENT_OPTIONS = (
    *("heartbeat", "timeout", "name", "auth", "cafile", "capath", "cadata", "certfile", "keyfile"),
    *("no_verify_ssl", "interleave", "happy_eyeballs_delay"),
)
"""What aio-pika and aiormq read from a URL, or ``publisher`` in their place."""


def check_url(url: str) -> tuple[str, dict[str, Any]]:
    """The URL as the client takes it, if it is one of a RabbitMQ, and the sink's options in it.

    Raises:
        ConfigurationError: names the part that makes no sense.
    """
    client_library("aio_pika", "RabbitMQ", "aio-pika", "rabbitmq")
    url, own = take_options(url, OPTIONS, CLIENT_OPTIONS)
    options = parse_qs(split(url, "RabbitMQ", SCHEMES).query)
    files = {name: options[name][0] for name in _CERTIFICATE_OPTIONS if name in options}
    check_files(without_password(url), files)
    return url, own


async def connect(url: str) -> Any:
    import aio_pika

    # aiormq logs an error for each attempt to connect; the consumer retries and warns once. (A
    # filter that is added again has no effect.)
    logging.getLogger("aiormq.connection").addFilter(_not_from_our_threads)
    options = {} if "heartbeat" in parse_qs(urlsplit(url).query) else {"heartbeat": HEARTBEAT_S}
    return await aio_pika.connect(
        url, timeout=CONNECT_TIMEOUT_S, connection_class=_connection_class(), **options
    )


def _not_from_our_threads(record: logging.LogRecord) -> bool:
    return record.threadName != THREAD_NAME


@functools.cache
def _connection_class() -> Any:
    """aio-pika's plain connection, which does not reconnect by itself.

    Whoever opened it closes it: aio-pika's finalizer runs on any thread, where it can only warn of
    a coroutine that is not awaited.
    """
    from aio_pika.connection import Connection

    return type("Connection", (Connection,), {"__del__": lambda _: None})


async def close(connection: Any) -> None:
    """Close a connection, which may be broken already."""
    with contextlib.suppress(Exception):
        await asyncio.wait_for(connection.close(), CLOSE_TIMEOUT_S)
    for _ in range(20):  # aio-pika finishes in tasks of its own
        await asyncio.sleep(0)


def diagnose(error: BaseException, url: str, *, answered: bool = True) -> Diagnosis:
    """RabbitMQ's reason; never what was published.

    ``answered``: this server has answered before, so it speaks the protocol of the URL.
    """
    kind, text = type(error).__name__, str(error)
    if "ChannelAccessRefused" in kind:
        reason = "the user may not do this: it needs configure, write and read permission"
    elif "Authentication" in kind or "ACCESS_REFUSED" in text:
        reason = "user or password is wrong"
    elif not kind.startswith("Channel") and ("vhost" in text or "got <Connection.Close" in text):
        reason = "the virtual host of the URL does not exist, or this user may not use it"
    elif "PRECONDITION_FAILED" in text:
        reason = "a queue of that name exists and is not one of streamll's"
    elif "Incompatible" in kind:
        reason = "it speaks another protocol; is it amqp:// or amqps://?"
    elif isinstance(error, (asyncio.TimeoutError, TimeoutError)):
        return Diagnosis("no answer in time; it may be down or have an alarm")
    else:
        own = "certfile and keyfile"
        return diagnose_connection(
            error, url, SCHEMES, authority="cafile", own=own, answered=answered
        )
    return Diagnosis(reason, fatal=True)
