"""X13: a recording in a real browser: played by ``streamll replay --web``, told by ``streamll report``."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import dspy
import httpx
import pytest
import warm
from profiles import in_turn
from viewer.conftest import shown_text, wait_text, wait_until

from streamll.cli.main import main
from streamll.testing import record
from streamll.testing.record_file import recorded_events

WORDS = " ".join(f"word{n}" for n in range(40))
SCRIPT = "<script>document.title = 'owned'</script>"


class Failing(dspy.Module):
    def __init__(self):
        super().__init__()
        self.qa = dspy.Predict("question -> answer")

    def forward(self, question):
        self.qa(question=question)
        raise ValueError("no such thing")


@pytest.fixture
def recording(practice, tmp_path):
    """Two runs: an answer that took a second, and a program that failed."""
    practice.pace = 0.03
    practice.script({"reasoning": SCRIPT, "answer": WORDS}, {"answer": "half of it"})
    dspy.configure(lm=practice.lm(), adapter=dspy.ChatAdapter())
    with record(tmp_path / "run.jsonl") as path:
        dspy.ChainOfThought("question -> answer")(question="q")
        with pytest.raises(ValueError, match="no such thing"):
            Failing()(question="q")
    practice.stop()
    return path


def wait_left(url):
    """Until no page reads a run any more: the server says so when it stops and one still does."""
    address, _, token = url.partition("/#token=")
    headers = {"authorization": f"Bearer {token}"}
    with httpx.Client(base_url=address, headers=headers, trust_env=False, timeout=60) as client:
        wait_until(lambda: "\nstreamll_readers 0\n" in client.get("/metrics").text)


@contextmanager
def replaying(path, *options):
    """``streamll replay FILE --web`` in a process of its own: it, its page's address, its port."""
    command = [sys.executable, "-m", "streamll", "replay", str(path), "--web", *options]
    process = warm.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
    )
    try:
        said = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/#token=\S+", said)
        assert found, said + process.stdout.read()
        yield process, found[0], int(found[1])
    finally:
        process.kill()
        process.wait(60)
        process.stdout.close()


def wait_runs(page, count):
    page.wait_for_function(
        "(count) => document.querySelectorAll('#runs li').length >= count", arg=count
    )


def wait_status(page, status):
    page.wait_for_function(
        "(wanted) => document.querySelector('#status').dataset.status === wanted", arg=status
    )


def test_a_recording_plays_in_the_page_at_its_own_pace_from_when_it_is_opened(recording, open_page):
    for speed in ("1", "0.2", "0.04"):  # until the machine is quick enough to see it begin
        if plays_at_its_pace(recording, open_page, speed):
            return
    raise AssertionError("it was there at once")


def plays_at_its_pace(recording, open_page, speed) -> bool:
    """False if all of it was there when the page had been opened."""
    with replaying(recording, "--speed", speed) as (process, url, port):
        assert "when the page is open" in process.stdout.readline()
        page = open_page(url)
        wait_runs(page, 1)
        page.locator("#runs button").last.click()  # the other one may be there as well
        page.wait_for_function(
            "() => document.querySelector('#program').textContent === 'ChainOfThought'"
        )
        page.wait_for_selector('.field[data-field="answer"]')
        text, status = page.evaluate(  # of one moment
            """() => [document.querySelector('.field[data-field="answer"] .text').textContent,
                document.querySelector("#status").dataset.status]"""
        )
        if "word39" in text:
            page.goto("about:blank")
            return False
        assert status == "running"
        wait_text(page, "answer", "word39")
        wait_status(page, "ended")
        assert shown_text(page, "answer") == WORDS
        assert shown_text(page, "reasoning") == SCRIPT
        assert "owned" not in page.title()
        wait_runs(page, 2)
        assert not page.is_visible("#form")
        assert not page.is_visible("#stop")
        assert process.stdout.readline().startswith("Played")
        page.reload()
        wait_runs(page, 2)
        page.goto("about:blank")
        wait_left(url)
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
        assert (process.returncode, rest) == (130, "")
        with socket.socket() as gone:
            assert gone.connect_ex(("127.0.0.1", port)) != 0
    return True


def test_speed_0_is_all_of_it_at_once_also_before_anybody_looks(recording, open_page):
    with replaying(recording, "--speed", "0") as (process, url, _):
        assert process.stdout.readline().startswith("Played")
        page = open_page(url)
        wait_runs(page, 2)
        page.wait_for_function(
            """() => [...document.querySelectorAll('#runs .dot')]
                .map((dot) => dot.dataset.status).join() === 'failed,ended'"""
        )
        page.locator("#runs button").nth(1).click()
        wait_text(page, "answer", "word39")
        page.goto("about:blank")


@pytest.mark.parametrize("interrupted", ["before anybody looks", "while it plays"])
def test_it_can_be_ended_at_any_time(recording, open_page, interrupted):
    with replaying(recording, "--speed", "0.02") as (process, url, _):  # for minutes
        assert "when the page is open" in process.stdout.readline()
        if interrupted == "while it plays":
            page = open_page(url)
            wait_runs(page, 1)
            page.goto("about:blank")
            wait_left(url)
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
        assert (process.returncode, rest) == (130, "")


# --- streamll report ------------------------------------------------------------------------------


@pytest.fixture
def written(recording, capsys):
    assert main(["report", str(recording)]) == 0
    return recording.with_suffix(".html")


@pytest.mark.parametrize(
    ("size", "scheme"), in_turn([(1280, 860), (390, 844)], ["light", "dark"]), ids=str
)
def test_a_report_shows_its_runs_on_any_screen(written, recording, open_page, size, scheme):
    page = open_page(
        written.as_uri(), viewport={"width": size[0], "height": size[1]}, color_scheme=scheme
    )
    wait_runs(page, 2)
    wait_status(page, "ended")
    program = page.text_content("#program")
    assert program == "ChainOfThought"
    assert shown_text(page, "answer") == WORDS
    assert page.locator("#timeline .row").count() >= 2
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
        "wider than its screen"
    )
    for box in ("#program", "#timeline .row", ".card"):
        assert page.locator(box).first.bounding_box()["x"] >= 0
    events = list(recorded_events(recording))
    assert len({event.run_id for event in events}) == 2


def test_a_report_tells_a_failure(written, open_page):
    page = open_page(written.as_uri())
    wait_runs(page, 2)
    page.locator("#runs button").nth(1).click()
    wait_status(page, "failed")
    assert "ValueError" in page.text_content("#problem")
    chips = page.locator(".card .chip").all_text_contents()
    assert chips == ["module", "predict"], "what a card is of"
