"""The live region on a terminal: drawn in place, removed without traces, terminal restored."""

from __future__ import annotations

import builtins
import io
import os
import sys

import pytest
from emulator import Emulator

from streamll.terminal.output import Output
from streamll.terminal.screen import Screen


class Terminal(io.StringIO):
    """A file that is a terminal; what is written shows on the emulator."""

    encoding = "utf-8"

    def __init__(self, columns: int = 40, rows: int = 8) -> None:
        super().__init__()
        self.emulator = Emulator(columns, rows)
        self.written: list[str] = []

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.written.append(text)
        self.emulator.feed(text.replace("\n", "\r\n"))
        return len(text)

    def size(self) -> tuple[int, int]:
        return self.emulator.columns, self.emulator.rows


@pytest.fixture
def opened(monkeypatch):
    """Open a screen on a terminal of its own, from inside the test: pytest sets ``sys.stdout``
    anew between a fixture and its test.
    """
    screens = []

    def open_screen(before: str = "") -> tuple[Screen, Terminal]:
        terminal = Terminal()
        terminal.write(before)
        monkeypatch.setattr(sys, "stdout", terminal)
        monkeypatch.setattr(sys, "stderr", terminal)
        output = Output(terminal)
        screen = Screen(output, lambda line: "".join(text for _, text in line), terminal.size)
        screens.append(screen)
        screen.open()
        return screen, terminal

    yield open_screen
    for screen in screens:
        screen.close()


def lines(*texts: str) -> list[list[tuple[str, str]]]:
    return [[("field", text)] for text in texts]


def test_frames_replace_one_another_in_place(opened):
    screen, terminal = opened()
    screen.draw(lines("one"))
    screen.draw(lines("one", "two", "three"))
    screen.draw(lines("1", "two"))
    assert terminal.emulator.text == "1\ntwo"


def test_a_frame_is_one_write_and_touches_only_the_lines_that_changed(opened):
    screen, terminal = opened()
    screen.draw(lines("first line", "second line"))
    before = len(terminal.written)
    screen.draw(lines("first line", "second line, longer"))
    [frame] = terminal.written[before:]
    assert "first" not in frame
    assert "second line, longer" in frame


def test_staying_lines_go_above_the_region_and_scroll(opened):
    screen, terminal = opened()
    screen.draw(lines("live a", "live b"))
    screen.draw(lines("live c"), staying=lines(*(f"kept {n}" for n in range(10))))
    assert terminal.emulator.lines[:10] == [f"kept {n}" for n in range(10)]
    assert terminal.emulator.text.endswith("kept 9\nlive c")
    screen.draw([])
    assert terminal.emulator.text.endswith("kept 9")


def test_the_region_never_exceeds_the_screen(opened):
    screen, terminal = opened()
    screen.draw(lines(*(f"line {n}" for n in range(30))))
    screen.draw(lines(*(f"LINE {n}" for n in range(30))))
    assert terminal.emulator.history == []
    assert terminal.emulator.text.split("\n") == [f"LINE {n}" for n in range(23, 30)]


def test_a_line_too_wide_is_cut_not_wrapped(opened):
    screen, terminal = opened()
    screen.draw(lines("x" * 60, "below"))
    screen.draw(lines("y" * 60, "below"))
    assert terminal.emulator.text == "y" * 40 + "\nbelow"


def test_the_cursor_is_never_hidden_and_the_streams_come_back(opened):
    screen, terminal = opened()
    screen.draw(lines("live"))
    assert terminal.emulator.wraps
    screen.close()
    assert not terminal.emulator.was_hidden
    assert sys.stdout is terminal
    assert sys.stderr is terminal


def test_the_programs_prints_go_above(opened):
    screen, terminal = opened()
    screen.draw(lines("live"))
    print("hello", "world")
    print("\x1b[31mred\x1b[0m and \x1b[2J\x1b[5Astill in line", file=sys.stderr)
    screen.draw(lines("live again"))
    assert terminal.emulator.text == "hello world\nred and still in line\nlive again"


