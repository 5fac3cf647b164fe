"""C1–C7: the programs of DSPy's streaming tutorial, with nothing changed but the import.

Each is the text of a script. It runs twice, with DSPy's names and with ours; who says what, in
which order and in which class, must be the same, chunk boundaries aside.
"""

from __future__ import annotations

import asyncio
from itertools import groupby

import dspy
import pytest

IMPORT = "from {} import StatusMessage, StatusMessageProvider, StreamListener, StreamResponse"
IMPORTS = {
    "dspy": f"from dspy import streamify\n{IMPORT.format('dspy.streaming')}",
    "streamll": f"from streamll import streamify\n{IMPORT.format('streamll')}",
}

BASIC = """
predict = dspy.Predict("question -> answer")
stream_predict = streamify(predict, stream_listeners=[StreamListener(signature_field_name="answer")])

async def main():
    async for chunk in stream_predict(question="Why did a chicken cross the kitchen?"):
        heard(chunk)
"""

BY_TYPE = """
predict = dspy.Predict("question -> answer")
stream_predict = streamify(predict, stream_listeners=[StreamListener(signature_field_name="answer")])

async def main():
    result = None
    async for chunk in stream_predict(question="Why did a chicken cross the kitchen?"):
        if isinstance(chunk, StreamResponse):
            heard(chunk)
        elif isinstance(chunk, dspy.Prediction):
            result = chunk
    heard(result)
"""

TWO_FIELDS = """
class Simplify(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict1 = dspy.Predict("question -> answer")
        self.predict2 = dspy.Predict("answer -> simplified_answer")

    def forward(self, question, **kwargs):
        answer = self.predict1(question=question)
        return self.predict2(answer=answer.answer)

stream_predict = streamify(
    Simplify(),
    stream_listeners=[
        StreamListener(signature_field_name="answer"),
        StreamListener(signature_field_name="simplified_answer"),
    ],
)

async def main():
    async for chunk in stream_predict(question="Why did a chicken cross the kitchen?"):
        heard(chunk)
"""

SAME_NAME = """
class Grade(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict1 = dspy.Predict("question -> answer")
        self.predict2 = dspy.Predict("question, draft -> answer, score")

    def forward(self, question, **kwargs):
        draft = self.predict1(question=question).answer
        return self.predict2(question=question, draft=draft)

grade = Grade()
stream_predict = streamify(
    grade,
    stream_listeners=[
        StreamListener("answer", predict=grade.predict1, predict_name="predict1"),
        StreamListener("answer", predict=grade.predict2, predict_name="predict2"),
    ],
)

async def main():
    async for chunk in stream_predict(question="Why did a chicken cross the kitchen?"):
        heard(chunk)
"""

STATUS = """
class Sum(dspy.Module):
    def __init__(self):
        super().__init__()
        self.tool = dspy.Tool(lambda x: 2 * x, name="double_the_number")
        self.predict = dspy.ChainOfThought("num1, num2 -> sum")

    def forward(self, num, **kwargs):
        return self.predict(num1=num, num2=self.tool(x=num))

class MyStatusMessageProvider(StatusMessageProvider):
    def tool_start_status_message(self, instance, inputs):
        return f"Calling Tool {instance.name} with inputs {inputs}..."

    def tool_end_status_message(self, outputs):
        return f"Tool finished with output: {outputs}!"

stream_predict = streamify(
    Sum(),
    stream_listeners=[StreamListener(signature_field_name="reasoning")],
    status_message_provider=MyStatusMessageProvider(),
)

async def main():
    async for chunk in stream_predict(num=3):
        if isinstance(chunk, (StreamResponse, StatusMessage, dspy.Prediction)):
            heard(chunk)
"""

SYNCHRONOUS = """
predict = dspy.Predict("question -> answer")
stream_predict = streamify(
    predict,
    stream_listeners=[StreamListener(signature_field_name="answer")],
    async_streaming=False,
)

for chunk in stream_predict(question="Why did a chicken cross the kitchen?"):
    heard(chunk)
"""

SCRIPTS = {
    "basic": BASIC,
    "by type": BY_TYPE,
    "two fields": TWO_FIELDS,
    "same name": SAME_NAME,
    "status": STATUS,
    "synchronous": SYNCHRONOUS,
}
VALUES = {
    "answer": "To get to the other side of the frying pan!",
    "simplified_answer": "To reach the other side.",
    "score": "0.9",
    "reasoning": "We double 3 and add: 3 plus 6 equals 9.",
    "sum": "9",
}


def run(script: str, side: str) -> list:
    heard: list = []
    namespace = {"dspy": dspy, "heard": heard.append}
    exec(IMPORTS[side] + script, namespace)
    if "main" in namespace:
        asyncio.run(asyncio.wait_for(namespace["main"](), 60))
    return heard


def told(values: list) -> list:
    """Who says what, in order: chunks joined, classes by what existing code tests for."""
    classes = (
        dspy.streaming.StreamResponse,
        dspy.streaming.StatusMessage,
        dspy.Prediction,
    )
    rows = []
    for value in values:
        kind = next(each for each in classes if isinstance(value, each))
        if kind is classes[0]:
            rows.append((kind, value.predict_name, value.signature_field_name, value.chunk))
        else:
            text = value.message if kind is classes[1] else value.toDict()
            rows.append((kind, None, None, text))
    return [
        (*who, "".join(row[3] for row in group) if who[1] else next(group)[3])
        for who, group in groupby(rows, key=lambda row: row[:3])
    ]


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.since_3_4  # older DSPys stream a header's line end and closing blanks
def test_a_script_of_the_tutorial_needs_only_another_import(practice, lm, script):
    practice.respond(lambda request: {f.name: VALUES[f.name] for f in request.prompt.fields})
    theirs, ours = (told(run(SCRIPTS[script], side)) for side in ("dspy", "streamll"))
    assert ours == theirs
    streamed = [row for row in ours if row[1]]
    assert streamed
    assert all(row[3] == VALUES[row[2]] for row in streamed)
    assert ours[-1][0] is dspy.Prediction
