"""The plain view: one line per event."""

from __future__ import annotations

import io
import json

import pytest
from scripted_runs import Script, chain_of_thought

from streamll.core import events as ev
from streamll.terminal.lines import LineView
from streamll.terminal.output import Output

ROOT = ev.Identity(run_id="r", call_id="c0", path=("QA",))
INNER = ev.Identity(
    run_id="r", call_id="c1", parent_call_id="c0", path=("QA", "generate"), predictor="generate"
)


def lines_of(*events: ev.Event) -> list[str]:
    view = LineView(Output(io.StringIO()))
    return [line for event in events if (line := view.line(event)) is not None]


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (ev.RunStart(program="QA"), "[RUN] QA started"),
        (ev.RunStart(program="QA", inputs={"q": "Why?"}), '[RUN] QA started q="Why?"'),
        (ev.RunEnd(duration=1.2), "[RUN] done in 1.2 s"),
        (
            ev.RunEnd(
                duration=1.2, time_to_first_token=0.3, lm_calls=2, completion_tokens=48, cost=0.0001
            ),
            "[RUN] done in 1.2 s · 48 tokens · first token 0.30 s · 2 model calls · $0.0001",
        ),
        (
            ev.RunEnd(
                duration=1.2, lm_calls=1, completion_tokens=48, reasoning_tokens=9,
                cache_read_tokens=64,
            ),
            "[RUN] done in 1.2 s · 48 tokens (9 reasoning) · 64 tokens cached",
        ),
        (
            ev.RunError(duration=1.2, error_type="ValueError", message="no\nsuch city"),
            "[RUN] failed after 1.2 s · ValueError: no such city",
        ),
        (ev.RunError(duration=2, error_type="E", message=""), "[RUN] failed after 2.0 s · E"),
        (ev.RunCancelled(duration=0.5), "[RUN] cancelled after 0.50 s"),
        (
            ev.EvaluateStart(name="QA", metric="exact", total=50),
            "[EVALUATE] QA on 50 examples by exact",
        ),
        (
            ev.EvaluateExample(index=9, done=3, total=50, score=1.0, mean=66.67),
            "[EXAMPLE] 3 of 50: 1 · 66.67% so far",
        ),
        (
            ev.EvaluateExample(index=9, done=4, total=50, mean=50.0, error_type="ValueError"),
            "[EXAMPLE] 4 of 50: ValueError · 50% so far",
        ),
        (
            ev.EvaluateEnd(name="QA", duration=3.2, score=66.67, done=50, failed=2),
            "[EVALUATE] QA done in 3.2 s · 66.67% · 2 of 50 examples failed",
        ),
        (
            ev.EvaluateEnd(name="QA", duration=3.2, done=1, error_type="ValueError", message="no"),
            "[EVALUATE] QA failed after 3.2 s: ValueError: no · 1 example",
        ),
        (
            ev.CompileStart(name="QA", optimizer="MIPROv2", total=200),
            "[COMPILE] QA with MIPROv2 on 200 examples",
        ),
        (
            ev.CompileCandidate(
                index=4, score=61.5, total=50, best=66.67, best_index=2, duration=9.0
            ),
            "[CANDIDATE] 5: 61.5% on 50 examples · best so far 66.67% (3)",
        ),
        (
            ev.CompileEnd(name="QA", optimizer="MIPROv2", duration=3.2, candidates=12, best=66.67),
            "[COMPILE] QA done in 3.2 s · 12 candidates · best 66.67%",
        ),
        (
            ev.CompileEnd(name="QA", optimizer="LabeledFewShot", duration=3.2),
            "[COMPILE] QA done in 3.2 s",
        ),
        (ev.ModuleStart(identity=ROOT, name="QA"), None),
        (ev.ModuleStart(identity=INNER, name="generate"), "[MODULE] generate"),
        (ev.ModuleStart(identity=INNER, name="generate.predict"), None),
        (ev.ModuleEnd(identity=INNER, name="generate", duration=1.2), "[MODULE] generate done in 1.2 s"),
        (
            ev.ModuleError(
                identity=INNER, name="g", duration=1, error_type="KeyError", message="'x'"
            ),
            "[MODULE] g failed after 1.0 s: KeyError: 'x'",
        ),
        (ev.ToolStart(name="search"), "[TOOL] search(…)"),
        (ev.ToolStart(name="search", arguments={"q": "a\nb", "n": 3}), r'[TOOL] search(q="a\nb", n=3)'),
        (ev.ToolEnd(name="search", duration=0.2), "[TOOL] search done in 0.20 s"),
        (ev.ToolEnd(name="search", duration=0.2, result=[1]), "[TOOL] search done in 0.20 s → [1]"),
        (
            ev.ToolError(name="search", duration=0.2, error_type="TimeoutError", message=""),
            "[TOOL] search failed after 0.20 s: TimeoutError",
        ),
        (ev.LMStart(model="m"), None),
        (ev.LMEnd(model="m", duration=1.0), None),
        (ev.LMEnd(model="m", duration=1.0, cached=True), "[LM] m answered from the cache"),
        (ev.LMEnd(model="m", duration=1.0, finish_reason="length"), "[LM] m was cut off at the token limit"),
        (ev.LMEnd(model="m", duration=1.0, error_type="RateLimit"), "[LM] m failed: RateLimit"),
        (
            ev.LMSuperseded(reason="RateLimitError"),
            "[RETRY] RateLimitError, asking again; the text so far does not count",
        ),
        (
            ev.LMSuperseded(reason="fallback"),
            "[RETRY] the reply did not parse, asking again as JSON; the text so far does not count",
        ),
        (
            ev.LMSuperseded(reason="LMServerError", next_model="anthropic/claude"),
            "[RETRY] LMServerError, asking anthropic/claude; the text so far does not count",
        ),
        (
            ev.LMWaiting(reason="fallback", model="anthropic/claude"),
            "[WAITING] for anthropic/claude instead",
        ),
        (ev.LMWaiting(reason="connection"), "[WAITING] for a free connection"),
        (ev.LMWaiting(reason="retry", delay=2.0), "[WAITING] before a retry, 2.0 s"),
        (ev.FieldStart(field="answer"), None),
        (ev.TokenEvent(field="answer", token="Machine"), '[TOKEN] answer: "Machine"'),
        (ev.TokenEvent(field="answer", token=" learning"), '[TOKEN] answer: " learning"'),
        (ev.TokenEvent(field="a", token='say "hi"\n\tto \\'), r'[TOKEN] a: "say \"hi\"\n\tto \\"'),
        (ev.TokenEvent(field="translation", token="こんにちは"), '[TOKEN] translation: "こんにちは"'),
        (ev.TokenEvent(field="a", token="\x1b[2J\x9b"), r'[TOKEN] a: "\u001b[2J\u009b"'),
        (ev.TokenEvent(field="answer", token="", finish_reason="stop"), None),
        (ev.FieldPartial(field="answer", value=[1]), None),
        (ev.FieldEnd(field="answer", length=3), None),
        (ev.FieldCorrected(field="answer", text="42"), '[CORRECTED] answer: "42"'),
        (ev.Thinking(text="Hm"), '[THINKING] "Hm"'),
        (ev.ToolCallDelta(index=0, name="search"), "[CALL] 1 search"),
        (ev.ToolCallDelta(index=0, arguments='{"q'), r'[CALL] 1: "{\"q"'),
        (ev.Citation(title="Paris", url="https://x"), "[CITATION] Paris https://x"),
        (ev.Citation(text="a passage"), "[CITATION] a passage"),
        (ev.Guarded(name="emails", kind="pattern"), "[GUARD] emails"),
        (
            ev.Guarded(name="names", kind="words", outcome="drop", field="answer"),
            "[GUARD] names · drop · answer",
        ),
        (ev.Status(message="Searching…"), "[STATUS] Searching…"),
        (ev.Status(message="\x1b[2Ja\nb"), "[STATUS] ␛[2Ja b"),
        (ev.TraceStart(name="retrieval", trace_id="t"), "[TRACE] retrieval"),
        (ev.TraceEnd(name="retrieval", trace_id="t", duration=0.5), "[TRACE] retrieval done in 0.50 s"),
        (
            ev.TraceEnd(name="r", trace_id="t", duration=0.5, error_type="KeyError"),
            "[TRACE] r failed with KeyError in 0.50 s",
        ),
        (ev.TraceEnd(name="r", trace_id="t", duration=0.5, error_type="Unwind"), "[TRACE] r cancelled in 0.50 s"),
        (ev.ModuleError(identity=INNER, name="qa", duration=0.5, error_type="Unwind", message=""), "[MODULE] qa cancelled after 0.50 s"),
        (ev.ToolError(name="buy", duration=0.5, error_type="CancelledError", message=""), "[TOOL] buy cancelled after 0.50 s"),
        (ev.LMEnd(model="m", duration=0.5, error_type="Unwind"), "[LM] m cancelled"),
        (ev.StreamllEvent(event_type="docs_found", data={"count": 3}), "[EVENT] docs_found count=3"),
        (ev.StreamllEvent(event_type="ping"), "[EVENT] ping"),
        (
            ev.Question(
                question_id="q", text="Allow send?", tool="send", arguments={"to": "a", "n": 1}
            ),
            '[QUESTION] Allow send? send(to="a", n=1)',
        ),
        (
            ev.Answer(question_id="q", outcome="answered", value=True, by="ada", waited=2.0),
            "[ANSWER] true by ada after 2.0 s",
        ),
        (ev.Answer(question_id="q", outcome="lapsed", waited=9), "[ANSWER] lapsed after 9.0 s"),
        (ev.StreamGap(count=12, reason="overflow"), "[GAP] 12 events lost here (overflow)"),
    ],
    ids=lambda value: value.event_type if isinstance(value, ev.Event) else "",
)  # fmt: skip
def test_each_kind_has_its_line(event, line):
    """A6: `[TOKEN] answer: "Machine"`, and a short bracketed line for everything else."""
    assert lines_of(event) == ([] if line is None else [line])


