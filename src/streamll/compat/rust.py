"""Questions as streams: ``DSpyStream``, ``SafeDSpyStream`` and what works on many of them.

A question runs ``dspy.Predict("question -> answer")``; a program with its inputs works as well.
Both classes are made of ``streamll.stream``: they start with the first item that is asked for, are
read once, with ``for`` or ``async for``, and stop the program when they are left.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, TypeVar, overload

import dspy

from streamll.capture.policy.providers import key_of_program
from streamll.capture.run.frames import predictors_of
from streamll.capture.stream import Call, stream
from streamll.core.errors import ConfigurationError, ReplySuperseded
from streamll.core.events import Event, FieldCorrected, LMSuperseded, TokenEvent
from streamll.core.run_view import RunView
from streamll.flow.bridge import Derived, checked_each
from streamll.flow.config import StreamConfig
from streamll.flow.limits import Rate, slots_for
from streamll.flow.waiting import on_event_loop
from streamll.streams.collect import Collected, acollect
from streamll.streams.later import Later
from streamll.streams.stream_events import StreamEvent, Translator

T = TypeVar("T")
Q = TypeVar("Q", bound="QuestionStream[Any]")  # typing.Self needs Python 3.11

MAX_CONCURRENT = 8
"""Streams under way at once per key."""

CANCEL_TIMEOUT_S = 2.0
"""How long cancelled readers may take to close their streams."""

_depth: ContextVar[int] = ContextVar("streamll_gather_depth", default=0)
"""How many gathered streams this is inside of."""


class QuestionStream(Derived[T]):
    """A question, or a program with its inputs, to be streamed once."""

    read_once = "make another one to ask once more"

    def __init__(
        self,
        program: Any,
        config: StreamConfig | int | None,
        fields: str | Iterable[str],
        inputs: dict[str, Any],
        **forced: Any,
    ) -> None:
        if program is None:
            program = inputs.pop("question", None)
        question = program
        if program is None:
            raise ConfigurationError(
                f'{type(self).__name__} needs a question, such as "What is Rust?", or a program '
                "with its inputs"
            )
        if isinstance(program, str):
            if inputs.setdefault("question", program) != program:
                raise TypeError(f"{type(self).__name__} got two different questions")
            program = dspy.Predict("question -> answer")
        own = _input_names(program)
        options = {name: inputs.pop(name) for name in OPTIONS & set(inputs) - own}
        of_stream = {name: inputs.pop(name) for name in STREAM_OPTIONS & set(inputs) - own}
        if isinstance(question, str) and (unknown := set(inputs) - own - {"lm", "demos"}):
            raise TypeError(f"{type(self).__name__} has no option {min(unknown)!r}")
        if "on_partial" in forced and options.get("on_partial", "fail") != "fail":
            raise ConfigurationError(f"{type(self).__name__} can only have on_partial='fail'")
        self.config = dataclasses.replace(_config(config, options), **forced)
        self.program = program
        shown: dict[str, Any] = {
            "fields": fields,
            "config": self.config,
            "questions": None,
        }  # none are shown
        super().__init__(stream(program, **shown, **of_stream)(**inputs))

    def into_stream(self: Q) -> Q:  # noqa: PYI019
        """The stream itself, which the Rust example asks for by this name."""
        return self


class SafeDSpyStream(QuestionStream[StreamEvent]):
    r"""A bounded stream of ``StreamEvent``: tokens, then ``Done`` or ``Error``. It never raises.

    Args:
        question: a question, or a program, whose inputs are given by name.
        config: a ``StreamConfig``, or just its ``buffer_size``.
        fields: output fields whose text streams (default: all).
        inputs: the program's own. In place of ``config``, the options of ``StreamConfig`` can be
            given here by name (``timeout=30``), as well as ``sinks`` and ``keep_text`` of
            ``streamll.stream``, unless the program has inputs of these names.

    Raises:
        ConfigurationError: no question, or an option that cannot work.
        TypeError: two different questions.
        UnknownFieldError: a name in ``fields`` that no predictor has.

    Examples:
        >>> for event in SafeDSpyStream("What is Rust?", 100):  # doctest: +SKIP
        ...     match event:
        ...         case StreamEvent.Token(text): print(text, end="")
        ...         case StreamEvent.Reset(): print("\n[Again]")
        ...         case StreamEvent.Done(): print("\n[Complete]")
        ...         case StreamEvent.Error(error): print(f"\n[Error: {error}]")
    """

    def __init__(
        self,
        question: Any = None,
        /,
        config: StreamConfig | int | None = None,
        *,
        fields: str | Iterable[str] = "*",
        **inputs: Any,
    ) -> None:
        super().__init__(question, config, fields, inputs)
        self._translator = Translator()

    @classmethod
    def with_retry(
        cls,
        question: Any = None,
        /,
        buffer_size: int = 100,
        max_retries: int = 3,
        retry_delay: float = 2.0,
        **inputs: Any,
    ) -> SafeDSpyStream:
        """A stream with retries, as the Rust example writes it.

        Args:
            question: a question, or a program, whose inputs are given by name.
            buffer_size: events the reader may be behind (default 100).
            max_retries: further attempts of each LM call (default 3).
            retry_delay: seconds before the first of them (default 2); doubles each time.
            inputs: the program's own.
        """
        return cls(
            question,
            buffer_size=buffer_size,
            max_retries=max_retries,
            retry_delay=retry_delay,
            **inputs,
        )

    def _feed(self, event: Event) -> list[StreamEvent]:
        return self._translator.feed(event)

    def _end(self, error: Exception | None) -> list[StreamEvent]:
        if error is None:
            return [self._translator.done(self.value)]
        return [self._translator.failed(error)]


class DSpyStream(QuestionStream[str]):
    """The text of an answer as it comes: ``for token in DSpyStream("…")``.

    Text cannot be taken back, so a failure after the first token is an error; before, the call is
    retried. The arguments (``question``, ``config``, ``fields``, the program's ``inputs``) and the
    errors are those of ``SafeDSpyStream``; what the program raises is raised here as well.
    ``ReplySuperseded`` is raised where text no longer counts that was yielded: DSPy has asked again
    after a reply that it could not read, or has read a field otherwise than it was written.
    """

    def __init__(
        self,
        question: Any = None,
        /,
        config: StreamConfig | int | None = None,
        *,
        fields: str | Iterable[str] = "*",
        **inputs: Any,
    ) -> None:
        super().__init__(question, config, fields, inputs, on_partial="fail")
        self._view = RunView()

    def _feed(self, event: Event) -> tuple[str, ...]:
        if isinstance(event, (LMSuperseded, FieldCorrected)):
            before = self._view.whole_text()
            self._view.feed(event)
            return self._more_than(before)
        self._view.feed(event)
        return (event.token,) if isinstance(event, TokenEvent) and event.token else ()

    def _more_than(self, before: str) -> tuple[str, ...]:
        """What a correction adds to the text that was yielded; it cannot change that."""
        text = self._view.whole_text()
        if not text.startswith(before):
            raise ReplySuperseded(
                f"a text that no longer counts had been yielded, {len(before)} characters; "
                "SafeDSpyStream yields a Reset there instead"
            )
        return (text[len(before) :],) if text != before else ()


DSPyStream = DSpyStream


OPTIONS = frozenset(each.name for each in dataclasses.fields(StreamConfig))
STREAM_OPTIONS = frozenset({"keep_text", "sinks"})


def _input_names(program: Any) -> set[str]:
    """What the program takes by name, as far as that is known."""
    names = {
        name for _, predictor in predictors_of(program) for name in predictor.signature.input_fields
    }
    function = program
    if isinstance(program, dspy.Module):  # DSPy warns on access to ``program.forward``
        function = getattr(type(program), "forward", program)
    with contextlib.suppress(TypeError, ValueError):  # it has no signature
        names |= set(inspect.signature(function).parameters)
    return names


def _config(config: StreamConfig | int | None, options: dict[str, Any]) -> StreamConfig:
    if isinstance(config, int) and "buffer_size" not in options:
        return StreamConfig(buffer_size=config, **options)
    if config is None:
        return StreamConfig(**options)
    if not isinstance(config, (StreamConfig, int)):
        raise ConfigurationError(
            f"config is a StreamConfig or a buffer size, not {type(config).__name__}"
        )
    if options:
        names = ", ".join(sorted(options))
        raise ConfigurationError(f"{names} cannot be given beside a config, which has it as well")
    return config  # type: ignore[return-value]


@dataclasses.dataclass(slots=True, eq=False, repr=False)
class Gathered(Later, Sequence[Collected]):
    """The results of many streams, in their order. See ``gather_streams``."""

    results: list[Collected]

    @overload
    def __getitem__(self, index: int) -> Collected: ...
    @overload
    def __getitem__(self, index: slice) -> list[Collected]: ...
    def __getitem__(self, index: int | slice) -> Collected | list[Collected]:
        return self.results[index]

    def __len__(self) -> int:
        return len(self.results)

    def __eq__(self, other: object) -> bool:
        return self.results == (other.results if isinstance(other, Gathered) else other)

    __hash__ = Later.__hash__

    def __repr__(self) -> str:
        return repr(self.results)


def gather_streams(
    streams: Iterable[Any],
    *,
    max_concurrent: int = MAX_CONCURRENT,
    rate: float | None = None,
    config: StreamConfig | None = None,
    on_event: Callable[[int, Any], None] | None = None,
) -> Gathered:
    """Run many streams, a few at a time; a ``Collected`` for each, in the order given.

    Always returns a ``Gathered``, a sequence of ``Collected``. In synchronous code it is complete.
    On an event loop it is complete once awaited, ``await gather_streams([…])``; using it without
    ``await`` runs the streams there and then, which blocks the loop. ``agather_streams`` is a plain
    coroutine. A stream that fails is a result, too: see ``Collected.error``.

    Args:
        streams: questions, ``SafeDSpyStream``s, calls such as ``streamll.stream(qa)(…)``, or
            anything else to iterate over.
        max_concurrent: at most so many at once per provider key, also together with other
            ``gather_streams`` in this process. Those that a gathered program makes itself count
            apart: it has a place as long as it waits for them.
        rate: at most so many begin per second.
        config: for those given as questions.
        on_event: called with the index of a stream and each of its items.

    Raises:
        TypeError: a single question, or a mapping, in place of a list.
        StreamllError: a stream is there twice, or has been read to its end already.
    """
    if isinstance(streams, (str, Mapping)):
        one = isinstance(streams, str)
        remedy = "put it into a list" if one else "gather its .values(), or aggregate_streams"
        raise TypeError(f"these are streams or questions, not a {type(streams).__name__}; {remedy}")
    asked = [SafeDSpyStream(each, config) if isinstance(each, str) else each for each in streams]
    sources = checked_each(asked)
    pace = Rate(rate) if rate is not None else None
    suspending = functools.partial(_gather, sources, max_concurrent, pace, on_event)

    def blocking() -> Gathered:
        if not on_event_loop():
            return asyncio.run(suspending())
        with ThreadPoolExecutor(1) as executor:  # a loop runs here already
            return executor.submit(asyncio.run, suspending()).result()

    return Gathered.later(blocking, suspending)


async def agather_streams(streams: Iterable[Any], **options: Any) -> Gathered:
    """``gather_streams`` as a coroutine: the same ``streams`` and options, the same result."""
    return await gather_streams(streams, **options)


async def _gather(
    sources: list[Any],
    max_concurrent: int,
    pace: Rate | None,
    on_event: Callable[[int, Any], None] | None,
) -> Gathered:

    async def read(index: int, source: Any) -> Collected:
        program = source.program if isinstance(source, (QuestionStream, Call)) else None
        depth = _depth.get()  # slots of its own: what waits for an inner stream keeps none from it
        slots = slots_for((key_of_program(program), depth))
        _depth.set(depth + 1)
        await slots.take_async(max_concurrent)
        try:
            if pace is not None:
                await asyncio.sleep(pace.reserve())
            return await acollect(source, on_event and functools.partial(on_event, index))
        finally:
            slots.give()

    tasks = [asyncio.create_task(read(index, source)) for index, source in enumerate(sources)]
    try:
        return Gathered(list(await asyncio.gather(*tasks)))
    finally:
        for task in tasks:
            task.cancel()
        if pending := [task for task in tasks if not task.done()]:
            await asyncio.wait(pending, timeout=CANCEL_TIMEOUT_S)


class ConcurrentStreamProcessor:
    """``gather_streams`` under the name of the Rust example.

    Args:
        max_concurrent: at most so many streams at once per provider key (default 8).
        config: retries and timeouts of those given as questions.
        rate: at most so many begin per second (default: any number).

    Raises:
        ConfigurationError: ``max_concurrent`` is less than 1.
    """

    def __init__(
        self,
        max_concurrent: int = MAX_CONCURRENT,
        config: StreamConfig | None = None,
        *,
        rate: float | None = None,
    ) -> None:
        if isinstance(max_concurrent, bool) or not max_concurrent >= 1:
            raise ConfigurationError(f"max_concurrent must be at least 1, not {max_concurrent!r}")
        self.max_concurrent = max_concurrent
        self.config = config
        self.rate = rate

    def process_batch(self, questions: Iterable[Any]) -> Gathered:
        """Run all ``questions``; a result for each, in their order. See ``gather_streams``.

        Raises:
            TypeError: a single question, or a mapping, in place of a list.
            StreamllError: a stream is there twice, or has been read to its end already.
        """
        return gather_streams(
            questions, max_concurrent=self.max_concurrent, rate=self.rate, config=self.config
        )
