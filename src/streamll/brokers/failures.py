"""What a failed connection means, in words that say what to do.

Client libraries wrap the errors of the operating system and of OpenSSL; here they are unwrapped.
Nothing that was sent is quoted, and no credentials.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from streamll.core.errors import ConfigurationError

_OPENSSL_TEXT = re.compile(r"(?:\[SSL[^\]]*\] )?([^\[\]]*?)\.? ?\(_ssl\.c:\d+\)")


class Diagnosis(NamedTuple):
    """Why a broker failed. ``fatal``: retrying cannot help until a person changes something."""

    reason: str
    fatal: bool = False


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes, each once: some client libraries chain them in circles."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or each.__context__


def diagnose_connection(
    error: BaseException,
    url: str,
    schemes: Sequence[str],
    *,
    authority: str,
    own: str,
    answered: bool,
) -> Diagnosis:
    """What to do about a connection that failed, TLS handshake included.

    Args:
        error: what the client library raised.
        url: the broker's.
        schemes: without TLS, and with it.
        authority: the URL's option that names the authority of the server's certificate.
        own: the URL's options for a certificate of one's own.
        answered: this server has answered before, so it speaks the protocol of the URL.

    A server that just ends a TLS connection (EOF) may be restarting, which is not fatal.
    """
    plain, secure = (f"{scheme}://" for scheme in schemes)
    reason = _tls_reason(error)
    if reason is None:
        # A TLS server hangs up on a plain command, which it takes for a broken handshake; and one that
        # wants a certificate may have hung up before its reason is read.
        dropped = any(
            isinstance(each, ConnectionResetError) or "closed by server" in str(each)
            for each in causes(error)
        )
        hint = ""
        if dropped and not answered and url.startswith(plain):
            hint = f"; does it want TLS, {secure}?"
        elif dropped and not answered and url.startswith(secure):
            hint = f"; does it want a certificate, {own} in the URL?"
        texts = (each.strerror for each in causes(error) if isinstance(each, OSError))
        text = next(filter(None, texts), None)
        name = type(error).__name__
        reason = f"{name}: {text}" if text else name
        return Diagnosis(reason + hint)
    short = reason.partition("verify failed: ")[2] or reason
    if "is not valid for" in reason:
        advice = f"its certificate is for another host ({short})"
    elif "expired" in reason or "not yet valid" in reason:
        advice = f"its certificate is not accepted ({short})"
    elif "verify failed" in reason:
        advice = (
            f"its certificate is not trusted ({short}); "
            f"{authority}=/path/to/ca.pem in the URL names the authority that signed it"
        )
    elif "certificate" in reason or "EOF" in reason or "unknown ca" in reason:
        advice = f"it ended TLS ({short}); does it want a certificate, {own} in the URL?"
    else:
        advice = f"the TLS handshake failed ({short}): {plain} or {secure}?"
    return Diagnosis(advice, fatal="EOF" not in reason)


def _tls_reason(error: BaseException) -> str | None:
    """OpenSSL's own words, if it was TLS that failed."""
    for each in causes(error):
        if isinstance(each, ssl.SSLError) or "[SSL" in str(each):
            text = _OPENSSL_TEXT.search(str(each))
            return text[1] if text else type(each).__name__
    return None


def check_files(url: str, files: Mapping[str, str | None]) -> None:
    """Check that the files named by a URL's options exist.

    Raises:
        ConfigurationError: names the option and the file.
    """
    for option, file in files.items():
        if file is not None and not Path(file).is_file():
            raise ConfigurationError(f"{url}: there is no file {file!r} ({option}= in the URL)")
