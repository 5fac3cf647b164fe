"""X5, A2: typed fields in Python code: ``events.partials`` and ``events.items``."""

from __future__ import annotations

import asyncio
import copy
import datetime as dt
import enum
import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypedDict

import dspy
import pytest
from pydantic import BaseModel, field_validator

import streamll
from streamll.core.errors import ConfigurationError
from streamll.core.events import FieldPartial
from streamll.testing import Fault, Reply


class Finding(BaseModel):
    title: str
    line: int = 0


class Report(BaseModel):
    summary: str
    findings: list[Finding]


class Review(dspy.Signature):
    """Review."""

    code: str = dspy.InputField()
    findings: list[Finding] = dspy.OutputField()
    verdict: str = dspy.OutputField()


class Reporting(dspy.Signature):
    """Report."""

    code: str = dspy.InputField()
    report: Report = dspy.OutputField()


FINDINGS = [{"title": "Unused", "line": 3}, {"title": "Unsafe"}]
REPLY = Reply({"findings": FINDINGS, "verdict": "No."}, chunk=4)
review = dspy.Predict(Review)


@pytest.fixture(autouse=True)
def json_adapter(practice):
    with dspy.context(lm=practice.lm(), adapter=dspy.JSONAdapter()):
        yield


def test_items_come_typed_one_by_one_while_the_model_writes(practice):
    practice.script(Reply({"findings": FINDINGS, "verdict": "No."}, chunk=4, hold_after=12))
    with streamll.stream(review)(code="…") as events:
        items = events.items("findings")
        assert next(items) == Finding(title="Unused", line=3)
        practice.release()
        assert list(items) == [Finding(title="Unsafe")]
        assert events.result().findings == [Finding(**finding) for finding in FINDINGS]


def test_items_and_partials_in_an_event_loop(practice):
    practice.script(REPLY, REPLY)

    async def main():
        async with streamll.stream(review)(code="…") as events:
            items = [item async for item in events.items("findings")]
        async with streamll.stream(review)(code="…") as events:
            partials = [copy.deepcopy(p.value) async for p in events.partials("findings")]
            return items, partials, (await events.result()).findings

    items, partials, findings = asyncio.run(main())
    assert items == partials[-1] == findings
    assert [{"title": "Unu"}] in partials or [{"title": "Un"}] in partials


def test_items_of_a_list_inside_a_field(practice):
    report = {"report": {"summary": "Two.", "findings": FINDINGS}}
    practice.script(Reply(report, chunk=4), Reply(report, chunk=4))
    program = dspy.Predict(Reporting)
    with streamll.stream(program)(code="…") as events:
        assert list(events.items("report", "findings")) == FINDINGS
    with streamll.stream(program)(code="…") as events:
        items = list(events.items("report", "findings", as_type=Finding))
    assert items == [Finding(**finding) for finding in FINDINGS]


@pytest.mark.parametrize(
    ("pointer", "says"),
    [
        ((), "reads a list, and this is of the type Report"),
        (("summary",), "reads a list, and this is of the type str"),
        (("findngs",), "Report has no member 'findngs'"),
        (("/findings",), "Report has no member '/findings'"),
        (("findings", "0"), "'0' is in a list, whose elements have numbers"),
    ],
)
def test_items_of_what_is_no_list_are_an_error_at_the_end(practice, pointer, says):
    practice.script({"report": {"summary": "Two.", "findings": FINDINGS}})
    with streamll.stream(dspy.Predict(Reporting))(code="…") as events:
        with pytest.raises(ConfigurationError, match=says):
            list(events.items("report", *pointer))
        assert events.result().report.summary == "Two."


def test_items_of_what_can_be_no_list_are_refused_at_once(practice):
    practice.script(REPLY)
    with streamll.stream(review)(code="…") as events:
        with pytest.raises(ConfigurationError, match="'verdict' is declared as str"):
            events.items("verdict")
        with pytest.raises(ConfigurationError, match="a pointer has keys and indices"):
            events.items("findings", ("title",))  # type: ignore[arg-type]


def test_a_list_that_may_be_missing_has_no_items_and_is_no_error(practice):
    signature = Reporting.with_updated_fields("report", type_=dict[str, list[int] | None] | None)
    for value in ({"other": [1]}, {"counts": None}, None):
        practice.script({"report": value})
        with streamll.stream(dspy.Predict(signature))(code="…") as events:
            assert list(events.items("report", "counts")) == []


def test_the_partial_form_has_members_that_may_be_missing(practice):
    practice.script(Reply({"report": {"summary": "Two.", "findings": FINDINGS}}, chunk=4))
    with streamll.stream(dspy.Predict(Reporting))(code="…") as events:
        values = [partial.value for partial in events.partials("report", Report)]
    assert values[0].summary is None
    assert any(value.findings and value.findings[0].line is None for value in values[:-1])
    assert isinstance(values[-1], Report)


