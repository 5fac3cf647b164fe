"""``streamll demo``: programs streamed live, from a practice model or a real one.

``--web`` shows another one in the viewer (``demo_web``). Else, after a program in the terminal view, come four modes: one stream, several at once, several merged,
and one with provider errors. Each is written as a user of ``SafeDSpyStream`` would write it. Where
standard output is no terminal, only final states are printed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

from typer import Option

from streamll.cli.chat import ChatScreen, TypingOut
from streamll.cli.command import BaseURL, Pace, Problem, ViewChoice, ViewOption
from streamll.cli.models import PACE_S, PRACTICE, language_model, practice_lm, practice_server
from streamll.cli.showing import Showing
from streamll.terminal.text import head

if TYPE_CHECKING:
    from streamll.streams.progress import Follower
    from streamll.testing import PracticeServer, RecordedRequest

QUESTION = "Why does a streamed answer feel faster?"
SIMPLE = "Explain async programming"
QUESTIONS = ("What is Rust?", "What is Python?", "What is DSPy?")
UNLUCKY = "Why should retries wait?"
ANSWERS = {
    SIMPLE: "Async programming lets one thread take care of many things that "
    "wait. A function that would block says await instead, hands the thread back, and goes on when "
    "its data is there. So ten thousand open connections need an event loop, not ten thousand "
    "threads.",
    "What is Rust?": "Rust is a systems programming language. Its compiler checks who owns each "
    "value and for how long, so programs are free of data races and of use after free without a "
    "garbage collector.",
    "What is Python?": "Python is a high-level interpreted language that reads almost like the "
    "sentence you would have said. It is at home in scripts, in data science and in the web.",
    "What is DSPy?": "DSPy is a framework for programming language models: you declare what goes in "
    "and what comes out, and optimizers find the prompts.",
    UNLUCKY: "A service in trouble is not helped by everybody asking again at "
    "once. Waiting twice as long each time gives it room, and a little chance in each wait keeps "
    "the clients from coming back all together.",
}
BAR_CELLS = 20
USUAL_TOKENS = 40
"""Of the answers above."""

Mode = Callable[[str | None, "PracticeServer | None"], None]
"""Shows something with the user's question, and the practice server if that answers."""


def demo(
    model: Annotated[
        str | None,
        Option(
            metavar="NAME",
            help="Ask a real model, e.g. openai/gpt-4o-mini; auto takes the provider whose key is "
            "in the environment. Default: a practice model on this machine, no key needed.",
        ),
    ] = None,
    base_url: BaseURL = None,
    mode: Annotated[
        str | None,
        Option(
            metavar="MODE",
            help="simple, concurrent, aggregate or recovery. Default: a ChainOfThought program in "
            "the terminal view, then all four.",
        ),
    ] = None,
    question: Annotated[str | None, Option(help="What to ask.", show_default=False)] = None,
    pace: Pace = PACE_S,
    view: ViewOption = ViewChoice.auto,
    web: Annotated[
        bool,
        Option("--web", help="Show an agent in the viewer instead, with tools and two branches."),
    ] = False,
) -> None:
    """Watch programs answer questions. One, several at once, merged, and with a failing provider."""
    if web and (mode or question or view is not ViewChoice.auto):
        raise Problem("--web asks questions of its own: leave out --mode, --question and --view")
    if mode is not None and mode not in MODES:
        raise Problem(f"--mode takes {', '.join(MODES)}, not {mode!r}")
    if model is None:
        other = "streamll demo --model openai/gpt-4o-mini asks a real one"
        print(f"A practice model on this machine answers; {other}.\n", file=sys.stderr, flush=True)
    with ExitStack() as stack:
        server: PracticeServer | None = None
        if model is None or model == PRACTICE:
            server = stack.enter_context(practice_server(base_url, pace))
            server.respond(known_answer)
            lm = practice_lm(server)
        else:
            lm = stack.enter_context(language_model(model, base_url))
        import dspy

        stack.enter_context(dspy.context(lm=lm))
        if web:
            from streamll.cli.demo_web import show_demo

            show_demo(server)
            return
        if mode is not None:
            MODES[mode](question, server)
            return
        program = dspy.ChainOfThought("question -> answer")
        Showing(view.value).run(program, {"question": question or QUESTION})
        for name, show in MODES.items():
            print(f"\n── {name} ".ljust(60, "─"), flush=True)
            show(question, server)


def known_answer(request: RecordedRequest) -> dict[str, str] | None:
    """One of the answers above, where the prompt asks for nothing but an answer."""
    known = ANSWERS.get(request.inputs.get("question", ""))
    fields = [field.name for field in request.prompt.fields]
    return {"answer": known} if known is not None and fields == ["answer"] else None


def questions(question: str | None) -> tuple[str, ...]:
    """What the modes with several streams ask: the user's question among them."""
    return QUESTIONS if question is None else (question, *QUESTIONS[:2])


