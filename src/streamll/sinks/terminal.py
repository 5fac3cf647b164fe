"""The sink that shows runs where the program runs: the default if there is no other receiver.

Whoever sits there is asked what a run asks, if standard input is the terminal as well.

Live if standard output is a terminal or a notebook, plain lines otherwise. The drawing itself is
in ``streamll.terminal``.
"""

from __future__ import annotations

import os
import sys
import weakref
from typing import TYPE_CHECKING, Any, Literal, TextIO, get_args

from streamll.core import events as ev
from streamll.core.errors import ConfigurationError
from streamll.core.events import Event
from streamll.flow.buffer import Policy
from streamll.sinks.base import BaseSink
from streamll.terminal.output import Output, is_terminal

if TYPE_CHECKING:
    from streamll.terminal.lines import LineView
    from streamll.terminal.live import LiveView

Mode = Literal["auto", "live", "plain"]


class TerminalSink(BaseSink):
    """Shows runs on a terminal, and asks there what they ask (``streamll.ask``).

    It asks where standard input is a terminal, too; not in a notebook, and not on Windows.

    Args:
        mode: ``"live"`` draws runs as they grow, ``"plain"`` writes one line per event
            (``[TOKEN] answer: "Machine"``), ``"auto"`` chooses: live on a terminal and in a
            notebook, plain for pipes, files and ``TERM=dumb``.
        file: where to write; by default the ``sys.stdout`` of the time when a run starts.
        width: columns to use instead of the terminal's own.
        height: rows, likewise.
        buffer_size: see ``BaseSink``.
        overflow: see ``BaseSink``.

    Raises:
        ConfigurationError: an unknown ``mode``.
    """

    def __init__(
        self,
        mode: Mode = "auto",
        *,
        file: TextIO | None = None,
        width: int | None = None,
        height: int | None = None,
        buffer_size: int = 10_000,
        overflow: Policy = "coalesce",
    ) -> None:
        super().__init__(buffer_size=buffer_size, overflow=overflow)
        if mode not in get_args(Mode):
            raise ConfigurationError(
                f"TerminalSink has no mode {mode!r}; there are {', '.join(get_args(Mode))}"
            )
        self.mode = mode
        self.file = file
        self.width = width
        self.height = height
        self._view: LiveView | LineView | None = None
        self._process = os.getpid()
        self._asked = _questions()

    @property
    def takes_answers(self) -> bool:
        """Whether somebody sits there who can be asked: not in a notebook, a pipe or a file."""
        from streamll.terminal import keyboard, notebook

        file = self.file if self.file is not None else sys.stdout
        return is_terminal(file) and keyboard.is_there() and not notebook.in_notebook()

    def take_question(self, question: Any) -> None:
        """A run is about to ask this, in a ``question`` event."""
        if self.takes_answers:
            self._asked[question.id] = question

    def handle_batch(self, events: list[Event]) -> None:
        while not (view := self._current_view()).show(events, id(self)):
            pass  # another sink was quicker
        if self._asked:
            self._ask(events, view)

    def _ask(self, events: list[Event], view: LiveView | LineView) -> None:
        from streamll.terminal.prompter import prompter

        for event in events:
            if isinstance(event, ev.Question):
                question = self._asked.get(event.question_id)
                if question is not None:
                    prompter.ask(question, event, view, id(self))
            elif isinstance(event, ev.Answer):
                self._asked.pop(event.question_id, None)
                prompter.end(event.question_id)

    def stop(self, timeout: float = 10.0) -> bool:
        """Show everything put so far and restore the terminal.

        False if ``timeout`` seconds were not enough.
        """
        done = super().stop(timeout)
        if self._view is not None and self._process == os.getpid():
            if self._asked:
                from streamll.terminal.prompter import prompter

                prompter.leave(id(self))
            self._view.close(id(self))
        return done

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_view": None, "_asked": {}}

    def _current_view(self) -> LiveView | LineView:
        """The view in use; between runs, the one that fits the present ``sys.stdout``."""
        if self._view is None or self._view.is_idle or self._process != os.getpid():
            self._process, self._view = os.getpid(), self._choose()
        return self._view

    def follow_program(self, *, follows: bool) -> None:
        """Know what the program writes to this terminal before its first run is drawn."""
        from streamll.terminal.program_output import program_output

        if follows and self.mode != "plain" and self.file is None and draws(sys.stdout):
            program_output.follow(self)
        else:
            program_output.leave(self)

    def _choose(self) -> LiveView | LineView:
        from streamll.terminal import lines, live, notebook

        file = self.file if self.file is not None else sys.stdout
        if self.mode != "plain":
            if self.file is None and notebook.in_notebook():
                return live.notebook_view(self.width, self.height)
            if file is not None and (self.mode == "live" or draws(file)):
                return live.terminal_view(file, self.width, self.height)
        return lines.LineView(Output(self.file))


def _questions() -> weakref.WeakValueDictionary[str, Any]:
    """Open questions by their ids. Their programs have them as long as they wait."""
    return weakref.WeakValueDictionary()


def draws(file: TextIO) -> bool:
    """Whether ``file`` is a terminal that can move its cursor."""
    if not is_terminal(file):
        return False
    if os.name == "nt":
        from rich.console import Console

        return not Console(file=file).legacy_windows
    return os.environ.get("TERM", "") not in ("", "dumb", "unknown")


DEFAULT = TerminalSink()
"""The process's default terminal sink."""