def test_every_kind_has_a_line_or_is_excluded():
    handled = LineView.handlers.keys()
    silent = {ev.FieldStart, ev.FieldEnd}
    assert set(ev.KINDS.values()) - silent == handled - {ev.StreamllEvent}


def test_the_context_is_not_repeated_on_every_line():
    data = ev.EventData({"count": 3, "trace": "r", "trace_id": "t"}, {"conversation_id": "c9"})
    assert lines_of(ev.StreamllEvent(event_type="found", data=data)) == ["[EVENT] found count=3"]


def test_a_whole_run():
    assert lines_of(*chain_of_thought(reasoning="Think well.", answer="Paris.")) == [
        "[RUN] QA started",
        "[MODULE] generate",
        '[TOKEN] reasoning: "Think"',
        '[TOKEN] reasoning: " well."',
        '[TOKEN] answer: "Paris."',
        "[MODULE] generate done in 1.0 s",
        "[RUN] done in 1.2 s · 48 tokens · first token 0.30 s · 53 tokens/s · $0.0001",
    ]


def test_lines_of_concurrent_runs_name_their_run():
    one, two = chain_of_thought("a"), chain_of_thought("b")
    lines = lines_of(*one[:-1], *two[:8], one[-1], *two[8:])
    assert [line for line in lines if "RUN" in line] == [
        "[RUN] QA started",
        "[RUN] QA started · run 2",
        "[RUN] done in 1.2 s · 48 tokens · first token 0.30 s · 53 tokens/s · $0.0001 · run 1",
        "[RUN] done in 1.2 s · 48 tokens · first token 0.30 s · 53 tokens/s · $0.0001 · run 2",
    ]


