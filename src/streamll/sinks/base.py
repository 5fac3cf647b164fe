"""What every sink does: get events in order on a thread of its own, without delaying the program.

Subclass ``BaseSink`` and override ``handle_event`` (or ``handle_batch``, to handle several at
once). Nothing else is needed: the worker starts with the first event, is flushed at exit, and
restarts after a fork. ``super().__init__()`` may be omitted.

If a handler raises, that is logged once (logger ``streamll``), and it gets later events all the
same. If a handler is slow, up to ``buffer_size`` events wait, then ``overflow`` decides. The
mechanism is in ``sinks.delivery``.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from streamll.core.errors import ConfigurationError
from streamll.core.events import Event
from streamll.flow.buffer import Policy
from streamll.flow.worker import BATCH_ITEMS, GATHER_S
from streamll.sinks.delivery import Delivery, SinkStatistics

__all__ = ["BaseSink", "SinkStatistics"]


class BaseSink:
    """Gets every event of the runs it belongs to, in order.

    Args:
        buffer_size: how many events may wait.
        overflow: what happens beyond that: ``"coalesce"``, ``"drop_oldest"`` or ``"fail"``.

    Raises:
        ConfigurationError: ``overflow="block"``, since a sink never makes the program wait.

    ``local`` sinks are quick enough to wait for: an outermost call gives them up to a second to
    catch up before it returns. Sinks that use a network set it to False. After a batch of at
    most ``batch_size`` events, the worker lets more gather for ``gather_seconds``.
    """

    local: bool = True
    batch_size: int = BATCH_ITEMS
    gather_seconds: float = GATHER_S
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
        """Handle one event. Called in order on the sink's own thread.

        May be ``async def``: then it runs on the sink's own event loop, one event at a time.
        """

    def handle_batch(self, events: list[Event]) -> Awaitable[None] | None:
        """Handle several events at once; by default calls ``handle_event`` with each."""
        self._delivery.handle_each(self.handle_event, events)
        return None

    def due_in(self) -> float | None:
        """Seconds until ``handle_batch`` must be called again, even without new events.

        For sinks that keep events for later; ``None`` if nothing is kept.
        """
        return None

    def undelivered(self, error: BaseException, events: list[Event]) -> None:
        """To be called by ``handle_batch``: count ``events`` as failed; logged the first time."""
        self._delivery.failed(error, events)

    # --- what a run and its user call -----------------------------------------------------------

    def put(self, event: Event) -> None:
        """Hand an event over: never waits, never raises."""
        delivery = self.__delivery or self._delivery
        try:
            delivery.worker.put(event)
        except Exception as error:  # noqa: BLE001 - a sink never breaks the program
            delivery.warn("cannot take", error, event)

    def start(self) -> None:
        """Start the worker thread. Not needed: the first event does it. Idempotent."""
        self._delivery.worker.start()

    def stop(self, timeout: float = 10.0) -> bool:
        """Handle everything put so far, end the thread, and log how much failed. Idempotent.

        Waits up to ``timeout`` seconds; returns False if that was not enough. An event that is
        put later starts the worker again.
        """
        return self.__delivery is None or self.__delivery.stop(timeout)

    def catch_up(self, timeout: float) -> bool:
        """Wait until everything put so far has been handled; False after ``timeout`` seconds."""
        return self.__delivery is None or self.__delivery.worker.catch_up(timeout)

    def statistics(self) -> SinkStatistics:
        return SinkStatistics() if self.__delivery is None else self.__delivery.statistics()

    @property
    def _delivery(self) -> Delivery:
        """Created on first use, so that a subclass may omit ``super().__init__()``."""
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
