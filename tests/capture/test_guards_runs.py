"""No event of a guarded run has what is forbidden, wherever it was cut and whatever it was part of."""

from __future__ import annotations

import re

import pytest
from dspy_lines import without_waiting
from guarded_runs import (
    CASES_AND_WIRES,
    EACH,
    INERT,
    LETTERS,
    assert_hidden,
    checked,
    masked,
    run,
    shown,
)
from profiles import in_turn

from streamll.core.events import own_fields
from streamll.core.jsonable import plain
from streamll.core.run_view import RunView

NOISE = re.compile("duration|time|gaps|trace_id|_id$|chunks|data")
CHUNKS = (1, "whole", 2, 3, 5, "token")


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    without_waiting(monkeypatch, lambda *_: None)


@pytest.mark.parametrize(
    ("case", "wire", "chunk"),
    [
        pytest.param(*CASES_AND_WIRES[name], chunk, id=f"{name}, {chunk}")
        for name, chunk in in_turn(CASES_AND_WIRES, CHUNKS)
    ],
)
def test_no_reader_of_a_run_can_see_the_secret(case, wire, chunk, practice):
    open_run = run(case, practice, chunk, (), wire)
    assert LETTERS.search(shown(open_run))
    guarded = checked(run(case, practice, chunk, wire=wire))
    assert_hidden(guarded)
    assert steps(guarded) == steps(open_run)
    assert any(event.event_type == "guarded" for event in guarded)
    if not case.fails:
        assert outcome(guarded) == masked(outcome(open_run))


@EACH
def test_guards_that_find_nothing_change_nothing(case, wire, practice):
    chunk = "whole" if case.escaped else 3  # half an escape waits for the other half
    with_guards, without = (facts(run(case, practice, chunk, each, wire)) for each in (INERT, ()))
    assert with_guards == without


def steps(events):
    """What happens in a run beside the pieces of its texts."""
    pieces = ("token", "field.partial", "thinking", "refusal", "tool_call.delta", "guarded")
    return [
        (event.event_type, event.path, event.attempt, getattr(event, "field", None))
        for event in events
        if event.event_type not in pieces
    ]


def outcome(events):
    """The texts that are no JSON or XML, and the last value of each typed field."""
    view = RunView()
    values = {}
    for event in events:
        view.feed(event)
        if event.event_type == "field.partial" and not event.pointer and not event.append:
            values[event.predictor, event.field] = plain(event.value)
    texts = {owner: text for owner, text in view.texts().items() if owner not in values}
    for event in events:
        if event.event_type in ("thinking", "refusal"):
            texts[event.event_type] = texts.get(event.event_type, "") + event.text
    return [[*texts.values()], [*values.values()]]


def facts(events):
    """The events without times and random numbers."""
    return [
        (
            event.event_type,
            event.seq,
            event.path,
            event.attempt,
            {n: plain(getattr(event, n)) for n in own_fields(type(event)) if not NOISE.search(n)},
        )
        for event in events
    ]
