"""Where an error was raised: in the program's own code, or nowhere in it."""

from __future__ import annotations

import dspy
import pytest

from streamll.core.places import own_place


class Program(dspy.Module):
    def forward(self, question):
        return json_of(question)


def json_of(text):
    import json

    return json.loads(text)


def test_it_is_the_innermost_line_of_the_programs_own_code():
    with pytest.raises(ValueError, match="Expecting") as raised:
        Program()(question="no JSON")
    assert own_place(raised.value) == f"{__file__}:19 in json_of"


def test_a_call_with_wrong_inputs_is_at_no_line_of_anybody_else():
    with pytest.raises(TypeError, match="wrong") as raised:
        eval(compile("program(wrong=1)", "<frozen caller>", "eval"), {"program": Program()})
    error = raised.value
    error.__traceback__ = error.__traceback__.tb_next  # this test is where it was called
    assert own_place(error) == ""
