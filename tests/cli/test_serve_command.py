"""``streamll serve``: several processes, one log, a real SIGTERM."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

PROGRAM = 'import dspy\nqa = dspy.Predict("question -> answer")\n'
TOKEN = "a-token-for-this-very-test"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "qa.py").write_text(PROGRAM)
    return tmp_path


@contextlib.contextmanager
def serving(folder, *arguments, **environment):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "streamll", "serve", "qa.py:qa", "--model", "practice"]
    process = subprocess.Popen(
        [*command, "--port", str(port), *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 60
    try:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{url}/healthz", trust_env=False).status_code == 200:
                    break
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < deadline, "it did not start"
            time.sleep(0.05)
        yield process, url
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


def told(text):
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]


def test_two_processes_serve_each_others_runs(folder):
    """X10"""
    with serving(folder, "--workers", "2", STREAMLL_TOKENS=TOKEN) as (_, url):
        headers = {"authorization": f"Bearer {TOKEN}"}
        assert httpx.get(f"{url}/runs", trust_env=False).status_code == 401
        run = httpx.post(
            f"{url}/runs", json={"inputs": {"question": "q"}}, headers=headers, trust_env=False
        ).json()
        processes = set()
        for _ in range(12):  # new connections, whoever takes them
            metrics = httpx.get(f"{url}/metrics", headers=headers, trust_env=False).text
            processes.add(re.search(r"streamll_runs_started_total (\d)", metrics)[1])
            events = httpx.get(
                f"{url}{run['events']}?token={run['token']}", trust_env=False, timeout=30
            )
            assert told(events.text)[-1]["event_type"] == "run.end"
        assert processes == {"0", "1"}


def test_sigterm_sends_readers_away_and_lets_the_run_end_in_the_log(folder):
    """A rolling restart: the reader goes on at the successor, in the middle of a field."""
    with serving(folder) as (old, url):
        run = httpx.post(f"{url}/runs", json={"inputs": {"question": "q"}}, trust_env=False).json()
        body = ""
        with httpx.stream("GET", url + run["events"], trust_env=False, timeout=30) as response:
            told_to_stop = False
            for text in response.iter_text():
                body += text
                if body.count('"token"') > 10 and not told_to_stop:
                    old.send_signal(signal.SIGTERM)
                    told_to_stop = True
        had = told(body)
        assert had[-1]["event_type"] != "run.end"
        assert old.wait(60) in {0, -signal.SIGTERM}
        assert "Traceback" not in old.stdout.read()
    place = re.findall(r"^id: (.*)$", body, re.MULTILINE)[-1]
    with serving(folder) as (_, url):
        rest = told(
            httpx.get(url + run["events"], headers={"last-event-id": place}, trust_env=False).text
        )
        snapshot = httpx.get(url + run["url"], trust_env=False).json()
    assert rest[-1]["event_type"] == "run.end"
    text = "".join(e["token"] for e in [*had, *rest] if e["event_type"] == "token")
    assert text == next(iter(snapshot["fields"].values()))
