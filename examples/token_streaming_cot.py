"""ChainOfThought has two output fields; stream either or both."""

import dspy
from _model import language_model

import streamll


@streamll.instrument(stream_fields=["reasoning", "answer"])
class ReasoningQA(dspy.Module):
    def __init__(self):
        super().__init__()
        self.cot = dspy.ChainOfThought("question -> answer")

    def forward(self, question):
        return self.cot(question=question)


with language_model(
    {
        "reasoning": "Twelve eggs are a dozen. Three dozen are 3 * 12 = 36 eggs.",
        "answer": "36",
    }
) as lm:
    dspy.configure(lm=lm)
    qa = ReasoningQA()
    print("Output fields:", ", ".join(qa.cot.predict.signature.output_fields))
    result = qa("How many eggs are three dozen?")

print(f"\nThe program returned: {result.answer}")