def test_tokens_of_concurrent_calls_name_their_predictor():
    script = Script()
    left, right = (script.module(name, script.root) for name in ("left", "right"))
    script.ask(left)
    script.field(left, "answer", "alone")
    script.ask(right)
    script.field(right, "answer", "beside")
    script.answered(left)
    script.field(right, "answer", "again")
    assert [line for line in lines_of(*script.events) if "TOKEN" in line] == [
        '[TOKEN] answer: "alone"',
        '[TOKEN] answer: "beside" · right',
        '[TOKEN] answer: "again"',
    ]


def test_the_view_forgets_a_run_when_it_ends_or_its_first_module_does():
    view = LineView(Output(io.StringIO()))
    view.show(chain_of_thought())
    assert view.is_idle
    inner = [event for event in chain_of_thought() if event.path[:2] == ("QA", "generate")]
    view.show(inner)  # what a sink of the inner module alone gets
    assert view.is_idle


def test_a_batch_is_one_write():
    writes = []

    class File(io.StringIO):
        def write(self, text):
            writes.append(text)
            return super().write(text)

    LineView(Output(File())).show(chain_of_thought(answer="a b c d"))
    assert len(writes) == 1
    assert json.loads(writes[0].splitlines()[-4].partition(": ")[2]) == " c"
