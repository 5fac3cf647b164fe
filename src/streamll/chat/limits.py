"""How many questions at once, and how many a minute. May be shared by several models."""

from __future__ import annotations

from streamll.core.errors import ConfigurationError
from streamll.flow.limits import Rate, Slots


class Limits:
    """At most ``max_concurrent`` requests at once, ``requests_per_minute`` evenly spaced.

    First come, first served, threads and tasks alike. ``burst`` requests may start at once
    before the spacing begins. ``None`` does not limit.

    Raises:
        ConfigurationError: a limit that would let nothing through.
    """

    def __init__(
        self,
        max_concurrent: int | None = None,
        requests_per_minute: float | None = None,
        burst: int = 1,
    ) -> None:
        if max_concurrent is not None and max_concurrent < 1:
            raise ConfigurationError(
                f"max_concurrent={max_concurrent} lets no request through; it is at least 1, "
                "or None for any number"
            )
        self.cap = max_concurrent or 0
        self.slots = Slots() if max_concurrent is not None else None
        self.rate = (
            Rate(requests_per_minute / 60.0, burst) if requests_per_minute is not None else None
        )
