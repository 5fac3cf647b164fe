"""What a server lets its clients use of it."""

from __future__ import annotations

import msgspec


class ServerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one server process; what exceeds them is refused with a status that says so."""

    body_bytes: int = 1_000_000
    """A larger request body is answered 413."""

    body_seconds: float = 10.0
    """A body that is not complete by then is answered 408."""

    runs: int = 100
    """Programs running at once; one more is answered 429."""

    readers: int = 10_000
    """Open event streams and WebSockets; one more is answered 503."""

    stall_seconds: float = 30.0
    """A reader that takes nothing for so long is disconnected. It may come back and go on."""

    heartbeat_seconds: float = 15.0
    """Silence after which a comment is sent, so that nobody between takes the line for dead."""

    drain_seconds: float = 30.0
    """What running programs get to end by themselves when the server is told to stop."""

    lost_seconds: float = 60.0
    """Silence after which a run whose process said nothing of it either counts as failed."""

    away_seconds: float = 30.0
    """What a log may be away before those who read from it are told, and their streams end."""
