"""A whole stream as one value: text per field, usage, times, and its error.

``Collector`` is fed with the items of any stream; ``collect`` and ``acollect`` feed it. An error of
the stream is part of the result, with the text until then: see ``ok``, or call ``result()``, which
raises it.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from streamll.core.events import Totals, own_fields
from streamll.core.run_view import Owner, RunView, qualified
from streamll.core.usage import ModelUsage
from streamll.flow.bridge import aopened, checked, opened
from streamll.streams.later import Later
from streamll.streams.stream_events import (
    Done,
    Error,
    StreamEvent,
    author_of,
    event_of,
    is_reset,
    is_response,
    text_of,
)

OnItem = Callable[[Any], None]


@dataclass(slots=True)
class Collected(Later):
    """A stream, read to its end. See ``collect_stream`` for ``await``.

    Attributes:
        fields: the text of each output field, by its name, or by ``"predictor.field"`` where
            several predictors share it. After an error it is the text until then, if need be of the
            attempt before the last one.
        error: what ended the stream, or ``None``.
        prediction: what the program returned; ``None`` after an error, or where the stream has none.
        prompt_tokens, completion_tokens: the provider's usage, superseded attempts included;
            ``None`` where it is not known. ``cache_read_tokens`` and ``cache_write_tokens`` are parts
            of the prompt's, ``reasoning_tokens`` of the completion's.
        usage: a ``ModelUsage`` for each model, with what was reported of it.
        cost: US dollars as DSPy estimates it, or ``None``.
        lm_calls: how many requests were made to language models.
        token_count: the pieces of text that came.
        retries: the attempts whose text was dropped or never came.
        duration: seconds from the start to the end.
        time_to_first_token: seconds from the start to the first text, or ``None``.
        waited: seconds of ``duration`` in which it had asked a person something.
    """

    fields: dict[str, str] = field(default_factory=dict)
    error: BaseException | None = None
    prediction: Any = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    usage: tuple[ModelUsage, ...] = ()
    cost: float | None = None
    lm_calls: int = 0
    token_count: int = 0
    retries: int = 0
    duration: float = 0.0
    time_to_first_token: float | None = None
    waited: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the stream came to its end without an error."""
        return self.error is None

    @property
    def text(self) -> str:
        """The text of all fields; of one field just that."""
        return "\n\n".join(self.fields.values())

    @property
    def tokens_per_second(self) -> float:
        """The provider's count over the whole duration, or ours where it gave none."""
        tokens = self.completion_tokens or self.token_count
        return tokens / self.duration if self.duration > 0 else 0.0

    def result(self) -> Any:
        """The program's ``Prediction``; raises the error that ended the stream."""
        if self.error is not None:
            raise self.error
        return self.prediction

    def __str__(self) -> str:
        return self.text

    __hash__ = Later.__hash__


class Collector:
    """Fed with items inside a ``with`` block, whose error it keeps; ``ended`` is what they make."""

    def __init__(self, on_item: OnItem | None = None) -> None:
        self._on_item = on_item
        self._started = time.monotonic()
        self._first: float | None = None
        self._view = RunView()  # of a stream of events …
        self._plain: dict[Owner, dict[Hashable, list[str]]] = {}  # … or of texts, by field and call
        self._texts = 0
        self._superseded: set[Hashable] = set()  # attempts whose texts ``streamify`` took back
        self._prediction: Any = None
        self.error: BaseException | None = None

    def __enter__(self) -> Collector:  # noqa: PYI034 - Self needs Python 3.11
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        self.error = error or self.error
        return isinstance(error, Exception)

    def feed(self, item: Any) -> None:
        event, text = event_of(item), text_of(item)
        if event is not None:
            self._view.feed(event)
        elif is_response(item):
            self._take_response(item)
        elif text and not isinstance(item, StreamEvent):
            self._texts_of((None, "text")).append(text)
        elif hasattr(type(item), "completions"):  # a ``Prediction``, the last that streamify yields
            self._prediction = item
        if text and (event is not None or self._plain):
            self._texts += event is None
            if self._first is None:
                self._first = time.monotonic() - self._started
        if isinstance(item, Done):
            self._prediction = item.prediction
        elif isinstance(item, Error):
            self.error = item.error
        if self._on_item is not None:
            self._on_item(item)

    def _take_response(self, response: Any) -> None:
        owner = (response.predict_name, response.signature_field_name)
        texts = self._texts_of(owner, author_of(response))
        if not is_reset(response):
            texts.append(response.chunk)
            return
        texts[:] = [response.text]
        if response.reason != "corrected":
            self._superseded.add((response.call_id, response.attempt))

    def _texts_of(self, owner: Owner, call: Hashable = None) -> list[str]:
        return self._plain.setdefault(owner, {}).setdefault(call, [])

    def returned(self, items: Any) -> None:
        """The items are over, and their program has returned."""
        if (value := getattr(items, "value", None)) is not None:
            self._prediction = value

    def ended(self) -> Collected:
        """The whole, once nothing more will come."""
        duration = time.monotonic() - self._started
        totals = self._view.end or Totals(duration=duration, time_to_first_token=self._first)
        return Collected(
            fields=self._fields(),
            error=self.error,
            prediction=self._prediction,
            token_count=self._view.token_count + self._texts,
            retries=self._view.retries + len(self._superseded),
            **{name: getattr(totals, name) for name in own_fields(Totals)},
        )

    def _fields(self) -> dict[str, str]:
        texts = self._view.texts() if self.error is None else self._view.last_texts()
        for owner, calls in self._plain.items():
            texts[owner] = "".join(text for call in calls.values() for text in call)
        names = [name for _, name in texts]
        return {
            name if names.count(name) == 1 else qualified(predictor, name): text
            for (predictor, name), text in texts.items()
        }


def collect(source: Any) -> Collected:
    """Read a stream to its end, in this thread."""
    with Collector() as collector, opened(source) as items:
        for item in items:
            collector.feed(item)
        collector.returned(items)
    return collector.ended()


async def acollect(source: Any, on_item: OnItem | None = None) -> Collected:
    """The same on an event loop. ``on_item`` gets each item."""
    with Collector(on_item) as collector:
        async with aopened(source) as items:
            async for item in items:
                collector.feed(item)
            collector.returned(items)
    return collector.ended()


def collect_stream(stream: Any) -> Collected:
    """Read a stream to its end: a ``Collected`` with text per field, usage and times.

    Always returns a ``Collected``. In synchronous code it is complete. On an event loop it is
    complete once awaited, ``await collect_stream(stream)``; using it without ``await`` reads the
    stream there and then, which blocks the loop. ``acollect_stream`` is a plain coroutine.

    A stream that fails gives its text until then and its ``error``; ``.result()`` raises that.

    Raises:
        TypeError: ``stream`` cannot be iterated over.
        StreamllError: it has been read to its end already.
    """
    checked(stream)
    return Collected.later(functools.partial(collect, stream), functools.partial(acollect, stream))


async def acollect_stream(stream: Any) -> Collected:
    """``collect_stream`` as a coroutine: the same ``stream``, the same result."""
    return await collect_stream(stream)
