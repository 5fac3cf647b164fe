"""A whole stream as one value: text per field, usage, times, and what went wrong.

``Collector`` is fed with what a stream yields, whatever kind of stream; ``collect`` and
``acollect`` feed it. An error of the stream is part of the result, with the text until then:
ask ``ok``, or for the ``result()``, which raises it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from streamll.core.events import Totals
from streamll.core.run_view import RunView
from streamll.streams.sources import aopened, event_of, opened, text_of
from streamll.streams.stream_events import Done, Error, StreamEvent

Hear = Callable[[Any], None]


@dataclass
class Collected:
    """What a stream said. Times are seconds.

    ``fields`` is the text of each output field, by its name, or by ``"predictor.field"`` where
    several predictors share it. After an error it is the text until then. ``retries`` counts
    the attempts whose text was dropped or never came.
    """

    fields: dict[str, str] = field(default_factory=dict)
    error: BaseException | None = None
    prediction: Any = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None
    lm_calls: int = 0
    tokens: int = 0
    retries: int = 0
    duration: float = 0.0
    time_to_first_token: float | None = None

    @property
    def ok(self) -> bool:
        return self.error is None

    @property
    def text(self) -> str:
        """The text of all fields; of one field just that."""
        return "\n\n".join(self.fields.values())

    @property
    def tokens_per_second(self) -> float:
        """The model's own count over the whole duration, or ours where it gave none."""
        tokens = self.completion_tokens or self.tokens
        return tokens / self.duration if self.duration > 0 else 0.0

    def result(self) -> Any:
        """The program's ``Prediction``; raises the error that ended the stream."""
        if self.error is not None:
            raise self.error
        return self.prediction

    def __str__(self) -> str:
        return self.text


class Collector:
    """Items in, a ``Collected`` at every moment."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = clock()
        self._first: float | None = None
        self._view = RunView()  # of a stream of events …
        self._plain: list[str] = []  # … or of texts
        self._texts = 0
        self._prediction: Any = None
        self.error: BaseException | None = None

    def feed(self, item: Any) -> None:
        event = event_of(item)
        if event is not None:
            self._view.feed(event)
        elif not isinstance(item, StreamEvent) and (text := text_of(item)):
            self._plain.append(text)
        if (event is not None or self._plain) and text_of(item):
            self._texts += event is None
            if self._first is None:
                self._first = self._clock()
        if isinstance(item, Done):
            self._prediction = item.prediction
        elif isinstance(item, Error):
            self.error = item.error

    def ended(self, prediction: Any = None, error: BaseException | None = None) -> Collected:
        """What there is, now that nothing more will come."""
        duration = self._clock() - self._started
        first = None if self._first is None else self._first - self._started
        totals = self._view.end or Totals(duration=duration, time_to_first_token=first)
        return Collected(
            fields=self._fields(),
            error=error or self.error,
            prediction=prediction if prediction is not None else self._prediction,
            prompt_tokens=totals.prompt_tokens,
            completion_tokens=totals.completion_tokens,
            cost=totals.cost,
            lm_calls=totals.lm_calls,
            tokens=self._view.tokens + self._texts,
            retries=self._view.retries,
            duration=totals.duration,
            time_to_first_token=totals.time_to_first_token,
        )

    def _fields(self) -> dict[str, str]:
        texts = self._view.texts()
        names = [name for _, name in texts]
        fields = {
            name if names.count(name) == 1 else f"{predictor}.{name}": text
            for (predictor, name), text in texts.items()
        }
        return {**fields, "text": "".join(self._plain)} if self._plain else fields


def collect(source: Any, hear: Hear | None = None) -> Collected:
    """Read a stream to its end, in this thread. ``hear`` gets each item."""
    collector = Collector()
    prediction = None
    try:
        with opened(source) as items:
            for item in items:
                collector.feed(item)
                if hear is not None:
                    hear(item)
            prediction = _value_of(items)
    except Exception as error:  # noqa: BLE001 - part of the result
        return collector.ended(error=error)
    return collector.ended(prediction)


async def acollect(source: Any, hear: Hear | None = None) -> Collected:
    """The same on an event loop."""
    collector = Collector()
    prediction = None
    try:
        async with aopened(source) as items:
            async for item in items:
                collector.feed(item)
                if hear is not None:
                    hear(item)
            prediction = _value_of(items)
    except Exception as error:  # noqa: BLE001
        return collector.ended(error=error)
    return collector.ended(prediction)


def _value_of(items: Any) -> Any:
    """What the program of one of our own streams returned."""
    return getattr(items, "value", None)
