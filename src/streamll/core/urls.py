"""What of a URL may be shown."""

from __future__ import annotations

import re

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://|")


def without_password(url: str) -> str:
    """The URL as it may be shown, also where it is none: without user, password and options."""
    scheme = _SCHEME.match(url)
    assert scheme is not None
    credentials, at, place = url[scheme.end() :].rpartition("@")
    if "?" in credentials:  # the @ may be an option's
        place = ""
    hidden = "…@" if at and not (scheme[0] and place) else ""
    return scheme[0] + hidden + place.partition("?")[0]
