"""The rows that a program may still write anew: its cursor is followed."""

from __future__ import annotations

import pytest

from streamll.terminal.rows import MAX_HEIGHT, Rows

UP = "\x1b[A"
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
CASES = {
    "whole lines": (["one\ntwo\n"], ["one", "two"], [""]),
    "a line begun": (["one\ntw"], ["one"], ["tw"]),
    "a carriage return before the newline": (["one\r\ntwo\r\n"], ["one", "two"], [""]),
    "a colour": (["\x1b[31mred\x1b[0m\n"], ["\x1b[31mred\x1b[0m"], [""]),
    "a cursor sent elsewhere": (["\x1b[2J\x1b[5;5Hhere\n"], ["here"], [""]),
    "a bar": (["\r 0%", "\r 50%", "\r 100%"], [], [" 100%"]),
    "a bar that erases its row": (["\r\x1b[2K0%", "\r\x1b[2K9%", "\r\x1b[K"], [], [""]),
    "a bar that ended": (["\r 100%", "\n", "next\n"], [" 100%", "next"], [""]),
    "a second bar below": (
        ["\rA0", "\n", "\rB0", UP, "\rA1", "\n", "\rB1", UP], [], ["A1", "B1"],
    ),
    "two bars that ended": (
        ["\rA0", "\n", "\rB0", UP, "\rA1", "\n", "\rB1", "\n"], ["A1", "B1"], [""],
    ),
    "a block": (
        [HIDE, "a0\nb0\nc0", f"\r\x1b[2K{UP}\x1b[2K{UP}\x1b[2Ka1\nb1\nc1"], [], ["a1", "b1", "c1"],
    ),
    "a block that ended": (
        [HIDE, "a0\nb0", f"\r\x1b[2K{UP}\x1b[2Ka1\nb1", "\n", SHOW], ["a1", "b1"], [""],
    ),
    "a block with one row less": ([f"a\nb\nc{UP}{UP}\r\x1b[Jx\ny"], [], ["x", "y"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_finished_and_what_is_not(case):
    writes, finished, unfinished = CASES[case]
    rows = Rows()
    assert [row for text in writes for row in rows.feed(text)] == finished
    assert rows.texts == unfinished


def test_rows_that_are_kept_are_bounded():
    rows = Rows()
    finished = rows.feed(HIDE + "".join(f"{number}\n" for number in range(200)))
    assert len(rows.texts) == MAX_HEIGHT + 1
    assert [*finished, *rows.texts[:-1]] == [str(number) for number in range(200)]