def test_many_prints_do_not_draw_the_region_each_time(opened):
    screen, terminal = opened()
    screen.draw(lines("live"))
    before = sum(map(len, terminal.written))
    for number in range(200):
        print(number)
    assert sum(map(len, terminal.written)) - before < 200 * 40
    screen.draw(lines("live"))
    assert terminal.emulator.text.endswith("198\n199\nlive")


def test_a_line_the_program_has_not_finished_stands_above_the_region(opened):
    screen, terminal = opened()
    screen.draw(lines("live"))
    print("Loading", end="", flush=True)
    screen.draw(lines("live"))
    assert terminal.emulator.text == "Loading\nlive"
    print(" … done")
    screen.draw(lines("live"))
    assert terminal.emulator.text == "Loading … done\nlive"
    print("and", end="")
    screen.close()
    print(" on")
    assert terminal.emulator.text == "Loading … done\nand on"


def test_a_progress_bar_of_the_program_keeps_one_line(opened):
    screen, terminal = opened()
    for percent in (10, 50, 90):
        sys.stderr.write(f"\r{percent}%")
        screen.draw(lines("live"))
        assert terminal.emulator.text == f"{percent}%\nlive"
    sys.stderr.write("\r100%\n")
    screen.draw(lines("live"))
    assert terminal.emulator.text == "100%\nlive"


def test_the_region_begins_on_its_own_row(opened):
    screen, terminal = opened("no newline")
    screen.draw(lines("live"))
    assert terminal.emulator.text == "no newline\nlive"


def test_a_stream_replaced_meanwhile_is_left_alone(opened, monkeypatch):
    screen, terminal = opened()
    other = io.StringIO()
    kept = sys.stdout
    monkeypatch.setattr(sys, "stdout", other)
    screen.close()
    assert sys.stdout is other
    print("later", file=kept)  # by something that kept what stood in
    assert terminal.emulator.text == "later"
    assert kept.encoding == "utf-8"
    assert kept.isatty()


def test_a_question_of_the_program_has_the_terminal_to_itself(opened, monkeypatch):
    seen = []

    def ask(prompt):
        seen.append((terminal.emulator.text, terminal.emulator.cursor_visible))
        screen.draw(lines("a frame in between"), staying=lines("a run that ended"))
        print("from another thread")
        terminal.write(f"{prompt}yes\n")  # as the terminal shows what is typed
        return "yes"

    monkeypatch.setattr(builtins, "input", ask)
    screen, terminal = opened()
    screen.draw(lines("live"))
    print("Really", end=" ")
    assert input("allow? ") == "yes"
    assert seen == [("Really", True)]
    screen.draw(lines("live again"))
    assert terminal.emulator.text == (
        "Really from another thread\nallow? yes\na run that ended\nlive again"
    )
    screen.close()
    assert builtins.input is ask


def test_writing_something_else_than_text_fails_as_it_always_does(opened):
    opened()
    with pytest.raises(TypeError, match="must be str, not bytes"):
        sys.stdout.write(b"bytes")


def test_a_terminal_made_narrower_has_wrapped_the_region(opened):
    screen, terminal = opened()
    screen.draw(lines("a" * 30, "b" * 30))
    terminal.emulator.columns = 20
    terminal.emulator.screen = [list("a" * 20), list("a" * 10), list("b" * 20), list("b" * 10), []]
    terminal.emulator.row, terminal.emulator.column = 4, 0
    screen.draw(lines("narrow"))
    assert terminal.emulator.text == "narrow"


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(5, "EIO"), ValueError("closed")])
def test_writing_to_a_terminal_that_hung_up_is_silent(error):
    class Gone(Terminal):
        def write(self, text):
            raise error

    output = Output(Gone())
    output.write("anything")
    output.write("more")
    assert output.is_broken


def test_output_to_a_real_pipe_keeps_its_order_and_leaves_nothing_behind():
    reading, writing = os.pipe()
    file = os.fdopen(writing, "w", encoding="utf-8")
    file.write("the program first, ")
    Output(file).write("then we: é 🙂 \ud83d\n")
    assert os.read(reading, 1000).decode() == "the program first, then we: é 🙂 ?\n"
    os.close(reading)
    output = Output(file)
    output.write("nobody reads")
    assert output.is_broken
    file.close()  # nothing of ours is in its buffer, so nothing fails
