"""Programs and listeners that the capture tests share."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable

import dspy
from patience import BOUND

import streamll
from streamll.core.events import Event


class Heard:
    """A listener that keeps what a run puts into it, with no thread in between."""

    local = False

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._lock = threading.Lock()

    def put(self, event: Event) -> None:
        with self._lock:
            self.events.append(event)

    @property
    def types(self) -> list[str]:
        return [event.event_type for event in self.events]

    def of(self, event_type: str) -> list[Event]:
        return [event for event in self.events if event.event_type == event_type]

    def runs(self) -> dict[str, list[Event]]:
        runs: dict[str, list[Event]] = {}
        for event in self.events:
            if event.run_id is not None:
                runs.setdefault(event.run_id, []).append(event)
        return runs

    def text(self, field: str, **identity: object) -> str:
        return "".join(
            event.token
            for event in self.of("token")
            if event.field == field
            and all(getattr(event, name) == value for name, value in identity.items())
        )


class Noticing(Heard):
    """A listener that can wait for an event."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = threading.Condition()

    def put(self, event: Event) -> None:
        super().put(event)
        with self.changed:
            self.changed.notify_all()

    def wait_for(self, condition: Callable[[Event], object]) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: any(map(condition, self.events)), BOUND)


class QA(dspy.Module):
    def __init__(self):
        super().__init__()
        self.generate = dspy.ChainOfThought("question -> answer")

    def forward(self, question):
        return self.generate(question=question)


class AsyncQA(QA):
    async def aforward(self, question):
        return await self.generate.acall(question=question)


def contiguous(events: list[Event]) -> bool:
    return [event.seq for event in events] == list(range(len(events)))


def left_behind(stragglers, reached, goes_on):
    """The events of a program that leaves a thread behind, which is noted in ``stragglers`` and calls a
    model. The run ends once ``reached`` is set, and before ``goes_on`` is.
    """
    answer = dspy.Predict("question -> answer")

    class Leaving(dspy.Module):
        def forward(self):
            context = contextvars.copy_context()
            stragglers.append(
                threading.Thread(target=context.run, args=(answer,), kwargs={"question": "?"})
            )
            stragglers[0].start()
            assert reached.wait(BOUND)
            return "left"

    with streamll.stream(Leaving())() as events:
        seen = list(events)
    goes_on.set()
    stragglers[0].join(BOUND)
    return seen
