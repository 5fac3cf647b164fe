"""How much of a server its clients may use."""

from __future__ import annotations

import msgspec

from streamll.core.errors import ConfigurationError

MAY_BE_ZERO = frozenset({"runs", "readers", "body_bytes", "drain_seconds", "away_seconds"})


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one server process. What exceeds them is refused with a status that says so.

    Attributes:
        body_bytes: a larger request body is answered with 413.
        body_seconds: a body that takes longer to arrive is answered with 408.
        runs: programs running at once; one more is answered with 429.
        readers: open event streams and WebSockets; one more is answered with 503.
        stall_seconds: a reader that accepts nothing for so long is disconnected; it may
            reconnect and resume.
        heartbeat_seconds: silence after which a comment is sent, so that no proxy takes the
            connection for dead.
        drain_seconds: how long running programs may take to end when the server is told to stop.
        lost_seconds: silence after which a run counts as failed if no process reports that it
            runs it.
        away_seconds: how long the log may be away before its readers' streams end with an error.

    Raises:
        ConfigurationError: a limit that is no number, below 0, or a time of 0 seconds that must pass.
    """

    body_bytes: int = 1_000_000
    body_seconds: float = 10.0
    runs: int = 100
    readers: int = 10_000
    stall_seconds: float = 30.0
    heartbeat_seconds: float = 15.0
    drain_seconds: float = 30.0
    lost_seconds: float = 60.0
    away_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name, value in msgspec.structs.asdict(self).items():
            kinds = (int, float) if name.endswith("_seconds") else (int,)
            is_number = isinstance(value, kinds) and not isinstance(value, bool)
            if not is_number or not (value > 0 or (value == 0 and name in MAY_BE_ZERO)):
                what = "at least 0" if name in MAY_BE_ZERO else "greater than 0"
                what = f"a number {what}" if float in kinds else f"a whole number {what}"
                raise ConfigurationError(f"{name} must be {what}, not {value!r}")
