"""Where a log is: the nodes that a URL names, and the options behind its ``?``. No I/O."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from streamll.brokers.failures import check_files
from streamll.brokers.opening import (
    client_library,
    given_once,
    positive_count,
    split,
    take_options,
)
from streamll.core.errors import ConfigurationError
from streamll.core.urls import without_password

SCHEMES = ("amqp", "amqps")
PORTS = {"amqp": 5672, "amqps": 5671}

HEARTBEAT_S = 10
"""How long a silent network goes unnoticed, by default."""

LOG_MAX_BYTES = 2 * 2**30
"""How much a log keeps by default."""

MOST_HEARTBEAT_S = 600


def _heartbeat(text: str) -> int:
    if not text.isdecimal() or int(text) > MOST_HEARTBEAT_S:
        raise ValueError(f"must be a whole number of seconds, at most {MOST_HEARTBEAT_S}")
    return int(text)


OPTIONS: dict[str, Callable[[str], int]] = {
    "max_bytes": positive_count,
    "heartbeat": _heartbeat,
    "replicas": positive_count,
}
"""A sink's arguments that its URL may have as well, for whoever reads or creates the log."""

CLIENT_OPTIONS = (
    *("timeout", "name", "auth", "cafile", "capath", "cadata", "certfile", "keyfile"),
    *("no_verify_ssl", "interleave", "happy_eyeballs_delay"),
)
"""What aio-pika and aiormq read from a URL, or ``publisher`` in their place."""

_CERTIFICATE_FILES = ("cafile", "certfile", "keyfile")


class Node(NamedTuple):
    """One server: ``name`` is for people, ``url`` has the credentials and the options."""

    name: str
    url: str

    def __repr__(self) -> str:
        return f"Node({self.name!r})"


class NoNodeAvailable(Exception):
    """None of a cluster's nodes could be used; ``failures`` has each one's error, in the URL's order."""

    def __init__(self, failures: Mapping[Node, Exception]) -> None:
        super().__init__("no node of the cluster could be used")
        self.failures = failures


class Address:
    """A checked URL such as ``amqp://user:password@host1,host2:5673/vhost?heartbeat=5``.

    Its hosts, separated by commas, are nodes of one cluster. They are tried in turn: first from a
    random one on, so that processes spread over them, and later from the one behind the last.

    Args:
        url: ``amqp://`` or ``amqps://``.
        arguments: options that are given beside the URL. ``None`` is not given.

    Raises:
        ConfigurationError: names the part that makes no sense.
        TypeError: an argument has another value in the URL.
    """

    def __init__(self, url: str, **arguments: int | None) -> None:
        client_library("aio_pika", "RabbitMQ", "aio-pika", "rabbitmq")
        self.shown = without_password(url)
        self.url, in_url = take_options(url, OPTIONS, CLIENT_OPTIONS)
        """Without the options that are not the client's."""
        urls = _url_of_each_node(self.url)
        parts = [split(each, "RabbitMQ", SCHEMES) for each in urls]
        hosts = [each.netloc.rpartition("@")[2] or "localhost" for each in parts]
        self.nodes = [Node(*each) for each in zip(hosts, urls, strict=True)]
        files = parse_qs(parts[0].query)
        check_files(self.shown, {name: files.get(name, [None])[0] for name in _CERTIFICATE_FILES})
        for name, argument in arguments.items():
            if argument is not None:
                _check(name, argument)

        def option(name: str, default: Any) -> Any:
            return given_once(name, arguments.get(name), in_url, default)

        self.max_bytes: int = option("max_bytes", LOG_MAX_BYTES)
        self.heartbeat: int = option("heartbeat", HEARTBEAT_S)
        self.replicas: int | None = option("replicas", None)
        self._last = random.randrange(len(self.nodes))  # noqa: S311 - no secret

    @property
    def is_cluster(self) -> bool:
        return len(self.nodes) > 1

    @property
    def last(self) -> Node:
        """The node that was tried last: the one in use, if any is."""
        return self.nodes[self._last]

    def in_turn(self) -> Iterator[Node]:
        """Each node once, from the one behind the last on: who connects again has just lost that."""
        for _ in self.nodes:
            self._last = (self._last + 1) % len(self.nodes)
            yield self.last

    def failed(self, failures: Mapping[Node, Exception]) -> Exception:
        """The error of an attempt in which each node has failed."""
        if not self.is_cluster:
            return failures[self.nodes[0]]
        return NoNodeAvailable({node: failures[node] for node in self.nodes})

    @property
    def log_arguments(self) -> dict[str, Any]:
        """How the stream queue of a log is declared. Where it exists with others, these have no effect.

        Without ``replicas`` RabbitMQ decides: it puts one on each node of the cluster.
        """
        arguments = {"x-queue-type": "stream", "x-max-length-bytes": self.max_bytes}
        if self.replicas is not None:
            arguments["x-initial-cluster-size"] = self.replicas
        return arguments


def _url_of_each_node(url: str) -> list[str]:
    shown = without_password(url)
    scheme, separator, rest = url.partition("://")
    end = min((at for at in map(rest.find, "/?#") if at >= 0), default=len(rest))
    credentials, at, hosts = rest[:end].rpartition("@")
    names = [name.strip() for name in hosts.split(",")]
    if len(names) > 1 and not all(names):
        raise ConfigurationError(f"{shown!r} is no URL: there is a comma without a host beside it")
    if "@" in credentials and "," in credentials + hosts:
        raise ConfigurationError(
            f"{shown!r}: user and password stand once, before the first host; an @ in them is %40"
        )
    return [
        f"{scheme}{separator}{credentials}{at}{name}{rest[end:]}" for name in dict.fromkeys(names)
    ]


def _check(name: str, argument: int) -> None:
    try:
        OPTIONS[name](str(argument))
    except ValueError as error:
        raise ConfigurationError(f"{name} {error}, not {argument!r}") from None
