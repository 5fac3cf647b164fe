"""redis-py, as sink and source use it: what a URL may say, a client, and what a failure means."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from streamll.brokers.failures import (
    check_files,
    named,
    tls_advice,
    tls_is_fatal,
    tls_reason,
)
from streamll.brokers.opening import split, without_password
from streamll.core.errors import ConfigurationError

URL = "redis://localhost:6379"

TARGET = "streamll:events"

FIELD = b"d"

CONNECT_TIMEOUT_S = 5.0
REPLY_TIMEOUT_S = 5.0
"""A Redis that does not answer for so long counts as away."""

OUT_OF_MEMORY = "its memory is full"
FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
WRONG = "user or password is missing or wrong"
FAILURES = {
    "OutOfMemoryError": OUT_OF_MEMORY,
    "AuthenticationError": WRONG,
    "NoPermissionError": "the user may not do this",
    "ReadOnlyError": "it is a replica",
    "BusyLoadingError": "it is loading its data",
}
CODES = {  # of errors that have no class of their own
    "OOM": OUT_OF_MEMORY,
    "NOAUTH": WRONG,
    "WRONGPASS": WRONG,
    "WRONGTYPE": "the key holds something that is no stream",
    "MISCONF": "it cannot write to its disk",
}


def library() -> Any:
    try:
        import redis
    except ImportError:
        raise ConfigurationError(
            "Redis needs the redis package: pip install 'streamll[redis]'"
        ) from None
    return redis


def checked(url: str) -> str:
    """The URL, if redis-py can make something of all of it.

    Raises:
        ConfigurationError: names the part that means nothing.
    """
    redis = library()
    parts, shown = split(url), without_password(url)
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ConfigurationError(
            f"{shown!r} is no Redis URL; it begins with redis://, rediss:// or unix://"
        )
    database = unquote(parts.path).replace("/", "")
    if parts.scheme != "unix" and database and not database.isdigit():
        raise ConfigurationError(
            f"{shown!r}: behind the slash is the number of a database; "
            "the stream's name is an argument (stream_key= or target=)"
        )
    try:
        pool = redis.ConnectionPool.from_url(url, **_options(url))
        pool.make_connection()  # connects nowhere yet
    except TypeError as error:
        option = str(error).rpartition("argument ")[2]
        hint = "; for TLS it begins with rediss://" if option.startswith("'ssl_") else ""
        raise ConfigurationError(f"{shown!r} has no option {option}{hint}") from None
    except (ValueError, redis.RedisError) as error:
        raise ConfigurationError(f"{shown!r}: {error}") from None
    check_files(shown, {name: pool.connection_kwargs.get(name) for name in FILES})
    return url


def client(url: str) -> Any:
    """A client that connects when it is first used, and leaves it to us to try again."""
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return library().Redis.from_url(url, retry=Retry(NoBackoff(), 0), **_options(url))


def async_client(url: str) -> Any:
    """``client`` for an event loop."""
    import redis.asyncio
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    return redis.asyncio.Redis.from_url(url, retry=Retry(NoBackoff(), 0), **_options(url))


def _options(url: str) -> dict[str, Any]:
    """Failures come to us at once: who sends and who reads has a patience of his own."""
    options: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": REPLY_TIMEOUT_S,
        "retry_on_error": [],
    }
    if not url.startswith("unix:"):  # which has no packets to keep alive
        options["socket_keepalive"] = True
    return options


def fatal_reason(error: BaseException, url: str, target: str) -> str | None:
    """What a person has to do about an error that trying again does not cure."""
    from redis import exceptions

    shown, text, reason = without_password(url), str(error), tls_reason(error)
    place, told = f"{shown} {target}", None
    if isinstance(error, exceptions.AuthenticationError) or text.startswith(
        ("NOAUTH", "WRONGPASS")
    ):
        told = f"{place} refuses the user or password of the URL"
    elif isinstance(error, exceptions.NoPermissionError):
        told = f"{place}: {describe(error, url)}"
    elif "WRONGTYPE" in text:
        told = f"{target!r} in {shown} is no stream"
    elif isinstance(error, exceptions.InvalidResponse):
        told = f"{place} speaks another protocol; is it redis:// or rediss://?"
    elif "DB index" in text or (reason is not None and tls_is_fatal(reason)):
        told = f"{place}: {describe(error, url)}"
    return told


def describe(error: BaseException, url: str, *, heard: bool = True) -> str:
    """Redis's error code or the operating system's reason; not the command it was about.

    ``heard`` says whether this server has ever answered: one that did speaks our protocol.
    """
    return _server_error(error) or _transport_hint(error, url, heard) or named(error)


def _server_error(error: BaseException) -> str | None:
    for kind in type(error).__mro__:
        if kind.__name__ in FAILURES:
            return FAILURES[kind.__name__]
    code = str(error).split(" ", 1)[0]
    if str(error).startswith("DB index"):
        return "it has no database of the number in the URL"
    if code.isupper() and code.isalpha():
        return f"{code}: {CODES[code]}" if code in CODES else code
    return None


def _transport_hint(error: BaseException, url: str, heard: bool) -> str | None:
    secure = url.startswith("rediss:")
    if "Timeout" in type(error).__name__ and secure and not heard:
        return "no answer to TLS; is it redis://?"
    reason = tls_reason(error)
    if reason is not None:
        return tls_advice(
            reason,
            schemes="redis:// or rediss://",
            authority="ssl_ca_certs",
            own="ssl_certfile and ssl_keyfile",
        )
    if url.startswith("redis:") and not heard and _was_dropped(error):
        return f"{named(error)}; does it want TLS, rediss://?"
    return None


def _was_dropped(error: BaseException) -> bool:
    """Whether a server ended the connection, as one does that takes a command for broken TLS."""
    return "closed by server" in str(error) or "reset by peer" in str(error)
