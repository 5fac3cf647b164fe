"""The demo's modes: one stream, several at once, several merged, and one that has bad luck.

Each is what a user of ``SafeDSpyStream`` would write, printed in the formats of the example that
these names come from. Where standard output is no terminal, only what is final is printed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamll import StreamConfig
    from streamll.streams.progress import Follower
    from streamll.testing import PracticeServer

SIMPLE = "Explain async programming"
QUESTIONS = ("What is Rust?", "What is Python?", "What is DSPy?")
UNLUCKY = "Why should retries wait?"
BAR = 20
"""Characters of a progress bar."""


class Demonstration:
    """What to ask; ``practice`` is the server that answers, where it is ours."""

    def __init__(self, question: str | None, practice: PracticeServer | None) -> None:
        self.question = question
        self.practice = practice


def say(text: str = "", end: str = "\n") -> None:
    print(text, end=end, flush=True)


def simple(shown: Demonstration) -> None:
    """One question, its text as it comes."""
    from streamll import DSpyStream

    question = shown.question or SIMPLE
    say(f"Question: {question}\n")
    say("Answer: ", end="")
    began = time.monotonic()
    try:
        for text in DSpyStream(question):
            say(text, end="")
    finally:
        say("\n")
    say(f"Duration: {time.monotonic() - began:.3f}s")


def concurrent(shown: Demonstration) -> None:
    """Several questions at once, a bar for each."""
    from streamll import gather_streams
    from streamll.streams.progress import Follower, LiveLines

    del shown
    say(f"Processing {len(QUESTIONS)} questions concurrently...\n")
    followers = [Follower(f"Q{n}: {question}") for n, question in enumerate(QUESTIONS, 1)]
    width = max(len(follower.name) for follower in followers)
    began = time.monotonic()
    with LiveLines(lambda: [bar(follower, width) for follower in followers]):
        results = gather_streams(
            QUESTIONS, on_event=lambda place, event: followers[place].feed(event)
        )
    elapsed = time.monotonic() - began
    tokens = sum(result.completion_tokens or result.tokens for result in results)
    say(f"\nAll streams completed in {elapsed:.3f}s")
    say(f"Total tokens: {tokens}")
    say(f"Average: {tokens / elapsed:.0f} tokens/s")
    for result in results:
        if result.error is not None:
            raise result.error


def bar(follower: Follower, width: int) -> str:
    """One line: ``Q1: What is Rust? [=====>              ] 35%``."""
    filled = int(follower.fraction * BAR)
    drawn = "=" * BAR if filled == BAR else "=" * filled + ">" + " " * (BAR - filled - 1)
    failed = "  failed" if follower.state == "failed" else ""
    return f"{follower.name:<{width}} [{drawn}] {follower.fraction:.0%}{failed}"


def aggregate(shown: Demonstration) -> None:
    """Several streams merged into one, each text with its source."""
    from streamll import SafeDSpyStream, StreamEvent, aggregate_streams
    from streamll.streams.progress import LiveLines

    del shown
    say(f"Merging {len(QUESTIONS)} streams...\n")
    texts = [""] * len(QUESTIONS)
    complete = 0
    began = time.monotonic()
    merged = aggregate_streams([SafeDSpyStream(question) for question in QUESTIONS])
    with LiveLines(lambda: [f"[Stream {n}] {text}" for n, text in enumerate(texts, 1)]):
        for source, event in merged:
            assert isinstance(source, int)
            match event:
                case StreamEvent.Token(text):
                    texts[source] += text
                case StreamEvent.Reset():
                    texts[source] = ""
                case StreamEvent.Done():
                    complete += 1
                case StreamEvent.Error(error):
                    texts[source] += f" [Error: {type(error).__name__}]"
    elapsed = time.monotonic() - began
    say(f"\nAggregation complete: {complete} responses, {elapsed:.3f}s")


def recovery(shown: Demonstration) -> None:
    """A provider with faults: each attempt, and one clean answer in the end."""
    from streamll import StreamConfig, StreamEvent
    from streamll.core.events import LMSuperseded, LMWaiting

    question = shown.question or UNLUCKY
    if shown.practice is not None:
        from streamll.cli.demo_answers import answer
        from streamll.testing import Fault, RecordedRequest, Reply

        def cut(request: RecordedRequest) -> Reply:
            return Reply(answer(request), fault=Fault(disconnect_after=24))

        shown.practice.script(Fault(status=500), Fault(status=429, retry_after=0.5), cut)
    say(f"Question: {question}\n")
    began = time.monotonic()
    attempts = Attempts()
    config = StreamConfig(max_retries=3, retry_delay=0.5, first_token_timeout=30, idle_timeout=30)
    for event in attempts.events(question, config):
        match event:
            case LMWaiting(reason="retry"):
                attempts.failed(event.delay or 0.0)
            case LMSuperseded():
                attempts.superseded(event.reason)
            case StreamEvent.Token(text):
                attempts.token(text)
            case StreamEvent.Done():
                attempts.over()
            case StreamEvent.Error(error):
                attempts.over()
                raise error
    retries = "1 retry" if attempts.count == 1 else f"{attempts.count} retries"
    say(f"\nRecovered after {retries}" if attempts.count else "\nNo retry was needed")
    say(f"Duration: {time.monotonic() - began:.3f}s")


class Attempts:
    """Prints the attempts at one answer."""

    def __init__(self) -> None:
        self.count = 0
        self._characters = 0
        self._delay = 0.0

    def events(self, question: str, config: StreamConfig) -> Iterator[Any]:
        """The stream's events, and in between what ``StreamEvent`` has for them."""
        import dspy

        import streamll
        from streamll.core.events import LMSuperseded, LMWaiting
        from streamll.streams.stream_events import Translator

        translator = Translator()
        stream = streamll.stream(dspy.Predict("question -> answer"), config=config)
        with stream(question=question) as events:
            try:
                for event in events:
                    if isinstance(event, (LMWaiting, LMSuperseded)):
                        yield event
                    yield from translator.feed(event)
            except Exception as error:  # noqa: BLE001 - printed as the last event
                yield translator.failed(error)
            else:
                yield translator.done(events.value)

    def token(self, text: str) -> None:
        if not self._characters:
            say("Answer: ", end="")
        self._characters += len(text)
        say(text, end="")

    def failed(self, delay: float) -> None:
        self._delay = delay

    def superseded(self, reason: str) -> None:
        self.count += 1
        what = f"{reason} after {self._characters} characters" if self._characters else reason
        self.over()
        say(f"[Retry {self.count}] {what}; waited {self._delay:.1f}s, asking again")
        self._characters = 0

    def over(self) -> None:
        if self._characters:
            say()


MODES: dict[str, Callable[[Demonstration], None]] = {
    "simple": simple,
    "concurrent": concurrent,
    "aggregate": aggregate,
    "recovery": recovery,
}
