"""The smallest use: name a field, see its tokens in the terminal."""

import dspy
from _model import language_model

import streamll


@streamll.instrument(stream_fields=["answer"])
class SimpleQA(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question):
        return self.predict(question=question)


with language_model(
    {"answer": "Machine learning is a subset of artificial intelligence: it learns from data."}
) as lm:
    dspy.configure(lm=lm)
    qa = SimpleQA()
    result = qa("What is machine learning?")

print(f"\nThe program returned: {result.answer}")
