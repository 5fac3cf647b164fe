"""What a failure means, for people: Redis's error or the operating system's reason, and what helps."""

from __future__ import annotations

import re

from streamll.brokers.failures import Diagnosis, diagnose_connection
from streamll.brokers.redis.client import NoPrimary, NotReplicated, WrongServer
from streamll.brokers.redis.servers import Servers

_OUT_OF_MEMORY = Diagnosis("its memory is full")
_UNAUTHENTICATED = Diagnosis("user or password is missing or wrong", fatal=True)
_REPLICA = Diagnosis(
    "it is a replica, which only its primary may write to: give the primary's address, "
    "or redis+sentinel:// or redis+cluster://, which find it",
    fatal=True,
)
_MOVED = Diagnosis(
    "it is a node of a cluster and another has the key; "
    "redis+cluster://host:port,host:port/ finds that one",
    fatal=True,
)
_NO_PRIMARY = Diagnosis("a part of the cluster has no primary")
_BY_CLASS = {
    "OutOfMemoryError": _OUT_OF_MEMORY,
    "AuthenticationError": _UNAUTHENTICATED,
    "ReadOnlyError": _REPLICA,
    "BusyLoadingError": Diagnosis("it is loading its data"),
    "InvalidResponse": Diagnosis(
        "it speaks another protocol; is it redis:// or rediss://?", fatal=True
    ),
    "MovedError": _MOVED,
    "ClusterDownError": _NO_PRIMARY,
}
_BY_CODE = {  # the first word of replies that redis-py has no class for
    "MOVED": _MOVED,
    "CLUSTERDOWN": _NO_PRIMARY,
    "OOM": _OUT_OF_MEMORY,
    "NOAUTH": _UNAUTHENTICATED,
    "WRONGPASS": _UNAUTHENTICATED,
    "WRONGTYPE": Diagnosis("the key holds something that is no stream", fatal=True),
    "MISCONF": Diagnosis("it cannot write to its disk"),
    "NOREPLICAS": Diagnosis("it has fewer replicas than its min-replicas-to-write asks for"),
    "MASTERDOWN": Diagnosis("it is a replica and has lost its primary"),
}
_BY_TEXT = (
    ("DB index", Diagnosis("it has no database of the number in the URL", fatal=True)),
    (
        "SELECT is not allowed in cluster mode",
        Diagnosis("a cluster has database 0 only: leave the number out of the URL", fatal=True),
    ),
    (
        "This instance has cluster support disabled",
        Diagnosis("it is no cluster: its URL begins with redis://", fatal=True),
    ),
    (
        "unknown command 'SENTINEL'",
        Diagnosis("it is no Sentinel; those usually listen on port 26379", fatal=True),
    ),
)
_NO_PERMISSION = re.compile(r"'([a-z|]+)' command")


def diagnose(error: BaseException, servers: Servers, *, answered: bool = True) -> Diagnosis:
    """Redis's error or the operating system's reason; never the command it was about.

    ``answered``: this server has answered before, so it speaks the protocol of the URL.
    """
    reason, fatal = _diagnose(error, servers.place.url(), answered=answered)
    if reason == _REPLICA.reason and servers.kind != "server":
        reason, fatal = "it has become a replica", False  # the next primary is looked for
    where = getattr(error, "node", None)
    return Diagnosis(reason if where is None else f"{where}: {reason}", fatal)


def _diagnose(error: BaseException, url: str, *, answered: bool) -> Diagnosis:
    known = _server_error(error)
    if known is not None:
        return known
    if "Timeout" in type(error).__name__ and url.startswith("rediss:") and not answered:
        return Diagnosis("no answer to TLS; is it redis://?")
    own = "ssl_certfile and ssl_keyfile"
    return diagnose_connection(
        error, url, ("redis", "rediss"), authority="ssl_ca_certs", own=own, answered=answered
    )


def _server_error(error: BaseException) -> Diagnosis | None:
    text, names = str(error), [kind.__name__ for kind in type(error).__mro__]
    if isinstance(error, (NotReplicated, NoPrimary, WrongServer)):
        return Diagnosis(text, fatal=isinstance(error, WrongServer))
    if "NoPermissionError" in names:
        return _not_permitted(text)
    known = [_BY_CLASS[name] for name in names if name in _BY_CLASS]
    known += [diagnosis for part, diagnosis in _BY_TEXT if part in text]
    if known:
        return known[0]
    code = text.split(" ", 1)[0]
    if code in _BY_CODE:
        reason, fatal = _BY_CODE[code]
        return Diagnosis(f"{code}: {reason}", fatal)
    return Diagnosis(code) if code.isupper() and code.isalpha() else None


def _not_permitted(text: str) -> Diagnosis:
    """The command is named, of which the name alone is shown: its keys may hold anything."""
    command = _NO_PERMISSION.search(text)
    if command is not None:
        return Diagnosis(f"the user may not do this: its ACL needs +{command[1]}", fatal=True)
    if "keys" in text or "key" in text:
        return Diagnosis("the user may not do this: its ACL needs ~ and the key's name", fatal=True)
    return Diagnosis("the user may not do this", fatal=True)
