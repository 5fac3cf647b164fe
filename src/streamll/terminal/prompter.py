"""Asks whoever sits at the terminal the questions of runs, one after the other.

A process has one keyboard, so it has one ``Prompter``, whose thread lives as long as questions are
open that the terminal may answer. A view shows the prompt: below its rows, or as lines. A question that is
answered elsewhere meanwhile, or lapses, takes its prompt with it.

Ctrl-C declines, and of the same run no second time: then it interrupts the program, as always.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from streamll.core import events as ev
from streamll.core.errors import QuestionClosed, WrongAnswer, logger
from streamll.terminal import keyboard, prompt
from streamll.terminal.drawing import Glyphs, Line
from streamll.terminal.forms import Form
from streamll.terminal.keyboard import CTRL_C, CTRL_D, Keyboard

RELEASE_S = 5.0
"""How long who takes a question away waits until the keyboard is the program's again."""

ENTER, ERASE, ERASE_LINE, ERASE_WORD = "\r\n", "\x7f\b", "\x15", "\x17"


class Answerable(Protocol):
    """A question that is open (``asking.questions.Question``)."""

    id: str

    def answer(self, value: Any) -> None: ...

    def decline(self) -> None: ...


class Shows(Protocol):
    """A view that has a place for a prompt."""

    by_key: bool
    """Whether it draws what is typed, so that it gets each key."""

    def prompt(self, lines: Callable[[int, Glyphs], list[Line]] | None) -> None:
        """Show the lines of a prompt, which depend on the width, or none."""

    def entered(self) -> None:
        """A line was typed to its end."""


@dataclass(eq=False)
class Prompt:
    """One question that waits for its turn, or is being answered."""

    question: Answerable
    event: ev.Question
    view: Shows
    source: int
    form: Form = field(init=False)
    typed: str = ""
    is_over: bool = False

    def __post_init__(self) -> None:
        self.form = Form(self.event)

    def lines(self, width: int, glyphs: Glyphs, ctrl_c: str) -> list[Line]:
        before = prompt.sign(self.form, glyphs)
        last = prompt.typed(self.typed, before, width, glyphs) if self.view.by_key else before
        return [
            *prompt.above(self.form, self.event, width, glyphs, time.time()),
            prompt.hint(self.form, width, glyphs, ctrl_c),
            last,
        ]

    def key(self, key: str) -> bool:
        """Take one character; True if it ends the line."""
        if key in ENTER:
            return True
        if key in ERASE:
            self.typed = self.typed[:-1]
        elif key == ERASE_LINE:
            self.typed = ""
        elif key == ERASE_WORD:
            self.typed = self.typed.rstrip().rpartition(" ")[0]
        elif key.isprintable():
            self.typed += key
        return False

    def enter(self) -> bool:
        """Take the line that was typed; True if the question has its answer."""
        line, self.typed = self.typed, ""
        if not self.form.enter(line):
            return False
        try:
            self.question.answer(self.form.answer)
        except WrongAnswer as wrong:
            self.form.reject(wrong.problems)
            return False
        return True


class Prompter:
    """The questions that this process' terminal is to answer."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[Prompt] = []
        self._keyboard: Keyboard | None = None
        self._declined_in: str | None = None  # the run whose next Ctrl-C interrupts

    def ask(self, question: Answerable, event: ev.Question, view: Shows, source: int) -> None:
        """Ask it when its turn comes. Never waits."""
        with self._changed:
            if any(each.question.id == question.id for each in self._waiting):
                return
            self._waiting.append(Prompt(question, event, view, source))
            if self._keyboard is None:
                self._keyboard = Keyboard()
                args = (self._keyboard,)
                threading.Thread(
                    target=self._run, args=args, name="streamll-prompt", daemon=True
                ).start()

    def end(self, question_id: str) -> None:
        """It is not open any more."""
        self._end(lambda each: each.question.id == question_id)

    def leave(self, source: int) -> None:
        """The sink ``source`` asks nothing any more. Its questions stay open for others."""
        self._end(lambda each: each.source == source)

    def _end(self, these: Callable[[Prompt], bool]) -> None:
        with self._changed:
            self._waiting[1:] = [each for each in self._waiting[1:] if not these(each)]
            if not (self._waiting and these(first := self._waiting[0])):
                return
            first.is_over = True
            assert self._keyboard is not None
            self._keyboard.wake()
            self._changed.wait_for(lambda: first not in self._waiting, RELEASE_S)

    # --- its thread -----------------------------------------------------------------------------

    def _run(self, keys: Keyboard) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTIN, signal.SIGTTOU})
        while (current := self._next(keys)) is not None:
            try:
                self._prompt(current, keys)
            except (QuestionClosed, OSError):
                pass  # somebody else was first, or the terminal is gone: others may answer
            except Exception:
                logger.exception("the terminal cannot ask %r", current.event.question_id)
            current.view.prompt(None)
            keys.give_back()
            with self._changed:
                self._waiting.remove(current)
                self._changed.notify_all()

    def _next(self, keys: Keyboard) -> Prompt | None:
        with self._changed:
            if self._waiting:
                return self._waiting[0]
            self._keyboard = None
            keys.close()
            return None

    def _prompt(self, current: Prompt, keys: Keyboard) -> None:
        """Have it answered or declined, or see it end."""
        takes_ctrl_c = current.event.run_id != self._declined_in
        ctrl_c = "Ctrl-C declines" if takes_ctrl_c else "Ctrl-D declines, Ctrl-C interrupts"

        def show() -> None:
            current.view.prompt(lambda width, glyphs: current.lines(width, glyphs, ctrl_c))

        while not keys.take(by_key=current.view.by_key, takes_ctrl_c=takes_ctrl_c):
            if current.is_over:
                return
        show()
        while not current.is_over:
            typed = keys.read()
            for key in typed:
                if key == CTRL_C or (key == CTRL_D and not current.typed):
                    self._declined_in = current.event.run_id if key == CTRL_C else None
                    current.question.decline()
                    return
                if current.key(key):
                    current.view.entered()
                    if current.enter():
                        self._declined_in = None
                        return
            if typed:
                show()


prompter = Prompter()


def can_ask() -> bool:
    """Whether somebody sits at this process' terminal."""
    return keyboard.is_there()


def _begin_in_child() -> None:
    """The child's parent asks what it has asked."""
    prompter.__init__()  # type: ignore[misc]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)
