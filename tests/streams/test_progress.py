"""B10: progress as numbers, and drawn where it can be."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

import streamll
from streamll import streams
from streamll.core.events import Identity, LMSuperseded, LMWaiting, RunEnd, RunError, TokenEvent
from streamll.streams.progress import Follower, StreamProgress, live_lines
from streamll.streams.stream_events import Done, Error, Reset, Token


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def token(count=1):
    return TokenEvent(field="answer", token="x", count=count, identity=Identity(run_id="r"))


def test_a_follower_counts_tokens_pace_and_state():
    clock = Clock()
    follower = Follower("Q1", 10, clock)
    assert (follower.state, follower.fraction) == ("waiting", 0.0)
    clock.now = 0.5
    for item in (token(), "text", Token("x", token(3))):
        follower.feed(item)
    assert (follower.token_count, follower.state, follower.fraction) == (5, "streaming", 0.5)
    assert follower.time_to_first_token == 0.5
    clock.now = 1.0
    assert follower.tokens_per_second == 10.0
    follower.feed(LMWaiting(reason="retry", delay=1.0))
    assert follower.state == "waits (retry)"
    follower.feed(LMSuperseded(reason="TransportError"))
    assert (follower.token_count, follower.state) == (0, "again")
    follower.feed(token())
    follower.feed(RunEnd())
    assert (follower.state, follower.fraction, follower.ended) == ("done", 1.0, 1.0)


def test_a_follower_begins_again_where_streamify_takes_text_back():
    follower = Follower("Q1", 10)
    follower.feed(streamll.StreamResponse("self", "answer", "x", is_last_chunk=False))
    reset = streamll.StreamReset("self", "answer", "", is_last_chunk=False)
    reset.reason = "TransportError"
    follower.feed(reset)
    assert (follower.token_count, follower.state) == (0, "again")


@pytest.mark.parametrize(
    ("item", "state"),
    [
        (Done(), "done"),
        (Error(ValueError()), "failed"),
        (RunError(error_type="E", message=""), "failed"),
    ],
)
def test_how_a_stream_ended(item, state):
    follower = Follower("Q1")
    follower.feed(item)
    assert follower.state == state


def test_an_estimate_never_says_that_it_is_over_before_it_is():
    follower = Follower("Q1")
    seen = [0.0]
    for _ in range(1000):
        follower.feed("x")
        assert seen[-1] <= follower.fraction < 1
        seen.append(follower.fraction)
    follower.feed(Reset())
    assert follower.fraction == 0
    follower.feed(Done())
    assert follower.fraction == 1


def terminal(**options):
    return Console(file=io.StringIO(), force_terminal=True, width=100, **options)


def shown(console):
    return console.file.getvalue()


def test_a_terminal_shows_bar_tokens_pace_and_state():
    console = terminal()
    assert list(streams.with_progress("abc" and iter("abc"), "Q1", expected=3, console=console)) == [
        "a", "b", "c",
    ]  # fmt: skip
    text = shown(console)
    for part in ("Q1", "100%", "3 tokens", "/s", "first ", "done", "\x1b[?25h"):
        assert part in text


def test_several_streams_each_have_a_line():
    console = terminal()
    with StreamProgress(console=console) as progress:
        hear = progress.add_all(["one", "two"])
        hear(0, "x")
        hear(0, Done())
        hear(1, Error(ValueError()))
        assert list(progress.follow(iter("ab"), "three")) == ["a", "b"]
    text = shown(console)
    for part in ("one", "two", "three", "failed", "done"):
        assert part in text
    assert progress.followers[2].expected == 1  # as long as those that have ended


def test_a_dumb_terminal_gets_one_line_per_stream(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    console = terminal()
    with StreamProgress(console=console) as progress:
        hear = progress.add_all(["Q1"])
        hear(0, "x")
        hear(0, Done())
    (line,) = shown(console).splitlines()
    assert line.startswith("Q1: done, 1 tokens, ")
    assert "\x1b" not in line


def test_nothing_where_nobody_looks():
    console = Console(file=io.StringIO())
    assert list(streams.with_progress(iter("ab"), console=console)) == ["a", "b"]
    assert shown(console) == ""


def test_a_notebook_is_no_terminal_but_shows_it():
    console = Console(file=io.StringIO(), force_jupyter=True)
    assert StreamProgress(console=console).shows


def test_the_terminal_is_restored_when_the_reader_leaves():
    console = terminal()
    stream = iter(streams.with_progress(iter("abc"), console=console))
    next(stream)
    stream.close()
    assert shown(console).rstrip().endswith("\x1b[?25h")
    assert "left" in shown(console)


def test_live_lines_are_printed_once_where_they_cannot_be_redrawn():
    lines = ["first"]
    console = Console(file=io.StringIO())
    with live_lines(lambda: lines, console=console):
        lines[0] = "last"
    assert shown(console) == "last\n"
