"""A program reports what it is doing: statuses, traces with a duration, and custom events.

The context is attached to every event of this task and of the tasks it starts.
"""

import dspy
from _model import language_model

import streamll

DOCUMENTS = {
    "tea": "Green tea is brewed at 80 °C.",
    "coffee": "Coffee is brewed between 90 and 96 °C.",
}


class RAGPipeline(dspy.Module):
    def __init__(self):
        super().__init__()
        self.generate = dspy.Predict("docs, question -> answer")

    def forward(self, question):
        streamll.status("Searching…")
        with streamll.trace("retrieval") as ctx:
            docs = [text for word, text in DOCUMENTS.items() if word in question.lower()]
            ctx.emit("docs_found", data={"count": len(docs)})
        streamll.status("Answering…")
        answer = self.generate(docs=docs, question=question)
        streamll.emit("answered", characters=len(answer.answer))
        return answer


with language_model({"answer": "At 80 °C, cooler than coffee."}) as lm:
    dspy.configure(lm=lm)
    streamll.set_context(conversation_id="conv_123", request_id="req_456")

    with streamll.stream(RAGPipeline(), fields=["answer"])(
        question="Is tea brewed cooler than coffee?"
    ) as events:
        for event in events:
            match event.event_type:
                case "status":
                    print(f"… {event.message}")
                case "docs_found":
                    print(f"  found {event.data['count']} documents")
                case "trace.end":
                    print(f"  {event.name} took {event.duration * 1000:.0f} ms")
                case "token":
                    print(event.token, end="", flush=True)
                case "answered":
                    print(f"\n  {event.data['characters']} characters")
                case "run.end":
                    print(f"  this was request {event.data['request_id']}")
