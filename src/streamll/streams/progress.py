"""The progress of streams, drawn live with rich: a line each, with bar, tokens, pace and state.

On a terminal and in a notebook the lines redraw themselves. A terminal that cannot redraw
(``TERM=dumb``) gets one line when a stream ends; anything else, such as a pipe, gets nothing.

``Follower`` is the arithmetic (items in, numbers out); ``StreamProgress`` draws it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from streamll.core.events import LMSuperseded, LMWaiting, RunCancelled, RunEnd, RunError, TokenEvent
from streamll.streams.operators import Piped, Stage, Timed
from streamll.streams.stream_events import Done, Error, Reset, event_of, is_reset, text_of

if TYPE_CHECKING:
    from rich.console import Console

EXPECTED_TOKENS = 100
"""Assumed length of a stream of unknown length, until one has ended."""


class Follower:
    """One stream's progress. ``expected`` tokens are an estimate until it has ended."""

    def __init__(
        self,
        name: str,
        expected: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        usual: int = EXPECTED_TOKENS,
    ) -> None:
        self.name = name
        self.known = expected is not None
        self.expected = expected or usual
        self.token_count = 0
        self.state = "waiting"
        self.started = clock()
        self.first: float | None = None
        self.ended: float | None = None
        self._clock = clock

    def feed(self, item: Any) -> None:
        event = event_of(item)
        if text_of(item):
            self.token_count += event.count if isinstance(event, TokenEvent) else 1
            if self.first is None:
                self.first = self._clock()
            self.state = "streaming"
        elif (
            isinstance(item, Reset)
            or isinstance(event, LMSuperseded)
            or (is_reset(item) and item.reason != "corrected")
        ):
            self.token_count = 0
            self.state = "again"
        elif isinstance(event, LMWaiting):
            self.state = f"waits ({event.reason})"
        elif isinstance(item, Error) or isinstance(event, RunError):
            self.end("failed")
        elif isinstance(item, Done) or isinstance(event, RunEnd):
            self.end("done")
        elif isinstance(event, RunCancelled):
            self.end("cancelled")

    def end(self, state: str = "done") -> None:
        if self.ended is None:
            self.ended = self._clock()
            self.state = state

    @property
    def fraction(self) -> float:
        """The share that has come: exact if the length is known, else below 1 until the end."""
        if self.ended is not None:
            return 1.0 if self.state == "done" else min(1.0, self.token_count / self.expected)
        so_far = self.token_count / self.expected
        if self.known:
            return min(so_far, 1.0)
        return so_far * 0.8 if so_far < 1 else 1 - 0.2 / so_far

    @property
    def elapsed(self) -> float:
        return (self.ended or self._clock()) - self.started

    @property
    def time_to_first_token(self) -> float | None:
        return None if self.first is None else self.first - self.started

    @property
    def tokens_per_second(self) -> float:
        streaming = (self.ended or self._clock()) - (self.first or self.started)
        return self.token_count / streaming if self.token_count and streaming > 0 else 0.0


@contextmanager
def _redrawn(console: Console, render: Callable[[], Any], per_second: int) -> Iterator[bool]:
    """A block during which something redraws itself; yields False where that does not work."""
    if console.is_dumb_terminal or not _shows(console):
        yield False
        return
    from rich.live import Live

    with Live(console=console, get_renderable=render, refresh_per_second=per_second):
        console.show_cursor()  # a process that is killed could not show it again
        yield True


def _shows(console: Console) -> bool:
    return console.is_terminal or console.is_jupyter


