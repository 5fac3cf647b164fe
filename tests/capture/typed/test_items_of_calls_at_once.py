"""Items of calls that run at once: each element once, whichever call has the next."""

from __future__ import annotations

import asyncio

import dspy
import pytest
from pydantic import BaseModel

import streamll
from streamll.testing import Reply


class Finding(BaseModel):
    title: str
    line: int = 0


class Review(dspy.Signature):
    """Review."""

    code: str = dspy.InputField()
    findings: list[Finding] = dspy.OutputField()
    verdict: str = dspy.OutputField()


@pytest.fixture(autouse=True)
def json_adapter(practice):
    with dspy.context(lm=practice.lm(), adapter=dspy.JSONAdapter()):
        yield


def findings(code):
    return [{"title": f"{code} first", "line": 3}, {"title": f"{code} second"}]


class Both(dspy.Module):
    def __init__(self):
        super().__init__()
        self.review = dspy.Predict(Review)

    async def aforward(self):
        return await asyncio.gather(self.review.acall(code="a"), self.review.acall(code="b"))


def test_items_of_two_calls_at_once(practice):
    def reply(request):
        made = {"findings": findings(request.inputs["code"]), "verdict": "No."}
        return Reply(made, chunk=4, hold_after=12)

    practice.respond(reply)

    async def main():
        async with streamll.stream(Both())() as events:
            items = events.items("findings")
            got = [await anext(items), await anext(items)]  # the first of each call
            practice.release()
            return got + [item async for item in items]

    got = asyncio.run(main())
    assert {item.title for item in got[:2]} == {"a first", "b first"}
    assert sorted(item.title for item in got) == ["a first", "a second", "b first", "b second"]
