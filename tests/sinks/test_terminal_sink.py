"""TerminalSink: which view it chooses, where it writes, and that it never disturbs the program.

The scripts run in processes of their own, on real pseudo-terminals and pipes; their events are
made here, so nothing waits for a model.
"""

from __future__ import annotations

import io
import pickle
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import warm
from emulator import TerminalSession

from streamll.capture.run.options import CaptureOptions
from streamll.core import events as ev
from streamll.core.errors import ConfigurationError
from streamll.sinks.terminal import DEFAULT, TerminalSink, draws

PRELUDE = """
import sys, time
from streamll.core import events as ev
from streamll.sinks.terminal import TerminalSink

ROOT = ev.Identity(run_id="r", call_id="c", path=("QA",))
sink = TerminalSink()

def begin():
    sink.put(ev.RunStart(identity=ev.Identity(run_id="r"), program="QA"))
    sink.put(ev.ModuleStart(identity=ROOT, name="QA"))
    sink.put(ev.FieldStart(identity=ROOT, field="answer"))

def tokens(*texts):
    for index, text in enumerate(texts):
        sink.put(ev.TokenEvent(identity=ROOT, field="answer", token=text, token_index=index))

def drawn():
    # until the view has taken the terminal over
    deadline = time.monotonic() + 60
    while 'write' not in vars(sys.stdout) and time.monotonic() < deadline:
        time.sleep(0.01)

def end():
    sink.put(ev.RunEnd(identity=ev.Identity(run_id="r"), duration=1.2))
    assert sink.catch_up(60)
"""


def script(tmp_path: Path, body: str) -> list[str]:
    path = tmp_path / "program.py"
    path.write_text(PRELUDE + textwrap.dedent(body))
    return [sys.executable, str(path)]


def piped(*command: str, **options) -> subprocess.CompletedProcess[str]:
    return warm.run(command, capture_output=True, text=True, **options)


DONE = "● QA\n  answer  Paris is nice.\n✓ done in 1.2 s · ≈3 tokens\n\nthe end"


def test_live_on_a_terminal(tmp_path):
    """X0a: drawn while it runs, whole afterwards, the cursor and the streams given back."""
    command = script(
        tmp_path,
        """
        begin(); tokens("Paris", " is", " nice.")
        input_line = sys.stdin.readline()
        print("the program says hello")
        end()
        print("the end")
        """,
    )
    with TerminalSession(*command) as session:
        session.wait_for(lambda terminal: "Paris is nice.▌" in terminal.text)
        session.type("\n")
        assert session.finish() == 0
    assert session.emulator.text.endswith(f"the program says hello\n{DONE}")
    assert session.emulator.cursor_visible
    assert "\x1b[32m" in session.raw  # the green check mark


def test_no_color_leaves_the_drawing_without_colours(tmp_path):
    command = script(tmp_path, 'begin(); tokens("Paris", " is", " nice."); end(); print("the end")')
    with TerminalSession(*command, NO_COLOR="1") as session:
        assert session.finish() == 0
    assert session.emulator.text == DONE
    assert not re.search(r"\x1b\[[0-9;]*(3[0-7]|9[0-7])", session.raw)


def test_a_terminal_without_a_movable_cursor_gets_plain_lines(tmp_path):
    command = script(tmp_path, 'begin(); tokens("Paris"); end()')
    with TerminalSession(*command, TERM="dumb") as session:
        assert session.finish() == 0
    assert (
        session.emulator.text
        == '[RUN] QA started\n[TOKEN] answer: "Paris"\n[RUN] done in 1.2 s · ≈1 token'
    )
    assert "\x1b" not in session.raw


def test_a_pipe_gets_plain_lines_in_order_with_the_programs_own(tmp_path):
    """A6: plain where standard output is no terminal."""
    done = piped(
        *script(tmp_path, 'print("before"); begin(); tokens("Paris"); end(); print("after")')
    )
    assert done.stdout.splitlines() == [
        "before", "[RUN] QA started", '[TOKEN] answer: "Paris"', "[RUN] done in 1.2 s · ≈1 token", "after",
    ]  # fmt: skip
    assert done.stderr == ""


def test_hostile_text_does_not_reach_the_terminal(tmp_path):
    """The emulator fails on any escape sequence that is not the view's own."""
    hostile = r'"\x1b[2J\x1b]0;title\x07", "\x9b31m", "\x1bc\x0e"'
    for view, wait in {"live": "drawn()", "plain": "pass"}.items():
        body = f'sink = TerminalSink("{view}"); begin(); tokens({hostile}); {wait}; end()'
        with TerminalSession(*script(tmp_path, body)) as session:
            assert session.finish() == 0
        assert "title" in session.emulator.text
        assert "\x1b]" not in session.raw
        assert "\x1b[2J" not in session.raw