def test_a_text_field_has_partials_as_well(practice):
    practice.script(Reply({"findings": [], "verdict": "Nothing is wrong."}, chunk=4))
    with streamll.stream(review)(code="…") as events:
        partials = [(partial.value, partial.state) for partial in events.partials("verdict")]
    assert partials[-1] == ("Nothing is wrong.", "complete")
    assert all("Nothing is wrong.".startswith(value) for value, _ in partials)
    assert len({value for value, _ in partials}) > 2


def test_an_unknown_field_is_an_error_before_anything_is_read(practice):
    practice.script(REPLY)
    with streamll.stream(review)(code="…") as events:
        with pytest.raises(streamll.UnknownFieldError, match="Did you mean 'findings'"):
            events.partials("finding")
        with pytest.raises(streamll.UnknownFieldError):
            events.items("finding")


def test_elements_that_a_retry_writes_again_are_not_repeated(practice):
    """X4: and those it writes otherwise come anew."""
    text = '{"findings": [{"title": "a", "line": 1}, {"title": "b", "line": 2}, {"ti'
    practice.script(
        Reply(text, chunk=4, fault=Fault(error_after=18)),
        Reply({"findings": [{"title": "a", "line": 1}, {"title": "c"}], "verdict": "x"}, chunk=4),
    )
    with dspy.context(lm=practice.lm(num_retries=1)):
        with streamll.stream(review)(code="…") as events:
            titles = [item.title for item in events.items("findings")]
    assert titles == ["a", "b", "c"]


def test_a_cached_reply_gives_its_items_and_its_value(practice):
    """C8: without partials on the way."""
    practice.script(REPLY)
    with dspy.context(lm=practice.lm(cache=True, model=f"cached-{id(practice)}")):
        review(code="cached, typed")
        with streamll.stream(review)(code="cached, typed") as events:
            assert [item.title for item in events.items("findings")] == ["Unused", "Unsafe"]
        with streamll.stream(review)(code="cached, typed") as events:
            partials = [event for event in events if isinstance(event, FieldPartial)]
    assert [(event.pointer, event.state) for event in partials] == [((), "complete")]


def test_an_unknown_adapter_gives_the_value_at_the_end(practice):
    class Shouting(dspy.Adapter):
        def format(self, signature, demos, inputs):
            return [{"role": "user", "content": "?"}]

        def parse(self, signature, completion):
            return {"findings": [Finding(title=completion)], "verdict": completion.upper()}

    practice.script("found")
    with dspy.context(adapter=Shouting()), streamll.stream(review)(code="…") as events:
        seen = list(events)
    partials = [event for event in seen if isinstance(event, FieldPartial)]
    assert [event.value for event in partials] == [[Finding(title="found")]]
    assert not [event for event in seen if event.event_type == "field.corrected"]


class Level(enum.Enum):
    LOW = "low"
    HIGH = "high"


@dataclass
class Point:
    x: float
    y: float


class Movie(TypedDict):
    title: str


KINDS = [
    (int, 42),
    (float, 1.5),
    (bool, True),
    (dt.date, "2024-02-29"),
    (dt.datetime, "2024-02-29T10:00:00"),
    (Level, "high"),
    (Literal["a", "b"], "b"),
    (Literal[1, 2], 2),
    (Point, {"x": 1.0, "y": 2.0}),
    (dict[str, list[int]], {"a": [1, 2], "b": []}),
    (tuple[int, str], [1, "x"]),
    (list[dt.date], ["2024-02-29"]),
    (str | int, "text"),
    (list[str] | str, ["a"]),
    (list[str] | None, ["a"]),
    (dspy.Code, "print(1)"),
    (dspy.ToolCalls, {"tool_calls": [{"name": "f", "args": {"x": 1}}]}),
]


@pytest.mark.parametrize(
    "adapter",
    [dspy.ChatAdapter(), dspy.JSONAdapter(use_native_function_calling=False)],
    ids=["chat", "json"],
)
@pytest.mark.parametrize(("annotation", "value"), KINDS, ids=lambda kind: str(kind)[:24])
def test_every_kind_of_field_ends_as_the_program_s_value(practice, adapter, annotation, value):
    signature = dspy.Signature({"question": (str, dspy.InputField())})
    program = dspy.Predict(signature.append("value", dspy.OutputField(), annotation))
    practice.script(Reply({"value": value}, chunk=3))
    with dspy.context(adapter=adapter), streamll.stream(program)(question="?") as events:
        seen = list(events)
        result = events.result().value
    partials = [event for event in seen if isinstance(event, FieldPartial)]
    assert partials[-1].value == result
    assert (partials[-1].pointer, partials[-1].state) == ((), "complete")
    assert not [event for event in seen if event.event_type == "field.corrected"]


