"""``--keep``: how much a log keeps, as the option that its broker's URLs have for it."""

from __future__ import annotations

import re

from streamll.cli.command import Problem
from streamll.cli.tail import UNITS

BYTES = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
KEPT = {
    "sqlite": ("keep_seconds", UNITS, "for a time, such as 12h or 7d"),
    "redis": ("maxlen", {"": 1}, "a number of entries, such as 500000"),
    "amqp": ("max_bytes", BYTES, "a size, such as 500MB or 2GB"),
}
"""The option of a broker's URLs, its units, and how it is given."""


def with_retention(url: str, keep: str | None) -> str:
    """The URL of a log that keeps so much.

    Raises:
        Problem: this broker does not keep by that measure, or the URL says it already.
    """
    if keep is None:
        return url
    scheme = url.partition(":")[0]
    broker = "amqp" if scheme.startswith("amqp") else "sqlite" if scheme == "sqlite" else "redis"
    option, units, how = KEPT[broker]
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([A-Za-z]*)", keep)
    if (
        found is None
        or found[2] not in units
        or not (amount := round(float(found[1]) * units[found[2]]))
    ):
        raise Problem(f"--keep: a log in {scheme}:// keeps {how}, not {keep!r}")
    if re.search(rf"[?&]{option}=", url):
        raise Problem(f"--keep and {option}= in the log's URL say the same; leave out one")
    return f"{url}{'&' if '?' in url else '?'}{option}={amount}"
