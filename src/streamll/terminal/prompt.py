"""A question as lines: what is asked, what is known of the answer, and the line that is typed."""

from __future__ import annotations

from streamll.core import events as ev
from streamll.terminal import text as tx
from streamll.terminal.drawing import MAX_WIDTH, Glyphs, Line, fitted
from streamll.terminal.forms import Form

MAX_LINES = 40
"""Of a question's text."""
MAX_VALUE = 2000
"""Characters of an argument that a call would have: a person is to know what they allow."""


def above(form: Form, question: ev.Question, width: int, glyphs: Glyphs, now: float) -> list[Line]:
    """Everything but the line that is typed; ``now`` is in seconds since the epoch."""
    width = min(width, MAX_WIDTH)
    lines: list[Line] = []

    def add(style: str, text: str, sign: Line | None = None) -> None:
        sign = sign or [("detail", "  ")]
        room = max(8, width - sum(tx.cells(each) for _, each in sign))
        for part in tx.fold(text, room):
            lines.append(fitted([*sign, (style, part.rstrip())], width))
            sign = [("detail", " " * sum(tx.cells(each) for _, each in sign))]

    said = tx.clean(question.text).split("\n")
    for number, line in enumerate(said[:MAX_LINES]):
        add("run", line, None if number else [("warning", "? ")])
    if len(said) > MAX_LINES:
        add("detail", glyphs.more)
    if facts := _facts(question, now):
        add("detail", glyphs.dot.join(facts))
    for name, value in (question.arguments or {}).items():
        written = tx.compact(value, MAX_VALUE)
        add("field", written, [("label", f"  {tx.one_line(name, 80)}  ")])
    for name, typed in form.filled:
        add("field", tx.one_line(typed) or "-", [("label", f"  {tx.one_line(name, 80)}  ")])
    for number, choice in enumerate(form.field.choices, 1):
        add("field", tx.one_line(choice), [("detail", f"  {number:>2} ")])
    for problem in form.problems:
        add("failed", tx.one_line(problem), [("failed", f"  {glyphs.warning}")])
    return lines


def hint(form: Form, width: int, glyphs: Glyphs, ctrl_c: str) -> Line:
    """What may be typed, in one line; ``ctrl_c`` says what that key does."""
    field = form.field
    empty = f"empty: {field.empty}" if field.empty else ""
    parts = (tx.one_line(field.about), field.hint, tx.one_line(empty), ctrl_c)
    return fitted([("detail", f"  {glyphs.dot.join(filter(None, parts))}")], width)


def sign(form: Form, glyphs: Glyphs) -> Line:
    """What stands before the text that is typed."""
    label = tx.one_line(form.field.label, 80)
    return [("running", glyphs.status), ("label", f"{label} " if label else "")]


def typed(text: str, before: Line, width: int, glyphs: Glyphs) -> Line:
    """The line that is typed, with its end in sight."""
    width = min(width, MAX_WIDTH)
    room = max(8, width - 1 - sum(tx.cells(each) for _, each in before))
    return fitted(
        [*before, ("field", tx.tail(tx.clean(text), room)), ("running", glyphs.cursor)], width
    )


def _facts(question: ev.Question, now: float) -> list[str]:
    facts = [f"for {tx.one_line(question.to, 80)}"] if question.to else []
    if question.lapses_at is not None:
        left = max(0, round(question.lapses_at - now))
        facts.append(f"lapses in {tx.seconds(left) if left else '0 s'}")
    return facts
