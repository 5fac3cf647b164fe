"""Events kept in a list: for tests, notebooks and looking at a run afterwards."""

from __future__ import annotations

from streamll.core.events import Event, TokenEvent
from streamll.core.run_view import RunView
from streamll.sinks.base import BaseSink, SinkStatistics


class MemorySink(BaseSink):
    """Keeps every event in ``events``, as soon as it is created: it has no worker to wait for.

    Events are kept until ``clear()``; a long-lived process has to call it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []

    def put(self, event: Event) -> None:
        self.events.append(event)

    handle_event = put

    @property
    def tokens(self) -> list[TokenEvent]:
        """The token events, in order."""
        return [event for event in self.events if isinstance(event, TokenEvent)]

    def of(self, *event_types: str) -> list[Event]:
        """The events of ``event_types``, in order: ``sink.of("tool.start", "tool.end")``."""
        return [event for event in list(self.events) if event.event_type in event_types]

    def text(self, field: str) -> str:
        """The text of ``field``, corrected and without superseded attempts.

        Raises:
            AmbiguousFieldError: several predictors have the field; ask for ``predictor.field``.
            UnknownFieldError: nothing has been streamed of such a field.
        """
        view = RunView()
        for event in list(self.events):
            view.feed(event)
        return view.text(field)

    def clear(self) -> None:
        """Drop all events kept so far."""
        self.events.clear()

    def statistics(self) -> SinkStatistics:
        """Events that are kept count as handled."""
        return SinkStatistics(received=len(self.events), handled=len(self.events))
