"""``streamll probe``: the table, JSON and the exit code."""

from __future__ import annotations

import json
import os

from streamll.chat.probe import judged
from streamll.cli.main import main
from streamll.cli.probe import in_table
from streamll.testing import Reply

NUMBERS = ", ".join(["one", "two", "three", "four", "five"] * 8)


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
