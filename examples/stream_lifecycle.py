"""Log the lifecycle of a stream: a sink that receives its steps, and the totals at its end."""

import logging
import sys

import dspy
from _model import language_model

import streamll
from streamll import StreamConfig
from streamll.sinks import CallbackSink
from streamll.testing import Fault

logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s", level=logging.INFO)
logging.getLogger("LiteLLM").setLevel(logging.WARNING)
log = logging.getLogger("streams")

STEPS = {"run.start", "lm.start", "lm.waiting", "lm.superseded", "lm.end", "run.end", "run.error"}


def write(event):
    if event.event_type in STEPS:
        level = (
            logging.WARNING if event.event_type in {"lm.superseded", "run.error"} else logging.INFO
        )
        log.log(level, "%s attempt=%d", event.event_type, event.attempt)


qa = dspy.Predict("question -> answer")
stream = streamll.stream(qa, config=StreamConfig(retry_delay=0.05), sinks=[CallbackSink(write)])

with language_model(Fault(status=503), {"answer": "It was overloaded."}) as lm:
    dspy.configure(lm=lm)
    collected = streamll.collect_stream(stream(question="Why did it fail?"))

print(f"{collected.text} ({collected.completion_tokens} tokens, {collected.retries} retry)")
