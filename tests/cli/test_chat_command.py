"""``streamll chat`` from outside: on a terminal, wide and narrow, and through pipes."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import subprocess
import sys
from typing import NamedTuple

import pytest
import warm
from emulator import Emulator, TerminalSession

from streamll.cli.chat import TypingOut
from streamll.cli.main import main
from streamll.testing import Fault, PracticeServer, Reply, chunkings

CHAT = [sys.executable, "-m", "streamll", "chat"]
TEXT = "The quick brown fox jumps over the lazy dog, and the dog does not mind at all."


@pytest.fixture
def server():
    with PracticeServer() as server:
        yield server


@pytest.fixture
def terminal(server, tmp_path):
    """``terminal(columns)``: a chat with the practice server on a terminal of that width."""
    quiet = tmp_path / "inputrc"
    quiet.write_text("set enable-bracketed-paste off\n")
    model = ["--model", "openai/practice-model", "--base-url", server.openai_url]

    def open_(columns=80, *arguments):
        return TerminalSession(
            *CHAT, *model, *arguments, columns=columns, rows=40, INPUTRC=str(quiet)
        )

    return open_


def prompts(count):
    """The terminal shows so many prompts, the last of them empty."""

    def shown(emulator):
        signs = [line for line in emulator.lines if line.startswith("›")]
        return len(signs) >= count and signs[-1].strip() == "›"

    return shown


@pytest.mark.parametrize("columns", [100, 30])
def test_a_conversation_on_a_terminal(terminal, server, columns):
    server.script(Reply(TEXT, pace=0.005), "two lines")
    with terminal(columns) as session:
        session.wait_for(prompts(1))
        session.type("What jumps?\n")
        session.wait_for(prompts(2))
        session.type('"""several\nlines"""\n')
        session.wait_for(prompts(3))
        session.type("\x04")
        assert session.finish() == 0
    shown = session.emulator.text
    assert "Traceback" not in shown
    reply = shown.split("What jumps?")[1].split("chunks")[0]
    lines = [line for line in reply.splitlines() if line.strip()]
    wrong = [line for line in lines if not (line.startswith("  ") and len(line) < columns)]
    assert wrong == []
    assert " ".join(" ".join(lines[:-1]).split()).startswith(TEXT)  # no word was cut
    assert "chunks · first after" in shown.replace("\n", " ").replace("  ", " ")
    assert server.requests[1].body["messages"][-1]["content"] == "several\nlines"


def interrupt(session, condition):
    """Ctrl-C, pressed again as a person would where readline missed it.

    A signal that arrives after readline has drawn a character and before it waits for the next one
    is only noticed with the next key (CPython's readline loop).
    """
    for seconds in (5, 5, 20):
        session.process.send_signal(signal.SIGINT)
        with contextlib.suppress(AssertionError):
            session.wait_for(condition, seconds)
            return
    session.wait_for(condition, 0)


def test_ctrl_c_stops_the_reply_and_keeps_the_session(terminal, server):
    server.script(Reply(TEXT, hold_after=5), "Still here.")
    with terminal() as session:
        session.wait_for(prompts(1))
        session.type("Go\n")
        session.wait_for(lambda emulator: "fox jumps" in emulator.text)
        session.process.send_signal(signal.SIGINT)
        session.wait_for(prompts(2))
        assert "stopped; the partial reply is kept" in session.emulator.text
        session.type("On\n")
        session.wait_for(lambda emulator: "Still here." in emulator.text)
        session.wait_for(prompts(3))
        session.type("never mi")
        session.wait_for(lambda emulator: "never mi" in emulator.text)
        interrupt(session, prompts(4))  # at the prompt it forgets the line
        session.type("/quit\n")
        assert session.finish() == 0
    server.requests[0].wait_closed()
    sent = [message["content"] for message in server.requests[1].body["messages"]]
    assert sent == ["Go", "The quick brown fox jumps", "On"]


def test_a_retry_is_announced_while_it_waits(terminal, server):
    server.script(Fault(status=429, retry_after=1), "At last.")
    with terminal() as session:
        session.wait_for(prompts(1))
        session.type("Hello\n")
        # Of a second that passed between two looks at the screen, it shows nothing any more.
        session.wait_for(lambda _: "… retrying in 1." in session.raw)
        session.wait_for(prompts(2))
        session.type("\x04")
        assert session.finish() == 0
    assert "\n\n  At last.\n" in session.emulator.text
    assert "retrying" not in session.emulator.text


def test_an_error_ends_the_reply_but_not_the_conversation(terminal, server):
    server.script(Reply(TEXT, fault=Fault(disconnect_after=4)), Fault(status=401), "Fine.")
    with terminal() as session:
        for count, text in enumerate(["one", "two", "three"], 1):
            session.wait_for(prompts(count))
            session.type(f"{text}\n")
        session.wait_for(prompts(4))
        session.type("\x04")
        assert session.finish() == 0
    assert "Fine." in session.emulator.text
    assert "The quick brown fox\n  TransportError" in session.emulator.text
    assert "AuthError: Incorrect API key provided." in session.emulator.text
    assert "Traceback" not in session.emulator.text


class CommandResult(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def chat(capsys, monkeypatch):
    """Run the command in this process, its input and output redirected."""

    def run(*arguments, typed):
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        code = main(["chat", *arguments])
        return CommandResult(code, *capsys.readouterr())

    return run


def test_output_to_a_pipe_is_plain_text(server, chat):
    server.script(TEXT, "Answer two \x1b[2J")
    model = ["--model", "openai/practice-model", "--base-url", server.openai_url]
    typed = "one\\\nmore\ntwo\n/new \x1b[2Jodd\n/branch\n/branch \x1b[2Jeven\n"
    done = chat(*model, "--system", "Be brief.", typed=typed)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{TEXT}\nAnswer two")
    assert "\x1b" not in done.stdout  # nobody's words steer the terminal
    first = server.requests[0].body["messages"]
    assert [message["content"] for message in first] == ["Be brief.", "one\nmore"]


def test_without_a_key_a_practice_model_answers():
    done = warm.run(
        [*CHAT, "--pace", "0"],
        input="What is a stream?\n", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "No key in the environment" in done.stderr
    assert "This is the practice model speaking" in done.stdout
    assert done.returncode == 0


def test_commands_and_a_session_file(server, tmp_path, chat):
    server.respond(lambda request: f"reply {len(request.body['messages'])}")
    file = tmp_path / "chat.json"
    model = ["--model", "openai/practice-model", "--base-url", server.openai_url]
    typed = (
        "first\n/fork side\nsecond\n/branch main\nthird\n/branch\n/history\n/new\nfourth\n"
        "/branch mian\n/dance\n/save\n/help\n/quit\nnever said\n"
    )
    done = chat(*model, "--session", str(file), typed=typed)
    assert done.returncode == 0, done.stderr
    assert "* main  4 messages" in done.stdout
    assert "side  4 messages" in done.stdout
    assert "› third\n  reply 3\n" in done.stdout
    assert "did you mean 'main'" in done.stderr
    assert "unknown command /dance; /help lists the commands" in done.stderr
    assert "Ctrl-C stops a reply" in done.stdout
    saved = json.loads(file.read_text("utf-8"))
    assert [len(branch["order"]) for branch in saved["branches"]] == [4, 4, 2]
    again = chat(*model, "--session", str(file), typed="fifth\n")
    assert again.stdout.endswith("reply 5\n")
    kept = json.loads(file.read_text("utf-8"))  # after each turn, without being asked
    assert [message["content"] for message in kept["messages"]][-2]["instruction"] == "fifth"
    assert "never said" not in file.read_text("utf-8")
    chat(*model, "--session", str(file), typed="/fork later\n")
    assert json.loads(file.read_text("utf-8"))["branches"][-1]["name"] == "later"


def test_a_file_that_cannot_be_written_is_told_before_anything_is_asked(server, tmp_path, chat):
    model = ["--model", "openai/practice-model", "--base-url", server.openai_url]
    file = tmp_path / "no-such-directory" / "chat.json"
    done = chat(*model, "--session", str(file), typed="Hello\n")
    assert done.returncode == 2
    assert done.stderr == f"streamll: {file}: No such file or directory\n"
    assert server.requests == []


def test_a_reply_that_cannot_be_saved_is_told_and_the_conversation_goes_on(server, tmp_path, chat):
    file = tmp_path / "here" / "chat.json"
    file.parent.mkdir()

    def vanish(request):
        file.unlink(missing_ok=True)
        file.parent.rmdir()
        return "first"

    server.script(vanish, "second")
    model = ["--model", "openai/practice-model", "--base-url", server.openai_url]
    done = chat(*model, "--session", str(file), typed="one\ntwo\n/save elsewhere/x\n/save\n")
    assert done.stdout.splitlines() == ["first", "second"]
    assert done.stderr.count("  not saved: No such file or directory\n") == 2
    assert done.stderr.splitlines()[-2:] == ["No such file or directory"] * 2
    assert done.returncode == 1


def test_in_a_pipe_what_is_no_reply_goes_to_standard_error(server, chat):
    """And the exit code tells that a reply failed."""
    server.script(Fault(status=429, retry_after=0), "At last.", Fault(status=401), "Fine.")
    model = ["--model", "openai/practice-model", "--base-url", server.openai_url]
    done = chat(*model, typed="one\ntwo\nthree\n")
    assert done.stdout == "At last.\nFine.\n"
    banner, retry, error = done.stderr.splitlines()
    assert banner.startswith("openai/practice-model · /help")
    assert retry.startswith("… retrying in ")
    assert error.startswith("  AuthError: Incorrect API key provided.")
    assert done.returncode == 1
    assert chat(*model, typed="four\n").returncode == 0


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        (b"one\\", "one\n"),
        (b'"""one\ntwo\n', "one\ntwo"),
        (b"/etc/hosts - what is this?\n", "/etc/hosts - what is this?"),
        (b"caf\xe9?\n", "caf\N{REPLACEMENT CHARACTER}?"),
    ],
)
def test_a_pipe_asks_what_it_is_given(server, tmp_path, typed, asked):
    server.script("first")
    model = ["--model", "openai/practice-model", "--base-url", server.openai_url]
    file = tmp_path / "chat.json"
    command = [*CHAT, *model, "--session", str(file)]
    done = warm.run(command, input=typed, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"first\n"), done.stderr
    [request] = server.requests
    assert request.body["messages"][-1]["content"].rstrip("\n") == asked.rstrip("\n")


