"""Which server has a key: the one of the URL, a cluster's primary, or the one that Sentinels name.

``Servers`` knows and learns, without I/O: ``finding`` yields what to ask whom. ``find`` and
``find_async`` ask; ``KeyClient`` is a client for one key, wherever a cluster moves it.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any, NamedTuple

from streamll.brokers.redis import client as redis_client
from streamll.brokers.redis.client import NoPrimary, WrongServer
from streamll.brokers.redis.urls import Address, Kind, Place

DEAD_LETTERS = ":dead"

MAX_REDIRECTIONS = 5
"""How often a cluster may send a command elsewhere before it counts as failed."""

Question = tuple[str, tuple[str, ...]]
"""The URL of a server, and a command for it."""


class Redirection(NamedTuple):
    """MOVED, which is ``for_good``, or ASK. No ``host``: that of the node which says so."""

    for_good: bool
    slot: int
    host: str
    port: int


def redirection(error: Exception) -> Redirection | None:
    """What a node has answered, if that is who has the key. redis-py has classes for it only from 6 on
    that a client of one server knows, and those leave out the first word.
    """
    first = {"MovedError": "MOVED ", "AskError": "ASK "}.get(type(error).__name__, "")
    found = re.fullmatch(r"(MOVED|ASK) (\d+) (.*):(\d+)", f"{first}{error}")
    return found and Redirection(found[1] == "MOVED", int(found[2]), found[3], int(found[4]))


class Servers:
    """The servers of one URL, as this process has come to know them. Plain data: survives a fork."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.kind: Kind | None = None if place.kind == "server" else place.kind
        """How the server is found; ``None`` before a plain URL's server has said that it is one
        of a cluster, or not."""
        self.without_replicas: set[str] = set()
        self._primary: Address | None = None  # as the Sentinels named it
        self._shards: list[tuple[int, int, Address]] = []
        self._moved: dict[int, Address] = {}  # slots that have left since
        self._nodes: tuple[Address, ...] = ()
        self._is_stale = False

    def address_for(self, key: bytes) -> Address | None:
        """Where to send a key's commands; ``None``: to the server of the URL.

        Raises:
            NoPrimary: nobody has the key's slot.
        """
        if self.kind != "cluster":
            return self._primary
        from redis.crc import key_slot

        slot = key_slot(key)
        if slot in self._moved:
            return self._moved[slot]
        for first, last, address in self._shards:
            if first <= slot <= last:
                return address
        raise NoPrimary("a part of the cluster has no primary")

    def primaries(self) -> list[Address | None]:
        """Where all keys are; ``None``: the server of the URL."""
        if self.kind != "cluster":
            return [self._primary]
        known = (address for _, _, address in self._shards)
        return list(dict.fromkeys([*known, *self._moved.values()]))

    def redirected(self, to: Redirection, by: Address | None) -> Address | None:
        """A node has answered MOVED, which is remembered, or ASK: then who is to be asked."""
        host = to.host or (by.host if by else self.place.hosts[0].host)
        address = Address(host, to.port)
        if not to.for_good:
            return address
        self.kind = "cluster"
        self._moved[to.slot] = address
        self._nodes = tuple(dict.fromkeys([address, *self._nodes]))
        return None

    def forget(self) -> None:
        """Something has failed: ask again before the next connection. Those that work go on."""
        self._is_stale = True

    def finding(self) -> Generator[Question, Any, None]:
        """What has to be asked before ``address_for`` can tell. Is sent each reply, or thrown its error."""
        stale, self._is_stale = self._is_stale, False
        try:
            if self.kind is None or (stale and self.kind == "server"):
                yield from self._find_kind()
            if self.kind == "cluster" and (stale or not self._shards):
                yield from self._find_shards()
            elif self.kind == "sentinel" and (stale or self._primary is None):
                yield from self._find_primary()
        except BaseException:
            self._is_stale = True
            raise

    def _find_kind(self) -> Generator[Question, Any, None]:
        from redis.exceptions import ResponseError

        try:
            told = _pairs((yield self.place.url(), ("HELLO",)))
        except ResponseError:  # a proxy, or something older: then it is one server
            told = {}
        mode = told.get("mode")
        if mode == "sentinel":
            raise WrongServer("it is a Sentinel: redis+sentinel://host:port/name-of-the-service")
        self.kind = "cluster" if mode == "cluster" else "server"

    def _find_shards(self) -> Generator[Question, Any, None]:
        from redis.exceptions import ResponseError

        failure: Exception | None = None
        for address in dict.fromkeys([*self._nodes, *self._startup_nodes()]):
            try:
                reply = yield self.place.url(address), ("CLUSTER", "SLOTS")
            except Exception as error:  # noqa: BLE001 - the next one may know
                failure = at(address, error)
            else:
                self._learn(reply, address)
                return
        if isinstance(failure, ResponseError):  # another server has taken the node's place
            self._nodes = ()
            self.kind = None if self.place.kind == "server" else self.kind
        raise failure or NoPrimary("the URL names no node")

    def _startup_nodes(self) -> Iterator[Address | None]:
        yield from self.place.hosts or (None,)  # a socket file has no address

    def _learn(self, reply: Any, asked: Address | None) -> None:
        shards, nodes = [], []
        for first, last, *members in reply:
            found = [
                Address(_text(host) or (asked.host if asked else "localhost"), port)
                for host, port, *_ in members
            ]
            shards.append((first, last, found[0]))
            nodes += found
        self._shards, self._moved = shards, {}
        self._nodes = tuple(dict.fromkeys(nodes))

    def _find_primary(self) -> Generator[Question, Any, None]:
        """Ask Sentinels until a majority has answered: the latest failover is what counts."""
        failure: Exception | None = None
        found: list[tuple[int, Address]] = []
        answers = 0
        service, hosts = self.place.service or "", self.place.hosts
        for address in hosts:
            try:
                told = _pairs(
                    (yield self.place.sentinel_url(address), ("SENTINEL", "MASTER", service))
                )
            except Exception as error:  # noqa: BLE001 - the next one may know
                if "No such master" in str(error):
                    answers += 1
                else:
                    failure = at(address, error, "Sentinel ")
            else:
                answers += 1
                found.append((int(told["config-epoch"]), Address(told["ip"], int(told["port"]))))
            if answers > len(hosts) // 2:
                break
        if not found and answers:
            raise WrongServer(f"no Sentinel watches {service!r}: behind the slash is its name")
        if not found:
            raise failure or NoPrimary("the URL names no Sentinel")
        self._primary = max(found)[1]


