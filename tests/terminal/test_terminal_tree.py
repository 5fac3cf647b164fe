"""Runs drawn as trees: in the scrollback when they have ended, within a height before."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_runs import Script, chain_of_thought, live, model_of, whole

from streamll.core import events as ev
from streamll.terminal import layout
from streamll.terminal.drawing import Glyphs
from streamll.terminal.text import cells

LONG = " ".join(f"word{number}" for number in range(200))


def react() -> list[ev.Event]:
    script = Script("ReAct")
    first = script.module("react", script.root)
    script.ask(first)
    script.field(first, "next_thought", "I should look it up.")
    script.field(first, "next_tool_name", "search")
    script.answered(first)
    script.done(first, 0.8)
    script.say(ev.Status, script.root, message="Searching…")
    tool = script.tool("search", script.root)
    script.say(ev.ToolEnd, tool, name="search", duration=0.3)
    second = script.module("react", script.root, turn=1)
    script.ask(second)
    script.field(second, "next_thought", "A first try", end=False)
    script.say(ev.LMSuperseded, second, reason="RateLimitError")
    again = msgspec.structs.replace(second, attempt=1)
    script.field(again, "next_thought", "Now I know.")
    script.answered(again)
    script.done(second, 0.7)
    tool = script.tool("lookup", script.root, arguments={"page": 3})
    script.say(
        ev.ToolError, tool, name="lookup", duration=0.5, error_type="TimeoutError", message="late"
    )
    extract = script.module("extract", script.root, predictor=False)
    predict = script.module("extract.predict", extract)
    script.ask(predict)
    script.field(predict, "answer", "Paris.")
    script.answered(predict)
    script.done(predict)
    script.done(extract, 0.4)
    script.done(script.root)
    return script.end(lm_calls=3, completion_tokens=30)


def test_a_chain_of_thought():
    assert whole(chain_of_thought(reasoning="Think well.", answer="Paris.\n\nIn France.")) == (
        "● QA  openai/gpt-4o-mini\n"
        "╰─ ✓ generate  1.0 s\n"
        "     reasoning  Think well.\n"
        "     answer     Paris.\n"
        "\n"
        "                In France.\n"
        "✓ done in 1.2 s · 48 tokens · first token 0.30 s · 53 tokens/s · $0.0001"
    )


def test_an_agent_with_turns_tools_a_retry_and_an_error():
    """X4: turns are told apart, a superseded attempt's text is gone, an error is where it was."""
    assert whole(react()) == (
        "● ReAct  openai/gpt-4o-mini\n"
        "├─ ✓ react  turn 1 · 0.80 s\n"
        "│    next_thought    I should look it up.\n"
        "│    next_tool_name  search\n"
        "│  › Searching…\n"
        "├─ ✓ search(…)  0.30 s\n"
        "├─ ✓ react  turn 2 · 0.70 s\n"
        "│    ↻ RateLimitError, asking again\n"
        "│    next_thought  Now I know.\n"
        "├─ ✗ lookup(page=3)  0.50 s\n"
        "│    TimeoutError: late\n"
        "╰─ ✓ extract  0.40 s\n"
        "     answer  Paris.\n"
        "✓ done in 1.2 s · 30 tokens · first token 0.30 s · 3 model calls"
    )


def test_what_guards_kept_back_is_counted_in_one_line_of_its_step():
    script = Script()
    generate = script.module("generate", script.root)
    script.field(generate, "answer", "[redacted] and [redacted], or")
    for rule, action in (
        ("emails", "mask"),
        ("names\n", "mask"),
        ("emails", "mask"),
        ("keys", "drop"),
    ):
        script.say(ev.Guarded, generate, name=rule, kind="pattern", outcome=action, field="answer")
    script.done(generate)
    script.done(script.root)
    assert whole(script.end()).startswith(
        "● QA\n"
        "╰─ ✓ generate  1.0 s\n"
        "     answer  [redacted] and [redacted], or\n"
        "     ▒ masked: emails ×2, names · dropped: keys\n"
    )


def test_a_typed_field_that_a_guard_has_dropped_is_empty():
    script = Script()
    generate = script.module("generate", script.root)
    script.say(ev.FieldStart, generate, field="tags")
    script.say(ev.FieldPartial, generate, field="tags", value=["a"], state="partial")
    script.say(ev.Guarded, generate, name="keys", kind="pattern", outcome="drop", field="tags")
    script.say(ev.FieldEnd, generate, field="tags", length=6)
    script.say(ev.FieldCorrected, generate, field="tags", text="", value=None)
    script.say(ev.FieldPartial, generate, field="tags", value=None, state="complete")
    assert whole(script.events).endswith(
        "\n     tags  (empty)\n           corrected\n     ▒ dropped: keys"
    )


