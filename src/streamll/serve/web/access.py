"""Who may do what: bearer tokens for everything, signed tokens for one run, origins, hosts.

No I/O. Comparisons take the same time whatever is given. Nothing here ends up in a log.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import secrets
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

from streamll.core.errors import ConfigurationError

SHORTEST_TOKEN = 16


def run_token(secret: str | bytes, run_id: str, *, seconds: float = 3600.0) -> str:
    """A token that lets its holder read and cancel this one run, for so long."""
    expiry = str(int(time.time() + seconds))
    return f"{run_id}.{expiry}.{_signature(secret, run_id, expiry)}"


def _signature(secret: str | bytes, run_id: str, expiry: str) -> str:
    key = secret.encode() if isinstance(secret, str) else secret
    digest = hmac.new(key, f"streamll-run\0{run_id}\0{expiry}".encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class Access:
    """The rules of one server.

    Args:
        tokens: bearer tokens that may do everything. None: everybody may, on this machine only.
        secret: signs tokens for single runs; all processes of one server need the same.
            By default derived from ``tokens``, or random.
        origins: pages of these origins may call, besides the server's own.
        hosts: names the server answers to; by default any with a token, else this machine's.
    """

    def __init__(
        self,
        tokens: Iterable[str] = (),
        *,
        secret: str | bytes | None = None,
        origins: Iterable[str] = (),
        hosts: Iterable[str] | None = None,
    ) -> None:
        self._tokens = tuple(
            token.encode() for token in ((tokens,) if isinstance(tokens, str) else tokens)
        )
        if any(len(token) < SHORTEST_TOKEN for token in self._tokens):
            raise ConfigurationError(f"a token needs at least {SHORTEST_TOKEN} characters")
        self.origins = frozenset(origin.rstrip("/").lower() for origin in origins)
        self.hosts = None if hosts is None else frozenset(host.lower() for host in hosts)
        if secret is None and self._tokens:
            secret = hashlib.sha256(b"streamll\0" + b"\0".join(sorted(self._tokens))).digest()
        self._secret = secret or secrets.token_bytes(32)

    @property
    def is_open(self) -> bool:
        """Whether no token is asked for."""
        return not self._tokens

    def token_for(self, run_id: str, seconds: float) -> str:
        return run_token(self._secret, run_id, seconds=seconds)

    def may_do_everything(self, token: str | None) -> bool:
        if self.is_open:
            return True
        given = (token or "").encode()
        return sum(hmac.compare_digest(given, known) for known in self._tokens) > 0

    def may_use(self, token: str | None, run_id: str) -> bool:
        """Whether the token is for everything, or for this run and still good."""
        if self.may_do_everything(token):
            return True
        parts = (token or "").split(".")
        if len(parts) != 3 or not parts[1].isdecimal() or len(parts[1]) > 12:  # noqa: PLR2004
            return False
        right = _signature(self._secret, run_id, parts[1])
        signed = hmac.compare_digest(parts[2].encode(), right.encode())
        return signed and parts[0] == run_id and int(parts[1]) >= time.time()

    def is_host(self, host: str | None) -> bool:
        """Whether the server answers to this ``Host``.

        Without a token only this machine's names: a page of a foreign name that has been made to
        point here (DNS rebinding) must not get in.
        """
        name = (urlsplit(f"//{host or ''}").hostname or "").lower() if _is_plain(host) else ""
        if self.hosts is not None:
            return name in self.hosts
        return not self.is_open or name == "localhost" or is_loopback(name)

    def is_origin(self, origin: str | None, host: str | None) -> bool:
        """Whether a page of this origin may call. No origin: no page."""
        if origin is None:
            return True
        given = origin.lower()
        if given in self.origins or "*" in self.origins:
            return True
        return _is_plain(origin) and urlsplit(given).netloc == (host or "").lower() != ""


def _is_plain(text: str | None) -> bool:
    try:
        urlsplit(f"//{text}").port  # noqa: B018 - looked at because it raises
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bearer(authorization: str | None) -> str | None:
    """The token of an ``Authorization`` header."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None
