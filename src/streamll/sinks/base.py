"""What every sink does: get events in order on a thread of its own, never in the program's way.

Subclass ``BaseSink`` and override ``handle_event`` (or ``handle_batch``, to ship several at
once). Nothing else is needed: the worker starts with the first event, is flushed at exit, and
begins anew after a fork. ``super().__init__()`` may be forgotten.

A handler that raises is reported once, through the logger ``streamll``, and gets the later
events all the same. A handler that is slow is the sink's problem: up to ``buffer_size`` events
wait, then ``overflow`` decides. How that is done is in ``sinks.delivery``.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from streamll.core.errors import ConfigurationError
from streamll.core.events import Event
from streamll.flow.buffer import Policy
from streamll.flow.worker import BATCH, GATHER_SECONDS
from streamll.sinks.delivery import Delivery, SinkStatistics

__all__ = ["BaseSink", "SinkStatistics"]


class BaseSink:
    """Gets every event of the runs it belongs to, in order.

    ``local`` sinks are quick enough to wait for: an outermost call lets them catch up for at
    most a second before it returns. Sinks that talk to a network set it to False. After a batch
    of at most ``batch_size`` events, more gather for ``gather_seconds``.
    """

    local: bool = True
    batch_size: int = BATCH
    gather_seconds: float = GATHER_SECONDS
    buffer_size: int = 10_000
    overflow: Policy = "coalesce"
    __delivery: Delivery | None = None

    def __init__(self, *, buffer_size: int = 10_000, overflow: Policy = "coalesce") -> None:
        if overflow == "block":
            raise ConfigurationError(
                "a sink never makes the program wait, so overflow='block' is for streams; "
                "'coalesce' loses nothing either"
            )
        self.buffer_size = buffer_size
        self.overflow = overflow

    # --- to override ----------------------------------------------------------------------------

    def handle_event(self, event: Event) -> Awaitable[None] | None:
        """Do something with one event. Called in order on the sink's own thread.

        May be ``async def``: then it runs on an event loop of the sink's own, one event after
        the other.
        """

    def handle_batch(self, events: list[Event]) -> Awaitable[None] | None:
        """Do something with several events at once; by default ``handle_event`` with each."""
        self._delivery.one_by_one(self.handle_event, events)
        return None

    def due_in(self) -> float | None:
        """For ``handle_batch`` that keeps events: when to call it again, even without new ones."""
        return None

    def undelivered(self, error: BaseException, events: list[Event]) -> None:
        """For ``handle_batch``: count ``events`` as not handled; logged the first time."""
        self._delivery.failed(error, events)

    # --- what a run and its user call -----------------------------------------------------------

    def put(self, event: Event) -> None:
        """Hand an event over: never waits, never raises."""
        delivery = self.__delivery or self._delivery
        try:
            delivery.worker.put(event)
        except Exception as error:  # noqa: BLE001 - a sink never breaks the program
            delivery.refused(error, event)

    def start(self) -> None:
        """Start the worker thread. Not needed: the first event does. Idempotent."""
        self._delivery.start()

    def stop(self, timeout: float = 10.0) -> bool:
        """Handle what was put before now, end the thread, and log how much failed. Idempotent.

        Waits up to ``timeout`` seconds; False when that was not enough. An event that is put
        later starts the worker again.
        """
        return self.__delivery is None or self.__delivery.stop(timeout)

    def catch_up(self, timeout: float) -> bool:
        """Wait until everything put before now has been handled; False when the time is up."""
        return self.__delivery is None or self.__delivery.catch_up(timeout)

    def statistics(self) -> SinkStatistics:
        return SinkStatistics() if self.__delivery is None else self.__delivery.statistics()

    @property
    def _delivery(self) -> Delivery:
        """Made on first use, so that a subclass may forget ``super().__init__()``."""
        if self.__delivery is None:
            with Delivery.making:
                if self.__delivery is None:
                    self.__delivery = Delivery(self, self.buffer_size, self.overflow)
        return self.__delivery

    def __deepcopy__(self, memo: dict[int, Any]) -> BaseSink:
        """A sink is a destination: a copied program reports to the same one."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if not isinstance(v, Delivery)}
