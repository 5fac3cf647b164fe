"""aio-pika, as sink and source use it: what a URL may say, a connection, what a failure means."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from typing import Any
from urllib.parse import parse_qs

from streamll.brokers.failures import (
    causes,
    check_files,
    named,
    tls_advice,
    tls_is_fatal,
    tls_reason,
)
from streamll.brokers.opening import split, without_password
from streamll.core.errors import ConfigurationError

URL = "amqp://localhost"

TARGET = "streamll"

CONFIRM_TIMEOUT_S = 10.0
"""A RabbitMQ that confirms nothing for so long counts as away; so it does while an alarm of its own
(memory, disk) makes it accept nothing."""

MAX_BYTES = 2 * 2**30
"""What a log keeps, unless told otherwise."""

CONNECT_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 1.0
HEARTBEAT_S = 10
THREAD = "streamll-rabbitmq"
"""The name of the threads that our connections live on."""

FILES = ("cafile", "certfile", "keyfile")
NO_SUCH_HOST = "the virtual host of the URL does not exist, or is not this user's"


def library() -> Any:
    try:
        import aio_pika
    except ImportError:
        raise ConfigurationError(
            "RabbitMQ needs the aio-pika package: pip install 'streamll[rabbitmq]'"
        ) from None
    return aio_pika


def checked(url: str) -> str:
    """The URL, if it is one of a RabbitMQ.

    Raises:
        ConfigurationError: names the part that means nothing.
    """
    library()
    parts, shown = split(url), without_password(url)
    if parts.scheme not in ("amqp", "amqps"):
        raise ConfigurationError(
            f"{shown!r} is no RabbitMQ URL; it begins with amqp:// or amqps://"
        )
    options = parse_qs(parts.query)
    check_files(shown, {name: options[name][0] for name in FILES if name in options})
    return url


async def connected(url: str) -> Any:
    aio_pika = library()
    _told_by_us()
    return await aio_pika.connect(
        url,
        timeout=CONNECT_TIMEOUT_S,
        connection_class=_connection_class(),
        heartbeat=HEARTBEAT_S,
    )


@functools.cache
def _connection_class() -> Any:
    """The library's plain connection, one that does not reconnect by itself.

    It is closed by whoever opened it: the library's own finalizer runs on any thread, where it can
    only warn of a coroutine that is not awaited.
    """
    from aio_pika.connection import Connection

    return type("Connection", (Connection,), {"__del__": lambda _: None})


async def closed(connection: Any) -> None:
    """Close a connection, which may be broken already."""
    with contextlib.suppress(Exception):
        await asyncio.wait_for(connection.close(), CLOSE_TIMEOUT_S)
    for _ in range(20):  # what the library does at the end, it does in tasks of their own
        await asyncio.sleep(0)


def fatal_reason(error: BaseException, url: str, target: str) -> str | None:
    """What a person has to do about an error that trying again does not cure."""
    place, text, reason = f"{without_password(url)} {target}", str(error), tls_reason(error)
    told = None
    if "ChannelAccessRefused" in type(error).__name__:
        told = f"{place}: {describe(error, url)}"
    elif "Authentication" in type(error).__name__ or "ACCESS_REFUSED" in text:
        told = f"{place} refuses the user or password of the URL"
    elif _is_about_virtual_host(error):
        told = f"{place}: {NO_SUCH_HOST}"
    elif "PRECONDITION_FAILED" in text:
        told = f"{place}: a queue of that name exists and is no log of streamll's"
    elif "Incompatible" in type(error).__name__:
        told = f"{place} speaks another protocol; is it amqp:// or amqps://?"
    elif reason is not None and tls_is_fatal(reason):
        told = f"{place}: {describe(error, url)}"
    return told


def describe(error: BaseException, url: str, *, heard: bool = True) -> str:
    """RabbitMQ's reason; not what was published.

    ``heard`` says whether this server has ever answered: one that did speaks our protocol.
    """
    name, reason = type(error).__name__, tls_reason(error)
    told = named(error)
    if "ChannelAccessRefused" in name:
        told = "the user may not do this: it needs configure, write and read permission"
    elif "Authentication" in name:
        told = "user or password is wrong"
    elif _is_about_virtual_host(error):
        told = NO_SUCH_HOST
    elif reason is not None:
        told = tls_advice(
            reason, schemes="amqp:// or amqps://", authority="cafile", own="certfile and keyfile"
        )
    elif isinstance(error, (asyncio.TimeoutError, TimeoutError)):
        told = "no answer in time; it may be down or have an alarm"
    elif url.startswith("amqp:") and not heard and _was_dropped(error):
        told = f"{told}; does it want TLS, amqps://?"
    return told


def _is_about_virtual_host(error: BaseException) -> bool:
    if type(error).__name__.startswith("Channel"):  # which only says where it looked
        return False
    return "vhost" in str(error) or "got <Connection.Close" in str(error)


def _was_dropped(error: BaseException) -> bool:
    return any(isinstance(each, ConnectionResetError) for each in causes(error))


class _Ours(logging.Filter):
    """Passes over what is logged on the threads of our connections."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.threadName != THREAD


_ours = _Ours()


def _told_by_us() -> None:
    """The library logs an error for each attempt to connect; we try for ever, and say so once."""
    logging.getLogger("aiormq.connection").addFilter(_ours)  # the same one again adds nothing
