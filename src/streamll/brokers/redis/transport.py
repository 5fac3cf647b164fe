"""How a sink's batches get to the server, or to the nodes of a cluster.

The commands are packed here (RESP, https://redis.io/docs/latest/develop/reference/protocol-spec/):
what redis-py's clients do around each costs more than everything else that happens to a batch
(docs/decisions/0012-few-wakes.md). Connecting, TLS, authentication and reading replies are theirs.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, NamedTuple, NoReturn

from streamll.brokers.redis import client as redis_client
from streamll.brokers.redis.client import FIELD, NotReplicated
from streamll.brokers.redis.servers import (
    MAX_REDIRECTIONS,
    Servers,
    at,
    blaming,
    find,
    key_on_cluster,
    redirection,
)
from streamll.brokers.redis.shards import shard_name, shard_of_entry
from streamll.brokers.redis.urls import Address
from streamll.brokers.send_buffer import PendingEntry
from streamll.brokers.sink import PartlySent, Transport, fill
from streamll.core.errors import logger

WAIT_MS = 1000
"""The longest that a batch waits for its replicas."""

LOOK_MS = 100
"""The longest to wait for replicas that may not be there at all …"""

ALONE_S = 10.0
"""… and how often they are looked for while they are not."""

NO_REPLICA = (
    "sink RedisSink: no replica of %s answers; until one does, what that server confirms is there "
    "alone (replicas=0 in the URL if that is meant)"
)


class Writing(NamedTuple):
    """What a sink asks of each batch.

    Attributes:
        template: the stream's key; see ``fill``.
        limit: how many entries a stream keeps, as ``XADD`` takes it.
        ttl_ms: how long a stream is kept, if not for ever.
        replicas: how many have to have it; ``None``: one, where there is one.
        shards: how many streams the log is spread over, if it is.
    """

    template: str
    limit: tuple[bytes, ...]
    ttl_ms: bytes | None
    replicas: int | None
    shards: int | None

    def key_of(self, entry: PendingEntry) -> str:
        """The name of the stream that an entry goes to."""
        if self.shards is None:
            return fill(self.template, entry.run_id, entry.context)
        return shard_name(self.template, shard_of_entry(entry, self.shards))

    def commands(self, key: str, bodies: list[bytes]) -> list[bytes]:
        """All of the bodies are appended to the stream, or none."""
        name = encoded(key)
        commands = [_packed(b"XADD", name, *self.limit, b"*", FIELD, body) for body in bodies]
        if self.ttl_ms is not None:
            commands.append(_packed(b"PEXPIRE", name, self.ttl_ms))
        if len(commands) == 1:
            return commands
        return [_packed(b"MULTI"), *commands, _packed(b"EXEC")]


class Channel:
    """A connection to one server: what is written at once, and then the replies to it."""

    def __init__(self, url: str, writing: Writing, alone: set[str]) -> None:
        self._writing = writing
        self._expected: list[tuple[str, int]] = []
        self._client: Any = redis_client.client(url)
        self._connection: Any = self._client.connection_pool.make_connection()
        self._connection.connect()
        self._replicas: Replicas | None = None
        if writing.replicas != 0:
            self._replicas = Replicas(writing.replicas, self._connection, alone)
        self._refusal: type[Exception] = import_module("redis.exceptions").ResponseError

    def write(self, keys: Mapping[str, list[bytes]], *, asking: bool = False) -> None:
        """Send bodies to append, by key. ``asking``: the keys are on their way to this node."""
        packed = []
        self._expected = []
        for key, bodies in keys.items():
            commands = self._writing.commands(key, bodies)
            if asking:
                commands = [_packed(b"ASKING"), *commands]  # holds for the whole transaction
            packed += commands
            self._expected.append((key, len(commands)))
        if self._replicas is not None:
            packed += self._replicas.wait_command()
        self._connection.send_packed_command([b"".join(packed)], check_health=False)

    def read(self) -> dict[str, Exception]:
        """The keys that were refused, and why. Raises what breaks the connection.

        Raises:
            NotReplicated: too few replicas have what was written.
        """
        refused: dict[str, Exception] = {}
        for key, count in self._expected:
            for _ in range(count):
                try:
                    reply = self._connection.read_response(disable_decoding=True)
                except self._refusal as error:
                    refused.setdefault(key, error)
                else:
                    for each in reply if isinstance(reply, list) else ():
                        if isinstance(each, Exception):  # inside the reply to EXEC
                            refused.setdefault(key, each)
        if self._replicas is not None:
            self._replicas.read_reply()
        return refused

    def is_lost(self) -> bool:
        return bool(self._connection.can_read())

    def close(self) -> None:
        self._connection.disconnect()
        self._client.close()


class Replicas:
    """Waits for those of one server, by ``WAIT`` behind what was written on its connection.

    ``wanted=None``: for one, unless there is none; that is told once, and looked for again later.
    """

    def __init__(self, wanted: int | None, connection: Any, alone: set[str]) -> None:
        """``alone``: the servers without one, as far as this process knows."""
        self._connection = connection
        self._insists = wanted is not None
        self._count = 1 if wanted is None else wanted
        self._alone = alone
        self._server = (
            f"{getattr(connection, 'host', 'a socket file')}:{getattr(connection, 'port', '')}"
        )
        self._waits = False
        self._look_at = 0.0
        # Nothing was written here yet, so those that are up to date so far are counted.
        connection.send_packed_command([self._wait(LOOK_MS)], check_health=False)
        self._waits = True
        self.read_reply()

    def wait_command(self) -> list[bytes]:
        self._waits = time.monotonic() >= self._look_at
        timeout_ms = LOOK_MS if self._server in self._alone else WAIT_MS
        if self._connection.socket_timeout:  # its reply comes before the connection counts as lost
            timeout_ms = min(timeout_ms, int(500 * self._connection.socket_timeout))
        return [self._wait(timeout_ms)] if self._waits else []

    def read_reply(self) -> None:
        if not self._waits:
            return
        self._waits = False
        found = self._connection.read_response(disable_decoding=True)
        if found >= self._count:
            self._alone.discard(self._server)
        elif self._insists:
            raise NotReplicated(f"{found} of {self._count} replicas have it (replicas=)")
        else:
            self._look_at = time.monotonic() + ALONE_S
            if self._server not in self._alone:
                self._alone.add(self._server)
                logger.warning(NO_REPLICA, self._server)

    def _wait(self, timeout_ms: int) -> bytes:
        return _packed(b"WAIT", b"%d" % self._count, b"%d" % timeout_ms)


class RedisTransport(Transport):
    """A sink's connection to one server: one write per batch, then its replies."""

    def __init__(self, writing: Writing, servers: Servers) -> None:
        self._address = servers.address_for(b"")
        self._writing = writing
        self._servers = servers
        url = servers.place.url(self._address)
        with blaming(self._address):
            self._channel = Channel(url, writing, servers.without_replicas)

    def send(self, entries: list[PendingEntry]) -> None:
        keys: dict[str, list[bytes]] = {}
        for entry in entries:
            keys.setdefault(self._writing.key_of(entry), []).append(entry.body)
        try:
            self._channel.write(keys)
            refused = self._channel.read()
        except Exception as error:
            at(self._address, error)
            self._servers.forget()
            raise
        if refused:
            self._refused(next(iter(refused.values())))

    def _refused(self, error: Exception) -> NoReturn:
        if to := redirection(error):  # a node of a cluster, which has not said so before
            self._servers.redirected(to, self._address)
        self._servers.forget()
        raise error

    def is_lost(self, idle: float) -> bool:
        return self._channel.is_lost()

    def close(self) -> None:
        self._channel.close()


