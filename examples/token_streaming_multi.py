"""Several predictors: each field streams from the predictors that have it."""

import dspy
from _model import language_model

import streamll


@streamll.instrument(stream_fields=["summary", "answer"])
class ComplexPipeline(dspy.Module):
    def __init__(self):
        super().__init__()
        self.summarize = dspy.Predict("text -> summary")
        self.answer = dspy.Predict("context, question -> answer")

    def forward(self, text, question):
        summary = self.summarize(text=text)
        return self.answer(context=summary.summary, question=question)


TEXT = """The lighthouse was built in 1886 on the outer reef. Its lamp burned oil until 1931,
when a cable from the mainland brought electricity; since 1978 nobody lives there."""

with language_model(
    {"summary": "A lighthouse of 1886, electric since 1931, empty since 1978."},
    {"answer": "For 92 years, from 1886 to 1978."},
) as lm:
    dspy.configure(lm=lm)
    pipeline = ComplexPipeline()
    result = pipeline(text=TEXT, question="For how long did people live there?")

print(f"\nThe program returned: {result.answer}")
