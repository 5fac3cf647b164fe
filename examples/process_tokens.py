"""Process tokens inside the module as they arrive.

``on_token`` is a function or the name of a method. It is called in the program's own thread before
the program continues, so its counts are complete when the predictor returns.
"""

import dspy
from _model import language_model

import streamll
from streamll import emit_event
from streamll.core.events import StreamllEvent


@streamll.instrument(stream_fields=["answer"], on_token="count")
class ProcessingQA(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def count(self, event):
        if event.event_type == "token":
            self.token_count += event.count
        elif event.event_type == "lm.superseded":  # a retry: the text begins anew
            self.token_count = 0

    def forward(self, question):
        self.token_count = 0
        result = self.predict(question=question)
        emit_event(
            StreamllEvent(event_type="token.summary", data={"total_tokens": self.token_count})
        )
        return result


with language_model({"answer": "One, two, three, four, five."}) as lm:
    dspy.configure(lm=lm)
    qa = ProcessingQA()
    result = qa("Count to five.")

print(f"\n{qa.token_count} tokens: {result.answer}")
