"""Inputs on the command line: typed as annotated, asked for on a terminal, and chats with programs."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys

import pytest
import warm
from emulator import TerminalSession

from streamll.cli.main import main
from streamll.testing import PracticeServer

APP = '''
from typing import Literal

import dspy
from pydantic import BaseModel

from streamll.serve import Served


class Address(BaseModel):
    street: str
    number: int
    town: str = "Bonn"


class Letter(dspy.Signature):
    """Write a letter."""

    to: Address = dspy.InputField()
    tags: list[str] = dspy.InputField()
    tone: Literal["warm", "cold"] = dspy.InputField()
    urgent: bool = dspy.InputField()
    letter: str = dspy.OutputField()


class Seen(dspy.Signature):
    """Look."""

    question: str = dspy.InputField()
    image: dspy.Image = dspy.InputField()
    answer: str = dspy.OutputField()


class Chat(dspy.Signature):
    """Answer."""

    history: dspy.History = dspy.InputField()
    tone: Literal["warm", "cold"] = dspy.InputField()
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


write = dspy.Predict(Letter)
look = dspy.Predict(Seen)
agent = dspy.Predict(Chat)
qa = dspy.Predict("question -> answer")


def last(messages):
    """Only the last message."""
    return {"question": messages[-1]["content"] + "!"}


served = Served(name="own", program=qa, from_messages=last)
scored = dspy.Predict("history: dspy.History, question -> answer, score: int")
rated = Served(name="rated", program=scored, reply="answer")
'''


@pytest.fixture
def server():
    with PracticeServer() as server:
        yield server


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "my_app.py").write_text(APP)
    return tmp_path


@pytest.fixture
def command(folder, server, monkeypatch, capfd, patient_sinks):
    """``command(…)``: in this process; its code, output and errors."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "my_app", raising=False)
    model = ["--model", "openai/practice-model", "--base-url", server.openai_url]

    def run(*arguments):
        return main([*arguments, *model]), *capfd.readouterr()

    return run


def given(*pairs):
    return [part for pair in pairs for part in ("--input", pair)]


ADDRESS = json.dumps({"street": "Am Hof", "number": 4})


def test_inputs_are_what_the_annotations_say(command, server):
    server.script({"letter": "Dear you"})
    options = given(f"to={ADDRESS}", 'tags=["a", "b"]', "tone=warm", "urgent=yes")
    code, _, err = command("run", "my_app:write", *options)
    assert (code, err) == (0, "")
    asked = server.requests[-1].inputs
    assert json.loads(asked["to"]) == {"street": "Am Hof", "number": 4, "town": "Bonn"}
    assert "True" in json.dumps(asked["urgent"])


def test_every_wrong_input_is_named_at_once_with_its_place(command, server):
    wrong = json.dumps({"street": 1, "number": "x"})
    options = given(f"to={wrong}", "tags=[1]", "tone=hot", "odd=1")
    code, _, err = command("run", "my_app:write", *options)
    assert code == 2
    assert err.count("\n") == 1
    places = re.findall(r"(?:^streamll: my_app:write: |; )([\w.\[\]]+): ", err)
    assert places == ["to.street", "to.number", "tags[0]", "tone", "odd", "urgent"]
    assert server.requests == []


def test_an_image_is_a_file_of_this_machine(command, server, folder):
    (folder / "cat.png").write_bytes(b"pixels")
    server.script({"answer": "A cat."})
    code, _, err = command("run", "my_app:look", "What?", *given("image=cat.png"))
    assert (code, err) == (0, "")
    sent = json.dumps(server.requests[-1].body)
    assert f"data:image/png;base64,{base64.b64encode(b'pixels').decode()}" in sent
    code, _, err = command("run", "my_app:look", "What?", *given("image=dog.png"))
    assert code == 2
    assert "image: there is no file 'dog.png', and it is no address" in err


def test_a_terminal_asks_for_what_is_missing_until_it_is_right(server, folder):
    server.script({"letter": "Dear you"})
    model = ["--model", "openai/practice-model", "--base-url", server.openai_url]
    command = [sys.executable, "-m", "streamll", "run", "my_app:write", *given("tone=cold"), *model]
    answers = [
        ("to.street: ", "Am Hof"),
        ("to.number (integer): ", "four"),
        ("this is no integer", "4"),
        ('to.town: other than "Bonn"?', "n"),
        ("tags[0] (empty: no more): ", "a"),
        ("tags[1] (empty: no more): ", ""),
        ("urgent [y/N]: ", "y"),
    ]
    with TerminalSession(*command, cwd=folder) as session:
        for prompt, answer in answers:
            session.wait_for(lambda terminal, prompt=prompt: prompt.strip() in terminal.text)
            session.type(f"{answer}\n")
        assert session.finish() == 0
    asked = server.requests[-1].inputs
    assert json.loads(asked["to"]) == {"street": "Am Hof", "number": 4, "town": "Bonn"}
    assert asked["tone"] == "cold"


