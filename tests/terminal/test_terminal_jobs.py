"""The live view and job control on a real terminal: stop, continue, background, kill."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from emulator import TerminalSession
from test_terminal_screen import Terminal, lines

from streamll.terminal import stops
from streamll.terminal.output import Output
from streamll.terminal.program_output import ProgramOutput
from streamll.terminal.screen import Screen

PROGRAM = """
import sys, time
from streamll.core import events as ev
from streamll.sinks.terminal import TerminalSink

ROOT = ev.Identity(run_id="r", call_id="c", path=("QA",))
sink = TerminalSink()
sink.put(ev.RunStart(identity=ev.Identity(run_id="r"), program="QA"))
sink.put(ev.ModuleStart(identity=ROOT, name="QA"))
sink.put(ev.TokenEvent(identity=ROOT, field="answer", token="Paris"))
"""
END = """
sink.put(ev.TokenEvent(identity=ROOT, field="answer", token=" is nice.", token_index=1))
sink.put(ev.RunEnd(identity=ev.Identity(run_id="r"), duration=1.2))
assert sink.catch_up(60)
print("the end")
"""


WAIT = """
import os
while not os.path.exists({gone!r}):
    time.sleep(0.02)
"""


def script(tmp_path: Path, body: str, *, end: bool = True) -> str:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM + textwrap.dedent(body) + (END if end else ""))
    return f"{sys.executable} {path}"


@pytest.fixture
def shell():
    """A shell that has a terminal of its own, with job control."""
    if shutil.which("setsid") is None or shutil.which("dash") is None:
        pytest.skip("no setsid or dash here")
    with TerminalSession("setsid", "--ctty", "--wait", "dash", "-im", PS1="% ") as session:
        session.wait_for(lambda terminal: "%" in terminal.text)
        yield session


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_program_that_is_killed_leaves_the_terminal_as_it_was(tmp_path, how):
    command = script(tmp_path, "time.sleep(60)", end=False).split()
    with TerminalSession(*command) as session:
        session.wait_for(lambda terminal: "Paris▌" in terminal.text)
        assert session.emulator.cursor_visible
        session.process.send_signal(how)
        assert session.finish() == -how
    assert not session.emulator.was_hidden
    assert session.emulator.wraps
    assert session.emulator.column == 0  # the shell's prompt goes below


PROGRESS = """
import time
from streamll.streams.progress import live_lines
ticks = iter(range(10**9))
with live_lines(lambda: [f"redrawn {next(ticks)} times"]):
    time.sleep(60)
"""


def test_progress_lines_that_are_killed_leave_the_cursor():
    with TerminalSession(sys.executable, "-c", PROGRESS) as session:
        # At least: between two looks at the screen it may be redrawn more than once.
        session.wait_for(lambda terminal: re.search(r"redrawn ([3-9]|\d\d+) times", terminal.text))
        session.process.send_signal(signal.SIGTERM)
        session.finish()
    assert session.emulator.cursor_visible


def after_fg(shell, gone) -> str:
    """A command is typed after a stop, then ``fg``; the program ends. What is below that on the terminal."""
    # Longer than a busy machine keeps the program waiting for a processor: less than half of a late
    # frame may be explained by that.
    time.sleep(stops.STOP_S + 3)
    shell.type("echo in between\n")
    shell.wait_for(lambda terminal: terminal.text.count("in between") == 2)
    shell.wait_for(lambda terminal: terminal.text.endswith("%"))
    shell.type("fg\n")
    shell.wait_for(lambda terminal: "Paris▌" in terminal.text.rpartition("% fg")[2])
    gone.touch()
    shell.wait_for(lambda terminal: "the end" in terminal.text)
    before, _, after = shell.emulator.text.rpartition("% fg")
    assert "echo in between\nin between\n" in before
    assert after.count("● QA") == 1
    assert "  answer  Paris is nice.\n✓ done in 1.2 s · ≈2 tokens\n\nthe end" in after
    return after


def test_after_ctrl_z_and_fg_the_view_is_drawn_below_the_shells_output(tmp_path, shell):
    gone = tmp_path / "go on"
    shell.type(script(tmp_path, WAIT.format(gone=str(gone))) + "\n")
    shell.wait_for(lambda terminal: "Paris▌" in terminal.text)
    shell.type("\x1a")
    shell.wait_for(lambda terminal: "Stopped" in terminal.text)
    assert shell.emulator.cursor_visible
    after_fg(shell, gone)


def test_a_background_job_does_not_draw_but_prints_its_result(tmp_path, shell):
    gone = tmp_path / "go on"
    shell.type(script(tmp_path, WAIT.format(gone=str(gone))) + " &\n")
    shell.type("echo what I type\n")
    shell.wait_for(lambda terminal: terminal.text.count("what I type") == 2)
    gone.touch()
    shell.wait_for(lambda terminal: "the end" in terminal.text)
    text = shell.emulator.text
    assert "▌" not in text
    assert "● QA\n  answer  Paris is nice.\n✓ done in 1.2 s · ≈2 tokens\n" in text
    assert "\x1b[1A" not in shell.raw


WHILE_DRAWING = """
from pathlib import Path
from streamll.terminal import layout

