"""The command line from outside: processes, pipes, terminals, exit codes.

A practice server in this process is the provider; what a command prints is what its user sees.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from typing import NamedTuple, get_args

import pytest
import warm
from emulator import TerminalSession
from patience import BOUND, Stopwatch

from streamll.cli.command import ViewChoice
from streamll.cli.main import main
from streamll.sinks.terminal import Mode
from streamll.testing import PracticeServer

QA = """
import dspy

class QA(dspy.Module):
    def __init__(self):
        super().__init__()
        self.generate = dspy.ChainOfThought("question -> answer")

    def forward(self, question, hint="none"):
        return self.generate(question=f"{question} ({hint})")

class Needy(dspy.Module):
    def __init__(self, retriever):
        super().__init__()

ready = QA()
number = 42

def make():
    return QA()

def make_nothing():
    return None

def shout(text):
    return text.upper()

class Broken(QA):
    def forward(self, question):
        raise RuntimeError("it broke\\n\\x1b[31mbadly")

class Printing(dspy.Predict):
    def __init__(self):
        super().__init__("topic, style -> poem, title")

class Hinted(dspy.Signature):
    question: str = dspy.InputField()
    hint: str = dspy.InputField(default="none")
    answer: str = dspy.OutputField()

class Thinking(dspy.ChainOfThought):
    def __init__(self):
        super().__init__(Hinted)

