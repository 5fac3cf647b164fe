"""A question inside programs that run another one several times."""

from __future__ import annotations

import dspy
import pytest

import streamll
from streamll.core.ordering import OrderCheck


class Rated(dspy.Module):
    """Asks a person after each reply what it is worth."""

    def __init__(self):
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    def forward(self, question):
        answer = self.answer(question=question).answer
        return dspy.Prediction(answer=answer, worth=streamll.ask(f"And {answer}?", schema=float))


def worth(_args, prediction):
    return prediction.worth


WAYS = [
    lambda: dspy.BestOfN(Rated(), N=3, reward_fn=worth, threshold=0.9),
    lambda: dspy.Refine(Rated(), N=3, reward_fn=worth, threshold=0.9),
]


@pytest.mark.parametrize("way", WAYS, ids=["BestOfN", "Refine"])
@pytest.mark.parametrize(
    ("given", "best"), [([0.2, 0.5, 0.3], "B"), ([0.2, 0.95], "B"), ([1.0], "A")], ids=str
)
def test_each_try_asks_and_the_answers_choose(way, given, best, practice):
    replies = iter("ABC")

    def reply(request):
        if any(field.name == "advice" for field in request.prompt.fields):
            return {"discussion": "d", "advice": '{"answer": "another one"}'}
        return {"answer": next(replies)}

    practice.respond(reply)
    answers, asked, events = iter(given), [], []
    with (
        dspy.context(lm=practice.lm(), adapter=dspy.ChatAdapter()),
        streamll.stream(way())(question="q") as stream,
    ):
        for event in stream:
            events.append(event)
            if event.event_type == "question":
                asked.append(event.text)
                stream.answer(event, next(answers))
        value = stream.value
    assert asked == [f"And {letter}?" for letter in "ABC"[: len(given)]]
    assert value.answer == best
    OrderCheck().check_all(events)
    questions = [event.question_id for event in events if event.event_type == "question"]
    assert [event.question_id for event in events if event.event_type == "answer"] == questions
