"""redis-py as sink and source use it: URLs, clients, and what a failure means."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from streamll.brokers.failures import Diagnosis, check_files, diagnose_connection
from streamll.brokers.opening import (
    client_library,
    no_option,
    positive_count,
    positive_seconds,
    split,
    take_options,
    without_password,
)
from streamll.core.errors import ConfigurationError

SCHEMES = ("redis", "rediss", "unix")
URL = "redis://localhost:6379"

FIELD = b"d"

CONNECT_TIMEOUT_S = 5.0
REPLY_TIMEOUT_S = 5.0

_CERTIFICATE_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")

_OUT_OF_MEMORY = Diagnosis("its memory is full")
_UNAUTHENTICATED = Diagnosis("user or password is missing or wrong", fatal=True)
_BY_CLASS = {
    "OutOfMemoryError": _OUT_OF_MEMORY,
    "AuthenticationError": _UNAUTHENTICATED,
    "NoPermissionError": Diagnosis("the user may not do this", fatal=True),
    "ReadOnlyError": Diagnosis("it is a replica"),
    "BusyLoadingError": Diagnosis("it is loading its data"),
    "InvalidResponse": Diagnosis(
        "it speaks another protocol; is it redis:// or rediss://?", fatal=True
    ),
}
_BY_CODE = {  # the first word of replies that redis-py has no class for
    "OOM": _OUT_OF_MEMORY,
    "NOAUTH": _UNAUTHENTICATED,
    "WRONGPASS": _UNAUTHENTICATED,
    "WRONGTYPE": Diagnosis("the key holds something that is no stream", fatal=True),
    "MISCONF": Diagnosis("it cannot write to its disk"),
}


def maxlen_of(text: str) -> int | None:
    """A number of entries, or ``none`` for all."""
    return None if text.lower() == "none" else positive_count(text)


OPTIONS: dict[str, Callable[[str], Any]] = {"maxlen": maxlen_of, "ttl": positive_seconds}
"""A sink's arguments that its URL may have as well; readers check and ignore them."""


def check_url(url: str) -> tuple[str, dict[str, Any]]:
    """The URL as redis-py takes it, if that understands all of it, and the sink's options in it.

    Raises:
        ConfigurationError: names the part that makes no sense.
    """
    redis = client_library("redis", "Redis", "redis", "redis")
    url, own = take_options(url, OPTIONS)
    parts, shown = split(url, "Redis", SCHEMES), without_password(url)
    database = unquote(parts.path).replace("/", "")
    if parts.scheme != "unix" and database and not database.isdigit():
        raise ConfigurationError(
            f"{shown!r}: behind the slash is the number of a database; "
            "the stream's name is an argument (stream_key= or target=)"
        )
    try:
        pool = redis.ConnectionPool.from_url(url, **_options(url))
        pool.make_connection()  # validates the options; does not connect
    except TypeError as error:
        option = str(error).rpartition("argument ")[2].strip("'")
        if option.startswith("ssl_") and parts.scheme != "rediss":
            reason = f"{shown!r} has no option {option!r}; for TLS it begins with rediss://"
        else:
            known = redis.connection.URL_QUERY_ARGUMENT_PARSERS
            reason = no_option(url, option, [*OPTIONS, *known, *_CERTIFICATE_OPTIONS])
        raise ConfigurationError(reason) from None
    except (ValueError, redis.RedisError) as error:
        raise ConfigurationError(f"{shown!r}: {error}") from None
    check_files(shown, {name: pool.connection_kwargs.get(name) for name in _CERTIFICATE_OPTIONS})
    return url, own


def client(url: str, package: str = "redis") -> Any:
    """A client that connects on first use and does not retry by itself.

    ``package="redis.asyncio"``: one for an event loop.
    """
    from redis.backoff import NoBackoff

    retry = import_module(f"{package}.retry").Retry(NoBackoff(), 0)
    return import_module(package).Redis.from_url(url, retry=retry, **_options(url))


def _options(url: str) -> dict[str, Any]:
    query = parse_qs(urlsplit(url).query)
    options: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": REPLY_TIMEOUT_S,
        "retry_on_error": [],  # sink and consumer have their own backoff
    }
    if not url.startswith("unix:"):  # socket files have no keep-alive
        options["socket_keepalive"] = True
    # redis-py before 6 takes any host's certificate unless it is asked to look.
    if url.startswith("rediss:") and not {"ssl_check_hostname", "ssl_cert_reqs"} & query.keys():
        options["ssl_check_hostname"] = True
    return options


def diagnose(error: BaseException, url: str, *, answered: bool = True) -> Diagnosis:
    """Redis's error or the operating system's reason; never the command it was about.

    ``answered``: this server has answered before, so it speaks the protocol of the URL.
    """
    known = _server_error(error)
    if known is not None:
        return known
    if "Timeout" in type(error).__name__ and url.startswith("rediss:") and not answered:
        return Diagnosis("no answer to TLS; is it redis://?")
    own = "ssl_certfile and ssl_keyfile"
    return diagnose_connection(
        error, url, SCHEMES[:2], authority="ssl_ca_certs", own=own, answered=answered
    )


def _server_error(error: BaseException) -> Diagnosis | None:
    for kind in type(error).__mro__:
        if kind.__name__ in _BY_CLASS:
            return _BY_CLASS[kind.__name__]
    text = str(error)
    code = text.split(" ", 1)[0]
    if text.startswith("DB index"):
        return Diagnosis("it has no database of the number in the URL", fatal=True)
    if code in _BY_CODE:
        reason, fatal = _BY_CODE[code]
        return Diagnosis(f"{code}: {reason}", fatal)
    return Diagnosis(code) if code.isupper() and code.isalpha() else None
