"""Where guards stand in a run: before redact, hooks and all readers; in one part of it or in all."""

from __future__ import annotations

import dspy
import pytest
from dspy_lines import without_waiting
from guarded_runs import LETTERS, MASK, SECRET, WITH, checked, masked, shown
from programs import QA, contiguous

import streamll
import streamll.context
from streamll.core.errors import GuardStopped
from streamll.guards import Pattern, Words, card_numbers, emails
from streamll.sinks import MemorySink
from streamll.testing import Fault, Reply

ANSWER = f"[[ ## answer ## ]]\n{WITH} Yes.\n\n[[ ## completed ## ]]\n"


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    without_waiting(monkeypatch, lambda *_: None)


def guard(**options):
    return Pattern(**{"name": "secret", "regex": SECRET, "mask": MASK, **options})


def predict():
    return dspy.Predict("question -> answer")


def read(program, **options):
    with streamll.stream(program, **options)(question="?") as events:
        return checked(list(events))


@pytest.mark.parametrize(("action", "final"), [("drop", ""), ("replace", MASK)])
def test_a_withheld_field_is_corrected_where_it_ends(lm, practice, action, final):
    practice.script(Reply(ANSWER, chunk=1))
    events = read(predict(), guards=[guard(action=action)])
    assert LETTERS.search(shown(events)) is None
    text = "".join(event.token for event in events if event.event_type == "token")
    assert text == "It is "
    (end,) = (n for n, event in enumerate(events) if event.event_type == "field.end")
    corrections = [n for n, event in enumerate(events) if event.event_type == "field.corrected"]
    assert corrections == [end + 1]
    assert events[end + 1].text == final


def test_a_stop_ends_the_read_and_what_had_gone_out_is_told(lm, practice):
    practice.script(Reply(ANSWER, chunk=1, hold_after=40))
    sink = MemorySink()
    with pytest.raises(GuardStopped) as stopped:
        read(predict(), guards=[guard(action="stop")], sinks=[sink])
    (last,) = sink.of("run.error")
    assert last is sink.events[-1]
    assert last.error_type == "GuardStopped"
    assert last.partial == stopped.value.partial == {"self.answer": "It is "}
    assert (stopped.value.rule, stopped.value.field) == ("secret", "answer")
    assert LETTERS.search(shown(checked(sink.events)) + str(stopped.value)) is None


def test_hooks_get_what_readers_get(lm, practice):
    class Hooked(QA):
        def __init__(self):
            super().__init__()
            self.heard = []

        def on_token(self, event):
            self.heard.append(event)

    practice.script(Reply(f"[[ ## reasoning ## ]]\nR\n\n{ANSWER}", chunk=1))
    program = streamll.instrument(
        Hooked(), fields=["answer"], on_token="on_token", sinks=[sink := MemorySink()],
        guards=[guard()],
    )  # fmt: skip
    program(question="?")
    tokens = [event for event in sink.tokens if event.token]
    assert program.heard == tokens
    assert "".join(event.token for event in tokens) == f"It is {MASK}, I say. Yes."


def test_hooks_are_told_what_is_taken_back(lm, practice):
    class Hooked(QA):
        def __init__(self):
            super().__init__()
            self.heard = []

        def on_token(self, event):
            self.heard.append(event)

    broken = Reply(ANSWER, chunk=1, fault=Fault(disconnect_after=28))
    practice.script(broken, broken, Reply(ANSWER, chunk=1))
    program = streamll.instrument(
        Hooked(), fields=["answer"], on_token="on_token", sinks=[sink := MemorySink()],
        guards=[guard(action="drop")],
    )  # fmt: skip
    with dspy.context(lm=practice.lm(num_retries=2)):
        program(question="?")
    told = [
        event
        for event in sink.of("token", "lm.superseded", "field.corrected")
        if event.event_type != "token" or event.token
    ]
    assert program.heard == told
    assert {"lm.superseded", "field.corrected"} < {event.event_type for event in told}


def test_redact_comes_last(lm, practice):
    practice.script(Reply(ANSWER, chunk=2))
    seen = []
    with streamll.configure(redact=lambda event: seen.append(event) or event, guards=[guard()]):
        events = read(predict())
    assert seen == events
    assert LETTERS.search(shown(seen)) is None


def test_only_the_guarded_part_of_a_run_is_guarded(lm, practice):
    class Outer(dspy.Module):
        def __init__(self):
            super().__init__()
            self.open = predict()
            self.kept = streamll.instrument(predict(), guards=[guard()])

        def forward(self, question):
            self.open(question=question)
            self.kept(question=question)
            return self.open(question=question)

    practice.script(*[Reply(ANSWER, chunk=1)] * 3)
    events = read(Outer())
    assert contiguous(events)
    texts: dict[str, str] = {}
    for event in events:
        if event.event_type == "token":
            texts[event.call_id] = texts.get(event.call_id, "") + event.token
    whole = f"{WITH} Yes."
    assert [*texts.values()] == [whole, masked(whole), whole]


