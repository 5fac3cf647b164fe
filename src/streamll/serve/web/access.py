"""Access rules: bearer tokens for everything, signed tokens for one run, origins, hosts.

No I/O. Tokens are compared in constant time and never logged.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from streamll.core.errors import ConfigurationError
from streamll.serve.permits import EVERYTHING, ONE_RUN, ONE_RUN_AND_ANSWER, Permit

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

MIN_TOKEN_CHARACTERS = 16
MAX_EXPIRY_DIGITS = 12


Auth = Callable[["HTTPConnection"], "Permit | Awaitable[Permit | None] | None"]
"""Says who a request is from, and what that person may; ``None``: nobody who is known."""


def run_token(
    secret: str | bytes, run_id: str, *, seconds: float = 3600.0, answer: bool = False
) -> str:
    """A token that permits reading and cancelling one run.

    Args:
        secret: the one of ``create_app``; all processes of a server need the same.
        run_id: the run.
        seconds: how long it holds, from now (default: one hour).
        answer: it permits answering the run's questions as well.
    """
    expiry = str(int(time.time() + seconds))
    return f"{run_id}.{expiry}.{_signature(secret, run_id, expiry, ANSWERS if answer else READS)}"


READS, ANSWERS = "streamll-run", "streamll-answer"
"""What a token for one run is signed for."""


def _signature(secret: str | bytes, run_id: str, expiry: str, purpose: str) -> str:
    key = secret.encode() if isinstance(secret, str) else secret
    digest = hmac.new(key, f"{purpose}\0{run_id}\0{expiry}".encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class Access:
    """The rules of one server.

    Args:
        tokens: bearer tokens that permit everything. Without any, everything is permitted, but
            only on this machine.
        secret: signs tokens for single runs; all processes of one server need the same.
            By default derived from ``tokens``, or random.
        origins: origins whose pages may call, besides the server's own.
        hosts: the server's host names; by default any if tokens are needed, else this machine's.
        auth: says who else may do what.

    Raises:
        ConfigurationError: a short token, a host with a scheme or port, an origin without a scheme.
    """

    def __init__(
        self,
        tokens: Iterable[str] = (),
        *,
        secret: str | bytes | None = None,
        origins: Iterable[str] = (),
        hosts: Iterable[str] | None = None,
        auth: Auth | None = None,
    ) -> None:
        if auth is not None and not callable(auth):
            raise ConfigurationError(f"auth is a function of a request, not {auth!r}")
        self.auth = auth
        self._tokens = tuple(token.encode() for token in _several(tokens))
        if any(len(token) < MIN_TOKEN_CHARACTERS for token in self._tokens):
            raise ConfigurationError(f"a token needs at least {MIN_TOKEN_CHARACTERS} characters")
        self.origins = frozenset(map(_origin, _several(origins)))
        self.hosts = None if hosts is None else frozenset(map(_host, _several(hosts)))
        if secret is None and self._tokens:
            secret = hashlib.sha256(b"streamll\0" + b"\0".join(sorted(self._tokens))).digest()
        self._secret = secret or secrets.token_bytes(32)

    @property
    def is_open(self) -> bool:
        """Whether nobody has to say who they are."""
        return not self._tokens and self.auth is None

    def token_for(self, run_id: str, seconds: float, *, answer: bool = False) -> str:
        return run_token(self._secret, run_id, seconds=seconds, answer=answer)

    def permit_of(self, token: str | None, run_id: str | None) -> Permit | None:
        """What a token permits at the addresses of this run, or elsewhere (``None``); nothing if it
        is not this server's.
        """
        if self.is_open:
            return EVERYTHING
        given = (token or "").encode()
        if sum(hmac.compare_digest(given, known) for known in self._tokens):
            return EVERYTHING
        for purpose, permit in ((READS, ONE_RUN), (ANSWERS, ONE_RUN_AND_ANSWER)):
            if self._is_for(token, run_id, purpose):
                return permit
        return None

    def _is_for(self, token: str | None, run_id: str | None, purpose: str) -> bool:
        """Whether the token was signed for this run and purpose, and has not expired."""
        run, _, rest = (token or "").partition(".")
        expiry, _, signature = rest.partition(".")
        if run != run_id or not expiry.isdecimal() or len(expiry) > MAX_EXPIRY_DIGITS:
            return False
        expected = _signature(self._secret, run, expiry, purpose)
        signed = hmac.compare_digest(signature.encode(), expected.encode())
        return signed and int(expiry) >= time.time()

    def is_host(self, host: str | None) -> bool:
        """Whether this ``Host`` is the server's.

        Without tokens only this machine's names are: a page whose own name was made to resolve to
        this machine (DNS rebinding) must not get in.
        """
        name = (urlsplit(f"//{host or ''}").hostname or "").lower() if _is_plain(host) else ""
        if self.hosts is not None:
            return name in self.hosts
        return not self.is_open or name == "localhost" or is_loopback(name)

    def is_origin(self, origin: str | None, host: str | None) -> bool:
        """Whether a page of this origin may call. Requests without an origin are not a page's."""
        if origin is None:
            return True
        given = origin.lower()
        if given in self.origins or "*" in self.origins:
            return True
        return _is_plain(origin) and urlsplit(given).netloc == (host or "").lower() != ""


def _several(given: Iterable[str]) -> Iterable[str]:
    return (given,) if isinstance(given, str) else given


def _origin(text: str) -> str:
    """As browsers send it, which is never without a scheme; ``*`` is any, ``null`` a file's."""
    if "://" not in text and text not in {"*", "null"}:
        raise ConfigurationError(
            f"an origin has a scheme: origins=['https://{text}'], not {text!r}"
        )
    return text.rstrip("/").lower()


def _host(text: str) -> str:
    """A name or an address, with which names of requests are compared."""
    bare = text.removeprefix("[").removesuffix("]")
    name = urlsplit(text if "://" in text else f"//{text}").hostname if _is_plain(text) else None
    if name and ":" not in name and name != bare.lower():
        raise ConfigurationError(
            f"a host has no scheme and no port: hosts=[{name!r}], not {text!r}"
        )
    return bare.lower()


def _is_plain(text: str | None) -> bool:
    try:
        urlsplit(f"//{text}").port  # noqa: B018 - raises ValueError
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
