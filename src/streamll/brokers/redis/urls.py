"""What a Redis URL says: which servers, how they are found, and the options. No I/O."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode

from streamll.brokers.opening import (
    positive_count,
    positive_seconds,
    split,
    take_options,
)
from streamll.core.errors import ConfigurationError
from streamll.core.urls import without_password

URL = "redis://localhost:6379"

Kind = Literal["server", "cluster", "sentinel"]
SCHEMES: dict[str, tuple[Kind, str]] = {
    "redis": ("server", "redis"),
    "rediss": ("server", "rediss"),
    "unix": ("server", "unix"),
    "redis+cluster": ("cluster", "redis"),
    "rediss+cluster": ("cluster", "rediss"),
    "redis+sentinel": ("sentinel", "redis"),
    "rediss+sentinel": ("sentinel", "rediss"),
}
"""Scheme to how the server is found, and the scheme of one server's own URL."""

PORTS = {"server": 6379, "cluster": 6379, "sentinel": 26379}


def maxlen_of(text: str) -> int | None:
    """A number of entries, or ``none`` for all."""
    return None if text.lower() == "none" else positive_count(text)


def replicas_of(text: str) -> int:
    """A number of replicas, which may be none."""
    if not text.isdecimal():
        raise ValueError("must be a whole number")
    return int(text)


OPTIONS: dict[str, Callable[[str], Any]] = {
    "maxlen": maxlen_of,
    "ttl": positive_seconds,
    "replicas": replicas_of,
    "shards": positive_count,
    "scan_seconds": positive_seconds,
    "sentinel_username": str,
    "sentinel_password": str,
}
"""What is not redis-py's: a sink's arguments that its URL may have as well, which readers check and
ignore; in how many streams the log is, for both; how often a reader by pattern looks for new streams; and
the user of the Sentinels."""


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Place:
    """A URL, taken apart.

    Attributes:
        bare: the URL without the options that are not redis-py's.
        shown: the URL without user, password and options.
        kind: how the server is found.
        hosts: those in the URL: servers, nodes of a cluster, or Sentinels.
        service: what the Sentinels call the primary.
        options: those that are not redis-py's, by name.
    """

    bare: str
    shown: str
    kind: Kind
    hosts: tuple[Address, ...]
    service: str | None
    options: dict[str, Any]
    _scheme: str
    _user: str
    _path: str
    _query: str

    def url(self, at: Address | None = None) -> str:
        """redis-py's URL of the server at an address; by default of the one in this URL."""
        scheme, path = self._scheme, self._path
        if at is None and scheme != "unix":
            at = self.hosts[0]
        if at is not None and scheme == "unix":  # the cluster's other nodes are reached by TCP
            scheme, path = "redis", ""
        return f"{scheme}://{self._user}{at or ''}{path}{self._query}"

    def sentinel_url(self, at: Address) -> str:
        """redis-py's URL of a Sentinel, which has users of its own."""
        names = "sentinel_username", "sentinel_password"
        user, password = (quote(self.options.get(name, ""), safe="") for name in names)
        credentials = f"{user}:{password}@" if user or password else ""
        query = {n: v for n, v in parse_qsl(self._query[1:]) if n.startswith(("ssl", "socket"))}
        return f"{self._scheme}://{credentials}{at}" + (f"?{urlencode(query)}" if query else "")


def place_of(url: str) -> Place:
    """Take a URL apart.

    Raises:
        ConfigurationError: names what makes no sense.
    """
    shown = without_password(url)
    bare, options = take_options(url, OPTIONS)
    scheme, separator, rest = bare.partition("://")
    several = SCHEMES.get(scheme.lower(), ("server", ""))[0] != "server"
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user, _, hosts = authority.rpartition("@")
    if "," in hosts and not several:
        raise ConfigurationError(
            f"{shown!r}: several hosts are those of a cluster, redis+cluster://, or Sentinels, "
            "redis+sentinel://…/service"
        )
    # ``urlsplit`` knows no lists of hosts, so these are looked at one by one.
    whole = f"{scheme}{separator}hosts{rest[len(authority) :]}" if several else bare
    parts = split(whole, "Redis", tuple(SCHEMES))
    kind, own_scheme = SCHEMES[parts.scheme]
    addresses = []
    for host in hosts.split(",") if parts.scheme != "unix" else ():
        one = split(f"redis://{host}", "Redis", ("redis",))
        if not one.hostname and several:
            raise ConfigurationError(f"{shown!r}: a host is missing in {hosts!r}")
        addresses.append(Address(one.hostname or "localhost", one.port or PORTS[kind]))
    path, service = _path_and_service(parts.path, kind, shown)
    return Place(
        bare=bare,
        shown=shown,
        kind=kind,
        hosts=tuple(addresses),
        service=service,
        options=options,
        _scheme=own_scheme,
        _user=user and f"{user}@",
        _path=path,
        _query=f"?{parts.query}" if parts.query else "",
    )


def _path_and_service(path: str, kind: Kind, shown: str) -> tuple[str, str | None]:
    """The path of a server's own URL, which is the number of a database, and a Sentinel's service."""
    if kind == "server" and shown.startswith("unix:"):
        return path, None
    first, _, rest = path.removeprefix("/").partition("/")
    service = unquote(first) if kind == "sentinel" else None
    database = unquote(rest if kind == "sentinel" else first + rest).strip("/")
    if kind == "sentinel" and not service:
        raise ConfigurationError(
            f"{shown!r}: behind the Sentinels comes the name of what they watch, as in "
            "redis+sentinel://host:26379/mymaster"
        )
    if database and not database.isdigit():
        raise ConfigurationError(
            f"{shown!r}: behind the slash is the number of a database; "
            "the stream's name is an argument (stream_key= or target=)"
        )
    if kind == "cluster" and database.strip("0"):
        raise ConfigurationError(f"{shown!r}: a cluster has no database {database}, only 0")
    return (f"/{database}" if database else "", service)
