"""B10: ``streamll demo --mode …`` prints the Rust example's formats; Ctrl-C ends it cleanly."""

from __future__ import annotations

import re
import signal
import sys

import pytest
from emulator import TerminalSession
from patience import Stopwatch
from profiles import THOROUGH

from streamll.cli.demo import ANSWERS, SIMPLE, UNLUCKY, USUAL_TOKENS
from streamll.cli.main import main
from streamll.streams.progress import Follower


@pytest.fixture
def demo(capfd):
    def demo(*arguments):
        assert main(["demo", "--pace", "0", *arguments]) == 0
        return capfd.readouterr().out

    return demo


def test_the_simple_mode_prints_the_text_as_it_arrives(demo):
    out = demo("--mode", "simple")
    assert re.fullmatch(
        r"Question: Explain async programming\n\nAnswer: (.+)\n\nDuration: \d+\.\d{3}s\n", out
    )
    assert "lets one thread take care" in out
    assert demo("--mode", "simple", "--question", "Why?").startswith("Question: Why?\n\nAnswer: ")


def test_the_concurrent_mode_prints_a_finished_bar_for_each_question(demo):
    assert re.fullmatch(
        r"Processing 3 questions concurrently\.\.\.\n\n"
        r"Q1: What is Rust\? +\[={20}\] 100%\n"
        r"Q2: What is Python\? +\[={20}\] 100%\n"
        r"Q3: What is DSPy\? +\[={20}\] 100%\n"
        r"\nAll streams completed in \d+\.\d{3}s\n"
        r"Total tokens: \d+\n"
        r"Average: \d+ tokens/s\n",
        demo("--mode", "concurrent"),
    )


def test_the_aggregate_mode_prints_each_text_with_its_stream(demo):
    assert re.fullmatch(
        r"Merging 3 streams\.\.\.\n\n"
        r"\[Stream 1\] Rust is a systems programming language.+\n"
        r"\[Stream 2\] Python is a high-level interpreted language.+\n"
        r"\[Stream 3\] DSPy is a framework for programming language models.+\n"
        r"\nAggregation complete: 3 responses, \d+\.\d{3}s\n",
        demo("--mode", "aggregate"),
    )


def test_the_recovery_mode_prints_each_failed_attempt_and_then_the_answer(demo):
    assert re.fullmatch(
        r"Question: Why should retries wait\?\n\n"
        r"\[Retry 1\] ServerError; waited \d\.\ds, asking again\n"
        r"\[Retry 2\] RateLimitError; waited 0\.5s, asking again\n"
        r"Answer: A service in trouble.*\n"
        r"\[Retry 3\] TransportError after \d+ characters; waited \d\.\ds, asking again\n"
        r"Answer: A service in trouble is not helped .+\n"
        r"\nRecovered after 3 retries\n"
        r"Duration: \d+\.\d{3}s\n",
        demo("--mode", "recovery"),
    )


def test_an_unknown_mode_is_rejected_with_the_list_of_modes(capfd):
    assert main(["demo", "--mode", "sequential"]) == 2
    assert "--mode takes simple, concurrent, aggregate, recovery" in capfd.readouterr().err


def test_the_whole_demo_shows_all_modes_in_less_than_a_minute(capfd, patient_sinks):
    watch = Stopwatch()
    assert main(["demo", *([] if THOROUGH else ["--pace", "0.003"])]) == 0
    assert watch.seconds < 60
    out = capfd.readouterr().out
    assert out.startswith("[RUN] ChainOfThought started\n")
    assert "[TOKEN] answer: " in out
    for line in ("Duration: ", "All streams completed in ", "Aggregation complete: ", "Recovered"):
        assert line in out


def test_every_mode_asks_the_users_question(demo):
    asked = ["--question", "Why is the sky blue?"]
    concurrent = demo("--mode", "concurrent", *asked)
    assert re.search(r"Q1: Why is the sky blue\? \[={20}\] 100%\n", concurrent)
    assert "Q2: What is Rust?" in concurrent
    merged = demo("--mode", "aggregate", *asked)
    assert re.search(r"\[Stream 1\] .*sky", merged)
    assert "[Stream 2] Rust is" in merged
    assert demo("--mode", "recovery", *asked).startswith("Question: Why is the sky blue?\n")


def test_a_bar_is_near_its_end_when_the_answer_is():
    follower = Follower("Q", usual=USUAL_TOKENS)
    for word in ANSWERS["What is Python?"].split():
        follower.feed(word)
    assert 0.4 < follower.fraction < 1


@pytest.mark.parametrize("mode", ["simple", "recovery"])
def test_no_word_breaks_at_the_edge_of_the_terminal(mode):
    command = [sys.executable, "-m", "streamll", "demo", "--pace", "0", "--mode", mode]
    with TerminalSession(*command, columns=30) as session:
        assert session.finish() == 0
    text = session.emulator.text
    answer = ANSWERS[SIMPLE if mode == "simple" else UNLUCKY]
    shown = text.rpartition("Answer: ")[2].partition("\n\n")[0]
    assert [
        line.strip() for line in shown.splitlines() if line.split()[0] not in answer.split()
    ] == []
    assert " ".join(shown.split()) == answer


UNDER_WAY = {
    "simple": r"Answer: Async programming lets",
    "concurrent": r"Q1: What is Rust\? +\[=+> +\] +\d+%",
    "aggregate": r"\[Stream 2\] Python is a",
    "recovery": r"Answer: A service in trouble",
}


@pytest.mark.parametrize("mode", UNDER_WAY)
def test_ctrl_c_keeps_the_demos_text_and_restores_the_terminal(mode):
    command = [sys.executable, "-m", "streamll", "demo", "--mode", mode]
    slow = ["--pace", "0.5"]  # it is still under way when a busy machine gets to Ctrl-C
    with TerminalSession(*command, *slow) as session:
        session.wait_for(lambda terminal: re.search(UNDER_WAY[mode], terminal.text))
        session.process.send_signal(signal.SIGINT)
        assert session.finish() == 130
    terminal = session.emulator
    assert re.search(UNDER_WAY[mode], terminal.text)
    assert terminal.cursor_visible
    assert "Traceback" not in terminal.text
    assert "Exception" not in terminal.text
    assert "Recovered" not in terminal.text
