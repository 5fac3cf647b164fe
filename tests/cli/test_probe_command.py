"""``streamll probe``: the table, JSON and the exit code."""

from __future__ import annotations

import json
import math
import os

import pytest

from streamll.chat.probe import judged
from streamll.cli.main import main
from streamll.cli.probe import in_table
from streamll.services import iModel
from streamll.testing import Fault, PracticeServer, Reply, replay
from streamll.testing.oddities import oddities
from streamll.testing.record_file import recorded_exchanges

pytestmark = pytest.mark.since_3_4

NUMBERS = ", ".join(["one", "two", "three", "four", "five"] * 8)


@pytest.fixture(autouse=True)
def a_slow_beginning_is_no_burst(monkeypatch):
    """The practice server says all at once, which counts only where an answer takes some time."""
    monkeypatch.setattr("streamll.chat.probe.BURST_MIN_S", 60.0)


def command(*arguments, capsys):
    code = main(["probe", *arguments])
    printed = capsys.readouterr()
    assert "streamll:" not in printed.err
    return code, printed.out


def test_the_command_compares_models_and_sets_its_exit_code(practice, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    practice.respond(
        lambda request: Reply(
            NUMBERS, chunk="whole" if request.body["model"] == "lump" else "token"
        )
    )
    url = ["--base-url", practice.openai_url]
    code, printed = command("openai/smooth", *url, capsys=capsys)
    assert code == 0
    assert "✅ openai/smooth: true token-by-token streaming" in printed
    code, printed = command("openai/smooth", "openai/lump", *url, capsys=capsys)
    assert code == 1
    rows = [line.split() for line in printed.splitlines()]
    assert rows[0][:2] == ["Model", "Verdict"]
    assert rows[2][:2] == ["openai/smooth", "excellent"]
    assert rows[3][:3] == ["openai/lump", "limited", "1"]
    assert "⚠️  openai/lump: the full response as one chunk" in printed


def test_json_for_programs(practice, capsys):
    practice.script(NUMBERS)
    code, printed = command(
        "openai/m",
        "--json",
        "--base-url",
        practice.openai_url,
        "--question",
        "Count!",
        capsys=capsys,
    )
    [found] = json.loads(printed)
    assert code == 0
    assert found["verdict"] == "excellent"
    assert found["chunks"] == practice.requests[0].chunks_sent
    assert practice.requests[0].body["messages"][-1]["content"] == "Count!"


def test_a_missing_key_is_a_result_not_an_error(capsys):
    code, printed = command("openai/m", "--json", capsys=capsys)
    assert code == 1
    assert "OPENAI_API_KEY" in json.loads(printed)[0]["error"]


def test_in_a_narrow_window_each_model_is_a_block():
    probe = judged("m", [4] * 4, [0.1, 0.2, 0.3, 0.4])
    wide, narrow = (in_table([probe], width) for width in (120, 30))
    assert len(wide.splitlines()) == 5
    assert "  Verdict     excellent" in narrow
    assert all(len(line) <= 30 for line in narrow.splitlines())


def test_practice_needs_no_key(capsys):
    os.environ.pop("OPENAI_API_KEY", None)
    code, printed = command("practice", "--json", "--question", "Hi", capsys=capsys)
    assert code == 0
    assert json.loads(printed)[0]["model"] == "practice"


# --- what the frames are like -------------------------------------------------------------------

KEY = "sk-practice-0123456789"


def echoing(request):
    """A server that repeats what it was sent: its key, its question."""
    asked = request.messages[-1].text
    return Reply(f"{NUMBERS}. You asked: {asked} And your key is {KEY}.", chunk=3)


def test_the_command_says_what_is_unusual(practice, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    practice.dialect = "deepseek"
    practice.script(NUMBERS)
    _, printed = command("openai/m", "--base-url", practice.openai_url, capsys=capsys)
    assert "   unusual: comments: 3; usage beside a choice, not in a chunk of its own" in printed


def test_a_line_that_stays_open_is_told(practice, capsys):
    practice.script(Reply(NUMBERS, fault=Fault(open_end=True)))
    code, printed = command("openai/m", "--json", "--base-url", practice.openai_url, capsys=capsys)
    assert code == 0
    assert json.loads(printed)[0]["oddities"] == ["the line stays open after the end"]
    assert practice.requests[0].wait_closed()


def test_each_model_has_its_own_oddities(practice, capsys):
    with PracticeServer(dialect="llamacpp", pace=0.001) as other:
        practice.script(NUMBERS)
        other.script(NUMBERS)
        found = {}
        for server in (practice, other):
            _, printed = command(
                "openai/m", "--json", "--base-url", server.openai_url, capsys=capsys
            )
            found[server] = json.loads(printed)[0]["oddities"]
    assert found[practice] == []
    assert found[other] == ["keys of its own: timings", "values that change: timings"]


@pytest.mark.parametrize("without_texts", [False, True])
def test_a_recording_has_no_keys_and_is_replayed_by_a_test(
    practice, capsys, tmp_path, monkeypatch, without_texts
):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    practice.dialect = "openrouter"
    practice.respond(echoing)
    file = tmp_path / "frames.jsonl"
    question = "What do you know about lighthouses?"
    options = ["--base-url", practice.openai_url, "--record", str(file), "--question", question]
    options += ["--without-texts"] if without_texts else []
    code, _ = command("openai/m", *options, capsys=capsys)
    assert code == 0
    kept = "".join(line.get("text", "") for line in map(json.loads, file.read_text().splitlines()))
    said = "".join(
        choice["delta"].get("content") or ""
        for data in kept.split("data: ")[1:]
        if data.startswith("{")
        for choice in json.loads(data.partition("\n")[0])["choices"]
    )
    assert said.startswith(NUMBERS)
    assert KEY not in said + file.read_text()
    assert said.endswith(f"And your key is {'*' * len(KEY)}.")
    assert (question in said) == (not without_texts)

    with replay(file, speed=math.inf) as played:
        model = iModel("openai", "m", base_url=practice.openai_url)
        reply = "".join(model.invoke_stream(question))
        model.close()
    assert reply == said
    assert len(played.requests) == 1
    [exchange] = recorded_exchanges(file)
    assert oddities(exchange)[0] == "comments: 3"


def test_a_file_that_cannot_be_written_is_one_line(practice, capsys, tmp_path):
    practice.script(NUMBERS)
    where = tmp_path / "missing" / "frames.jsonl"
    url = ["--base-url", practice.openai_url]
    assert main(["probe", "openai/m", *url, "--record", str(where)]) == 1
    assert f"cannot write {where}: No such file" in capsys.readouterr().err