class ClusterTransport(Transport):
    """A sink's connections to the primaries that its keys are on.

    Each gets its part of a batch at the same time. Where one of them fails, the others go on.
    """

    def __init__(self, writing: Writing, servers: Servers) -> None:
        self._writing = writing
        self._servers = servers
        self._channels: dict[Address, Channel] = {}

    def send(self, entries: list[PendingEntry]) -> None:
        waiting: dict[str, list[PendingEntry]] = {}
        for entry in entries:
            waiting.setdefault(self._key_of(entry), []).append(entry)
        sent: set[str] = set()
        failed: dict[str, Exception] = {}
        asked: dict[str, Address] = {}
        for _ in range(MAX_REDIRECTIONS + 1):
            attempt = _Attempt(self, waiting, asked)
            attempt.run()
            sent.update(attempt.confirmed)
            failed.update(attempt.failed)
            waiting = {key: waiting[key] for key in attempt.redirected}
            if not waiting:
                break
            asked = attempt.asked
        failed.update(attempt.redirected)
        if failed:
            self._servers.forget()
            self._raise(entries, sent, failed)

    def _raise(
        self, entries: list[PendingEntry], sent: set[str], failed: dict[str, Exception]
    ) -> NoReturn:
        away = {self._where(key) for key in failed} - {self._where(key) for key in sent}

        stuck = dict.fromkeys(failed, True)

        def is_stuck(entry: PendingEntry) -> bool:
            key = self._key_of(entry)
            if (
                key not in stuck
            ):  # decided once: later entries of a run must not overtake earlier ones
                stuck[key] = self._where(key) in away
            return stuck[key]

        done = [entry for entry in entries if self._key_of(entry) in sent]
        raise PartlySent(done, is_stuck, next(iter(failed.values())))

    def _key_of(self, entry: PendingEntry) -> str:
        return key_on_cluster(self._writing.key_of(entry))

    def _where(self, key: str) -> Address | None:
        """``None``: nobody has its slot."""
        with contextlib.suppress(redis_client.NoPrimary):
            return self._servers.address_for(encoded(key))
        return None

    def channel(self, address: Address) -> Channel:
        if address not in self._channels:
            url, alone = self._servers.place.url(address), self._servers.without_replicas
            self._channels[address] = Channel(url, self._writing, alone)
        return self._channels[address]

    @property
    def servers(self) -> Servers:
        return self._servers

    def is_lost(self, idle: float) -> bool:
        """A connection that was closed meanwhile is replaced alone."""
        for address, channel in list(self._channels.items()):
            try:
                lost = channel.is_lost()
            except Exception:  # noqa: BLE001 - a broken connection fails in its own way
                lost = True
            if lost:
                self.drop(address)
        return False

    def close(self) -> None:
        for address in list(self._channels):
            self.drop(address)

    def drop(self, address: Address) -> None:
        with contextlib.suppress(Exception):
            self._channels.pop(address).close()