def key_on_cluster(name: str) -> str:
    """The key of a log on a cluster: dead letters are in the slot of the log that they come from.

    ``streamll:events:dead`` is ``{streamll:events}:dead`` there.
    """
    log = name.removesuffix(DEAD_LETTERS)
    return name if log == name or "{" in log or "}" in log else f"{{{log}}}{DEAD_LETTERS}"


def _pairs(reply: Any) -> dict[str, Any]:
    """A reply of names and values: a map in RESP3, a flat list in RESP2."""
    found = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=False)
    return {_text(name): _text(value) for name, value in found}


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def at(address: Address | None, error: Exception, what: str = "") -> Exception:
    """The error, which says from now on where it happened; see ``diagnosis``."""
    if address is not None and not hasattr(error, "node"):
        error.node = f"{what}{address}"  # type: ignore[attr-defined]
    return error


def _is_misplaced(error: Exception) -> bool:
    """Whether another server may have the key by now: this one is away, a replica, or alone."""
    from redis.exceptions import ReadOnlyError, ResponseError

    answers = isinstance(error, ResponseError) and not isinstance(error, ReadOnlyError)
    return not answers or "CLUSTERDOWN" in str(error) or type(error).__name__ == "ClusterDownError"


@contextlib.contextmanager
def blaming(address: Address | None) -> Iterator[None]:
    """Errors say from now on that they happened at this address."""
    try:
        yield
    except Exception as error:
        at(address, error)
        raise


