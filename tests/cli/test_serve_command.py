"""``streamll serve``: several processes, one log, a real SIGTERM; and what can be wrong with it."""

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
from unittest import mock

import httpx
import pytest
import warm
from patience import Stopwatch

from streamll.cli.main import main
from streamll.testing import Reply

PROGRAM = 'import dspy\nqa = dspy.Predict("question -> answer")\n'
PEOPLE = """
from streamll.serve import Permit

async def who(connection):
    name = connection.headers.get("x-user")
    return Permit(name) if name else None
"""
RULES = """
from streamll.guards import Words

rules = [Words(["plum"], mask="[fruit]")]
"""
TOKEN = "a-token-for-this-very-test"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "qa.py").write_text(PROGRAM)
    return tmp_path


def line_of(process):
    return process.stdout.readline().strip()


@contextlib.contextmanager
def begun(folder, *arguments, **environment):
    """A server at a free port that it found itself, and its address as it says it."""
    command = [sys.executable, "-m", "streamll", "serve", "qa.py:qa", "--model", "practice"]
    process = warm.Popen(
        [*command, "--port", "0", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        lines = [line_of(process)]
        while not lines[-1].startswith("Serving") and process.poll() is None:
            lines.append(line_of(process))
        url = re.fullmatch(r"Serving qa.py:qa on (http://127.0.0.1:\d+); Ctrl-C ends it", lines[-1])
        assert url, lines
        yield process, url[1], lines[:-1]
    finally:
        process.kill()
        process.wait(60)
        process.stdout.close()


@contextlib.contextmanager
def serving(folder, *arguments, **environment):
    """The same, once it answers and until it has ended by itself; several processes begin late."""
    with begun(folder, *arguments, **environment) as (process, url, _):
        deadline = time.monotonic() + 60
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


@pytest.fixture
def serve_command(folder, monkeypatch, capsys):
    """Runs ``streamll serve`` with an error at its start: the exit code, standard output and error."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", sys.path[:])
    before = set(sys.modules)

    def ask(*arguments, program="qa.py:qa", **environment):
        with mock.patch.dict(os.environ, environment):
            code = main(["serve", program, "--model", "practice", *arguments])
        return (code, *capsys.readouterr())

    yield ask
    sys.modules.pop("qa", None)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, "it began to serve"
    assert "nope" not in set(sys.modules) - before


def sse_data(text):
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]


def test_two_processes_serve_each_others_runs(folder):
    """X10"""
    options = ["--workers", "2", "--ai-version", "6", "--include", "inputs", "--keep", "1h"]
    options += ["--auth", "people.py:who", "--guards", "rules.py:rules"]
    (folder / "people.py").write_text(PEOPLE)
    (folder / "rules.py").write_text(RULES)
    with serving(folder, *options, STREAMLL_TOKENS=TOKEN) as (_, url):
        headers = {"authorization": f"Bearer {TOKEN}"}
        assert httpx.get(f"{url}/runs", trust_env=False, timeout=60).status_code == 401
        run = httpx.post(
            f"{url}/runs",
            json={"inputs": {"question": "q plum"}},
            headers=headers,
            trust_env=False,
            timeout=60,
        ).json()
        processes, deadline = set(), time.monotonic() + 60
        while processes != {"0", "1"}:  # new connections, whoever takes them
            assert time.monotonic() < deadline, "only one process takes connections"
            with httpx.Client(base_url=url, trust_env=False, timeout=60) as one:
                metrics = one.get("/metrics", headers=headers).text
                processes.add(re.search(r"streamll_runs_started_total (\d)", metrics)[1])
                told = sse_data(one.get(f"{run['events']}?token={run['token']}").text)
            assert told[0]["inputs"] == {"question": "q [fruit]"}
            assert told[-1]["event_type"] == "run.end"
        for name, status in (("anna", 404), ("", 401)):  # it is not hers, and nobody's
            look = httpx.get(
                f"{url}{run['url']}", headers={"x-user": name}, trust_env=False, timeout=60
            )
            assert look.status_code == status
        chat = {"id": "c", "messages": [{"role": "user", "content": "q"}]}
        told = httpx.post(f"{url}/ai/qa", json=chat, headers=headers, trust_env=False, timeout=60)
        assert '"finishReason":"stop"}\n' in told.text  # which version 5 has not known


def test_sigterm_closes_readers_and_lets_the_run_end_in_the_log(folder, practice):
    """A rolling restart: the reader goes on at the successor, in the middle of a field."""
    practice.script(Reply({"answer": "one two three four five six seven"}, hold_after=10))
    model = ["--model", "openai/practice-model", "--base-url", practice.openai_url]
    with serving(folder, *model) as (old, url):
        run = httpx.post(
            f"{url}/runs", json={"inputs": {"question": "q"}}, trust_env=False, timeout=60
        ).json()
        body = ""
        with httpx.stream("GET", url + run["events"], trust_env=False, timeout=60) as response:
            told_to_stop = False
            for text in response.iter_text():
                body += text
                if '"token"' in body and not told_to_stop:
                    old.send_signal(signal.SIGTERM)
                    told_to_stop = True
        had = sse_data(body)
        assert had[-1]["event_type"] != "run.end"
        practice.release()  # only now: no reader may be so late that the run has ended meanwhile
        assert old.wait(60) in {0, -signal.SIGTERM}
        assert "Traceback" not in old.stdout.read()
    place = re.findall(r"^id: (.*)$", body, re.MULTILINE)[-1]
    with serving(folder) as (_, url):
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
            rest = sse_data(client.get(run["events"], headers={"last-event-id": place}).text)
            snapshot = client.get(run["url"]).json()
    assert rest[-1]["event_type"] == "run.end"
    text = "".join(e["token"] for e in [*had, *rest] if e["event_type"] == "token")
    assert text == next(iter(snapshot["fields"].values()))


# --- what would annoy ------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("nope:qa", "there is no module 'nope' here"),
        ("qa:nope", "qa has no 'nope'; its programs are: qa"),
        ("qa", "the program is named module:Program"),
    ],
)
def test_a_missing_program_is_reported_in_one_line_also_with_workers(
    serve_command, program, reason, workers
):
    """Workers that cannot start are started again: this must not get so far."""
    code, printed, said = serve_command("--port", "0", "--workers", workers, program=program)
    assert (code, printed, said.count("\n")) == (2, "", 1)
    assert reason in said


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("qa.py:rules", "qa.py has no 'rules'"),
        ("qa.py:qa", "Predict is not a guard; give Pattern"),
        ("rules", "guards are named module:name"),
    ],
)
def test_what_is_no_guard_is_reported_in_one_line(serve_command, target, reason):
    code, printed, said = serve_command("--port", "0", "--guards", target)
    assert (code, printed, said.count("\n")) == (2, "", 1)
    assert reason in said


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_in_use_is_reported_in_one_line_with_a_remedy(serve_command, workers):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, printed, said = serve_command("--port", str(port), "--workers", workers)
    assert (code, printed, said.count("\n")) == (2, "", 1)
    assert f"cannot listen on http://127.0.0.1:{port}: the port is in use" in said
    assert "choose another with --port" in said


def test_an_address_of_another_machine_is_reported_in_one_line(folder):
    command = [sys.executable, "-m", "streamll", "serve", "qa:qa", "--model", "practice"]
    ended = warm.run(
        [*command, "--host", "203.0.113.9", "--port", "0"],
        cwd=folder,
        env={**os.environ, "STREAMLL_TOKENS": TOKEN},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert "this machine does not have that address" in ended.stderr


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("sqlite:////proc/nope/log.db", "is its folder there, and yours to write to?"),
        ("sqlite:///folder", "cannot be opened"),
        ("sqlite:///qa.py", "is no log: file is not a database"),
        ("mysql://somewhere", "no broker has URLs like"),
    ],
)
def test_a_log_that_can_never_work_is_reported_at_the_start(folder, serve_command, log, reason):
    (folder / "folder").mkdir()
    code, printed, said = serve_command("--port", "0", "--log", log)
    assert (code, printed, said.count("\n")) == (2, "", 1)
    assert reason in said


def test_duplicate_program_names_and_short_tokens_are_rejected(serve_command):
    code, _, said = serve_command("qa:qa", "--port", "0")
    assert (code, "two programs are called 'qa'" in said) == (2, True)
    code, _, said = serve_command("--port", "0", STREAMLL_TOKENS="short")
    assert (code, said.count("\n"), "at least 16 characters" in said) == (2, 1, True)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_port_0_prints_the_port_and_the_logs_folder_is_created(folder, workers):
    log = "sqlite:///new/folder/log.db"
    with begun(folder, "--workers", workers, "--log", log) as (process, url, _):
        assert not url.endswith(":0")
        with httpx.Client(
            base_url=url, trust_env=False, timeout=60, transport=httpx.HTTPTransport(retries=8)
        ) as client:
            run = client.post("/runs", json={"inputs": {"question": "q"}})
            assert run.status_code == 202, run.text
        process.terminate()
        assert process.wait(60) == 0


def test_a_broker_that_is_down_is_reported_and_waited_for(folder):
    with begun(folder, "--log", "redis://127.0.0.1:1") as (_, url, before):
        assert len(before) == 1
        assert "the log redis://127.0.0.1:1" in before[0]
        assert "until it can, runs are refused" in before[0]
        answer = httpx.post(
            f"{url}/runs", json={"inputs": {"question": "q"}}, trust_env=False, timeout=60
        )
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_ctrl_c_names_what_it_waits_for_and_a_second_one_does_not_wait(folder):
    (folder / "qa.py").write_text(f"{PROGRAM}{SLOW}")
    with begun(folder) as (process, url, _):
        httpx.post(f"{url}/runs", json={"inputs": {"question": "q"}}, trust_env=False, timeout=60)
        process.send_signal(signal.SIGINT)
        assert line_of(process) == (
            "stopping: 1 program is still running, with 30 s to end; Ctrl-C once more cancels"
        )
        again = Stopwatch()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert again.seconds < 10
        assert process.stdout.read() == ""
    with begun(folder) as (_, url, _):
        [run] = httpx.get(f"{url}/runs", trust_env=False, timeout=60).json()["runs"]
        assert run["status"] == "cancelled"


@pytest.mark.parametrize("debug", [False, True])
def test_a_failing_program_is_logged_by_the_server(folder, debug):
    """What users asked may be in an error's message: that is for --debug."""
    (folder / "qa.py").write_text(f"{PROGRAM}{FAILING}")
    with begun(folder, *["--debug"] * debug) as (process, url, _):
        asked = {"inputs": {"question": "my-question"}}
        run = httpx.post(f"{url}/runs", json=asked, trust_env=False, timeout=60).json()
        said = line_of(process)
        assert said == (
            f"run {run['run_id']} of qa failed: KeyError at {folder}/qa.py:8 in look_up"
        )
        process.terminate()
        assert process.wait(60) == 0
        rest = process.stdout.read()
    assert ("my-question" in rest, "Traceback" in rest) == (debug, debug)


FAILING = """
import json

def look_up(question):
    json.loads("[]")  # the library's own lines are not where the program was
    return {}[question]

class Failing(dspy.Module):
    def forward(self, question):
        return look_up(question)

qa = Failing()
"""

SLOW = """

class Slow(dspy.Module):
    async def aforward(self, question):
        import asyncio

        await asyncio.sleep(3600)


qa = Slow()
"""


def test_a_broker_without_the_log_is_named(folder, server_of):
    """It may be the wrong database."""
    url = server_of("redis").new_part()
    with begun(folder, "--log", url) as (process, _, _):
        said = line_of(process)
    assert said == f"The log in {url} is new: nothing is in it yet"
