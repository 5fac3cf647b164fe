"""Where a log is: the nodes that a URL names, and the options behind its ``?``. No I/O."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from streamll.brokers.failures import check_files
from streamll.brokers.opening import client_library, split, without_password
from streamll.core.errors import ConfigurationError

SCHEMES = ("amqp", "amqps")
PORTS = {"amqp": 5672, "amqps": 5671}

HEARTBEAT_S = 10
"""How long a silent network goes unnoticed, by default."""

LOG_MAX_BYTES = 2 * 2**30
"""How much a log keeps by default."""

MOST_HEARTBEAT_S = 600
MOST_REPLICAS = 99


def _whole_number(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not least <= int(text) <= most:
            raise ValueError(text)
        return int(text)

    return parse


OPTIONS: dict[str, tuple[Callable[[str], Any], str]] = {
    "heartbeat": (_whole_number(0, MOST_HEARTBEAT_S), f"seconds from 0 to {MOST_HEARTBEAT_S}"),
    "replicas": (_whole_number(1, MOST_REPLICAS), f"a number of nodes from 1 to {MOST_REPLICAS}"),
    "max_bytes": (_whole_number(1, 2**62), "a number of bytes"),
    **dict.fromkeys(["cafile", "capath", "certfile", "keyfile"], (str, "a file")),
    **dict.fromkeys(["cadata", "no_verify_ssl", "auth", "name", "timeout"], (str, "a text")),
}
"""What may stand behind a URL's ``?``: how it is read, and what it has to be. The lower two rows are
aio-pika's own."""

_CERTIFICATE_FILES = ("cafile", "certfile", "keyfile")


class Node(NamedTuple):
    """One server: ``name`` is for people, ``url`` has the credentials and the options."""

    name: str
    url: str


class NoNodeAvailable(ConnectionError):
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
        options: given beside the URL, as the arguments of a sink are. ``None`` is not given.

    Raises:
        ConfigurationError: names the part that makes no sense.
        TypeError: an option has another value in the URL.
    """

    def __init__(self, url: str, **options: int | None) -> None:
        client_library("aio_pika", "RabbitMQ", "aio-pika", "rabbitmq")
        self.shown = without_password(url)
        self.nodes = [
            Node(split(each, "RabbitMQ", SCHEMES).netloc.rpartition("@")[2], each)
            for each in _url_of_each_node(url, self.shown)
        ]
        found = _options_of(self.nodes[0].url, self.shown)
        for name, value in options.items():
            if value is not None and found.setdefault(name, _checked(name, str(value))) != value:
                raise TypeError(f"{name}={value} has another value in the URL; give one of them")
        self.heartbeat: int = found.get("heartbeat", HEARTBEAT_S)
        self.replicas: int | None = found.get("replicas")
        self.max_bytes: int = found.get("max_bytes", LOG_MAX_BYTES)
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


def _url_of_each_node(url: str, shown: str) -> list[str]:
    scheme, separator, rest = url.partition("://")
    end = min((at for at in map(rest.find, "/?#") if at >= 0), default=len(rest))
    credentials, at, hosts = rest[:end].rpartition("@")
    names = [name.strip() for name in hosts.split(",")]
    if len(names) > 1 and not all(names):
        raise ConfigurationError(f"{shown!r} is no URL: there is a comma without a host beside it")
    if len(names) > 1 and "@" in credentials:
        raise ConfigurationError(
            f"{shown!r}: user and password stand once, before the first host; an @ in them is %40"
        )
    return [
        f"{scheme}{separator}{credentials}{at}{name}{rest[end:]}" for name in dict.fromkeys(names)
    ]


def _options_of(url: str, shown: str) -> dict[str, Any]:
    given = dict(parse_qsl(split(url, "RabbitMQ", SCHEMES).query, keep_blank_values=True))
    if unknown := sorted(given.keys() - OPTIONS.keys()):
        raise ConfigurationError(
            f"{shown!r} has no option {unknown[0]!r}; there are {', '.join(OPTIONS)}"
        )
    options = {name: _checked(name, text) for name, text in given.items()}
    check_files(shown, {name: options.get(name) for name in _CERTIFICATE_FILES})
    return options


def _checked(name: str, text: str) -> Any:
    parse, wanted = OPTIONS[name]
    try:
        return parse(text)
    except ValueError:
        raise ConfigurationError(f"{name}={text} is not {wanted}") from None