def test_another_model_that_takes_over_is_named():
    script = Script()
    generate = script.module("generate.predict", script.root)
    script.ask(generate)
    script.field(generate, "answer", "Par", end=False)
    script.say(ev.LMWaiting, generate, reason="fallback", model="anthropic/claude")
    script.say(ev.TokenEvent, generate, field="answer", token="is.")
    script.answered(generate, model="anthropic/claude")
    script.done(generate)
    script.done(script.root)
    assert whole(script.end()).startswith(
        "● QA  openai/gpt-4o-mini\n"
        "╰─ ✓ generate.predict  anthropic/claude · 1.0 s\n"
        "     answer  Paris."
    )


def test_in_a_narrow_window_labels_stand_above_their_texts():
    assert whole(chain_of_thought(answer="Paris is the capital of France."), width=26) == (
        "● QA  openai/gpt-4o-mini\n"
        "╰─ ✓ generate  1.0 s\n"
        "     reasoning\n"
        "       Think.\n"
        "     answer\n"
        "       Paris is the\n"
        "       capital of France.\n"
        "✓ done in 1.2 s\n"
        "  48 tokens\n"
        "  first token 0.30 s\n"
        "  53 tokens/s · $0.0001"
    )


def test_a_program_that_is_one_predictor_has_its_fields_under_its_own_line():
    script = Script("Predict")
    script.field(script.root, "answer", "Paris.")
    assert whole(script.end()) == (
        "● Predict\n  answer  Paris.\n✓ done in 1.2 s · ≈1 token · first token 0.30 s"
    )


def test_a_failed_run_keeps_its_text_and_shows_the_error_once():
    script = Script()
    generate = script.module("generate", script.root)
    script.field(generate, "answer", "Quantum computing", end=False)
    what = {"error_type": "LMTransportError", "message": "connection closed"}
    for who in (generate, script.root):
        script.say(ev.ModuleError, who, name=who.path[-1], duration=0.9, **what)
    events = script.end(ev.RunError, **what)
    assert whole(events) == (
        "● QA\n"
        "╰─ ✗ generate  0.90 s\n"
        "     answer  Quantum computing\n"
        "  LMTransportError: connection closed\n"
        "✗ failed after 1.2 s · ≈2 tokens · first token 0.30 s"
    )


def test_a_cancelled_run():
    script = Script()
    script.module("generate", script.root)
    assert whole(script.end(ev.RunCancelled)) == (
        "● QA\n╰─ ⊘ generate  <1 ms\n⊘ cancelled after 1.2 s · first token 0.30 s"
    )


def test_citations_gaps_and_custom_events_are_shown():
    script = Script()
    answer = script.module("answer", script.root)
    script.ask(answer, model="a/model")
    script.say(ev.Thinking, answer, text="Let me ")
    script.say(ev.Thinking, answer, text="see.")
    script.field(answer, "answer", "43")
    script.say(ev.FieldCorrected, answer, field="answer", text="42")
    script.say(ev.ToolCallDelta, answer, index=0, name="search", arguments='{"q":')
    script.say(ev.ToolCallDelta, answer, index=0, arguments=' "x"}')
    script.say(ev.Citation, answer, title="Deep Thought", url="https://example.org")
    script.answered(answer, cached=True, finish_reason="length")
    script.field(answer, "note", "")
    script.done(answer, 0.5)
    script.say(ev.StreamllEvent, script.root, event_type="docs_found", data={"count": 3})
    script.say(ev.StreamGap, script.root, count=2, reason="overflow")
    script.say(ev.TraceStart, script.root, name="retrieval", trace_id="t1")
    script.say(ev.StreamllEvent, script.root, event_type="hit", data={"trace_id": "t1", "n": 1})
    script.say(ev.TraceEnd, script.root, name="retrieval", trace_id="t1", duration=0.2)
    script.done(script.root)
    assert whole(script.end(lm_calls=0, time_to_first_token=None)) == (
        "● QA  a/model\n"
        "├─ ✓ answer  cached · 0.50 s\n"
        "│    thinking  Let me see.\n"
        "│    answer    42\n"
        "│              corrected\n"
        '│    call 1    search {"q": "x"}\n'
        "│    ↗ Deep Thought https://example.org\n"
        "│    ! cut off at the token limit\n"
        "│    note      (empty)\n"
        "│  ◦ docs_found count=3\n"
        "│  ! 2 events lost here (overflow)\n"
        "╰─ ✓ retrieval  0.20 s\n"
        "     ◦ hit n=1\n"
        "✓ done in 1.2 s · ≈1 token"
    )


def test_wide_characters_line_up():
    text = "日本語の要約です。🙂 " * 8
    lines = whole(chain_of_thought(answer=text), width=60).split("\n")
    assert all(cells(line) <= 60 for line in lines)
    assert "".join(line[16:] for line in lines[3:-2]).replace(" ", "") == text.replace(" ", "")


