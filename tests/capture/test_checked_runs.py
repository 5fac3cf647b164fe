"""No event of a checked run has what a check forbids, and one that forbids nothing changes no text."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from dspy_lines import without_waiting
from guarded_runs import CASES, EACH, LETTERS, MASK, NUMBER, assert_hidden, checked, run
from patience import BOUND
from profiles import THOROUGH
from test_guards_runs import outcome, steps

from streamll.guards import Check, Pattern

CHUNKS = (1, "whole", 3, "token") if THOROUGH else (1,)
GUARDS = (
    Check(lambda text: not LETTERS.search(text), mask=MASK, timeout=BOUND),
    Pattern(str(NUMBER), mask=MASK),  # a check is not asked about numbers
)


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    without_waiting(monkeypatch, lambda *_: None)


@EACH
def test_no_reader_sees_what_a_check_forbids(case, wire, practice):
    for chunk in CHUNKS:
        events = checked(run(case, practice, chunk, GUARDS, wire))
        assert_hidden(events)
        assert any(getattr(each, "kind", "") == "check" for each in events)


STOPPED = ("an agent", "a dictionary", "a talking program", "a bare call")


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.name in STOPPED], ids=lambda case: case.name
)
def test_a_run_that_a_check_stops_shows_nothing_more(case, practice):
    """Not even what it is asked about afterwards, of which there will be no verdict."""
    stops = Check(lambda text: not LETTERS.search(text), action="stop", timeout=BOUND)
    events = checked(run(replace(case, fails=True), practice, 3, (stops, GUARDS[1])))
    assert_hidden(events)
    assert events[-1].error_type == "GuardStopped"


@EACH
def test_a_check_that_forbids_nothing_changes_no_text(case, wire, practice):
    if case.name == "cut for good":  # of which the last sentence has no end
        return
    allows = (Check(lambda text: True, timeout=BOUND),)
    with_check, without = (checked(run(case, practice, 3, each, wire)) for each in (allows, ()))
    assert outcome(with_check) == outcome(without)
    assert Counter(steps(with_check)) == Counter(steps(without))
