"""What a program prints while its runs are drawn, as a user sees it: bars, logs, warnings.

The programs run in processes of their own, on real pseudo-terminals.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest
from emulator import TerminalSession

PRELUDE = """
import logging, sys, time, warnings
import streamll
from streamll.core import events as ev
from streamll.sinks.terminal import DEFAULT as sink
from streamll.terminal.program_output import program_output

def start(name):
    sink.put(ev.RunStart(identity=ev.Identity(run_id=name), program=name))
    sink.put(ev.Status(identity=ev.Identity(run_id=name, path=(name,)), message="busy"))
    assert sink.catch_up(60)
    while program_output.region is None:  # until it is drawn
        time.sleep(0.01)
    with program_output.lock:  # and to the end of its first frame
        pass

def end(name):
    sink.put(ev.RunEnd(identity=ev.Identity(run_id=name), duration=1.2))
    assert sink.catch_up(60)
"""


@pytest.fixture
def seen(tmp_path):
    """What is on the terminal when a program has ended."""

    def run(body: str, seconds: float = 60) -> list[str]:
        path = Path(tmp_path / "program.py")
        path.write_text(PRELUDE + textwrap.dedent(body))
        with TerminalSession(sys.executable, str(path), rows=60) as session:
            assert session.finish(seconds) == 0, session.emulator.text
        assert session.emulator.cursor_visible
        return session.emulator.text.split("\n")

    return run


def drawn(name: str) -> list[str]:
    return [f"● {name}", "  › busy", "✓ done in 1.2 s", ""]


def test_the_bar_of_parallel_is_seen_once_at_its_end(seen):
    text = seen(
        """
        import dspy
        from streamll.capture.run import enter
        from streamll.testing import PracticeServer
        enter.catch_up.__defaults__ = (60.0,)  # sinks have more than a second for what is printed
        with PracticeServer(pace=0.01) as server:
            dspy.configure(lm=server.lm(cache=False))
            answer = dspy.Predict("question -> answer")
            with streamll.watch():
                dspy.Parallel(num_threads=2)([(answer, {"question": n}) for n in "abcd"])
                print("afterwards")
        print("the end")
        """
    )
    bars = [line for line in text if "/4 [" in line]
    assert len(bars) == 1, "\n".join(text)
    assert bars[0].startswith("Processed 4 / 4 examples: 100%|")
    assert text[-2:] == ["afterwards", "the end"]
    assert sum(line.startswith("● Predict") for line in text) == 4
    assert sum(line.startswith("✓ done") for line in text) == 4


BARS = {
    "begun before the first run": "bar.update(); start('A'); bar.update(); end('A'); bar.update()",
    "begun during a run": "start('A'); bar.update(); bar.update(); bar.update(); end('A')",
    "ended during a run": "bar.update(); start('A'); bar.update(2); bar.close(); end('A')",
}


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("when", BARS)
def test_a_bar_stays_once_as_it_was_last(seen, when, stream):
    text = seen(
        f"""
        import tqdm
        with streamll.watch():
            with tqdm.tqdm(total=3, file=sys.{stream}, ncols=40, mininterval=0) as bar:
                {BARS[when]}
            print("afterwards")
        """
    )
    assert [line for line in text if "%|" in line] == [line for line in text if "100%|" in line]
    assert len([line for line in text if "100%|" in line]) == 1, "\n".join(text)
    rest = [line for line in text if "%|" not in line]
    assert rest == [*drawn("A"), "afterwards"]


def test_two_bars_and_two_runs_one_after_the_other(seen):
    text = seen(
        """
        import tqdm
        with streamll.watch(), tqdm.tqdm(total=2, ncols=40, mininterval=0, desc="outer") as outer:
            for name in "AB":
                inner = tqdm.tqdm(total=1, ncols=40, mininterval=0, desc="inner", position=1)
                with inner:
                    start(name)
                    inner.update()
                    outer.update()
                    end(name)
        print("the end")
        """
    )
    assert [line[:12] for line in text if line.startswith("outer")] == ["outer: 100%|"]
    assert {line[:12] for line in text if line.startswith("inner")} == {"inner: 100%|"}
    assert sum(line.startswith("● ") for line in text) == 2, "\n".join(text)


def test_a_block_of_bars_of_rich_inside_a_run(seen):
    text = seen(
        """
        from rich.progress import Progress, TextColumn
        with streamll.watch():
            start("A")
            with Progress(TextColumn("{task.description} {task.completed}")) as progress:
                tasks = [progress.add_task(name, total=3) for name in ("red", "blue", "green")]
                for count in range(3):
                    for task in tasks:
                        progress.update(task, advance=1, refresh=True)
                    print("print", count)
            end("A")
        """
    )
    assert text == [
        "print 0", "print 1", "print 2", "red 3", "blue 3", "green 3", *drawn("A")[:-1],
    ], "\n".join(text)  # fmt: skip


def test_a_block_of_bars_of_rich_around_runs(seen):
    text = seen(
        """
        from rich.progress import Progress, TextColumn
        with streamll.watch():
            with Progress(TextColumn("{task.description} {task.completed}")) as progress:
                tasks = [progress.add_task(name, total=2) for name in ("red", "blue")]
                for name in "AB":
                    start(name)
                    for task in tasks:
                        progress.update(task, advance=1, refresh=True)
                    end(name)
        print("the end")
        """
    )
    assert text == [*drawn("A"), *drawn("B"), "red 2", "blue 2", "the end"], "\n".join(text)


def test_a_log_a_warning_and_a_print_go_above_whoever_kept_the_stream(seen):
    text = seen(
        """
        logging.basicConfig(format="%(message)s")  # keeps the standard error of now
        kept = sys.stdout
        with streamll.watch():
            start("A")
            logging.warning("a log record")
            print("printed")
            print("to what was kept", file=kept)
            warnings.showwarning = lambda message, *_: print(message, file=sys.stderr)
            warnings.warn("a warning")
            end("A")
        print("the end")
        """
    )
    assert text == [
        "a log record", "printed", "to what was kept", "a warning", *drawn("A"), "the end",
    ], "\n".join(text)  # fmt: skip


def test_the_streams_are_their_own_again_afterwards(seen):
    text = seen(
        """
        with streamll.watch():
            assert "write" in vars(sys.stdout)
            with streamll.watch():
                start("A"); end("A")
            assert "write" in vars(sys.stdout)
        streamll.watch()
        streamll.unwatch()
        print("write" in vars(sys.stdout), "write" in vars(sys.stderr))
        """
    )
    assert text[-1] == "False False"


def test_a_forked_child_prints_by_itself(seen):
    text = seen(
        """
        import os
        with streamll.watch():
            start("A")
            if not os.fork():
                print("the child")
                sys.stdout.flush()
                os._exit("write" in vars(sys.stdout))
            print("child", os.wait()[1])
            end("A")
        """
    )
    assert "child 0" in "\n".join(text)
