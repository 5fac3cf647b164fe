"""A12: whether a model really streams, measured and said."""

from __future__ import annotations

import json
import os

import pytest

from streamll.chat.probe import Verdict, judged, probe
from streamll.cli.main import main
from streamll.cli.probe import in_table
from streamll.testing import Fault, Reply

NUMBERS = ", ".join(["one", "two", "three", "four", "five"] * 8)


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        (Reply(NUMBERS, pace=0.001), Verdict.EXCELLENT),
        (Reply(NUMBERS, chunk=24, pace=0.001), Verdict.GOOD),
        (Reply(NUMBERS, chunk=100, pace=0.001), Verdict.PARTIAL),
        (Reply(NUMBERS, chunk="whole"), Verdict.LIMITED),
        (Reply(NUMBERS, fault=Fault(plain_json=True)), Verdict.LIMITED),
        (Reply(NUMBERS, fault=Fault(status=401)), Verdict.FAILED),
        (Reply(NUMBERS, fault=Fault(disconnect_after=9)), Verdict.FAILED),
        (Reply(""), Verdict.FAILED),
    ],
)
@pytest.mark.parametrize("wire", ["openai", "responses", "anthropic"])
def test_verdicts_over_the_wire(make_model, practice, run, wire, reply, verdict):
    practice.script(reply)
    found = run(probe(make_model(wire)))
    assert found.verdict is verdict
    if verdict.streams:
        assert found.characters == len(NUMBERS)
        assert found.chunks == practice.requests[0].chunks_sent
        assert found.mean_chunk == pytest.approx(found.characters / found.chunks)
        assert 0 < found.time_to_first_token <= found.duration
        assert found.tokens_per_second > 0
    if verdict is Verdict.FAILED and reply.fault:
        assert found.error
        assert found.chunks == (reply.fault.disconnect_after or 0)


def at(*moments, size=4):
    return judged("m", [size] * len(moments), list(moments))


def test_chunks_that_come_all_at_once_were_held_back():
    late = [2.0 + n / 1000 for n in range(50)]
    assert at(*late).verdict is Verdict.LIMITED
    assert "all at once" in at(*late).note
    steady = at(*[0.3 + n / 20 for n in range(50)])
    assert steady.verdict is Verdict.EXCELLENT
    assert steady.longest_gap == pytest.approx(0.05)


def test_a_few_pieces_are_no_good_stream_however_small():
    assert at(0.1, 0.2, 0.3, size=20).verdict is Verdict.PARTIAL
    assert at(0.1, 0.2, 0.3, 0.4, size=20).verdict is Verdict.GOOD
    assert at(0.1, size=20).longest_gap is None


def test_the_provider_s_own_count_of_tokens_counts():
    sizes, moments = [4] * 10, [n / 10 for n in range(1, 11)]
    assert judged("m", sizes, moments).verdict is Verdict.EXCELLENT
    assert judged("m", sizes, moments, counted=100).verdict is Verdict.GOOD
    assert judged("m", sizes, moments, counted=100).tokens_per_second == pytest.approx(100 / 0.9)


def command(*arguments, capsys):
    code = main(["probe", *arguments])
    printed = capsys.readouterr()
    assert "streamll:" not in printed.err
    return code, printed.out


def test_the_command_compares_models_and_its_exit_code_tells(practice, capsys, monkeypatch):
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


def test_a_missing_key_is_a_finding(capsys):
    code, printed = command("openai/m", "--json", capsys=capsys)
    assert code == 1
    assert "OPENAI_API_KEY" in json.loads(printed)[0]["error"]


def test_in_a_narrow_window_each_model_is_a_block():
    wide, narrow = (in_table([at(0.1, 0.2, 0.3, 0.4)], width) for width in (120, 30))
    assert len(wide.splitlines()) == 5
    assert "  Verdict     excellent" in narrow
    assert all(len(line) <= 30 for line in narrow.splitlines())


def test_practice_needs_no_key(capsys):
    os.environ.pop("OPENAI_API_KEY", None)
    code, printed = command("practice", "--json", "--question", "Hi", capsys=capsys)
    assert code == 0
    assert json.loads(printed)[0]["model"] == "practice"
