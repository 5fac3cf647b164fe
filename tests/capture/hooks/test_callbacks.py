"""Capture's callback: called beside the program's own, and not visible in DSPy's settings."""

from __future__ import annotations

import dspy
import pytest
from dspy.utils.callback import BaseCallback

import streamll
from streamll.capture.hooks.wrappers import dspy_of_callbacks


class Recording(BaseCallback):
    def __init__(self):
        self.started = []

    def on_lm_start(self, call_id, instance, inputs):
        self.started.append(call_id)


class Looking(dspy.Module):
    """Keeps what it finds in the settings while it runs."""

    def __init__(self, callbacks):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")
        self.own = callbacks

    def forward(self, question):
        with dspy.context(callbacks=self.own):
            self.found = dspy.settings.get("callbacks"), dspy.settings.callbacks
            return self.predict(question=question)


@pytest.mark.parametrize("own", [[], [Recording()]], ids=["no callbacks", "callbacks of its own"])
def test_a_program_finds_only_its_own_callbacks(lm, heard, own):
    program = streamll.instrument(Looking(own), stream_fields=["answer"], sinks=[heard])
    answer = program(question="Why?").answer
    assert program.found == (own, own)
    assert heard.text("answer") == answer
    assert all(len(callback.started) == 1 for callback in own)


def test_settings_are_not_replaced(lm, heard):
    before = type(dspy.settings).get
    streamll.instrument(Looking([]), stream_fields="*", sinks=[heard])(question="Why?")
    assert type(dspy.settings).get is before


@pytest.mark.skipif(not hasattr(dspy, "CodeInterpreter"), reason="DSPy 3.1.0 has none")
def test_whether_it_is_an_interpreter_is_told_as_by_dspy():
    """Quicker, but of anything: also of what has the members of one by itself."""
    quick = dspy_of_callbacks(dspy).CodeInterpreter

    class Made:
        tools = None

    by_itself = Made()
    for name in ("start", "execute", "shutdown"):
        setattr(by_itself, name, print)
    things = [dspy.Predict("a -> b"), dspy.ChatAdapter(), dspy.LM("openai/x"), Made(), by_itself]
    things += [dspy.Tool(print), dspy.PythonInterpreter(), None]
    told = [isinstance(thing, quick) for thing in things]
    assert told == [isinstance(thing, dspy.CodeInterpreter) for thing in things]
    assert True in told