def test_a_part_that_is_called_often_leaves_nothing_behind(lm, practice):
    class Loop(dspy.Module):
        def __init__(self):
            super().__init__()
            self.kept = streamll.instrument(predict(), guards=[guard()])

        def forward(self, question):
            for _ in range(3):
                self.kept(question=question)
                guarding = streamll.context.current_scope().run.guarding
                rewriting = guarding._exact
                sizes.append((len(guarding._kinds), len(rewriting._scopes)))
                left = (
                    rewriting.open,
                    rewriting._fields,
                    rewriting._loose,
                    guarding._numbers._calls,
                )
                assert not any(left)

    sizes = []
    practice.respond(lambda _: Reply(ANSWER, thinking=WITH, chunk=5))
    read(Loop())
    assert sizes == sizes[:1] * 3


def test_an_answer_from_the_cache_is_guarded(lm, practice):
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    practice.script(ANSWER)
    with dspy.context(lm=practice.lm(cache=True)):
        program = predict()
        program(question="?")
        events = read(program, guards=[guard()])
    tokens = [event for event in events if event.event_type == "token"]
    assert [(event.token, event.cached) for event in tokens] == [
        (f"It is {MASK}, I say. Yes.", True)
    ]


def test_runs_at_once_have_nothing_in_common(lm, practice):
    practice.respond(lambda _: Reply(ANSWER, chunk=1))
    program = streamll.instrument(
        predict(), fields="*", guards=[guard()], sinks=[sink := MemorySink()]
    )
    pairs = [(program, dspy.Example(question=str(n)).with_inputs("question")) for n in range(6)]
    dspy.Parallel(num_threads=6, disable_progress_bar=True)(pairs)
    checked(sink.events)
    runs = {event.run_id: "" for event in sink.events}
    for event in sink.tokens:
        runs[event.run_id] += event.token
    assert [*runs.values()] == [f"It is {MASK}, I say. Yes."] * 6


def test_of_what_is_cut_through_nothing_is_shown(lm, practice):
    card, start = "4111111111111111", f"Is {'x' * 20} "
    question = f"{start}{card} mine?"
    sink = MemorySink()
    qa = streamll.instrument(predict(), sinks=[sink], guards=[card_numbers()])
    for shown_digits in range(len(card) + 1):
        with streamll.configure(include=["inputs"], include_limit=len(start) + shown_digits):
            practice.script(Reply(ANSWER))
            qa(question=question)
        begun = [event for event in sink.events if event.event_type == "run.start"][-1]
        assert begun.inputs["question"] == f"{start}… ({len(question)} characters)"


def test_what_only_ends_like_a_cut_text_is_guarded_to_its_end(lm, practice):
    rules = [card_numbers(mask=MASK, result=True), Words(["Bluebird"], result=True)]
    said = {
        "Yours is … (4111111111111111 characters)": f"Yours is … ({MASK} characters)",
        "It is called Blue… (4 characters)": "It is called Blue… (4 characters)",
        "It is called Blue… (4000 characters)": "It is called Blue… (4000 characters)",
    }
    for text, masked_text in said.items():
        practice.script({"answer": text, "names": [text]})
        program = dspy.Predict("question -> answer, names: list[str]")
        with (
            streamll.configure(include=["outputs"]),
            streamll.stream(program, guards=rules)(question="?") as events,
        ):
            read = list(events)
            result = events.result()
        (outputs,) = (event.outputs for event in read if event.event_type == "run.end")
        values = [event.value for event in read if event.event_type == "field.partial"]
        assert (result.answer, result.names) == (masked_text, [masked_text])
        assert outputs == {"answer": masked_text, "names": [masked_text]}
        assert values[-1] == [masked_text]


def test_keys_that_masks_have_made_alike_are_told_apart_and_no_value_is_lost(lm, practice):
    practice.script({"votes": {"ada@a.org": 1, "bob@b.org": 2, "eve": 3, "ada@a.org b": 4}})
    program = dspy.Predict("question -> votes: dict[str, int]")
    guards = [emails(mask=MASK, result=True)]
    with (
        streamll.configure(include=["outputs"]),
        streamll.stream(program, guards=guards)(question="?") as events,
    ):
        read = checked(list(events))
        result = events.result()
    votes = {MASK: 1, f"{MASK} 2": 2, "eve": 3, f"{MASK} b": 4}
    parts = [event for event in read if event.event_type == "field.partial"]
    assert {part.pointer[0]: part.value for part in parts if part.pointer} == votes
    (outputs,) = (event.outputs for event in read if event.event_type == "run.end")
    assert parts[-1].value == outputs["votes"] == result.votes == votes
