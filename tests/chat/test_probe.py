"""A12: whether a model really streams."""

from __future__ import annotations

import pytest

from streamll.chat.probe import Verdict, judged, probe
from streamll.testing import Fault, Reply

pytestmark = pytest.mark.since_3_4

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
def test_verdicts_over_the_wire(make_model, practice, run, wire, reply, verdict, monkeypatch):
    monkeypatch.setattr("streamll.chat.probe.BURST_MIN_S", 600)  # a busy machine reads in bursts
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


def test_many_chunks_at_once_are_limited_streaming():
    late = [2.0 + n / 1000 for n in range(50)]
    assert at(*late).verdict is Verdict.LIMITED
    assert "all at once" in at(*late).note
    steady = at(*[0.3 + n / 20 for n in range(50)])
    assert steady.verdict is Verdict.EXCELLENT
    assert steady.longest_gap == pytest.approx(0.05)


def test_three_chunks_are_partial_streaming():
    assert at(0.1, 0.2, 0.3, size=20).verdict is Verdict.PARTIAL
    assert at(0.1, 0.2, 0.3, 0.4, size=20).verdict is Verdict.GOOD
    assert at(0.1, size=20).longest_gap is None


def test_the_provider_s_token_count_decides():
    sizes, moments = [4] * 10, [n / 10 for n in range(1, 11)]
    assert judged("m", sizes, moments).verdict is Verdict.EXCELLENT
    assert judged("m", sizes, moments, counted=100).verdict is Verdict.GOOD
    assert judged("m", sizes, moments, counted=100).tokens_per_second == pytest.approx(100 / 0.9)