def test_a_closed_pipe_is_no_error(tmp_path):
    """A closed pipe is silence: no exception in the program, no traceback at exit."""
    command = script(
        tmp_path,
        """
        begin(); tokens("first\\n"); sink.catch_up(60)
        sys.stdin.readline()  # until the reader has gone
        tokens(*["more"] * 5000); end()
        print("survived", file=sys.stderr)
        """,
    )
    with warm.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "[RUN] QA started\n"
        process.stdout.close()
        process.stdin.write("\n")
        process.stdin.close()
        assert process.wait(60) == 0
        assert process.stderr.read() == "survived\n"


def test_a_terminal_that_hangs_up_is_no_error(tmp_path):
    command = script(
        tmp_path,
        """
        import signal
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        begin(); tokens("first")
        while True:
            try:
                print("alive")
            except OSError:
                break
            time.sleep(0.02)
        tokens("more"); end()
        open("survived", "w").close()
        """,
    )
    with TerminalSession(*command, cwd=str(tmp_path)) as session:
        session.wait_for(lambda terminal: "alive" in terminal.text)
        session.hang_up()
        assert session.process.wait(60) in (0, 120)  # 120: the program's own print is not flushed
    assert (tmp_path / "survived").exists()


@pytest.mark.parametrize("how", ["sys.exit(3)", "raise KeyboardInterrupt", "1/0"])
def test_a_program_that_ends_in_the_middle_gives_the_terminal_back(tmp_path, how):
    command = script(tmp_path, f'begin(); tokens("Paris"); drawn(); {how}')
    with TerminalSession(*command) as session:
        session.finish()
    assert not session.emulator.was_hidden
    assert session.emulator.wraps
    assert "  answer  Paris\n⊘ left after" in session.emulator.text


def test_a_tool_may_ask_its_user(tmp_path):
    command = script(
        tmp_path,
        """
        begin(); tokens("Paris"); drawn()
        answer = input("Go on? ")
        tokens(f" {answer}"); end()
        """,
    )
    with TerminalSession(*command) as session:
        session.wait_for(lambda terminal: terminal.text == "Go on?" and terminal.cursor_visible)
        session.type("yes\n")
        assert session.finish() == 0
    assert session.emulator.text.startswith("Go on? yes\n● QA\n  answer  Paris yes\n✓ done")


def test_ctrl_c_gives_the_terminal_back(tmp_path):
    command = script(tmp_path, 'begin(); tokens("Paris"); sys.stdin.readline()')
    with TerminalSession(*command) as session:
        session.wait_for(lambda terminal: "Paris▌" in terminal.text)
        session.process.send_signal(signal.SIGINT)
        session.finish()
    assert session.emulator.cursor_visible
    assert session.emulator.wraps
    assert "KeyboardInterrupt" in session.emulator.text


def test_a_forked_child_prints_as_ever(tmp_path):
    command = script(
        tmp_path,
        """
        import os
        begin(); tokens("Paris"); drawn()
        child = os.fork()
        if child == 0:
            print("from the child", flush=True)
            os._exit(0)
        os.waitpid(child, 0); end(); print("the end")
        """,
    )
    with TerminalSession(*command) as session:
        assert session.finish() == 0
    assert "from the child" in session.raw
    assert session.emulator.text.endswith("the end")


# --- in this process ------------------------------------------------------------------------------


def run(sink: TerminalSink) -> None:
    who = ev.Identity(run_id="r")
    sink.put(ev.RunStart(identity=who, program="QA"))
    sink.put(ev.TokenEvent(identity=who, field="answer", token="Paris"))
    sink.put(ev.RunEnd(identity=who, duration=1.2))
    assert sink.catch_up(60)
    assert sink.stop()


def test_writing_to_a_given_file():
    file = io.StringIO()
    run(TerminalSink(file=file))
    assert file.getvalue().splitlines()[1] == '[TOKEN] answer: "Paris"'


def test_standard_output_is_looked_up_when_a_run_begins(capsys):
    sink = TerminalSink()
    run(sink)
    assert '[TOKEN] answer: "Paris"' in capsys.readouterr().out
    run(sink)
    assert '[TOKEN] answer: "Paris"' in capsys.readouterr().out


def test_live_mode_without_a_terminal():
    file = io.StringIO()
    run(TerminalSink("live", file=file, width=40, height=10))
    assert "✓" in file.getvalue()


def test_a_sink_can_be_pickled_with_the_program_that_has_it(capsys):
    sink = TerminalSink("plain", width=60)
    run(sink)
    copy = pickle.loads(pickle.dumps(sink))
    run(copy)
    assert (copy.mode, copy.width) == ("plain", 60)
    assert capsys.readouterr().out.count("[TOKEN]") == 2


def test_a_mode_that_does_not_exist_is_an_error():
    with pytest.raises(ConfigurationError, match="no mode 'fancy'; there are auto, live, plain"):
        TerminalSink("fancy")


def test_the_default_terminal_sink_is_shared():
    assert CaptureOptions()._receivers(None) == (DEFAULT,)


def test_a_closed_file_draws_nothing():
    file = io.StringIO()
    file.close()
    assert not draws(file)
    run(TerminalSink(file=file))