def test_an_iterator_is_left_to_the_program(practice):
    """X3: what was read is all there is to show."""
    practice.script(Reply({"value": [1, 2]}, chunk=3))
    signature = dspy.Signature({"question": (str, dspy.InputField())})
    program = dspy.Predict(signature.append("value", dspy.OutputField(), Iterable[int]))
    with streamll.stream(program)(question="?") as events:
        shown, kinds = streamll.typed.Partials(), []
        for event in events:
            shown.feed(event)
            kinds.append(event.event_type)
            if event.event_type == "field.end":
                assert shown.of(event, "value").value == [1, 2]
        assert list(events.result().value) == [1, 2]
    assert "field.corrected" not in kinds
    assert kinds.index("lm.end") > len(kinds) - 1 - kinds[::-1].index("field.partial")


def test_a_program_s_validators_run_once(practice):
    """X3: capturing is invisible."""
    ran = []

    class Careful(BaseModel):
        name: str

        @field_validator("name")
        @classmethod
        def tidy(cls, name: str) -> str:
            ran.append(name)
            return name.strip().title()

    signature = dspy.Signature({"question": (str, dspy.InputField())})
    program = dspy.Predict(signature.append("value", dspy.OutputField(), list[Careful]))
    practice.script(Reply({"value": [{"name": " ada "}]}, chunk=2))
    with streamll.stream(program)(question="?") as events:
        values = [copy.deepcopy(partial.value) for partial in events.partials("value")]
    assert ran == [" ada "]
    assert values[-1] == [Careful.model_construct(name="Ada")]
    assert values[-2] == [{"name": " ada "}]


def test_nobody_asks_for_the_field_nobody_is_told(practice):
    practice.script(REPLY)
    with streamll.stream(review, fields=["verdict"])(code="…") as events:
        assert not [event for event in events if isinstance(event, FieldPartial)]


@pytest.mark.parametrize("adapter", [dspy.ChatAdapter, dspy.JSONAdapter, dspy.XMLAdapter])
@pytest.mark.parametrize("second", ["second", "second: list[int]"])
def test_a_text_field_is_complete_wherever_it_stands_and_from_the_cache(practice, adapter, second):
    """X5: the field of the reply that comes first ends before the reply does."""
    practice.script({"first": "one two", "second": [3] if "int" in second else "three"})
    program = dspy.Predict(f"question -> first, {second}")
    with dspy.context(lm=practice.lm(cache=True), adapter=adapter()):
        for cached in (False, True):
            with streamll.stream(program)(question="?") as events:
                seen = [(each.value, each.state) for each in events.partials("first")]
            assert seen[-1] == ("one two", "complete")
            assert [state for _, state in seen].count("complete") == 1
            assert (len(seen) <= 3) is cached
    assert len(practice.requests) == 1


@pytest.mark.parametrize("adapter", [dspy.ChatAdapter(), dspy.JSONAdapter()], ids=["Chat", "JSON"])
@pytest.mark.parametrize(
    ("name", "of", "evidence"),
    [
        ("Noul", None, '{"noul": 0.9}'),
        (
            "Choice",
            (("yes", "It is."), ("no", "It is not.")),
            '{"probabilities": {"yes": 0.9, "no": 0.1}, "confidence": 0.8}',
        ),
        ("Score", ("poor", "fine"), '{"probabilities": {"0": 0.1, "1": 0.9}, "confidence": 0.8}'),
    ],
    ids=["Noul", "Choice", "Score"],
)
@pytest.mark.since_3_4
def test_the_evidence_of_a_decision_is_no_part_of_its_value(
    lm, practice, adapter, name, of, evidence
):
    """DSPy asks the model for another type than the program gets."""
    kind = getattr(importlib.import_module("dspy.experimental"), name)
    kind = kind if of is None else kind[of]
    signature = dspy.Signature("question -> decision").with_updated_fields(
        "decision", desc="Is it?", type_=kind
    )
    replies = {
        dspy.ChatAdapter: f"[[ ## decision ## ]]\n{evidence}\n\n[[ ## completed ## ]]",
        dspy.JSONAdapter: f'{{"decision": {evidence}}}',
    }
    practice.script(Reply(replies[type(adapter)], chunk=4), Reply(replies[type(adapter)], chunk=4))
    with dspy.context(adapter=adapter):
        with streamll.stream(dspy.Predict(signature))(question="?") as events:
            shown = [partial.value for partial in events.partials("decision")]
            value = events.result().decision
        assert isinstance(value, kind)
        assert shown == [value]
        with streamll.stream(dspy.Predict(signature))(question="?") as events:
            corrected = [event.value for event in events if event.event_type == "field.corrected"]
        assert corrected == [value]
