"""A provider that stops sending: the idle timeout is raised, and the text so far is kept."""

import dspy
from _model import language_model

import streamll
from streamll import StreamConfig
from streamll.testing import Fault, Reply

qa = dspy.Predict("question -> answer")
config = StreamConfig(timeout=60, first_token_timeout=20, idle_timeout=3)
falls_silent = Reply({"answer": "Silence follows these words."}, fault=Fault(stall_after=9))

with language_model(falls_silent) as lm:
    dspy.configure(lm=lm)
    with streamll.stream(qa, config=config)(question="What follows?") as events:
        try:
            print(events.result().answer)
        except TimeoutError as error:
            print(f"{type(error).__name__}: {error}")
            print(f"Until then: {events.text('answer')!r}")
