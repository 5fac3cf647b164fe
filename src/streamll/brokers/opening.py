"""Which broker a URL means, and what its URLs have in common."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from streamll.brokers.source import Source, SourceOptions
from streamll.core.errors import ConfigurationError, needs_extra
from streamll.sinks.base import BaseSink

BROKERS = {
    "sqlite": ("streamll.brokers.sqlite", "SQLite"),
    "redis": ("streamll.brokers.redis", "Redis"),
    "rediss": ("streamll.brokers.redis", "Redis"),
    "unix": ("streamll.brokers.redis", "Redis"),
    "amqp": ("streamll.brokers.rabbitmq", "RabbitMQ"),
    "amqps": ("streamll.brokers.rabbitmq", "RabbitMQ"),
}
"""URL scheme to package and class prefix: ``streamll.brokers.redis.sink.RedisSink``."""


def open_sink(url: str, **options: Any) -> BaseSink:
    """The sink that writes to ``url``: SQLite, Redis or RabbitMQ. ``options`` are that sink's.

    Raises:
        ConfigurationError: no broker has such URLs, its client library is missing, or a part of
            the URL makes no sense to it.
    """
    sink: BaseSink = _member(url, "sink", "{}Sink")(url, **options)
    return sink


def open_source(url: str, options: SourceOptions) -> Source:
    """The source that reads from ``url``. Raises as ``open_sink`` does."""
    source: Source = _member(url, "source", "{}Source")(url, options)
    return source


def default_target(url: str) -> str:
    """The name of the log that a sink for ``url`` writes to by default."""
    return str(_member(url, "sink", "TARGET"))


def dead_letter_target(url: str, target: str) -> str:
    """The log beside ``target`` that its dead letters go to by default."""
    return f"{target}{_member(url, 'sink', 'DEAD_LETTERS')}"


def check_log(url: str) -> None:
    """For readers that expect a log to be there, and must not create it.

    Raises:
        ConfigurationError: the URL names a file that is not there, or no log.
    """
    if url.startswith("sqlite:"):
        from streamll.brokers.sqlite.file import check_exists

        check_exists(url)


def create_parent_folder(url: str) -> None:
    """Create the folder of a log that is a file, for a reader that starts before any writer."""
    if url.startswith("sqlite:"):
        from streamll.brokers.sqlite.file import path_of

        with contextlib.suppress(OSError):  # reported by the reader
            Path(path_of(url)).parent.mkdir(parents=True, exist_ok=True)


def _member(url: str, module: str, name: str) -> Any:
    if not isinstance(url, str):
        raise ConfigurationError(f"a broker's URL is a string, not {type(url).__name__}")
    scheme = url.partition(":")[0].lower()
    if "://" not in url or scheme not in BROKERS:
        known = ", ".join(f"{each}://" for each in BROKERS)
        raise ConfigurationError(f"no broker has URLs like {without_password(url)!r}; use {known}")
    package, prefix = BROKERS[scheme]
    return getattr(import_module(f"{package}.{module}"), name.format(prefix))


def only_value(**synonyms: str | None) -> str | None:
    """The value of parameters that are synonyms; ``None`` if none is given.

    Raises:
        TypeError: two of them have different values.
    """
    given = {name: value for name, value in synonyms.items() if value is not None}
    if len(set(given.values())) > 1:
        names = " and ".join(f"{name}=" for name in given)
        raise TypeError(f"{names} are synonyms and have different values; give one of them")
    return next(iter(given.values()), None)


def split(url: str, broker: str, schemes: Sequence[str]) -> SplitResult:
    """The parts of a broker's URL.

    Raises:
        ConfigurationError: it is malformed, its port is not a number, or its scheme is another.
    """
    shown = without_password(url)
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for an invalid port
    except ValueError as error:
        raise ConfigurationError(f"{shown!r} is no URL: {error}") from None
    if parts.scheme not in schemes:
        begins = " or ".join(f"{scheme}://" for scheme in schemes)
        raise ConfigurationError(f"{shown!r} is no {broker} URL; it begins with {begins}")
    return parts


def client_library(module: str, broker: str, package: str, extra: str) -> Any:
    """Import a broker's client.

    Raises:
        ConfigurationError: it is not installed; says which extra installs it.
    """
    try:
        return import_module(module)
    except ImportError:
        raise needs_extra(f"{broker} (package {package})", extra) from None


def without_password(url: str) -> str:
    """The URL as it may be shown: without user, password and options."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"
