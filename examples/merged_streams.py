"""Three streams merged into one loop; each item is labelled with its stream."""

import dspy
from _model import language_model

from streamll import SafeDSpyStream, StreamEvent, aggregate_streams

TOPICS = ["Rust", "Python", "DSPy"]

with language_model(respond=lambda request: {"answer": request.inputs["question"] * 2}) as lm:
    dspy.configure(lm=lm)
    streams = {topic: SafeDSpyStream(f"{topic} again and ") for topic in TOPICS}
    texts = dict.fromkeys(streams, "")
    for topic, event in aggregate_streams(streams):
        if isinstance(event, StreamEvent.Token):
            texts[topic] += event.text
    for topic, text in texts.items():
        print(f"[{topic}] {text}")
