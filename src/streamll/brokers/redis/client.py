"""redis-py as sink and source use it: clients that do not retry, and URLs that it understands."""

from __future__ import annotations

from importlib import import_module
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from streamll.brokers.failures import check_files
from streamll.brokers.opening import client_library, no_option
from streamll.brokers.redis.urls import OPTIONS, Place, place_of
from streamll.core.errors import ConfigurationError

FIELD = b"d"

CONNECT_TIMEOUT_S = 5.0
REPLY_TIMEOUT_S = 5.0

_CERTIFICATE_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


class NotReplicated(Exception):
    """Fewer replicas have a batch than ``replicas=`` asks for."""


class NoPrimary(Exception):
    """Nobody serves the slot of a key now, or Sentinels name no primary."""


class WrongServer(Exception):
    """The servers of the URL are of another kind than it says. The message has the remedy."""


def checked_place(url: str) -> Place:
    """The parts of a URL, of which redis-py understands the rest.

    Raises:
        ConfigurationError: names the part that nobody understands, or redis-py is missing.
    """
    redis = client_library("redis", "Redis", "redis", "redis")
    place = place_of(url)
    own = place.url()
    try:
        pool = redis.ConnectionPool.from_url(own, **_options(own))
        pool.make_connection()  # validates the options; does not connect
    except TypeError as error:
        option = str(error).rpartition("argument ")[2].strip("'")
        if option.startswith("ssl_") and not url.startswith("rediss"):
            scheme = url.partition("://")[0].replace("redis", "rediss")
            reason = f"{place.shown!r} has no option {option!r}; for TLS it begins with {scheme}://"
        else:
            known = redis.connection.URL_QUERY_ARGUMENT_PARSERS
            reason = no_option(url, option, [*OPTIONS, *known, *_CERTIFICATE_OPTIONS])
        raise ConfigurationError(reason) from None
    except (ValueError, redis.RedisError) as error:
        raise ConfigurationError(f"{place.shown!r}: {error}") from None
    files = {name: pool.connection_kwargs.get(name) for name in _CERTIFICATE_OPTIONS}
    check_files(place.shown, files)
    return place


def client(url: str, package: str = "redis", **options: Any) -> Any:
    """A client of one server that connects on first use and does not retry by itself.

    ``package="redis.asyncio"``: one for an event loop.
    """
    from redis.backoff import NoBackoff

    retry = import_module(f"{package}.retry").Retry(NoBackoff(), 0)
    return import_module(package).Redis.from_url(url, retry=retry, **_options(url), **options)


def _options(url: str) -> dict[str, Any]:
    given = {name for name, _ in parse_qsl(urlsplit(url).query)}
    options: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": REPLY_TIMEOUT_S,
        "retry_on_error": [],  # sink and consumer have their own backoff
    }
    if not url.startswith("unix:"):  # socket files have no keep-alive
        options["socket_keepalive"] = True
    # redis-py before 6 takes any host's certificate unless it is asked to look.
    if url.startswith("rediss:") and not {"ssl_check_hostname", "ssl_cert_reqs"} & given:
        options["ssl_check_hostname"] = True
    return options
