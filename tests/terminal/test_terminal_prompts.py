"""Questions of runs at the terminal: the form line by line, and the prompt on a real pseudo-terminal."""

from __future__ import annotations

import datetime as dt
import enum
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any, Literal

import dspy
import pydantic
import pytest
import warm
from emulator import TerminalSession

import streamll
from streamll.asking.answers import AnswerType
from streamll.asking.approve import _Approvals
from streamll.core import events as ev
from streamll.core.errors import WrongAnswer
from streamll.sinks.terminal import TerminalSink
from streamll.terminal.forms import Form


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Letter(pydantic.BaseModel):
    to: str = pydantic.Field(description="whom it goes to")
    copies: int = pydantic.Field(1, ge=1, le=5)
    on: dt.date | None = None


class Order(pydantic.BaseModel):
    letter: Letter
    colours: list[Colour]
    reply: Letter | None = None


class Branch(pydantic.BaseModel):
    name: str
    branches: list[Branch] = []


def send_mail(to: str, copies: int = 1) -> str:
    """Send a mail."""
    return f"{copies} to {to}"


def answered(schema: Any, lines: list[str], **question: Any) -> tuple[Any, list[str]]:
    """The answer that lines make, as the program takes it, and every problem on the way."""
    answers = schema if isinstance(schema, AnswerType) else AnswerType(schema)
    form = Form(ev.Question(question_id="q", text="?", schema=answers.schema, **question))
    told = []
    for number, line in enumerate(lines):
        if form.enter(line):
            try:
                value = answers.convert(form.answer)
                assert number == len(lines) - 1, f"lines are left behind {line!r}"
                return value, told
            except WrongAnswer as wrong:
                form.reject(wrong.problems)
        told += form.problems
    raise AssertionError(f"it goes on to ask for {form.field}")


ANSWERS = {
    "yes": (bool, ["Y"], True),
    "no, after what is neither": (bool, ["maybe", "", "no"], False),
    "a choice by name": (Literal["red", "blue"], ["blue"], "blue"),
    "a choice by number": (Literal["red", "blue"], ["3", "2"], "blue"),
    "names go before numbers": (Literal[3, 2, 1], ["1"], 1),
    "an enum": (Colour, ["2"], Colour.BLUE),
    "an integer": (int, ["1.5", "two", "2"], 2),
    "a number": (float, ["NaN", "true", "1.5"], 1.5),
    "a text as it is": (str, [" so, "], " so, "),
    "nothing, where it may be": (int | None, [""], None),
    "a text or a number": (int | str, ["x"], "x"),
    "a list": (list[int], ["1", "2", ""], [1, 2]),
    "JSON": (dict[str, int], ["{", '{"a": 1}'], {"a": 1}),
    "any JSON": ({}, ["[1]"], [1]),
    "fields": (Letter, ["ada", "2", ""], Letter(to="ada", copies=2)),
    "only what was wrong again": (Letter, ["ada", "9", "soon", "2", "2030-01-02"],
                                  Letter(to="ada", copies=2, on=dt.date(2030, 1, 2))),
    "inside one another": (Order, ["ada", "", "", "red", "", "y", "bob", "", ""],
                           Order(letter=Letter(to="ada"), colours=[Colour.RED], reply=Letter(to="bob"))),
    "without end": (Branch, ["root", "yes", "leaf", "", ""],
                    Branch(name="root", branches=[Branch(name="leaf")])),
    "no schema that leads anywhere": ({"$ref": "#"}, None, None),
}  # fmt: skip


@pytest.mark.parametrize(("schema", "lines", "value"), ANSWERS.values(), ids=ANSWERS)
def test_lines_become_the_answer(schema, lines, value):
    if lines is None:
        Form(ev.Question(question_id="q", text="?", schema=schema))
        return
    assert answered(schema, lines)[0] == value


def test_what_is_wrong_is_named():
    _, problems = answered(Letter, ["", "ada", "9", "soon", "2", "2030-01-02"])
    assert problems[0] == "this needs an answer"
    assert "copies: 9 is greater than the maximum of 5" in problems
    assert any(each.startswith("on: ") for each in problems)


@pytest.mark.parametrize(
    ("lines", "decision"),
    [
        (["ok", "y"], (True, {}, None)),
        (["n", ""], (False, {}, None)),
        (["no", "She is away."], (False, {}, "She is away.")),
        (["e", "bob", ""], (True, {"to": "bob"}, None)),
        (["e", "", "x", "3"], (True, {"copies": 3}, None)),
    ],
)
def test_a_call_is_allowed_edited_or_refused(lines, decision):
    approvals = _Approvals(dspy.Tool(send_mail), {}, shown=True)
    assert tuple(answered(approvals, lines, tool="send_mail")[0]) == decision


