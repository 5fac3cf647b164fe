"""Which broker a URL means."""

from __future__ import annotations

import contextlib
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from streamll.brokers.source import Source, SourceOptions
from streamll.core.errors import ConfigurationError
from streamll.sinks.base import BaseSink

_BROKERS = {
    "sqlite": ("sqlite", "SQLiteSink", "SQLiteSource"),
    "redis": ("redis", "RedisSink", "RedisSource"),
    "rediss": ("redis", "RedisSink", "RedisSource"),
    "unix": ("redis", "RedisSink", "RedisSource"),
    "amqp": ("rabbitmq", "RabbitMQSink", "RabbitMQSource"),
    "amqps": ("rabbitmq", "RabbitMQSink", "RabbitMQSource"),
}


def open_sink(url: str, **options: Any) -> BaseSink:
    """The sink that writes to ``url``: SQLite, Redis or RabbitMQ; options are the sink's own."""
    module, sink, _ = _broker(url)
    made = getattr(import_module(f"streamll.brokers.{module}.sink"), sink)(url, **options)
    assert isinstance(made, BaseSink)
    return made


def open_source(url: str, options: SourceOptions) -> Source:
    """The source that reads from ``url``."""
    module, _, source = _broker(url)
    made: Source = getattr(import_module(f"streamll.brokers.{module}.source"), source)(url, options)
    return made


def create_parent_folder(url: str) -> None:
    """Make the folder of a log that is a file, for a reader who comes before its first writer."""
    if url.startswith("sqlite:"):
        from streamll.brokers.sqlite.file import path_of

        with contextlib.suppress(OSError):  # the reader says what is wrong
            Path(path_of(url)).parent.mkdir(parents=True, exist_ok=True)


def default_target(url: str) -> str:
    """The name of the log that a sink for ``url`` writes to unless told otherwise."""
    module, _, _ = _broker(url)
    target: str = import_module(f"streamll.brokers.{module}.sink").TARGET
    return target


def _broker(url: str) -> tuple[str, str, str]:
    if not isinstance(url, str):
        raise ConfigurationError(f"a broker's URL is a text, not {type(url).__name__}")
    scheme = url.partition(":")[0].lower()
    if "://" not in url or scheme not in _BROKERS:
        known = ", ".join(f"{name}://" for name in _BROKERS)
        raise ConfigurationError(f"no broker has URLs like {without_password(url)!r}; use {known}")
    return _BROKERS[scheme]


def split(url: str) -> SplitResult:
    """The parts of a broker's URL; a port that is none is told."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - looked at because it raises
    except ValueError as error:
        raise ConfigurationError(f"{without_password(url)!r} is no URL: {error}") from None
    return parts


def without_password(url: str) -> str:
    """The URL as it may be shown: without user, password and options."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    return f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"