@functools.lru_cache(maxsize=64)
def servers_of(url: str) -> Servers:
    """What this process knows of a URL's servers, shared by all who use the URL.

    Raises:
        ConfigurationError: a part of the URL makes no sense, or redis-py is missing.
    """
    return Servers(redis_client.checked_place(url))


# --- asking -------------------------------------------------------------------------------------


def find(servers: Servers) -> None:
    """Ask what ``servers`` does not know yet. Raises what redis-py raises."""
    questions = servers.finding()
    with contextlib.suppress(StopIteration):
        question = next(questions)
        while True:
            try:
                reply = _ask(*question)
            except Exception as error:  # noqa: BLE001 - whoever wants to know decides
                question = questions.throw(error)
            else:
                question = questions.send(reply)


async def find_async(servers: Servers) -> None:
    """``find`` for an event loop."""
    questions = servers.finding()
    with contextlib.suppress(StopIteration):
        question = next(questions)
        while True:
            try:
                reply = await _ask_async(*question)
            except Exception as error:  # noqa: BLE001 - whoever wants to know decides
                question = questions.throw(error)
            else:
                question = questions.send(reply)


def _ask(url: str, command: tuple[str, ...]) -> Any:
    connection = redis_client.client(url).connection_pool.make_connection()
    try:
        connection.connect()
        connection.send_command(*command)
        return connection.read_response(disable_decoding=True)
    finally:
        connection.disconnect()


async def _ask_async(url: str, command: tuple[str, ...]) -> Any:
    client = redis_client.client(url, "redis.asyncio")
    connection = client.connection_pool.make_connection()
    try:
        await connection.connect()
        await connection.send_command(*command)
        return await connection.read_response(disable_decoding=True)
    finally:
        await connection.disconnect()
        await client.aclose()


class KeyClient:
    """A ``redis.asyncio`` client for commands of one key: it follows the key through a cluster.

    Has that client's commands as methods.
    """

    def __init__(self, servers: Servers, key: str | bytes) -> None:
        self._servers = servers
        self._key = key if isinstance(key, bytes) else key.encode("utf-8", "replace")
        self._clients: dict[str, Any] = {}

    def __getattr__(self, command: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        return functools.partial(self._run, command)

    async def aclose(self) -> None:
        clients, self._clients = self._clients, {}
        for client in clients.values():
            with contextlib.suppress(Exception):
                await client.aclose()

    async def _run(self, command: str, *args: Any, **options: Any) -> Any:
        asked = address = None
        for _ in range(MAX_REDIRECTIONS):
            try:
                address = asked or self._servers.address_for(self._key)
                if asked is not None:
                    return await self._run_asking(asked, command, *args, **options)
                return await getattr(self._client(address), command)(*args, **options)
            except Exception as error:
                to = redirection(error)
                if to is None and self._has_left(error):
                    asked = None
                elif to is None:
                    if _is_misplaced(error):
                        self._servers.forget()
                    at(address, error)
                    raise
                else:
                    asked = self._servers.redirected(to, address)
        self._servers.forget()
        raise NoPrimary(f"the cluster has sent a command elsewhere {MAX_REDIRECTIONS} times")

    def _has_left(self, error: Exception) -> bool:
        """The key was moved away from under a waiting ``XREADGROUP``. Asked again the node says where to."""
        return self._servers.kind == "cluster" and str(error).startswith("UNBLOCKED")

    async def _run_asking(self, address: Address, command: str, *args: Any, **options: Any) -> Any:
        """``ASKING`` holds for the connection's next command, so it has one of its own."""
        url = self._servers.place.url(address)
        client = redis_client.client(url, "redis.asyncio", single_connection_client=True)
        try:
            await client.execute_command("ASKING")
            return await getattr(client, command)(*args, **options)
        finally:
            await client.aclose()

    def _client(self, address: Address | None) -> Any:
        url = self._servers.place.url(address)
        if url not in self._clients:
            self._clients[url] = redis_client.client(url, "redis.asyncio")
        return self._clients[url]
