"""Decide inside ``forward`` whether this call streams.

``_streamll_stream_fields`` applies only to the call that sets it, even if the same module serves
several calls at once.
"""

import dspy
from _model import language_model

import streamll


@streamll.instrument
class AdaptiveStreaming(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question):
        self._streamll_stream_fields = ["answer"] if len(question) > 40 else []
        return self.predict(question=question)


with language_model(
    {"answer": "Yes."},
    {"answer": "A long answer is worth watching while it is written."},
) as lm:
    dspy.configure(lm=lm)
    qa = AdaptiveStreaming()

    print("A short question, nothing streams:")
    print(f"  {qa('Is it short?').answer}")

    print("A long question, its answer streams:")
    print(f"  {qa('Is this question long enough to be streamed to the terminal?').answer}")