PRELUDE = """
import datetime, sys, termios, threading, time
from typing import Literal
import dspy, pydantic
import streamll
from streamll.capture.run import enter
from streamll.sinks.terminal import TerminalSink

enter.catch_up.__defaults__ = (60.0,)  # sinks have more than a second to give the terminal back

class Asks(dspy.Module):
    def __init__(self, *questions, **options):
        super().__init__()
        self.questions, self.options = questions, options

    def forward(self, **_):
        answers = []
        for text in self.questions:
            try:
                answers.append(streamll.ask(text, **self.options))
            except streamll.Unanswered as error:
                answers.append(type(error).__name__)
        return dspy.Prediction(answer=answers)

def restored():
    return "restored" if termios.tcgetattr(0) == BEFORE else "changed"

BEFORE = termios.tcgetattr(0)
"""


def program(tmp_path: Path, body: str) -> list[str]:
    path = tmp_path / "program.py"
    path.write_text(PRELUDE + textwrap.dedent(body))
    return [sys.executable, str(path)]


def prompts(text: str, sign: str = "›"):
    """Whether ``text`` is asked, and a line can be typed."""
    return lambda terminal: (
        f"? {text}" in terminal.text and terminal.text.split("\n")[-1].startswith(sign)
    )


def test_a_watched_program_is_answered_below_its_view(tmp_path):
    command = program(
        tmp_path,
        """
        class Letter(pydantic.BaseModel):
            to: str
            copies: int = pydantic.Field(1, le=5)

        def send_mail(to: str) -> str:
            return f"sent to {to}"

        class Mails(dspy.Module):
            def forward(self, topic):
                letter = streamll.ask("What letter\\x1b[2J?", schema=Letter)
                return dspy.Prediction(answer=streamll.approve(send_mail)(to=letter.to))

        with streamll.watch():
            print(Mails()(topic="x").answer)
        print(restored(), input("and then? "))
        deadline = time.monotonic() + 60
        while "streamll-prompt" in (names := {each.name for each in threading.enumerate()}):
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
        print("left" if "streamll-prompt" in names else "none left")
        """,
    )
    with TerminalSession(*command) as session:
        session.wait_for(prompts("What letter␛[2J?"))
        session.type("adx\x7fa\r9\r")
        session.wait_for(lambda terminal: "9 is greater than the maximum of 5" in terminal.text)
        assert "  to  ada" in session.emulator.text
        session.type("\r")
        session.wait_for(prompts("Allow send_mail?"))
        assert '  to  "ada"' in session.emulator.text
        session.type("edit\rbob\r")
        session.wait_for(lambda terminal: "and then?" in terminal.text)
        session.type("this\r")
        assert session.finish() == 0, session.emulator.text
    text = session.emulator.text
    assert '  → {"to": "ada", "copies": 1} after' in text
    assert text.endswith("sent to bob\nand then? this\nrestored this\nnone left"), text
    assert "Ctrl-C declines" not in text  # nothing of the prompts stays


def test_several_runs_are_asked_for_one_after_the_other_and_answered_elsewhere(tmp_path):
    command = program(
        tmp_path,
        """
        seen = {}
        class Keeps(streamll.sinks.BaseSink):
            def handle_event(self, event):
                if event.event_type == "question":
                    seen[event.text] = event

        def run(name, **options):
            print(name, Asks(name, **options)(x=1).answer)

        def elsewhere():
            while "typed" not in typed_so_far():
                time.sleep(0.01)
            streamll.answer(seen["one"].run_id, seen["one"], "from elsewhere")

        def typed_so_far():
            from streamll.terminal.prompter import prompter
            return "".join(each.typed for each in prompter._waiting)

        with streamll.watch(sinks=[TerminalSink(), Keeps()]):
            threads = [
                threading.Thread(target=run, args=("one",)),
                threading.Thread(target=run, args=("two",)),
                threading.Thread(target=run, args=("brief",), kwargs={"timeout": 0.01, "default": "-"}),
            ]
            threads[0].start()
            while "one" not in seen:
                time.sleep(0.01)
            threads[1].start(), threads[2].start()
            elsewhere()
            for thread in threads:
                thread.join()
        print(restored())
        """,
    )
    with TerminalSession(*command) as session:
        session.wait_for(prompts("one"))
        # In one look: a frame may come in parts.
        session.wait_for(
            lambda terminal: "two" in terminal.text and terminal.text.count("Ctrl-C declines") == 1
        )
        session.type("typed")
        session.wait_for(lambda terminal: "one ['from elsewhere']" in terminal.text)
        session.wait_for(lambda terminal: "brief ['-']" in terminal.text)  # its prompt is gone
        session.wait_for(prompts("two"))
        session.type("for the second\r")
        assert session.finish() == 0, session.emulator.text
    text = session.emulator.text
    assert "two ['for the second']" in text
    assert "brief ['-']" in text
    assert text.endswith("restored")


