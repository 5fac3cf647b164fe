"""Which broker a URL means, and what its URLs have in common."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any
from urllib.parse import SplitResult, unquote_plus, urlsplit

from streamll.brokers.source import Source, SourceOptions
from streamll.core.errors import ConfigurationError, needs_extra
from streamll.core.urls import without_password
from streamll.sinks.base import BaseSink

BROKERS = {
    "sqlite": ("streamll.brokers.sqlite", "SQLite"),
    "redis": ("streamll.brokers.redis", "Redis"),
    "rediss": ("streamll.brokers.redis", "Redis"),
    "unix": ("streamll.brokers.redis", "Redis"),
    "redis+cluster": ("streamll.brokers.redis", "Redis"),
    "rediss+cluster": ("streamll.brokers.redis", "Redis"),
    "redis+sentinel": ("streamll.brokers.redis", "Redis"),
    "rediss+sentinel": ("streamll.brokers.redis", "Redis"),
    "amqp": ("streamll.brokers.rabbitmq", "RabbitMQ"),
    "amqps": ("streamll.brokers.rabbitmq", "RabbitMQ"),
}
"""URL scheme to package and class prefix: ``streamll.brokers.redis.sink.RedisSink``."""


def open_sink(url: str, **options: Any) -> BaseSink:
    """The sink that writes to ``url``: SQLite, Redis or RabbitMQ. ``options`` are that sink's.

    How much the log keeps may stand in the URL as well: ``sqlite:///runs.db?keep_seconds=86400``,
    ``redis://localhost?maxlen=500000&ttl=86400``, ``amqp://localhost?max_bytes=1000000000``.

    Raises:
        ConfigurationError: no broker has such URLs, its client library is missing, or a part of
            the URL makes no sense to it.
        TypeError: an option with different values as an argument and in the URL.
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


def take_options(
    url: str, own: Mapping[str, Callable[[str], Any]], others: Iterable[str] | None = None
) -> tuple[str, dict[str, Any]]:
    """The URL without the options that are a sink's, and these.

    Args:
        url: a broker's.
        own: the sink's options, each with what makes a value of its text, or raises ``ValueError``
            that says what it must be.
        others: those that the client library reads from the URL, in which they stay. ``None``: the
            library itself says which it does not know.

    Raises:
        ConfigurationError: an option that there is not, twice the same one, or a value that is none.
    """
    address, _, query = url.partition("?")
    found: dict[str, Any] = {}
    left = []
    for part in filter(None, query.split("&")):
        name, _, text = (unquote_plus(each) for each in part.partition("="))
        if name not in own:
            if others is not None and name not in others:
                raise ConfigurationError(no_option(url, name, [*own, *others]))
            left.append(part)
        elif name in found:
            raise ConfigurationError(f"{without_password(url)!r} has {name}= twice; give it once")
        else:
            try:
                found[name] = own[name](text)
            except ValueError as error:
                shown = without_password(url)
                raise ConfigurationError(f"{shown!r}: {name} {error}, not {text!r}") from None
    return f"{address}?{'&'.join(left)}" if left else address, found


def no_option(url: str, name: str, known: Iterable[str]) -> str:
    """What to say about an option that there is not."""
    there_are = ", ".join(dict.fromkeys(known))
    return f"{without_password(url)!r} has no option {name!r}; there are {there_are}"


def given_once(
    name: str, argument: Any, in_url: Mapping[str, Any], default: Any, *, missing: Any = None
) -> Any:
    """The value of an option that may be an argument, ``missing`` if it is not given, or in the URL.

    Raises:
        TypeError: it is both, with different values.
    """
    if argument is missing:
        return in_url.get(name, default)
    if in_url.get(name, argument) != argument:
        raise TypeError(f"{name}= has another value in the URL; give it once")
    return argument


def positive_seconds(text: str) -> float:
    """A time in seconds. Raises ``ValueError`` if it is none, or not above 0."""
    with contextlib.suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise ValueError("must be a number of seconds greater than 0")


def positive_count(text: str) -> int:
    """A whole number. Raises ``ValueError`` if it is none, or below 1."""
    if not text.isdecimal() or not int(text):
        raise ValueError("must be a whole number greater than 0")
    return int(text)


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
