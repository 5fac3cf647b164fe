"""How much of a server its clients may use."""

from __future__ import annotations

import msgspec


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
