"""Where ``streamll run`` sends a run besides the terminal: JSON lines, a recording, a log, a page."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import httpx
import pytest
import warm

from streamll.cli.main import main
from streamll.cli.replay import events_of
from streamll.cli.retention import with_retention
from streamll.core.ordering import OrderCheck
from streamll.core.wire import decode

PROGRAM = """
import os, sys
import dspy

print("the module prints")

class Loud(dspy.Module):
    def __init__(self):
        super().__init__()
        self.qa = dspy.Predict("question -> answer")

    def forward(self, question):
        os.system("echo a child prints")
        print("the program prints")
        return self.qa(question=question)

class Failing(Loud):
    def forward(self, question):
        raise ValueError("no such thing")
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "loud.py").write_text(PROGRAM)
    return tmp_path


def command(*arguments):
    return [sys.executable, "-m", "streamll", "run", *arguments, "--model", "practice"]


def test_json_lines_are_all_that_is_printed(folder):
    done = warm.run(
        command("loud.py:Loud", "Why?", "--json"), cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    events = [decode(line) for line in done.stdout.splitlines()]
    OrderCheck().check_all(events)
    assert (events[0].event_type, events[-1].event_type) == ("run.start", "run.end")
    assert "token" in {event.event_type for event in events}
    said = ["the module prints", "a child prints", "the program prints"]
    assert done.stderr.splitlines() == said


def test_a_run_is_recorded_and_logged_with_what_was_asked_for(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", sys.path[:])
    log = "sqlite:///new/runs.db"
    options = ["--json", "--record", "run.jsonl", "--log", log, "--include", "inputs"]
    assert main([*command("loud.py:Loud", "Why?", *options)[3:]]) == 0
    told = capsys.readouterr()
    printed = [decode(line) for line in told.out.splitlines()]
    assert printed[0].inputs == {"question": "Why?"}
    assert f"streamll: the log has this as run {printed[0].run_id}\n" in told.err
    assert events_of(log, ()) == events_of("run.jsonl", ()) == printed
    assert '"record":"chunk"' in (folder / "run.jsonl").read_text()
    away = ["--log", "redis://127.0.0.1:1"]
    assert main([*command("loud.py:Loud", "Why?", *away)[3:]]) == 1
    assert "streamll: --log: redis://127.0.0.1:1" in capsys.readouterr().err


def test_a_failed_run_stays_in_the_page_until_ctrl_c(folder):
    process = warm.Popen(
        command("loud.py:Failing", "Why?", "--web"),
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    with process:
        said = ""
        while "Ctrl-C ends the page" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        url, token = re.search(r"(http://127\.0\.0\.1:\d+)/#token=(\S+)", said).groups()
        headers, told = {"authorization": f"Bearer {token}"}, []
        deadline = time.monotonic() + 60  # the command waits for its sinks no longer than a second
        while told != [("Failing", "failed")]:
            assert time.monotonic() < deadline, told
            listed = httpx.get(f"{url}/runs", headers=headers, trust_env=False, timeout=60).json()
            told = [(run["program"], run["status"]) for run in listed["runs"]]
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(60) == 1
    assert rest.startswith("streamll: ValueError: no such thing (")
    assert rest.count("\n") == 1


def test_keep_is_the_option_that_the_logs_urls_have():
    for url, keep, made in (
        ("sqlite:///a.db", None, "sqlite:///a.db"),
        ("sqlite:///a.db", "1.5h", "sqlite:///a.db?keep_seconds=5400"),
        ("sqlite:///a.db?synchronous=FULL", "7d", "sqlite:///a.db?synchronous=FULL&keep_seconds=604800"),
        ("redis://h/1", "500000", "redis://h/1?maxlen=500000"),
        ("rediss+cluster://h", "9", "rediss+cluster://h?maxlen=9"),
        ("amqps://h/v", "2GB", "amqps://h/v?max_bytes=2000000000"),
    ):  # fmt: skip
        assert with_retention(url, keep) == made


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--keep", "5"], "--keep: a log in sqlite:// keeps for a time, such as 12h or 7d, not '5'"),
        (["--keep", "0d"], "not '0d'"),
        (["--log", "redis://h", "--keep", "7d"], "keeps a number of entries, such as 500000, not '7d'"),
        (["--log", "amqp://h", "--keep", "7"], "keeps a size, such as 500MB or 2GB, not '7'"),
        (["--log", "sqlite:///a?keep_seconds=4", "--keep", "7d"], "say the same; leave out one"),
        (["--include", "all"], "include has no 'all'; there are inputs, outputs"),
    ],
)  # fmt: skip
def test_serve_says_how_keep_and_include_are_given(options, told, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", sys.path[:])
    assert main(["serve", "loud.py:Loud", "--model", "practice", *options]) == 2
    said = capsys.readouterr().err
    assert (told in said, said.count("\n")) == (True, 1), json.dumps(said)
