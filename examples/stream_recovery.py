"""Three failures, then a complete answer: retries before and after the first token."""

import dspy
from _model import language_model

import streamll
from streamll import StreamConfig
from streamll.testing import Fault, Reply

ANSWER = {"answer": "Waiting longer each time gives a service in trouble room to recover."}
FAULTS = (
    Fault(status=500),
    Fault(status=429, retry_after=0.1),
    Reply(ANSWER, fault=Fault(disconnect_after=12)),
)

qa = dspy.Predict("question -> answer")
config = StreamConfig(max_retries=3, retry_delay=0.1, on_partial="restart")

with language_model(*FAULTS, ANSWER) as lm:
    dspy.configure(lm=lm)
    with streamll.stream(qa, config=config)(question="Why should retries wait?") as events:
        for event in events:
            if event.event_type == "token":
                print(event.token, end="", flush=True)
            elif event.event_type == "lm.waiting":
                print(f"\n[{event.reason} in {event.delay:.2f} s]")
            elif event.event_type == "lm.superseded":
                print(f"[dropped after {event.reason}]")
        print(f"\nIn the end: {events.text('answer')}")
