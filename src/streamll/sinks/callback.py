"""A sink that calls a function with each event."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from streamll.core.events import Event
from streamll.flow.buffer import Policy
from streamll.sinks.base import BaseSink


class CallbackSink(BaseSink):
    """Calls ``function(event)`` for every event, in order, on the sink's own thread.

    The function may be ``async def``. Its errors are logged once and never reach the program.
    """

    def __init__(
        self,
        function: Callable[[Event], Awaitable[None] | None],
        *,
        buffer_size: int = 10_000,
        overflow: Policy = "coalesce",
    ) -> None:
        super().__init__(buffer_size=buffer_size, overflow=overflow)
        self.function = function

    def handle_event(self, event: Event) -> Awaitable[None] | None:
        return self.function(event)
