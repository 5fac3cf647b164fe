"""A value that equals the program's, but is of another kind, is not the program's value."""

from __future__ import annotations

import dspy
import pytest

from streamll.capture.typed.claims import holds
from streamll.capture.typed.field import typed_field


@pytest.mark.parametrize(
    ("shown", "value"),
    [(1, True), (0, False), (1, 1.0), (1.0, 1), ([1], [True]), ({"a": 1}, {"a": 1.0})],
)
def test_equal_values_of_other_kinds_are_told_apart(shown, value):
    assert not holds(shown, value)
    assert holds(value, value)


def test_a_number_that_became_another_one_disagrees():
    field = typed_field(dspy.ChatAdapter(), int)
    field.feed("4")
    field.feed("2")
    assert [change.value for change in field.finish()] == [42]
    assert field.agrees(42)
    assert not field.agrees(43)