def test_a_chat_with_a_program_gives_it_the_whole_conversation(
    command, server, monkeypatch, folder
):
    server.respond(lambda request: {"answer": f"re {request.inputs['question']}"})
    lines = [f"turn {n}" for n in range(10)]
    code, out, err = talked(monkeypatch, command, lines, "my_app:agent", *given("tone=warm"))
    assert code == 0, err
    assert out.splitlines() == [f"re turn {n}" for n in range(10)]
    sent = server.requests[-1].body["messages"]
    said = [message["content"] for message in sent[1:]]
    for n in range(9):
        assert f"turn {n}" in said[2 * n]
        assert f"re turn {n}" in said[2 * n + 1]
    assert "turn 9" in said[-1]
    assert "warm" in said[-1]


def talked(monkeypatch, command, lines, *arguments):
    """A chat whose user types these lines."""
    read, write = os.pipe()
    with os.fdopen(write, "w") as typed:
        typed.write("".join(f"{line}\n" for line in lines))
    with os.fdopen(read) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        return command("chat", *arguments)


def test_a_chats_session_can_be_kept_and_gone_on_with(command, server, monkeypatch, folder):
    server.script({"answer": "one"}, {"answer": "two"})
    options = ["my_app:agent", *given("tone=warm"), "--session", "chat.json"]
    talked(monkeypatch, command, ["first"], *options)
    code, out, _ = talked(monkeypatch, command, ["second", "/history"], *options)
    assert code == 0
    assert out.splitlines() == ["two", "› first", "  one", "› second", "  two"]
    assert "first" in json.dumps(server.requests[-1].body)


@pytest.mark.parametrize(
    ("arguments", "question"),
    [
        (["my_app:qa"], "User: a\n\nAssistant: r\n\nUser: b"),
        (["my_app:qa", "--from-messages", "my_app:last"], "b!"),
        (["my_app:served"], "b!"),
    ],
)
def test_from_messages_decides_in_a_chat(command, server, monkeypatch, arguments, question):
    server.script({"answer": "r"}, {"answer": "r"})
    code, _, err = talked(monkeypatch, command, ["a", "b"], *arguments)
    assert code == 0, err
    assert server.requests[-1].inputs["question"] == question


def test_what_was_superseded_is_not_what_was_said(command, server, monkeypatch):
    unfit = "[[ ## answer ## ]]\nwrong\n\n[[ ## score ## ]]\nmany\n\n[[ ## completed ## ]]"
    server.script(unfit, {"answer": "right", "score": 3}, {"answer": "sure", "score": 3})
    code, out, err = talked(monkeypatch, command, ["a", "b"], "my_app:rated")
    assert code == 0, err
    assert out.splitlines() == ["wrong", "right", "sure"]
    said = json.dumps(server.requests[-1].body["messages"])
    assert "right" in said
    assert "wrong" not in said


def test_a_failing_program_is_told_and_the_conversation_goes_on(command, server, monkeypatch):
    server.script("not what was asked for", "nor this", {"answer": "fine"})
    code, out, err = talked(monkeypatch, command, ["a", "b"], "my_app:qa")
    assert code == 1  # for scripts: something failed
    assert "AdapterParseError" in err
    assert out.splitlines() == ["fine"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["chat", "my_app:agent"], "my_app:agent needs the input 'tone' (Literal['warm', 'cold'])"),
        (["chat", "my_app:agent", *given("tone=hot")], "tone: Input should be 'warm' or 'cold'"),
        (["chat", *given("tone=hot")], "--input and --from-messages are for a program"),
        (["chat", "my_app:qa", "--from-messages", "my_app:none"], "my_app has no 'none'"),
        (["chat", "my_app:qa", "--from-messages", "my_app:Chat"], "is SignatureMeta, not a function"),
        (["run", "my_app:qa", *given("question=1", "question=2")], "gives 'question' twice"),
        (["serve", "my_app:qa", "--from-messages", "other=my_app:last"], "no program 'other', only qa"),
        (
            ["serve", "my_app:qa", "my_app:agent", "--from-messages", "my_app:last"],
            "PROGRAM=module:function, of qa, agent",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(command, arguments, complaint):
    code, _, err = command(*arguments)
    assert code == 2
    [line] = [line for line in err.splitlines() if line.startswith("streamll: ")]
    assert complaint in line


@pytest.mark.parametrize("target", ["my_app:qa", "my_app:served"])
def test_a_server_takes_from_messages_of_the_command_line(server, folder, target):
    import httpx

    server.script({"answer": "r"})
    model = ["--model", "openai/practice-model", "--base-url", server.openai_url]
    options = ["--port", "0", "--log", "sqlite:///log.db", *model]
    if target == "my_app:qa":
        options += ["--from-messages", "my_app:last"]
    command = [sys.executable, "-m", "streamll", "serve", target, *options]
    with warm.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())[0]
            messages = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
            with httpx.Client(timeout=60, trust_env=False) as client:
                client.post(f"{url}/v1/chat/completions", json={"messages": messages})
        finally:
            process.terminate()
    assert server.requests[-1].inputs["question"] == "b!"
