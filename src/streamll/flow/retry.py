"""How long to wait before the next attempt: exponential backoff with jitter.

Arithmetic only. What failed, whether it is worth a retry, and the waiting itself are the caller's
business, so that threads, event loops and tests with a fake clock can use it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import msgspec

from streamll.core.errors import ConfigurationError

HINT_JITTER = 0.1
"""Random share added to a server's own hint, so that its clients do not all return at once."""


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """``attempts`` further attempts; before attempt ``n`` about ``base · factor^n`` seconds.

    The upper half of that is random. ``cap`` bounds it, and also the hints that are followed.
    """

    attempts: int = 3
    base: float = 2.0
    factor: float = 2.0
    cap: float = 60.0

    def __post_init__(self) -> None:
        if not (self.attempts >= 0 and self.base >= 0 and self.factor >= 1 and self.cap >= 0):
            raise ConfigurationError(f"no backoff can be made of {self}")

    def delay(
        self,
        failures: int,
        retry_after: float | None = None,
        *,
        draw: Callable[[], float] = random.random,
    ) -> float | None:
        """Seconds to wait after so many failures in a row (from 1); ``None`` to give up.

        ``retry_after`` is the server's ``Retry-After`` in seconds; it is followed, a little late.
        One beyond ``cap`` means giving up, since an earlier attempt would be refused.
        """
        if failures > self.attempts:
            return None
        if retry_after is not None and math.isfinite(retry_after) and retry_after >= 0:
            if retry_after > self.cap:
                return None
            return retry_after + min(1.0, HINT_JITTER * retry_after) * draw()
        whole = min(self.cap, self.base * self.factor ** min(failures - 1, 64))
        return whole * (0.5 + 0.5 * draw())