@pytest.mark.parametrize("mode", ["live", "plain"])
def test_ctrl_c_declines_and_a_second_one_interrupts(tmp_path, mode):
    if shutil.which("setsid") is None:
        pytest.skip("no setsid here")
    command = program(
        tmp_path,
        f"""
        try:
            with streamll.watch(sinks=[TerminalSink(mode={mode!r})]):
                print(Asks("first", "second")(x=1).answer)
        except KeyboardInterrupt:
            print("interrupted", restored())
            with streamll.watch(sinks=[TerminalSink(mode={mode!r})]):
                print(Asks("third", "fourth", "fifth")(x=1).answer, restored())
        """,
    )
    sign = {"live": "›", "plain": ">"}[mode]
    with TerminalSession("setsid", "--ctty", "--wait", *command) as session:
        session.wait_for(prompts("first", sign))
        session.type("half a line\x03")
        session.wait_for(prompts("second", sign))
        assert "withdrawn" in session.emulator.text
        session.type("\x03")
        session.wait_for(lambda terminal: "interrupted restored" in terminal.text)
        session.wait_for(prompts("third", sign))
        session.type("\x03")
        session.wait_for(prompts("fourth", sign))
        session.type("an answer\r")  # behind which the next Ctrl-C declines again
        session.wait_for(prompts("fifth", sign))
        session.type("\x03")
        assert session.finish() == 0, session.emulator.text
    end = "['QuestionWithdrawn', 'an answer', 'QuestionWithdrawn'] restored"
    assert session.emulator.text.endswith(end)


RUN = """
import dspy, streamll

class Paint(dspy.Module):
    def forward(self, room):
        return dspy.Prediction(answer=f"painted {room} {streamll.ask('Which colour?')}")
"""


def test_streamll_run_asks_at_a_terminal_and_nowhere_else(tmp_path):
    (tmp_path / "paint.py").write_text(RUN)
    command = [
        sys.executable,
        "-m",
        "streamll",
        "run",
        "paint.py:Paint",
        "hall",
        "--model",
        "practice",
    ]
    done = warm.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "NobodyToAsk: nobody can answer 'Which colour?'" in done.stderr
    for options, sign in (((), "›"), (("--view", "plain"), ">")):
        with TerminalSession(*command, *options, cwd=str(tmp_path)) as session:
            session.wait_for(prompts("Which colour?", sign))
            session.type("blue\r")
            assert session.finish() == 0, session.emulator.text
        assert '"blue" after' in session.emulator.text


def test_streamll_chat_asks_between_the_messages(tmp_path):
    (tmp_path / "paint.py").write_text(RUN)
    command = [sys.executable, "-m", "streamll", "chat", "paint.py:Paint", "--model", "practice"]
    done = warm.run(command, cwd=tmp_path, capture_output=True, text=True, input="hall\n")
    assert done.returncode == 1
    assert "NobodyToAsk: nobody can answer 'Which colour?'" in done.stdout + done.stderr
    with TerminalSession(*command, cwd=str(tmp_path), NO_COLOR="1") as session:
        session.wait_for(lambda terminal: terminal.text.endswith("›"))
        session.type("hall\r")
        session.wait_for(lambda terminal: "Ctrl-C declines\n›" in terminal.text)
        session.type("\r")
        session.wait_for(lambda terminal: "! this needs an answer" in terminal.text)
        session.type("blue\r")
        session.wait_for(lambda terminal: "painted hall blue" in terminal.text)


def test_who_reads_pipes_files_and_notebooks_cannot_answer(monkeypatch):
    from streamll.sinks import terminal
    from streamll.terminal import keyboard, notebook

    sink = TerminalSink()
    assert not sink.takes_answers  # pytest's standard streams are no terminals
    with pytest.raises(streamll.NobodyToAsk), streamll.watch(sinks=[sink]):
        Asking()(topic="x")
    monkeypatch.setattr(keyboard, "is_there", lambda: True)
    monkeypatch.setattr(terminal, "is_terminal", lambda file: True)
    assert sink.takes_answers
    monkeypatch.setattr(notebook, "in_notebook", lambda: True)
    assert not sink.takes_answers


class Asking(dspy.Module):
    def forward(self, topic):
        return streamll.ask("Go on?")
