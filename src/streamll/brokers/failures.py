"""What the failure of a connection means, in words that say what to do.

Client libraries wrap what the operating system and OpenSSL said; here it is found again. Nothing
of what was sent is quoted.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from pathlib import Path

from streamll.core.errors import ConfigurationError

_SAID = re.compile(r"(?:\[SSL[^\]]*\] )?([^\[\]]*?)\.? ?\(_ssl\.c:\d+\)")


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what is behind it, each once: client libraries link some in circles."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or each.__context__


def named(error: BaseException) -> str:
    """The error's type, and what the operating system says behind it."""
    for each in causes(error):
        if isinstance(each, OSError) and each.strerror:
            return f"{type(error).__name__}: {each.strerror}"
    return type(error).__name__


def tls_reason(error: BaseException) -> str | None:
    """OpenSSL's own words, if it was TLS that failed."""
    for each in causes(error):
        if isinstance(each, ssl.SSLError) or "[SSL" in str(each):
            said = _SAID.search(str(each))
            return said[1] if said else type(each).__name__
    return None


def tls_is_fatal(reason: str) -> bool:
    """Whether trying again would meet the same; a server that just ends may be restarting."""
    return "EOF" not in reason


def tls_advice(reason: str, *, schemes: str, authority: str, own: str) -> str:
    """What to do about it. ``authority`` and ``own`` are the options of the URL for certificates."""
    if "is not valid for" in reason:
        return f"its certificate is for another host ({_short(reason)})"
    if "expired" in reason or "not yet valid" in reason:
        return f"its certificate is not accepted ({_short(reason)})"
    if "verify failed" in reason:
        return (
            f"its certificate is not trusted ({_short(reason)}); "
            f"{authority}=/path/to/ca.pem in the URL names who signed it"
        )
    if "certificate" in reason or "EOF" in reason or "unknown ca" in reason:
        return f"it ended TLS ({_short(reason)}); does it want a certificate, {own} in the URL?"
    return f"TLS does not fit ({_short(reason)}): {schemes}?"


def _short(reason: str) -> str:
    return reason.partition("verify failed: ")[2] or reason


def check_files(place: str, files: dict[str, str | None]) -> None:
    """SourceOptions of a URL that name files have to name some.

    Raises:
        ConfigurationError: names the option and the file.
    """
    for option, file in files.items():
        if file is not None and not Path(file).is_file():
            raise ConfigurationError(f"{place}: there is no file {file!r} ({option}= in the URL)")
