"""X18: evaluations and optimizers in the terminal: progress, the score so far, tables of results."""

from __future__ import annotations

import msgspec
from scripted_runs import Script, live, whole

from streamll.core import events as ev


class Evaluating(Script):
    """A run of an evaluation, or of an optimizer with ``optimizer``."""

    def __init__(self, optimizer: str = "") -> None:
        self.run_id, self.events = "r1", []
        self._ids = iter(range(1000))
        self.say(ev.RunStart, ev.Identity(run_id="r1"), program=optimizer or "Evaluate")

    def evaluate(self, total: int, parent: ev.Identity | None = None) -> ev.Identity:
        who = self._call("Evaluate", parent)
        self.say(ev.EvaluateStart, who, name="QA", metric="exact", total=total)
        return who

    def example(self, who, index, count, total, score, **own):
        self.say(
            ev.EvaluateExample, who, index=index, done=count, total=total, score=score,
            duration=0.5, **own,
        )  # fmt: skip

    def compile(self) -> ev.Identity:
        who = self._call("MIPROv2", None)
        self.say(ev.CompileStart, who, name="QA", optimizer="MIPROv2", total=20)
        return who


def three_examples() -> Evaluating:
    script = Evaluating()
    who = script.evaluate(3)
    for index, (score, mean) in enumerate([(1.0, 100.0), (0.25, 62.5)]):
        called = script.module("QA", who, turn=index)
        script.ask(called)
        script.answered(called)
        script.done(called)
        script.example(who, index, index + 1, 3, score, mean=mean)
    return script


def test_an_evaluation_under_way_has_its_progress_the_mean_and_what_runs():
    script = three_examples()
    script.module("QA", msgspec.structs.replace(script.events[1].identity), turn=2)
    assert live([script.events]) == [
        "● Evaluate  1.0 s · openai/gpt-4o-mini",
        "╰─ ⠹ Evaluate QA  ━━━━━━━━━━────── 2/3  62.5% · 1.0 s",
        "   │  examples  example  score  time",
        "   │            ───────  ─────  ──────",
        "   │                  2   0.25  0.50 s",
        "   │                  1    1.0  0.50 s",
        "   ╰─ ⠹ QA  1.0 s",
    ]


def test_an_evaluation_that_is_over_has_its_score_and_the_lowest_examples():
    script = three_examples()
    who = script.events[1].identity
    script.example(who, 2, 3, 3, None, mean=41.67, error_type="ValueError", message="no\nidea")
    script.say(ev.EvaluateEnd, who, name="QA", duration=1.5, score=41.67, done=3, failed=1)
    assert whole(script.end(lm_calls=2)) == (
        "● Evaluate  openai/gpt-4o-mini\n"
        "╰─ ✓ Evaluate QA  41.67% · 1 of 3 examples failed · 1.5 s\n"
        "     examples  example  score  time    error\n"
        "               ───────  ─────  ──────  ───────────────────\n"
        "                     3         0.50 s  ValueError: no idea\n"
        "                     2  0.25   0.50 s\n"
        "                     1  1.0    0.50 s\n"
        "✓ done in 1.2 s · first token 0.30 s · 2 model calls"
    )


def test_of_many_examples_the_lowest_are_kept():
    script = Evaluating()
    who = script.evaluate(100)
    for index in range(100):
        script.example(who, index, index + 1, 100, float((index * 37) % 100), mean=50.0)
    drawn = whole(script.events)
    scores = [float(line.split()[-3]) for line in drawn.split("\n") if line.endswith("0.50 s")]
    assert scores == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert "lowest" in drawn


def test_inputs_are_shown_where_they_are_told():
    script = Evaluating()
    script.example(script.evaluate(1), 0, 1, 1, 1.0, mean=100.0, inputs={"question": "Where?"})
    assert 'question="Where?"' in whole(script.events)


def test_text_that_was_asked_for_stays():
    script = Evaluating()
    who = script.evaluate(1)
    called = script.module("QA", who)
    script.field(called, "answer", "Paris.")
    script.done(called)
    script.example(who, 0, 1, 1, 1.0, mean=100.0)
    assert "answer  Paris." in whole(script.events)


def test_an_optimizer_has_its_candidates_and_the_best():
    script = Evaluating("MIPROv2")
    who = script.compile()
    scores = [50.0, 75.0, 60.0]
    for index, score in enumerate(scores):
        inner = script.evaluate(4, who)
        script.example(inner, 0, 1, 4, 1.0, mean=100.0)
        script.say(ev.EvaluateEnd, inner, name="QA", duration=1.0, score=score, done=4)
        best = max(scores[: index + 1])
        script.say(
            ev.CompileCandidate, who, index=index, score=score, total=4, best=best,
            best_index=scores.index(best), duration=1.0,
        )  # fmt: skip
    running = script.evaluate(4, who)
    script.example(running, 0, 1, 4, 1.0, mean=100.0)
    assert live([script.events]) == [
        "● MIPROv2  1.0 s",
        "╰─ ⠹ Compile QA  3 candidates · best 75% · 1.0 s",
        "   │  candidates  candidate  score  examples  time   best",
        "   │              ─────────  ─────  ────────  ─────  ────",
        "   │                      1   50.0         4  1.0 s",
        "   │                      2   75.0         4  1.0 s  best",
        "   │                      3   60.0         4  1.0 s",
        "   ╰─ ⠹ Evaluate QA  ━━━━──────────── 1/4  100% · 1.0 s",
    ]


def test_of_many_candidates_the_latest_and_the_best_are_kept():
    script = Evaluating("MIPROv2")
    who = script.compile()
    for index in range(30):
        script.say(
            ev.CompileCandidate, who, index=index, score=90.0 if index == 3 else 50.0, total=4,
            best=90.0, best_index=3, duration=1.0,
        )  # fmt: skip
    rows = [line.split() for line in whole(script.events).split("\n") if " 1.0 s" in line]
    assert [int(row[-6 if row[-1] == "best" else -5]) for row in rows] == [4, *range(22, 31)]


def test_in_little_room_there_is_one_line_of_progress():
    script = three_examples()
    script.module("QA", script.events[1].identity, turn=2)
    lines = live([script.events], height=2)
    assert lines[0] == "● Evaluate › Evaluate QA  ━━━━━━━━━━────── 2/3  1.0 s"
    narrow = live([script.events], width=40, height=1)
    assert narrow == ["● Evaluate › Evaluate QA  2/3  1.0 s"]


def test_calls_of_an_evaluation_have_no_lines_of_their_own():
    import io

    from streamll.terminal.lines import LineView
    from streamll.terminal.output import Output

    view = LineView(Output(io.StringIO()))
    script = three_examples()
    labels = [line.split()[0] for event in script.events if (line := view.line(event))]
    assert labels == ["[RUN]", "[EVALUATE]", "[EXAMPLE]", "[EXAMPLE]"]
