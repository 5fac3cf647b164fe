"""X3: streaming never changes the program. Each call with and without a tap, compared.

A case is a scenario on a route (wire, engine, sync or async). It runs twice against the practice
server, and every aspect of the call that can be seen from outside (``observing.ASPECTS``) must be
strictly equal. What cannot be equal is listed, with the reason, in ``docs/invisible.md``.
"""

from __future__ import annotations

import contextlib
import importlib.util
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy_lines import ENGINES, HAS_ENGINES
from observing import ASPECTS, ROUTES, Seen, differences, observe
from profiles import THOROUGH
from scenarios import FAILURES, ODD_BUT_LEGAL, SUCCESSES, Scenario

import streamll
from streamll.sinks import MemorySink

# DSPy announces that messages= will go; until then programs use it, and it is the legacy path.
pytestmark = pytest.mark.filterwarnings("ignore:Passing OpenAI-style:DeprecationWarning")

MODELS = {
    "openai": "gpt-4o-mini",
    "responses": "gpt-4o-mini",
    "anthropic": "claude-sonnet-4-5",
    "gemini": "gemini-2.5-flash",
}
ASKED = [{"role": "user", "content": "Say something — ünïcode 🎉."}]
HAS_MCP = importlib.util.find_spec("mcp") is not None


@contextlib.contextmanager
def tapped() -> Any:
    """The tap alone; before DSPy 3.4, where a tap is not to be had alone, a captured call."""
    if HAS_ENGINES:
        from tapping import tapped as by_the_tap_alone

        with by_the_tap_alone() as listeners:
            yield listeners
        return
    sink = MemorySink()
    with streamll.watch(sinks=[sink]):
        yield sink.events


def possible(scenario: Scenario, route: tuple[str, str, bool]) -> bool:
    wire, engine, _ = route
    if wire not in scenario.wires or engine not in scenario.engines:
        return False
    if scenario.typed and not HAS_ENGINES:
        return False
    # This version of LiteLLM fails without the package mcp, tapped or not.
    return engine == "lm15" or HAS_MCP or not (wire == "responses" or scenario.needs_mcp)


def routes_of(number: int, scenario: Scenario) -> list[tuple[str, str, bool]]:
    """All if there is time; else one of each engine: in turn each wire, sync and async."""
    routes = [route for route in ROUTES if possible(scenario, route)]
    if THOROUGH:
        return routes
    chosen = []
    for turn, engine in enumerate(ENGINES, number):
        wires = [wire for wire in MODELS if (wire, engine, False) in routes]
        if wires:
            chosen.append((wires[turn % len(wires)], engine, bool(turn // 4 % 2)))
    return chosen


CASES = [
    pytest.param(scenario, route, id=f"{scenario.name}-{route[0]}-{route[1]}-{kind}")
    for number, scenario in enumerate((*SUCCESSES, *ODD_BUT_LEGAL, *FAILURES))
    for route in routes_of(number, scenario)
    for kind in ("async" if route[2] else "sync",)
]


class Answers:
    """One reply after the other; the last one for good."""

    def __init__(self, replies: Any) -> None:
        self.left = list(replies)

    def __call__(self, request: Any) -> Any:
        reply = self.left[0] if len(self.left) == 1 else self.left.pop(0)
        return reply(request) if callable(reply) else reply


def run(scenario: Scenario, route: tuple[str, str, bool], server: Any, patch: Any) -> Seen:
    wire, engine, asynchronous = route
    server.respond(Answers(scenario.replies))
    lm = server.lm(wire, MODELS[wire], engine=engine, cache=True, num_retries=2)

    def call() -> Any:
        if scenario.signature is None:
            call_lm = lm.acall if asynchronous else lm
            if scenario.typed:
                message = dspy.lm15.Message.user(ASKED[0]["content"])
                return call_lm(request=dspy.lm15.Request(model=lm.model, messages=(message,)))
            return call_lm(messages=ASKED, **scenario.options)
        predict = dspy.Predict(scenario.signature)
        call_predict = predict.acall if asynchronous else predict
        return call_predict(question="Where?", **scenario.options)

    with dspy.context(lm=lm, adapter=scenario.adapter()):
        return observe(server, lm, call, patch)


@pytest.mark.parametrize(("scenario", "route"), CASES)
def test_a_tap_changes_nothing(scenario, route, practice, monkeypatch, ends_may_be_late):
    """X3: outputs, responses, cost, history, cache, requests and errors are the same."""
    plain = run(scenario, route, practice, monkeypatch)
    with tapped() as listeners:
        heard = run(scenario, route, practice, monkeypatch)
    asked = practice.requests[len(practice.requests) - heard.requests :]
    assert not asked or any(request.streaming for request in asked), "nothing was streamed"
    unequal = {
        aspect: told
        for aspect in ASPECTS
        if aspect not in scenario.unequal and (told := differences(plain, heard, aspect))
    }
    assert not unequal
    assert listeners


def test_the_number_of_comparisons(capsys):
    """Every case above compares every aspect, so this is how many comparisons there are."""
    unequal = sum(len(case.values[0].unequal) for case in CASES)
    count = len(CASES) * len(ASPECTS) - unequal
    with capsys.disabled():
        cases = f"{len(CASES)} cases × {len(ASPECTS)} aspects"
        print(f"\n  {cases}, {unequal} of them known to differ: {count} comparisons")
    assert count > (10_000 if HAS_ENGINES else 4_000) / (1 if THOROUGH else 7)


def test_the_docs_give_every_reason():
    page = Path(__file__).parents[2].joinpath("docs", "invisible.md").read_text(encoding="utf-8")
    reasons = {reason for case in CASES for reason in case.values[0].unequal.values()}
    assert [reason for reason in reasons if reason not in page] == []
