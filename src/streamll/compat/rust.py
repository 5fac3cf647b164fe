"""Questions as streams: ``DSpyStream``, ``SafeDSpyStream`` and what works on many of them.

A question runs ``dspy.Predict("question -> answer")``; a program with its inputs works as well.
Both classes are shells around ``streamll.stream``: they start with the first item that is asked
for, are read once, with ``for`` or ``async for``, and stop the program when they are left.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Iterator
from typing import Any, Generic, TypeVar

import dspy

from streamll.capture.policy.providers import key_of_program
from streamll.capture.stream import AsyncStream, Call, Stream, stream
from streamll.core.errors import ConfigurationError, StreamCancelled
from streamll.core.events import TokenEvent
from streamll.flow.closing import Closing
from streamll.flow.config import StreamConfig
from streamll.streams.many import MAX_CONCURRENT, gather
from streamll.streams.stream_events import StreamEvent, Translator

T = TypeVar("T")


class _Asked(Closing, Generic[T]):
    """A question or a program with its inputs, to be streamed once."""

    def __init__(
        self,
        program: Any,
        config: StreamConfig,
        fields: str | Iterable[str],
        inputs: dict[str, Any],
    ) -> None:
        if program is None and "question" in inputs:
            program = inputs.pop("question")
        if program is None:
            raise ConfigurationError(
                f'{type(self).__name__} needs a question, such as "What is Rust?", or a program '
                "with its inputs"
            )
        if isinstance(program, str):
            inputs = {"question": program, **inputs}
            program = dspy.Predict("question -> answer")
        self.config = config
        self.program = program
        self._call: Call = stream(program, fields=fields, config=config)(**inputs)
        self._sync: Stream | None = None
        self._async: AsyncStream | None = None
        self._over = False

    @property
    def key(self) -> Hashable:
        """What this stream has in common with those that are paid for with the same key."""
        return key_of_program(self.program)

    def _opened(self) -> Stream:
        if self._sync is None:
            self._sync = self._call.__enter__()
            if self._over:  # another thread closed it while it began
                self._sync.close()
        return self._sync

    async def _aopened(self) -> AsyncStream:
        if self._async is None:
            self._async = await self._call.__aenter__()
        return self._async

    @property
    def value(self) -> Any:
        """What the program returned."""
        opened = self._sync or self._async
        return opened.value if opened is not None else None

    def close(self) -> None:
        """Stop reading; stops the program if it is still running. Any thread may do it."""
        self._over = True
        if self._sync is not None:
            self._sync.close()

    async def aclose(self) -> None:
        """The same for a stream that is read with ``async for``."""
        self._over = True
        if self._async is not None:
            await self._async.aclose()

    # Iterating makes a generator, so that leaving a loop closes the stream.

    def __iter__(self) -> Iterator[T]:
        try:
            while True:
                try:
                    item = next(self)
                except StopIteration:
                    return
                yield item
        finally:
            self.close()

    async def __aiter__(self) -> AsyncIterator[T]:
        try:
            while True:
                try:
                    item = await self.__anext__()
                except StopAsyncIteration:
                    return
                yield item
        finally:
            await self.aclose()

    @abstractmethod
    def __next__(self) -> T: ...

    @abstractmethod
    async def __anext__(self) -> T: ...


class SafeDSpyStream(_Asked[StreamEvent]):
    r"""A bounded stream of ``StreamEvent``: tokens, then ``Done`` or ``Error``; it never raises.

    >>> for event in SafeDSpyStream("What is Rust?", 100):  # doctest: +SKIP
    ...     match event:
    ...         case StreamEvent.Token(text): print(text, end="")
    ...         case StreamEvent.Reset(): print("\n[Again]")
    ...         case StreamEvent.Done(): print("\n[Complete]")
    ...         case StreamEvent.Error(error): print(f"\n[Error: {error}]")

    Args:
        question: a question, or a program, whose inputs are given by name.
        config: a ``StreamConfig``, or just its ``buffer_size``.
        fields: output fields whose text streams (default: all).
        inputs: the program's.

    Raises:
        ConfigurationError: no question, or an option that cannot work.
        UnknownFieldError: a name in ``fields`` that no predictor has.
    """

    def __init__(
        self,
        question: Any = None,
        /,
        config: StreamConfig | int | None = None,
        *,
        buffer_size: int | None = None,
        fields: str | Iterable[str] = "*",
        **inputs: Any,
    ) -> None:
        super().__init__(question, _config(config, buffer_size), fields, inputs)
        self._translator = Translator()
        self._ready: list[StreamEvent] = []

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
        """A stream that tries again: so often, first after so many seconds."""
        config = StreamConfig(
            buffer_size=buffer_size, max_retries=max_retries, retry_delay=retry_delay
        )
        return cls(question, config, **inputs)

    def into_stream(self) -> SafeDSpyStream:
        return self

    def __next__(self) -> StreamEvent:
        while not self._ready:
            if self._over:
                raise StopIteration
            try:
                event = next(self._opened())
            except StopIteration:
                self._end(None)
            except Exception as error:  # noqa: BLE001 - an item for the reader
                self._end(error)
            else:
                self._ready = self._translator.feed(event)
        return self._ready.pop(0)

    async def __anext__(self) -> StreamEvent:
        while not self._ready:
            if self._over:
                raise StopAsyncIteration
            try:
                event = await (await self._aopened()).__anext__()
            except StopAsyncIteration:
                self._end(None)
            except Exception as error:  # noqa: BLE001
                self._end(error)
            else:
                self._ready = self._translator.feed(event)
        return self._ready.pop(0)

    def _end(self, error: Exception | None) -> None:
        left = self._over and isinstance(error, StreamCancelled)
        self._over = True
        if error is None:
            self._ready = [self._translator.done(self.value)]
        elif not left:
            self._ready = [self._translator.failed(error)]


class DSpyStream(_Asked[str]):
    """The text of an answer as it comes: ``for token in DSpyStream("…")``.

    A reader of text cannot be told to forget some, so an attempt that is lost after the first
    token is an error; before, it is tried again. Errors are raised.
    """

    def __init__(
        self,
        question: Any = None,
        /,
        config: StreamConfig | None = None,
        *,
        fields: str | Iterable[str] = "*",
        **inputs: Any,
    ) -> None:
        config = dataclasses.replace(config or StreamConfig(), on_partial="fail")
        super().__init__(question, config, fields, inputs)

    def into_stream(self) -> DSpyStream:
        return self

    def __next__(self) -> str:
        while not self._over:
            event = next(self._opened())
            if isinstance(event, TokenEvent) and event.token:
                return event.token
        raise StopIteration

    async def __anext__(self) -> str:
        while not self._over:
            event = await (await self._aopened()).__anext__()
            if isinstance(event, TokenEvent) and event.token:
                return event.token
        raise StopAsyncIteration


DSPyStream = DSpyStream


def _config(config: StreamConfig | int | None, buffer_size: int | None) -> StreamConfig:
    if isinstance(config, int):
        config, buffer_size = None, config
    if not isinstance(config, (StreamConfig, type(None))):
        raise ConfigurationError(
            f"config is a StreamConfig or a buffer size, not {type(config).__name__}"
        )
    if buffer_size is None:
        return config or StreamConfig()
    if config is not None:
        raise ConfigurationError("buffer_size is given twice: by itself and in the config")
    return StreamConfig(buffer_size=buffer_size)


def gather_streams(
    streams: Iterable[Any],
    *,
    max_concurrent: int = MAX_CONCURRENT,
    rate: float | None = None,
    config: StreamConfig | None = None,
    on_event: Callable[[int, Any], None] | None = None,
) -> Any:
    """Run many streams, a few at a time; a ``Collected`` for each, in the order given.

    ``results = gather_streams([…])`` in synchronous code, ``await gather_streams([…])`` on an
    event loop. A stream that fails is a result, too: see ``Collected.error``.

    Args:
        streams: questions, ``SafeDSpyStream``s, calls such as ``streamll.stream(qa)(…)``, or
            anything else to iterate over.
        max_concurrent: at most so many at once per provider key, also together with other
            ``gather_streams`` in this process.
        rate: at most so many begin per second.
        config: for those given as questions.
        on_event: called with the place of a stream and each of its items.
    """
    asked = [SafeDSpyStream(each, config) if isinstance(each, str) else each for each in streams]
    return gather(
        asked, max_concurrent=max_concurrent, rate=rate, key_of=_key_of, on_event=on_event
    )


def _key_of(source: Any) -> Hashable:
    program = source.program if isinstance(source, (_Asked, Call)) else None
    return key_of_program(program)


class ConcurrentStreamProcessor:
    """``gather_streams`` under the name of the Rust example."""

    def __init__(
        self,
        max_concurrent: int = MAX_CONCURRENT,
        config: StreamConfig | None = None,
        *,
        rate: float | None = None,
    ) -> None:
        if isinstance(max_concurrent, bool) or max_concurrent < 1:
            raise ConfigurationError(f"max_concurrent must be at least 1, not {max_concurrent!r}")
        self.max_concurrent = max_concurrent
        self.config = config
        self.rate = rate

    def process_batch(self, questions: Iterable[Any]) -> Any:
        """See ``gather_streams``; ``await`` it on an event loop."""
        return gather_streams(
            questions, max_concurrent=self.max_concurrent, rate=self.rate, config=self.config
        )