compose = layout.compose
def slow(*arguments):
    drawn = compose(*arguments)
    if Path({ask!r}).exists() and not Path({drawing!r}).exists():
        Path({drawing!r}).touch()
        while not Path({on!r}).exists():
            time.sleep(0.005)
    return drawn
layout.compose = slow
"""


def test_ctrl_z_while_a_frame_is_drawn_is_noticed_as_well(tmp_path, shell):
    names = ("gone", "ask", "drawing", "on")
    gone, ask, drawing, on = paths = [tmp_path / name for name in names]
    body = (WHILE_DRAWING + WAIT).format(**dict(zip(names, map(str, paths), strict=True)))
    shell.type(script(tmp_path, body) + "\n")
    shell.wait_for(lambda terminal: "Paris▌" in terminal.text)
    ask.touch()
    shell.wait_for(lambda _: drawing.exists())
    shell.type("\x1a")
    shell.wait_for(lambda terminal: "Stopped" in terminal.text)
    on.touch()
    after = after_fg(shell, gone)
    assert "program.py" in after.partition("● QA")[0]  # what ``fg`` has written


class Clocks:
    """The time of ``stops``, and not that of other threads."""

    def __init__(self, monkeypatch):
        self.now = self.cpu = 0.0
        own = SimpleNamespace(monotonic=lambda: self.now, process_time=lambda: self.cpu)
        monkeypatch.setattr(stops, "time", own)
        monkeypatch.setattr(stops, "TASKS", Path("/nowhere"))


def test_a_frame_that_is_late_counts_as_a_stop_unless_something_explains_it(monkeypatch):
    clocks, stop = Clocks(monkeypatch), stops.Stops()
    clocks.now = 9.0
    assert not stop.noticed()  # nothing was expected
    stop.expect(0.1)
    clocks.now += 1.0
    assert not stop.noticed()
    clocks.now += 1.0
    assert stop.noticed()
    assert not stop.noticed()  # it is told once
    stop.expect(0.1)
    clocks.now += 9.0
    clocks.cpu += 8.0
    assert not stop.noticed()
    stop.expect(0.1)
    clocks.now += 9.0
    monkeypatch.setattr(Output, "writing_s", Output.writing_s + 8.9)  # Ctrl-S
    assert not stop.noticed()
    stop.expect(None)
    clocks.now += 9.0
    assert not stop.noticed()


def test_what_the_program_prints_after_fg_does_not_overwrite_the_shells_rows(monkeypatch):
    """The ticker may be later than whoever prints."""
    clocks, terminal = Clocks(monkeypatch), Terminal()
    monkeypatch.setattr(Output, "foreground", os.getpgrp())
    screen = Screen(Output(terminal), lambda line: line[0][1], terminal.size, ProgramOutput())
    screen.draw(lines("one", "two"))
    screen.expect_frame(0.1)
    clocks.now += 5.0
    terminal.write("^Z\n% fg\n")
    screen.above("printed\n")
    screen.draw(lines("one", "two"))
    screen.close()
    assert terminal.emulator.text == "one\ntwo\n^Z\n% fg\nprinted"
