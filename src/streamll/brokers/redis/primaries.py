"""Commands for many keys at once, wherever they are: on one server, or on the primaries of a cluster."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from streamll.brokers.redis import client as redis_client
from streamll.brokers.redis.servers import (
    DEAD_LETTERS,
    KeyClient,
    Servers,
    blaming,
    find_async,
    key_on_cluster,
    redirection,
)
from streamll.brokers.redis.urls import Address

SCAN_KEYS = 1000
"""How many keys a server looks at before it answers others."""


class Primaries:
    """``redis.asyncio`` clients of the servers that have keys, made as they are needed.

    An ``address`` is one of ``Servers.primaries``; errors say at which of them they happened.
    """

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._clients: dict[Address | None, Any] = {}

    @property
    def is_connected(self) -> bool:
        return bool(self._clients)

    async def aclose(self) -> None:
        clients, self._clients = self._clients, {}
        for client in clients.values():
            with contextlib.suppress(Exception):
                await client.aclose()

    async def find(self) -> list[Address | None]:
        """Who has all keys now."""
        if self._servers.kind == "cluster":  # another primary may have got slots
            self._servers.forget()
        await find_async(self._servers)
        return self._servers.primaries()

    def by_server(self, keys: Iterable[bytes]) -> dict[Address | None, list[bytes]]:
        found: dict[Address | None, list[bytes]] = {}
        for key in keys:
            found.setdefault(self._servers.address_for(key), []).append(key)
        return found

    async def time_ms(self, address: Address | None) -> float:
        """What a server's clock says."""
        with blaming(address):
            seconds, microseconds = await self._client(address).time()
        return float(seconds * 1000 + microseconds / 1000)

    async def streams(self, address: Address | None, pattern: str) -> AsyncIterator[set[bytes]]:
        """A server's streams that match, set by set; those of dead letters only if they are meant."""
        on_cluster = self._servers.kind == "cluster"
        pattern = key_on_cluster(pattern) if on_cluster else pattern
        dead, place = DEAD_LETTERS.encode(), 0
        while True:
            with blaming(address):
                place, keys = await self._client(address).scan(
                    place, pattern, count=SCAN_KEYS, _type="stream"
                )
            yield {key for key in keys if pattern.endswith(DEAD_LETTERS) or not key.endswith(dead)}
            if place == 0:
                return

    async def ask(self, address: Address | None, *command: Any) -> Any:
        """A server's reply to one command."""
        with blaming(address):
            return await self._client(address).execute_command(*command)

    async def ask_each(self, options: Mapping[bytes, tuple[Any, ...]]) -> dict[bytes, Any]:
        """The replies to a command for each key, which is its first argument."""
        replies: dict[bytes, Any] = {}
        for address, keys in self.by_server(options).items():
            commands = {key: (options[key][0], key, *options[key][1:]) for key in keys}
            replies.update(await self.pipelined(address, commands))
        return replies

    async def pipelined(
        self, address: Address | None, commands: Mapping[bytes, tuple[Any, ...]]
    ) -> dict[bytes, Any]:
        """The replies to a server's commands, of one key each. A key that has moved is followed."""
        pipeline = self._client(address).pipeline(transaction=False)
        for command in commands.values():
            pipeline.execute_command(*command)
        with blaming(address):
            replies = dict(zip(commands, await pipeline.execute(raise_on_error=False), strict=True))
            for key, reply in replies.items():
                if isinstance(reply, Exception):
                    replies[key] = await self._redirected(key, commands[key], reply)
        return replies

    async def _redirected(self, key: bytes, command: tuple[Any, ...], error: Exception) -> Any:
        if redirection(error) is None:
            raise error
        client = KeyClient(self._servers, key)
        try:
            return await client.execute_command(*command)
        finally:
            await client.aclose()

    def _client(self, address: Address | None) -> Any:
        if address not in self._clients:
            url = self._servers.place.url(address)
            self._clients[address] = redis_client.client(url, "redis.asyncio")
        return self._clients[address]