class StreamProgress:
    """A ``with`` block that shows the progress of the streams followed inside.

    Args:
        console: the rich console to draw on; by default standard output.

    Examples:
        >>> with StreamProgress() as progress:  # doctest: +SKIP
        ...     for text in progress.follow(stream, "Q1: What is Rust?"):
        ...         ...
    """

    def __init__(self, *, console: Console | None = None) -> None:
        from rich.console import Console

        self.followers: list[Follower] = []
        self._console = console or Console()
        self._drawing = ExitStack()

    @property
    def shows(self) -> bool:
        """Whether this is a terminal or a notebook."""
        return _shows(self._console)

    def __enter__(self) -> StreamProgress:  # noqa: PYI034 - Self needs Python 3.11
        self._drawing.enter_context(_redrawn(self._console, self._render, 10))
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        for follower in self.followers:
            follower.end("done" if kind is None else "left")
        self._drawing.close()

    def add(self, name: str, expected: int | None = None) -> Follower:
        """A line for a stream; ``feed`` it what the stream yields.

        ``name`` is shown before the bar; ``expected`` tokens fill it (default: as many
        as the streams before had).
        """
        follower = Follower(name, expected, usual=self._usual())
        self.followers.append(follower)
        return follower

    def add_all(self, names: Iterable[str]) -> Callable[[int, Any], None]:
        """A line for each of ``names``; what to give ``gather_streams`` as ``on_event``."""
        followers = [self.add(name) for name in names]
        return lambda index, item: self.feed(followers[index], item)

    def feed(self, follower: Follower, item: Any) -> None:
        """Show what a stream has yielded (``item``) on its line (``follower``, from ``add``)."""
        had_ended = follower.ended is not None
        follower.feed(item)
        if had_ended or follower.ended is None:
            return
        if self.shows and self._console.is_dumb_terminal:
            self._console.print(_line(follower), highlight=False, markup=False)

    def follow(self, source: Any, name: str = "stream", expected: int | None = None) -> Piped:
        """The same stream as ``source``, and a line that shows its progress.

        ``name`` and ``expected`` are those of ``add``.
        """
        return Piped(source, lambda: _Following(self, name, expected))

    def _usual(self) -> int:
        lengths = [f.token_count for f in self.followers if f.state == "done" and f.token_count]
        return max(1, sum(lengths) // len(lengths)) if lengths else EXPECTED_TOKENS

    def _render(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 1))
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        table.add_column(width=24)
        for _ in range(5):
            table.add_column(justify="right", no_wrap=True)
        for each in self.followers[:]:
            style = {"done": "green", "failed": "red"}.get(each.state, "cyan")
            table.add_row(
                Text(each.name),
                ProgressBar(total=1.0, completed=each.fraction, width=24),
                f"{each.fraction:4.0%}",
                *_figures(each),
                Text(each.state, style=style),
            )
        return table


@contextmanager
def live_lines(
    lines: Callable[[], Iterable[str]], *, console: Console | None = None
) -> Iterator[None]:
    """A block during which a few lines redraw themselves.

    Where they cannot (a pipe, a file, a dumb terminal), they are printed once, when it ends.
    """
    from rich.console import Console
    from rich.text import Text

    console = console or Console(highlight=False, markup=False, emoji=False)
    with _redrawn(console, lambda: Text("\n".join(lines())), 12) as redraws:
        try:
            yield
        finally:
            if not redraws:
                for line in lines():
                    print(line, file=console.file, flush=True)


class _Following(Stage):
    """``drawn``: the display is this stream's alone, and shows for as long as it is read."""

    def __init__(
        self, progress: StreamProgress, name: str, expected: int | None, *, drawn: bool = False
    ) -> None:
        self._progress = progress
        self._follower = progress.add(name, expected)
        self._drawn = ExitStack()
        if drawn:
            self._drawn.enter_context(progress)

    def feed(self, item: Any) -> Iterable[Timed]:
        self._progress.feed(self._follower, item)
        return [(0.0, item)]

    def finish(self) -> Iterable[Timed]:
        self._follower.end("done")
        return ()

    def close(self) -> None:
        self._follower.end("left")  # unless it has ended
        self._drawn.close()


def with_progress(
    source: Any,
    name: str = "stream",
    *,
    expected: int | None = None,
    console: Console | None = None,
) -> Piped:
    """The same stream, with a line on the terminal that shows its progress.

    For several at once see ``StreamProgress``.

    Args:
        source: any stream.
        name: shown before the bar.
        expected: how many tokens fill the bar (default: a guess).
        console: the rich console to draw on; by default standard output.
    """

    def alone() -> Stage:
        return _Following(StreamProgress(console=console), name, expected, drawn=True)

    return Piped(source, alone)


def _figures(follower: Follower) -> tuple[str, str, str]:
    first = follower.time_to_first_token
    return (
        f"{follower.token_count} tokens",
        f"{follower.tokens_per_second:.0f}/s",
        "" if first is None else f"first {first * 1000:.0f} ms",
    )


def _line(follower: Follower) -> str:
    figures = ", ".join(filter(None, _figures(follower)))
    return f"{follower.name}: {follower.state}, {figures}, {follower.elapsed:.1f} s"