acting = dspy.ReAct("question -> answer", tools=[shout])
"""


@pytest.fixture(scope="module")
def server():
    with PracticeServer() as server:
        yield server


@pytest.fixture
def app_folder(tmp_path):
    (tmp_path / "app.py").write_text(textwrap.dedent(QA))
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    return tmp_path


class CommandResult(NamedTuple):
    code: int
    out: str
    err: str


def streamll(*arguments: str, **options) -> CommandResult:
    command = [sys.executable, "-m", "streamll", *arguments]
    done = warm.run(command, capture_output=True, text=True, **options)
    return CommandResult(done.returncode, done.stdout, done.stderr)


# --- demo -----------------------------------------------------------------------------------------


def tokens(text: str, field: str) -> str:
    import json

    found = re.findall(rf"^\[TOKEN\] {field}: (.*)$", text, re.MULTILINE)
    return "".join(map(json.loads, found))


def test_the_demo_streams_to_a_pipe_without_a_key():
    """A6: `[TOKEN]` lines where standard output is no terminal."""
    done = streamll("demo", "--pace", "0", "--question", "What is a token?")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "[RUN] ChainOfThought started"
    assert any(line.startswith("[RUN] done in ") for line in lines)
    for mode in ("simple", "concurrent", "aggregate", "recovery"):
        assert any(line.startswith(f"── {mode} ─") for line in lines)
    assert lines[-2] == "Recovered after 3 retries"
    assert "practice model" in tokens(done.out, "answer")
    assert tokens(done.out, "reasoning")
    assert done.err.strip() == (
        "A practice model on this machine answers; "
        "streamll demo --model openai/gpt-4o-mini asks a real one."
    )


def test_the_demo_is_live_on_a_terminal_and_ctrl_c_ends_it():
    slow = ["--pace", "0.5"]  # it is still under way when a busy machine gets to Ctrl-C
    with TerminalSession(sys.executable, "-m", "streamll", "demo", *slow) as session:
        session.wait_for(lambda terminal: "▌" in terminal.text)
        session.process.send_signal(signal.SIGINT)
        assert session.finish() == 130
    assert "⊘ cancelled after" in session.emulator.text
    assert session.emulator.cursor_visible
    assert "Traceback" not in session.emulator.text


def test_every_mode_of_the_terminal_can_be_chosen_as_a_view():
    assert [view.value for view in ViewChoice] == list(get_args(Mode))


def test_view_overrides_the_choice_by_terminal(server):
    arguments = ["demo", "--model", "openai/practice-model", "--base-url", server.openai_url]
    with TerminalSession(
        sys.executable, "-m", "streamll", *arguments, "--view", "plain"
    ) as session:
        assert session.finish() == 0
    assert "[TOKEN] answer: " in session.emulator.text
    assert " done in " in streamll(*arguments, "--view", "live").out.rpartition("✓")[2]


@pytest.mark.parametrize(
    ("since", "seconds"), [("90s", 90), ("30m", 1800), ("1.5h", 5400), ("2d", 172_800)]
)
def test_copy_since_takes_a_duration_before_now(since, seconds):
    from streamll.cli.tail import moment

    before = time.time() - seconds
    found = moment(since)
    assert before - 0.001 <= found <= time.time() - seconds + 0.001


def test_a_base_url_is_used_with_the_key_of_the_environment(server, monkeypatch):
    from streamll.cli.models import language_model

    def key():
        with language_model("openai/practice-model", server.openai_url) as lm:
            return lm.kwargs.get("api_key")  # without one DSPy looks into the environment

    assert key() == "none"
    monkeypatch.setenv("OPENAI_API_KEY", "mine")
    assert key() is None


def test_a_closed_pipe_prints_no_traceback():
    """``streamll demo | head -1``."""
    slow = ["--pace", "1"]  # else it may have written all before the pipe is closed
    with warm.Popen(
        [sys.executable, "-m", "streamll", "demo", *slow],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        first = process.stdout.readline()  # a busy machine may take a minute to begin
        process.stdout.close()
        assert process.wait(BOUND) == 1
        said = process.stderr.read()
    assert first == "[RUN] ChainOfThought started\n"
    assert "Error" not in said
    assert "Exception" not in said


# --- run ------------------------------------------------------------------------------------------

MODEL = ["--model", "openai/practice-model"]


@pytest.fixture
def run(app_folder, server, monkeypatch, capfd, patient_sinks):
    """`streamll run …` in this process, since importing dspy takes a second each time."""
    monkeypatch.chdir(app_folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "app", raising=False)

    def run(*arguments: str) -> CommandResult:
        code = main(["run", *arguments, *MODEL, "--base-url", server.openai_url])
        return CommandResult(code, *capfd.readouterr())

    return run


def test_run_streams_the_named_field_of_a_program(run, server):
    """The row `streamll run module:Program --field answer "question"`."""
    server.script({"reasoning": "Think.", "answer": "Forty-two."})
    done = run("app:QA", "--field", "answer", "What?")
    assert done.code == 0, done.err
    assert tokens(done.out, "answer") == "Forty-two."
    assert tokens(done.out, "reasoning") == ""
    assert server.requests[-1].inputs["question"] == "What? (none)"
    assert done.err == ""


@pytest.mark.parametrize("target", ["app:ready", "app:make", "app.py:QA"])
def test_a_program_is_a_class_an_instance_a_factory_or_in_a_file(run, server, target):
    server.script({"reasoning": "Think.", "answer": "Yes."})
    done = run(target, "Q", "--input", "hint=look")
    assert done.code == 0, done.err
    assert tokens(done.out, "answer") == "Yes."
    assert server.requests[-1].inputs["question"] == "Q (look)"


def test_run_takes_inputs_by_name(run, server):
    server.script({"poem": "Roses", "title": "Red"})
    done = run("app:Printing", "roses", "--input", "style=haiku")
    assert done.code == 0, done.err
    assert server.requests[-1].inputs == {"topic": "roses", "style": "haiku"}


def test_a_failing_program_prints_one_line_and_exits_with_1(run):
    done = run("app:Broken", "Q")
    assert done.code == 1
    assert done.err.startswith("streamll: RuntimeError: it broke ␛[31mbadly (")
    assert re.search(r"/app\.py:\d+ in forward; --debug shows the traceback\)\n$", done.err)
    assert done.err.count("\n") == 1
    assert done.out.splitlines()[-1].startswith("[RUN] failed after ")
    assert "Traceback" in run("app:Broken", "Q", "--debug").err


@pytest.mark.parametrize(
    ("code", "place"),
    [
        ("x = {}['gone']", "1 in <module>"),
        ("def QA():\n    return {}['gone']", "2 in QA"),
        ("class QA:\n    def __init__(self):\n        {}['gone']", "3 in __init__"),
    ],
)
def test_where_a_module_or_a_constructor_failed_is_told(run, app_folder, code, place):
    file = app_folder / "failing.py"
    file.write_text(code)
    done = run("failing.py:QA", "Q")
    assert done.code == 1
    told = f"({file}:{place}; --debug shows the traceback)"
    assert done.err == f"streamll: KeyError: 'gone' {told}\n"
    assert "Traceback" in run("failing.py:QA", "Q", "--debug").err


def test_run_accepts_a_plain_function(run):
    done = run("app:shout", "hello")
    assert done.code == 0, done.err
    assert re.fullmatch(r"\[RUN\] \w+ started", done.out.splitlines()[0])


def test_run_without_a_model_explains_how_to_name_one(app_folder):
    done = streamll("run", "app:QA", "Q", cwd=app_folder)
    assert done.code == 2
    assert done.err.startswith("streamll: no language model is configured: name one with --model")
    assert done.err.count("\n") == 1


@pytest.mark.since_3_4  # before, LiteLLM is imported for every LM
def test_the_practice_model_is_asked_directly_whatever_the_environment_says(app_folder):
    """``OPENAI_BASE_URL`` makes DSPy take LiteLLM, which is seconds of imports."""
    code = (
        "import sys, streamll.cli.main as m; "
        "m.main(['run', 'app:QA', 'Q', '--model', 'practice']); "
        "m.main(['demo', '--mode', 'simple', '--pace', '0']); "
        "sys.exit('litellm' in sys.modules)"
    )
    environment = {**os.environ, "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
    done = warm.run(
        [sys.executable, "-c", code],
        cwd=app_folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Duration: " in done.stdout


# --- in this process: what can be wrong with a command line -----------------------------------------


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["run", "app"], "the program is named module:Program"),
        (["run", "nowhere:QA"], "there is no module 'nowhere' here"),
        (["run", "app.deeper:QA"], "there is no module"),
        (["run", "nowhere.py:QA"], "there is no file 'nowhere.py' here"),
        (["run", "app:Quack"], "app has no 'Quack'; its programs are: QA, Needy, ready, Broken, Printing, Thinking, acting"),
        (["run", "app:number"], "app:number is int, not a dspy.Module or a function"),
        (["run", "app:Needy"], "app:Needy cannot be made without retriever"),
        (["run", "app:make_nothing"], "app:make_nothing makes NoneType, not a dspy.Module"),
        (["run", "app:QA", "Q", "--input", "hint"], "--input takes key=value, not 'hint'"),
        (["run", "app:QA", "Q", "--input", "question=R"], "'question' is given twice"),
        (["run", "app:QA", "Q", "--base-url", "http://x"], "--base-url needs --model as well"),
        (["run", "app:QA", "Q", "--model", "gpt-4o"], "a model is named provider/model, such as openai/gpt-4o"),
        (["run", "app:QA", "Q", "--model", "auto"], "--model auto found no key in the environment"),
        (
            ["run", "app:QA", "Q", "--model", "practice", "--field", "anwser"],
            "no output field 'anwser'. Its output fields are: generate.predict: reasoning, answer",
        ),
        (["run", "app:QA", "Q", "--json", "--web"], "--json and --web exclude each other"),
        (["run", "app:QA", "Q", "--web", "--view", "live"], "--view is for the terminal, where --web"),
        (
            ["run", "app:QA", "Q", "--include", "input"],
            "include has no 'input'; there are inputs, outputs, prompts, tools, errors",
        ),
        (["run", "app:QA", "Q", "--model", "practice", "--log", "foo://x"], "no broker has URLs like"),
        (
            ["run", "app:QA", "Q", "--model", "practice", "--record", "none/run.jsonl"],
            "--record: cannot write none/run.jsonl: No such file or directory",
        ),
        (["demo", "--web", "--mode", "simple"], "--web asks questions of its own: leave out --mode"),
        (["demo", "--base-url", "http://x"], "--base-url needs --model as well"),
        (["demo", "--view", "fancy"], "Invalid value for '--view'"),
        (["practice", "--chunk", "0"], "--chunk takes token, whole or a number of characters"),
        (["practice", "--port", "70000"], "Invalid value for '--port'"),
        (["practice", "--dialect", "klingon"], "there is no dialect 'klingon', only openai, azure"),
        (["dance"], "No such command 'dance'"),
        (["run", "app:QA", "--model", "practice"], "app:QA needs the input 'question' (str)"),
        (
            ["run", "app:Printing", "--input", "style=dry", "--model", "practice"],
            "app:Printing needs the input 'topic' (str); --input name=value gives an input",
        ),
        (["run", "app:Thinking", "--model", "practice"], "app:Thinking needs the input 'question' (str)"),
        (["run", "app:acting", "--model", "practice"], "app:acting needs the input 'question' (str)"),
        (
            ["run", "app:Thinking", "Q", "--input", "hnt=1", "--model", "practice"],
            "hnt: app:Thinking has no such input; it has question, hint",
        ),
        (
            ["run", "app:QA", "Q", "--model", "practice", "--input", "wrong=1"],
            "wrong: app:QA has no such input; it has question, hint",
        ),
        pytest.param(
            ["run", "app:QA", "Q", "--model", "openai/"], "model 'openai/' has a provider prefix",
            marks=pytest.mark.since_3_4,  # LiteLLM asks for a model without a name
        ),
        (["tail", "foo://x"], "no broker has URLs like 'foo://x'"),
        (["copy", "foo://x", "foo://y"], "no broker has URLs like 'foo://x'"),
        (["run"], "Missing argument 'MODULE:PROGRAM'"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_prints_one_line_and_exits_with_2(
    arguments, complaint, app_folder, monkeypatch, capsys
):
    monkeypatch.chdir(app_folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "app", raising=False)
    assert main(arguments) == 2
    printed = capsys.readouterr()
    complaints = [line for line in printed.err.splitlines() if line.startswith("streamll: ")]
    assert len(complaints) == 1
    assert complaint in complaints[0]
    assert "Traceback" not in printed.err


def test_an_import_error_inside_the_module_is_not_reported_as_a_missing_module(
    app_folder, monkeypatch, capsys
):
    monkeypatch.chdir(app_folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert main(["run", "broken:QA"]) == 1
    error = "ModuleNotFoundError: No module named 'nothing_of_this_name'"
    assert error in capsys.readouterr().err


def test_model_auto_uses_the_provider_whose_key_is_in_the_environment(monkeypatch):
    from streamll.cli.models import resolve

    monkeypatch.setenv("GEMINI_API_KEY", "k")
    assert resolve("auto").startswith("gemini/")
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert resolve("auto").startswith("openai/")
    assert resolve("ollama_chat/llama3.2") == "ollama_chat/llama3.2"


@pytest.mark.parametrize("arguments", [["-h"], ["run", "-h"], ["demo", "-h"]])
def test_h_is_help(arguments, capsys):
    assert main(arguments) == 0
    assert "-h, --help" in capsys.readouterr().out


def test_shells_can_complete_commands_and_options():
    asked = {"_STREAMLL_COMPLETE": "complete_bash", "COMP_WORDS": "streamll re", "COMP_CWORD": "1"}
    assert streamll(env={**os.environ, **asked}).out.split() == ["replay", "report"]
    asked |= {"COMP_WORDS": "streamll run --mo", "COMP_CWORD": "2"}
    assert streamll(env={**os.environ, **asked}).out.split() == ["--model"]


def test_help_is_quick_and_does_not_import_dspy():
    watch = Stopwatch()
    done = streamll("--help")
    assert done.code == 0
    assert all(command in done.out for command in ("demo", "run", "practice"))
    assert watch.seconds < 3  # what it loads is tested below, and takes 0.1 s
    code = "import sys, streamll.cli.main as m; m.main(['--help']); sys.exit('dspy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_version_and_an_empty_command_line(capsys):
    assert main(["--version"]) == 0
    assert re.fullmatch(r"streamll \d+\.\d+\.\S+\n", capsys.readouterr().out)
    assert main([]) == 2
    assert "Commands:" in capsys.readouterr().out


# --- practice ---------------------------------------------------------------------------------------


def test_practice_prints_its_addresses_and_ends_with_ctrl_c():
    command = [sys.executable, "-m", "streamll", "practice", "--port", "0", "--pace", "0"]
    command += ["--dialect", "groq"]
    with warm.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            told = "".join(iter(process.stdout.readline, "\n"))
            told += "".join(iter(process.stdout.readline, "\n"))
            url = re.search(r"http://127\.0\.0\.1:\d+", told)[0]
            asked = streamll("demo", *MODEL, "--base-url", f"{url}/v1")
            assert asked.code == 0, asked.err
            process.send_signal(signal.SIGINT)
            rest, complaints = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0
    assert complaints == ""
    assert f"Practice server on {url}, speaking as groq does;" in told
    assert f'dspy.LM("anthropic/practice-model", api_base="{url}", api_key="practice")' in told
    assert re.search(r"POST /v1/chat/completions 200  \d+ chunks, [\d.]+ s\n", rest)


def test_practice_reports_a_port_in_use_in_one_line(server, capsys):
    assert main(["practice", "--port", str(server.port)]) == 1
    assert capsys.readouterr().err.startswith(f"streamll: port {server.port} cannot be used: ")


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    for name in [name for name in os.environ if name.endswith("_API_KEY")]:
        monkeypatch.delenv(name)
