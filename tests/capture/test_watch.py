"""X0a: one line, and every program of the process is seen."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import dspy
import pytest
from programs import QA, contiguous

import streamll


def test_plain_programs_parallel_and_bare_lm_calls_are_seen(lm, heard):
    with streamll.watch(sinks=[heard]):
        answer = QA()("Why?").answer
        pairs = [(dspy.Predict("question -> answer"), {"question": f"q{i}"}) for i in range(4)]
        dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)
        (bare,) = lm("Say something.")
    runs = list(heard.runs().values())
    assert len(runs) == 6
    assert all(contiguous(run) for run in runs)
    assert "".join(
        e.token for e in runs[0] if e.event_type == "token" and e.field == "answer"
    ) == answer  # fmt: skip
    assert [run[0].program for run in runs] == ["QA", *["Predict"] * 4, "LM"]
    assert "".join(e.token for e in runs[-1] if e.event_type == "token") == bare


def test_unwatch_and_the_end_of_the_block_switch_off(lm, heard, practice):
    streamll.watch(sinks=[heard])
    QA()("Why?")
    streamll.unwatch()
    seen = len(heard.events)
    QA()("Why?")
    assert len(heard.events) == seen
    with streamll.watch(sinks=[heard]):
        pass
    QA()("Why?")
    assert len(heard.events) == seen
    assert [r.streaming for r in practice.requests] == [True, False, False]


def test_only_chosen_fields_and_no_error_for_programs_without_them(lm, heard):
    with streamll.watch(fields=["answer"], sinks=[heard]):
        QA()("Why?")
        dspy.Predict("question -> other")(question="Why?")
    assert {e.field for e in heard.of("token")} == {"answer"}
    assert len(heard.runs()) == 2


def test_an_instrumented_program_is_seen_once_by_watch_and_by_its_own_sinks(lm, heard):
    from programs import Heard

    own = Heard()
    program = streamll.instrument(QA(), stream_fields=["answer"], sinks=[own])
    with streamll.watch(sinks=[heard]):
        program("Why?")
    assert [e.event_id for e in own.events] == [e.event_id for e in heard.events]


def test_watch_shows_the_text_of_a_program_instrumented_without_fields(lm, heard):
    program = streamll.instrument(QA())
    with streamll.watch(sinks=[heard]):
        result = program("Why?")
    assert heard.text("answer") == result.answer


def test_tokens_are_not_captured_inside_evaluate_unless_asked_for(lm, heard, practice):
    """X15: neither by watch nor by instrument; and no streaming request is made."""
    program = streamll.instrument(QA(), stream_fields="*", sinks=[heard])
    examples = [dspy.Example(question=f"q{i}").with_inputs("question") for i in range(3)]
    evaluate = dspy.Evaluate(devset=examples, metric=lambda e, p: 1.0, num_threads=2)
    with streamll.watch(sinks=[heard]):
        evaluate(program)
    assert heard.of("token") == []
    assert heard.of("run.end") != []
    assert not any(r.streaming for r in practice.requests)
    with streamll.configure(tokens_in_evaluate=True):
        evaluate(program)
    assert heard.of("token") != []


@pytest.mark.since_3_4  # before 3.3 nothing tells of an optimizer
def test_tokens_are_not_captured_inside_an_optimizer(lm, heard, practice):
    program = streamll.instrument(QA(), stream_fields="*", sinks=[heard])
    examples = [
        dspy.Example(question=f"q{i}", answer="a").with_inputs("question") for i in range(2)
    ]
    optimizer = dspy.BootstrapFewShot(
        metric=lambda e, p, trace=None: True, max_bootstrapped_demos=1
    )
    compiled = optimizer.compile(program, trainset=examples)
    assert heard.of("token") == []
    assert not any(r.streaming for r in practice.requests)
    heard.events.clear()
    result = compiled("Why?")
    assert heard.text("answer") == result.answer


def test_concurrent_watched_programs_are_separate_runs(lm, heard):
    qa = QA()
    with streamll.watch(sinks=[heard]), ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda i: QA_in(lm, qa, i), range(16)))
    assert len(heard.runs()) == 16
    texts = {
        "".join(e.token for e in run if e.event_type == "token" and e.field == "answer")
        for run in heard.runs().values()
    }
    assert texts == {r.answer for r in results}


def QA_in(lm, qa, i):  # noqa: N802
    with dspy.context(lm=lm, adapter=dspy.ChatAdapter()):
        return qa(f"question {i}")
