"""What another process asks of a run: a message through the log that both use. No I/O.

A control is an event outside any run, of type ``server.<verb>``, whose ``data`` has the ``run_id``. Every
server that follows the log hears it, and the one that runs this run does it; to the others it is
nothing. It is sent once and confirmed by what it causes: the run's own events. docs/wire.md has it
for other languages, with who may write it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from streamll.core.events import Event, StreamllEvent
from streamll.core.run_view import MESSAGES

Handler = Callable[[str, Mapping[str, Any]], object]
"""Gets the run's id and the control's data. Does nothing for a run that is not its process's own."""


class Controls:
    """Those that this process understands. ``put`` writes an event to the log."""

    def __init__(self, put: Callable[[Event], None]) -> None:
        self._put = put
        self._handlers: dict[str, Handler] = {}

    def on(self, verb: str, handler: Handler) -> None:
        self._handlers[MESSAGES + verb] = handler

    def send(self, verb: str, run_id: str, **data: Any) -> None:
        """Ask it of the process that runs this run, whichever that is."""
        data = {"run_id": run_id, **data}
        self._put(StreamllEvent(event_type=MESSAGES + verb, data=data, timestamp=time.time()))

    def hear(self, event: Event) -> None:
        """A message of the log. What is no control, or makes no sense, is nobody's."""
        handler, run_id = self._handlers.get(event.event_type), event.data.get("run_id")
        if handler is not None and isinstance(run_id, str):
            handler(run_id, event.data)
