"""A question as a bounded stream: tokens, then Done or Error, distinguished by ``match``."""

import dspy
from _model import language_model

from streamll import SafeDSpyStream, StreamEvent

with language_model({"answer": "Rust is a systems programming language."}) as lm:
    dspy.configure(lm=lm)
    for event in SafeDSpyStream("What is Rust?", 100):
        match event:
            case StreamEvent.Token(text):
                print(text, end="", flush=True)
            case StreamEvent.Reset():
                print("\n[Again]")
            case StreamEvent.Done():
                print("\n[Complete]")
            case StreamEvent.Error(error):
                print(f"\n[Error: {error}]")
