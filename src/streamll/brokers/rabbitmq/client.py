"""aio-pika as sink and source use it: connections, and what a failure means."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from typing import Any

from streamll.brokers.failures import Diagnosis, diagnose_connection
from streamll.brokers.rabbitmq.address import SCHEMES, Address, Node, NoNodeAvailable
from streamll.brokers.source import READ_BATCH_ENTRIES

URL = "amqp://localhost"

CONFIRM_TIMEOUT_S = 10.0
"""A RabbitMQ that does not answer for so long counts as away, where no heartbeat says otherwise. It
confirms nothing while a memory or disk alarm blocks publishers."""

CONNECT_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 1.0
LATE_S = 0.25
"""A loop that was kept from running finds a reply and its timeout at once: the reply is looked for
once more."""

THREAD_NAME = "streamll-rabbitmq"
"""Of the threads on which sources have their connections."""


async def connect(node: Node, heartbeat: int) -> Any:
    """A connection to one node. Both sides send a heartbeat every half of ``heartbeat`` seconds, if
    nothing else; RabbitMQ gives up a client that sent nothing for about twice as long.
    """
    import aio_pika

    # aiormq logs an error for each attempt to connect; the consumer retries and warns once. (A
    # filter that is added again has no effect.)
    logging.getLogger("aiormq.connection").addFilter(_not_from_our_threads)
    return await aio_pika.connect(
        # as an argument of its own aio-pika 9 ignores it
        f"{node.url}{'&' if '?' in node.url else '?'}heartbeat={heartbeat}",
        timeout=CONNECT_TIMEOUT_S,
        connection_class=_connection_class(),
    )


async def watch(channel: Any, heartbeat: int) -> None:
    """Ask every half of ``heartbeat`` seconds for a reply, and raise when none comes within the other
    half. aiormq's own check takes three heartbeats and more to find that the network is silent.

    Raises:
        ConnectionError: nothing came.
    """
    half = heartbeat / 2
    while half:
        await asyncio.sleep(half)
        asking = asyncio.ensure_future(channel.set_qos(prefetch_count=READ_BATCH_ENTRIES))
        done, _ = await asyncio.wait({asking}, timeout=half)
        if not done:
            done, _ = await asyncio.wait({asking}, timeout=LATE_S)
        if not done:
            asking.cancel()
            raise ConnectionError(f"RabbitMQ was silent for {heartbeat} s")
        asking.result()


async def receive_all(channel: Any, prefetch_count: int = READ_BATCH_ENTRIES) -> None:
    """Return once everything has been handed over that RabbitMQ has sent on a channel until now: it
    answers behind that.
    """
    await channel.set_qos(prefetch_count=prefetch_count)
    for _ in range(20):  # aio-pika hands messages over in tasks of its own
        await asyncio.sleep(0)


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


def diagnose(error: BaseException, address: Address, *, answered: bool = True) -> Diagnosis:
    """RabbitMQ's reason; never what was published. Of a cluster, with the node it is about.

    ``answered``: this server has answered before, so it speaks the protocol of the URL.
    """
    if not address.is_cluster:
        return _diagnose(error, address.nodes[0], answered)
    if not isinstance(error, NoNodeAvailable):
        reason, fatal = _diagnose(error, address.last, answered)
        return Diagnosis(f"{address.last.name}: {reason}", fatal)
    found = {node: _diagnose(each, node, answered) for node, each in error.failures.items()}
    # What one node refuses for good, as a wrong password, is not better on one that is away.
    told = {node: each for node, each in found.items() if each.fatal} or found
    reason = "; ".join(f"{node.name}: {each.reason}" for node, each in told.items())
    return Diagnosis(reason, fatal=told is not found)


def _diagnose(error: BaseException, node: Node, answered: bool) -> Diagnosis:
    kind, text = type(error).__name__, str(error)
    if "ChannelAccessRefused" in kind:
        reason = "the user may not do this: it needs configure, write and read permission"
    elif "Authentication" in kind or "ACCESS_REFUSED" in text:
        reason = "user or password is wrong"
    elif not kind.startswith("Channel") and ("vhost" in text or "<Connection.Close" in text):
        reason = "the virtual host of the URL does not exist, or this user may not use it"
    elif "replica on the local node" in text:
        return Diagnosis(
            "this node has no replica of the log; name all nodes of the cluster in the URL"
        )
    elif "PRECONDITION_FAILED" in text:
        reason = "a queue of that name exists and is not one of streamll's"
    elif "Incompatible" in kind:
        reason = "it speaks another protocol; is it amqp:// or amqps://?"
    elif isinstance(error, (asyncio.TimeoutError, TimeoutError)):
        return Diagnosis("no answer in time; it may be down or have an alarm")
    elif type(error) is ConnectionError:  # from here, and without anything that was published
        return Diagnosis(text)
    else:
        own = "certfile and keyfile"
        return diagnose_connection(
            error, node.url, SCHEMES, authority="cafile", own=own, answered=answered
        )
    return Diagnosis(reason, fatal=True)
