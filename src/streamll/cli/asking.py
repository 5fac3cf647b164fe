"""Questions of a program in ``streamll chat``: asked between the lines of the conversation."""

from __future__ import annotations

import time
from typing import Any, Protocol

from streamll.core.errors import QuestionClosed, WrongAnswer
from streamll.core.events import Question
from streamll.terminal import prompt
from streamll.terminal.drawing import MAX_WIDTH, Glyphs
from streamll.terminal.forms import Form

CTRL_C = "Ctrl-C declines"


class Screen(Protocol):
    def say(self, text: str, style: str | None = None) -> None: ...
    def ask(self, sign: str) -> str: ...


def ask(screen: Screen, question: Question, run: Any) -> None:
    """Have a question of ``run``, whose events are read, answered or declined."""
    form, glyphs = Form(question), Glyphs()
    while True:
        for line in prompt.above(form, question, MAX_WIDTH, glyphs, time.time()):
            screen.say("".join(text for _, text in line))
        told = prompt.hint(form, MAX_WIDTH, glyphs, CTRL_C)
        screen.say("".join(text for _, text in told), "dim")
        try:
            try:
                line_typed = screen.ask(
                    "".join(text for _, text in prompt.sign(form, glyphs)).rstrip()
                )
            except (EOFError, KeyboardInterrupt):
                screen.say("")
                run.decline(question)
                return
            if form.enter(line_typed):
                run.answer(question, form.answer)
                return
        except WrongAnswer as wrong:
            form.reject(wrong.problems)
        except QuestionClosed as closed:
            screen.say(f"  {closed}", "note")
            return
