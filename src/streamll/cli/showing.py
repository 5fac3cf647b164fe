"""Where a run's events go: a terminal, JSON lines, a page, a recording, a log; several at once."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from streamll.cli.command import FAILED, Problem
from streamll.core.errors import BrokerError, ConfigurationError, UnknownFieldError

if TYPE_CHECKING:
    from streamll.serve.viewer.web_view import WebView
    from streamll.sinks.base import BaseSink
    from streamll.sinks.terminal import Mode


@dataclass(frozen=True)
class Showing:
    """What is to be done with the events of a run.

    In the terminal it is shown as ``view`` says, unless its events go to ``lines`` or to a page
    (``web``). ``record`` and ``log`` keep it besides.
    """

    view: Mode = "auto"
    lines: IO[bytes] | None = None
    web: bool = False
    record: Path | None = None
    log: str | None = None

    def run(self, program: Any, inputs: dict[str, Any], fields: Sequence[str] = ("*",)) -> None:
        """Call ``program`` and show its run. Raises what the program raises.

        With ``web`` this ends when the user ends the page.
        """
        with ExitStack() as opened:
            sinks: list[Any] = []
            if self.log is not None:
                sinks.append(opened.enter_context(_kept_in(self.log)))
            if self.record is not None:
                opened.enter_context(_recorded_in(self.record))
            if not self.web:
                self._call(program, inputs, fields, sinks)
                return
            view = opened.enter_context(web_page("run --web"))
            try:
                self._call(program, inputs, fields, [*sinks, view.sink])
            except Exception:
                with suppress(KeyboardInterrupt):
                    keep_open("The program failed; Ctrl-C ends the page")
                raise
            keep_open("Done; Ctrl-C ends the page")

    def _call(
        self, program: Any, inputs: dict[str, Any], fields: Sequence[str], sinks: list[Any]
    ) -> None:
        import streamll
        from streamll.core.wire import encode
        from streamll.sinks.terminal import TerminalSink

        if self.lines is None and not self.web:
            sinks = [TerminalSink(self.view), *sinks]
        answered = any(getattr(each, "takes_answers", False) for each in sinks)
        try:
            streamed = streamll.stream(
                program, fields=fields, sinks=sinks, keep_text=False, questions=answered
            )
        except (UnknownFieldError, ConfigurationError) as error:
            raise Problem(str(error)) from error
        with streamed(**inputs) as events:
            if self.log is not None:
                print(f"streamll: the log has this as run {events.run_id}", file=sys.stderr)
            if self.lines is not None:
                for event in events:
                    self.lines.write(encode(event) + b"\n")
            events.result()


@contextmanager
def _kept_in(url: str) -> Iterator[BaseSink]:
    """A sink that writes to a log. ``Problem`` if it is away, before the program costs anything."""
    import asyncio

    from streamll.brokers.copying import log_exists
    from streamll.brokers.log_files import create_parent_folder
    from streamll.brokers.opening import default_target, open_sink
    from streamll.core.urls import without_password

    sink = open_sink(url)
    create_parent_folder(url)
    try:
        asyncio.run(log_exists(url, default_target(url)))
    except BrokerError as error:
        raise Problem(f"--log: {error}", FAILED) from None
    try:
        yield sink
    finally:
        done = sink.stop()
    counts = sink.statistics()
    if not done or counts.failed or counts.dropped:
        raise Problem(f"not all of the run could be written to {without_password(url)}", FAILED)


@contextmanager
def _recorded_in(path: Path) -> Iterator[None]:
    from streamll.testing import record

    with ExitStack() as recording:
        try:
            recording.enter_context(record(path))
        except OSError as error:
            raise Problem(f"--record: cannot write {path}: {error.strerror}") from None
        yield


@contextmanager
def web_page(what: str) -> Iterator[WebView]:
    """A page of this process, whose address is told; ``what`` needs it."""
    from streamll.exports import imported

    module = imported("streamll.serve.viewer.web_view", what)
    view: WebView = module.WebView()
    try:
        module.announce(view.url)
        yield view
    finally:
        view.stop()


def keep_open(said: str) -> None:
    """Say so, and wait for Ctrl-C (``KeyboardInterrupt``)."""
    print(said, flush=True)
    while True:
        time.sleep(3600)


@contextmanager
def own_output() -> Iterator[IO[bytes]]:
    """Standard output for the command alone: what a program prints meanwhile, and what the
    processes print that it starts, goes to standard error.
    """
    stdout = sys.stdout
    stdout.flush()
    with redirect_stdout(sys.stderr), ExitStack() as undo:
        try:
            number, errors = stdout.fileno(), sys.stderr.fileno()
        except (OSError, ValueError):  # neither is a file
            yield stdout.buffer
            return
        lines = undo.enter_context(os.fdopen(os.dup(number), "wb", buffering=0))
        os.dup2(errors, number)
        undo.callback(os.dup2, lines.fileno(), number)
        yield lines
