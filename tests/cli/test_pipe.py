"""``streamll … | head``: no command goes on when nobody reads it any more."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import warm

from streamll.testing import PracticeServer

BOUND = 60
PACE_S = 5.0
"""From token to token: a command that does not notice is not done within any bound."""

ASK = """
import dspy
dspy.configure(lm=dspy.LM("openai/practice", api_base={url!r}, api_key="k", cache=False))
qa = dspy.Predict("question -> answer")
"""


@pytest.mark.parametrize(
    "command",
    [
        ["demo"],
        ["demo", "--mode", "simple"],
        ["demo", "--mode", "concurrent"],
        ["demo", "--mode", "recovery"],
        ["run", "ask.py:qa", "question=Why?"],
        ["run", "ask.py:qa", "Why?", "--json"],
        ["chat", "--model", "openai/practice"],
    ],
    ids=" ".join,
)
def test_a_command_whose_pipe_is_closed_ends(command, tmp_path):
    with PracticeServer(pace=PACE_S) as server:
        server.respond(lambda request: {"answer": "a long answer " * 20})
        (tmp_path / "ask.py").write_text(ASK.format(url=server.url))
        environment = {**os.environ, "OPENAI_API_KEY": "k", "OPENAI_BASE_URL": server.url}
        pace = ["--pace", str(PACE_S)] if command[0] == "demo" else []
        with warm.Popen(
            [sys.executable, "-m", "streamll", *command, *pace],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            env=environment,
        ) as process:
            if command[0] == "chat":
                process.stdin.write(b"Hello\n")
                process.stdin.flush()
            assert process.stdout.read(1)
            process.stdout.close()
            assert process.wait(BOUND) == 1
            assert "Traceback" not in process.stderr.read().decode()


LEAVING = """
import signal, threading, time
from streamll.cli import pipe

late, interrupt = threading.Event(), signal.pthread_kill

def when_the_block_is_left(thread, number):
    late.set()
    time.sleep(0.3)
    interrupt(thread, number)

pipe.NOTICE_S, pipe.END_S = 0, 60
signal.pthread_kill = when_the_block_is_left
try:
    with pipe.interrupted_without_reader():
        late.wait(60)
        raise BrokenPipeError
except (BrokenPipeError, KeyboardInterrupt):
    pass
time.sleep(0.6)
"""


def test_a_command_that_ends_by_itself_is_not_interrupted_after_its_end():
    reading, writing = os.pipe()
    os.close(reading)
    done = warm.run(
        [sys.executable, "-c", LEAVING],
        stdout=writing, stderr=subprocess.PIPE, timeout=BOUND, check=False,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")