def test_ctrl_c_in_a_pipe_ends_the_command_and_keeps_the_partial_reply(server, tmp_path):
    server.script(Reply(TEXT, hold_after=2))
    file = tmp_path / "chat.json"
    model = ["--model", "openai/practice-model", "--base-url", server.openai_url]
    process = warm.Popen(
        [*CHAT, *model, "--session", str(file)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        process.stdin.write("Go\nOn\n")
        process.stdin.flush()
        server.wait_for_requests(1, 60)
        server.requests[0].wait_chunks(2)
        shown = process.stdout.read(9)
        process.send_signal(signal.SIGINT)
        assert shown == "The quick"
        assert process.wait(60) == 130
    replies = [message["content"] for message in json.loads(file.read_text("utf-8"))["messages"]]
    assert replies[-1]["assistant_response"] == "The quick"
    assert len(server.requests) == 1


def test_a_closed_pipe_ends_the_conversation(server):
    def answer(request):
        """Nothing comes of the third one, so that no fourth follows while `head` takes its time."""
        return Reply(hold_after=0) if len(server.requests) > 2 else None

    server.respond(answer)
    model = f"--model openai/practice-model --base-url {server.openai_url}"
    command = f"yes again | {' '.join(CHAT)} {model} 2>/dev/null | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("This is the practice model")
    assert len(server.requests) <= 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model", "opnai/gpt"], "Did you mean 'openai'"),
        (["--model", "gpt-4o"], "named provider/model, such as openai/gpt-4o, not 'gpt-4o'"),
        (["--model", "openai/gpt-4o"], "openai needs a key: set OPENAI_API_KEY"),
        (["--base-url", "http://127.0.0.1:1"], "--base-url needs --model as well"),
        (["--session", "broken.json"], "no saved session"),
    ],
)
def test_a_wrong_chat_command_prints_one_line(tmp_path, monkeypatch, chat, arguments, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.json").write_text("{}")
    done = chat(*arguments, typed="")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.returncode == 2


def typed_out(chunks, width):
    emulator = Emulator(width, 50)
    typing = TypingOut(lambda data: emulator.feed(data.replace("\n", "\r\n")), lambda: width, "  ")
    for chunk in chunks:
        typing.add(chunk)
    typing.end()
    return emulator


@pytest.mark.parametrize("width", [16, 33, 200])
@pytest.mark.parametrize("text", [TEXT, "東京は日本の首都です。 " * 4, "a\n\nb  c\n" + "x" * 50])
def test_a_reply_looks_the_same_in_any_chunks(text, width):
    emulators = [typed_out(chunks, width) for chunks in chunkings(text)]
    assert all(len(line) <= width for emulator in emulators for line in emulator.lines)
    shown = {emulator.text for emulator in emulators}
    assert len(shown) == 1
    squeezed = "".join(shown.pop().split())
    assert squeezed == "".join(text.split())
