"""Adapters that make their LM calls in a way of their own."""

from __future__ import annotations

import dspy
import pytest
from dspy.adapters.utils import parse_value

import streamll
from streamll.core.ordering import OrderCheck


class OwnCall(dspy.Adapter):
    """Formats and parses in its ``__call__``."""

    def __call__(self, lm, lm_kwargs, signature, demos, inputs):
        [text] = lm(messages=[{"role": "user", "content": str(inputs)}], **lm_kwargs)
        values = zip(signature.output_fields.items(), text.split("|"), strict=True)
        return [{name: parse_value(part, field.annotation) for (name, field), part in values}]


class ByRule(dspy.Adapter):
    """Asks no model."""

    def __call__(self, lm, lm_kwargs, signature, demos, inputs):
        return [{"reasoning": "Because.", "answer": "yes", "score": 3}]


class AskingAgain(dspy.ChatAdapter):
    """Throws its first reply away."""

    def __call__(self, lm, lm_kwargs, signature, demos, inputs):
        super().__call__(lm, lm_kwargs, signature, demos, inputs)
        return super().__call__(lm, lm_kwargs, signature, demos, inputs)


class Merging(dspy.ChatAdapter):
    """Asks for the fields one by one, and shouts the first."""

    def __call__(self, lm, lm_kwargs, signature, demos, inputs):
        merged = {}
        for name in signature.output_fields:
            others = [other for other in signature.output_fields if other != name]
            part = signature
            for other in others:
                part = part.delete(other)
            [values] = super().__call__(lm, dict(lm_kwargs), part, demos, inputs)
            merged |= values
        return [{**merged, "reasoning": merged["reasoning"].upper()}]


SIGNATURE = "question -> reasoning, answer, score: int"


def chat(**fields):
    return "".join(f"[[ ## {name} ## ]]\n{value}\n\n" for name, value in fields.items())


@pytest.mark.parametrize(
    ("adapter", "script", "superseded"),
    [
        (OwnCall(), ["Because.|yes|3"], []),
        (ByRule(), [], []),
        (
            AskingAgain(),
            [
                chat(reasoning="only this", answer="no", score=1),
                chat(reasoning="Because.", answer="yes", score=3),
            ],
            ["asked again"],
        ),
        (Merging(), [chat(reasoning="Because."), chat(answer="yes"), chat(score=3)], []),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_fields_are_what_the_program_has(lm, practice, heard, adapter, script, superseded):
    practice.script(*script)
    program = dspy.Predict(SIGNATURE)
    with (
        dspy.context(adapter=adapter),
        streamll.stream(program, sinks=[heard])(question="?") as events,
    ):
        result = events.result()
        for name in ("reasoning", "answer"):
            assert events.text(name) == getattr(result, name)
    assert (result.answer, result.score) == ("yes", 3)
    OrderCheck().check_all(heard.events)
    own = [event for event in heard.events if event.event_type == "field.start"]
    assert len([event for event in own if event.field == "answer"]) == 1 + len(superseded)
    assert heard.of("field.partial")[-1].value == 3
    assert [event.reason for event in heard.of("lm.superseded")] == superseded
    corrected = {event.field: event.text for event in heard.of("field.corrected")}
    assert corrected == ({"reasoning": "BECAUSE."} if isinstance(adapter, Merging) else {})