def typing() -> TypingOut:
    """Writes an answer; on a terminal no word is broken at its edge."""
    screen = ChatScreen()
    return TypingOut(screen.write, screen.width, "")


def say(text: str = "", end: str = "\n") -> None:
    print(text, end=end, flush=True)


def simple(question: str | None, server: PracticeServer | None) -> None:
    """One question, its text as it arrives."""
    from streamll import SafeDSpyStream, StreamEvent

    question = question or SIMPLE
    say(f"Question: {question}\n")
    written = typing()
    written.add("Answer: ")
    began = time.monotonic()
    try:
        for event in SafeDSpyStream(question):
            match event:
                case StreamEvent.Token(text):
                    written.add(text)
                case StreamEvent.Error(error):
                    raise error
    finally:
        written.end()
        say()
    say(f"Duration: {time.monotonic() - began:.3f}s")


def concurrent(question: str | None, server: PracticeServer | None) -> None:
    """Several questions at once, a bar for each."""
    from streamll import gather_streams
    from streamll.streams.progress import Follower, live_lines

    asked = questions(question)
    say(f"Processing {len(asked)} questions concurrently...\n")
    followers = [
        Follower(head(f"Q{n}: {each}", 40), usual=USUAL_TOKENS) for n, each in enumerate(asked, 1)
    ]
    width = max(len(follower.name) for follower in followers)
    began = time.monotonic()
    with live_lines(lambda: [bar(follower, width) for follower in followers]):
        results = gather_streams(asked, on_event=lambda n, event: followers[n].feed(event))
    elapsed = time.monotonic() - began
    tokens = sum(result.completion_tokens or result.token_count for result in results)
    say(f"\nAll streams completed in {elapsed:.3f}s")
    say(f"Total tokens: {tokens}")
    say(f"Average: {tokens / elapsed:.0f} tokens/s")
    for result in results:
        if result.error is not None:
            raise result.error


def bar(follower: Follower, width: int) -> str:
    """One line: ``Q1: What is Rust? [=====>              ] 35%``."""
    filled = int(follower.fraction * BAR_CELLS)
    drawn = ("=" * filled + ">").ljust(BAR_CELLS)[:BAR_CELLS]
    failed = "  failed" if follower.state == "failed" else ""
    return f"{follower.name:<{width}} [{drawn}] {follower.fraction:.0%}{failed}"


def aggregate(question: str | None, server: PracticeServer | None) -> None:
    """Several streams merged into one, each text with its source."""
    from streamll import SafeDSpyStream, StreamEvent, aggregate_streams
    from streamll.streams.progress import live_lines

    asked = questions(question)
    say(f"Merging {len(asked)} streams...\n")
    texts = [""] * len(asked)
    complete = 0
    began = time.monotonic()
    merged = aggregate_streams([SafeDSpyStream(each) for each in asked])
    with live_lines(lambda: [f"[Stream {n}] {text}" for n, text in enumerate(texts, 1)]):
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


def recovery(question: str | None, server: PracticeServer | None) -> None:
    """A provider that fails: each attempt, and one complete answer in the end."""
    import dspy

    import streamll
    from streamll.capture.inside_dspy import HAS_ENGINES
    from streamll.core.events import LMSuperseded, LMWaiting, TokenEvent

    question = question or UNLUCKY
    if server is not None:
        from streamll.testing import Fault, Reply

        def cut(request: RecordedRequest) -> Reply:
            return Reply(known_answer(request), fault=Fault(disconnect_after=24))

        server.script(Fault(status=500), Fault(status=429, retry_after=0.5), cut)
    say(f"Question: {question}\n")
    began = time.monotonic()
    config = None  # the LM's own retries
    if HAS_ENGINES:
        config = streamll.StreamConfig(
            max_retries=3, retry_delay=0.5, first_token_timeout=30, idle_timeout=30
        )
    stream = streamll.stream(dspy.Predict("question -> answer"), config=config)
    retries = characters = 0
    delay = 0.0
    written = typing()
    try:
        with stream(question=question) as events:
            for event in events:
                match event:
                    case TokenEvent(token=text) if text:
                        written.add(text if characters else f"Answer: {text}")
                        characters += len(text)
                    case LMWaiting(reason="retry"):
                        delay = event.delay or 0.0
                    case LMSuperseded(reason=reason):
                        retries += 1
                        after = f" after {characters} characters" if characters else ""
                        written.end()
                        waited = f"; waited {delay:.1f}s" if delay else ""
                        say(f"[Retry {retries}] {reason}{after}{waited}, asking again")
                        characters = 0
    finally:
        written.end()
    times = "1 retry" if retries == 1 else f"{retries} retries"
    say(f"\nRecovered after {times}" if retries else "\nNo retry was needed")
    say(f"Duration: {time.monotonic() - began:.3f}s")


MODES: dict[str, Mode] = {mode.__name__: mode for mode in (simple, concurrent, aggregate, recovery)}