class _Attempt:
    """One try to get the waiting entries of several keys to their nodes."""

    def __init__(
        self,
        transport: ClusterTransport,
        waiting: Mapping[str, list[PendingEntry]],
        asked: Mapping[str, Address],
    ) -> None:
        self._transport = transport
        self._waiting = waiting
        self._ask = asked
        self.confirmed: list[str] = []
        self.failed: dict[str, Exception] = {}
        self.redirected: dict[str, Exception] = {}
        self.asked: dict[str, Address] = {}
        """Of those that were redirected: which are on their way to a node, and taken if it is asked."""

    def run(self) -> None:
        parts: dict[tuple[Address, bool], dict[str, list[bytes]]] = {}
        for key, entries in self._waiting.items():
            to = self._ask.get(key)
            try:
                address = to or self._transport.servers.address_for(encoded(key))
            except redis_client.NoPrimary as error:
                self.failed[key] = error
                continue
            assert address is not None
            bodies = [entry.body for entry in entries]
            parts.setdefault((address, to is not None), {})[key] = bodies
        # A node may get two parts: what it has, and what is on its way to it, one after the other.
        for asking in (False, True):
            self._exchange({a: keys for (a, asks), keys in parts.items() if asks is asking}, asking)

    def _exchange(self, parts: Mapping[Address, Mapping[str, list[bytes]]], asking: bool) -> None:
        written: list[tuple[Address, Channel]] = []
        for address, keys in parts.items():
            try:
                channel = self._transport.channel(address)
                channel.write(keys, asking=asking)
            except Exception as error:  # noqa: BLE001 - the others get their parts all the same
                self._fail(address, keys, error)
            else:
                written.append((address, channel))
        for address, channel in written:
            try:
                refused = channel.read()
            except Exception as error:  # noqa: BLE001 - as above
                self._fail(address, parts[address], error)
            else:
                for key in parts[address]:
                    self._take(key, address, refused.get(key))

    def _take(self, key: str, address: Address, error: Exception | None) -> None:
        if error is None:
            self.confirmed.append(key)
        elif to := redirection(error):
            self.redirected[key] = error
            asked = self._transport.servers.redirected(to, address)
            if asked is not None:
                self.asked[key] = asked
        else:
            self.failed[key] = at(address, error)

    def _fail(self, address: Address, keys: Iterable[str], error: Exception) -> None:
        self._transport.drop(address)
        self.failed.update(dict.fromkeys(keys, at(address, error)))


def connect(writing: Writing, servers: Servers) -> Transport:
    """Find the server, or the cluster's nodes, and connect. Raises what redis-py raises."""
    try:
        find(servers)
        if servers.kind == "cluster":
            return ClusterTransport(writing, servers)
        if writing.replicas is None and servers.kind == "server":
            writing = writing._replace(replicas=0)  # who names one server relies on that one
        return RedisTransport(writing, servers)
    except Exception:
        servers.forget()
        raise


def encoded(key: str) -> bytes:
    return key.encode("utf-8", "replace")


def _packed(*parts: bytes) -> bytes:
    """A command as an array of bulk strings."""
    return b"*%d\r\n%b" % (
        len(parts),
        b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts]),
    )