def test_hostile_text_is_harmless_in_lines():
    """X15: names, models, fields, errors and text are all cleaned."""
    evil = "\x1b[2J\x07\u202e"
    script = Script(evil)
    step = script.module(evil, script.root)
    script.ask(step, model=evil)
    script.field(step, evil, evil)
    script.say(ev.Status, step, message=evil)
    tool = script.tool(evil, step, arguments={evil: evil})
    script.say(ev.ToolEnd, tool, name=evil, duration=0.1, result=evil)
    script.say(ev.StreamllEvent, step, event_type=evil, data={evil: evil})
    script.say(ev.LMWaiting, step, reason=evil)
    events = script.end(ev.RunError, error_type=evil, message=evil)
    for text in (whole(events), "\n".join(live([script.events[:-1]]))):
        assert all(character == "\n" or character.isprintable() for character in text)


# --- while it runs --------------------------------------------------------------------------------


def unfinished(answer: str = "Paris is the", run_id: str = "r1") -> list[ev.Event]:
    script = Script(run_id=run_id)
    generate = script.module("generate", script.root)
    script.ask(generate)
    script.field(generate, "reasoning", "Think.")
    script.field(generate, "answer", answer, end=False)
    return script.events


def test_a_run_under_way_has_spinners_times_and_a_cursor():
    """X0a: fields grow, steps have states and durations."""
    assert live([unfinished()], now=1.28) == [
        "● QA  1.3 s · 4 tokens · openai/gpt-4o-mini",
        "╰─ ⠇ generate  1.3 s".replace("⠇", Glyphs().spinner[16 % 10]),
        "     reasoning  Think.",
        "     answer     Paris is the▌",
    ]


def test_a_waiting_request_is_shown_until_text_arrives():
    script = Script()
    script.say(ev.LMWaiting, script.root, reason="connection")
    assert "waiting for a free connection" in live([script.events])[0]
    script.field(script.root, "answer", "x", end=False)
    assert "waiting" not in live([script.events])[0]


@pytest.mark.parametrize("height", [3, 4, 5, 8, 12])
def test_a_long_text_shows_its_end_within_the_height(height):
    lines = live([unfinished(LONG)], width=60, height=height)
    assert len(lines) <= height
    assert lines[0].startswith("● QA")
    assert lines[-1].endswith("word199▌")


def test_lines_that_do_not_fit_are_counted():
    lines = live([unfinished(LONG)], width=60, height=6)
    assert lines[2].strip().startswith("⋮ ")
    assert lines[3].strip().startswith("answer…")


def test_concurrent_texts_share_the_height():
    script = Script()
    for name in ("left", "right"):
        script.field(script.module(name, script.root), "answer", f"{LONG} {name}", end=False)
    lines = live([script.events], width=60, height=12)
    assert sum(line.endswith((" left▌", " right▌")) for line in lines) == 2


def test_several_runs_are_shown_together():
    runs = [unfinished(run_id=f"r{number}") for number in range(3)]
    lines = live(runs, height=24)
    assert sum(line.startswith("● QA") for line in lines) == 3
    assert lines[4] == ""  # room enough to keep them apart
    assert len(live(runs, height=7)) <= 7
    assert all(line.startswith("● QA › generate  1.0 s  answer  ") for line in live(runs, height=3))


def test_runs_that_do_not_fit_are_counted():
    runs = [unfinished(run_id=f"r{number}") for number in range(30)]
    lines = live(runs, height=10)
    assert len(lines) == 10
    assert lines[-1] == "⋮ and 21 more running"


KINDS = st.sampled_from(["module", "field", "long", "tool", "status", "done", "turn"])


@given(st.lists(KINDS, max_size=25), st.integers(12, 120), st.integers(1, 30), st.integers(1, 4))
def test_the_view_never_exceeds_its_width_and_height(steps, width, height, count):
    runs = []
    for number in range(count):
        script = Script(run_id=f"r{number}")
        at = [script.root]
        for step in steps:
            if step in ("module", "turn"):
                at.append(script.module("step", at[-1], turn=int(step == "turn")))
            elif step in ("field", "long"):
                text = LONG if step == "long" else "漢字 and words"
                script.field(at[-1], f"field {len(script.events)}", text, end=step == "field")
            elif step == "tool":
                script.tool("search", at[-1], arguments={"q": LONG})
            elif step == "status":
                script.say(ev.Status, at[-1], message=LONG[:90])
            elif len(at) > 1:
                script.done(at.pop())
        runs.append(model_of(script.events))
    lines = layout.compose(runs, width, height, 1.0, Glyphs())
    assert 1 <= len(lines) <= height
    assert all(cells("".join(text for _, text in line)) <= width for line in lines)
    for run in runs:
        for line in layout.whole(run, width, 1.0, Glyphs()):
            assert cells("".join(text for _, text in line)) <= width


def test_a_sink_of_an_inner_module_sees_that_module_as_the_run():
    inner = [event for event in chain_of_thought() if event.path[:2] == ("QA", "generate")]
    model = model_of(inner)
    assert model.ended
    assert whole(inner) == (
        "● generate  openai/gpt-4o-mini\n"
        "  reasoning  Think.\n"
        "  answer     Paris.\n"
        "✓ done in 1.0 s · 48 tokens · 53 tokens/s"
    )
