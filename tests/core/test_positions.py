"""Where a reader is in a run, as a value and as text."""

from __future__ import annotations

import pytest

from streamll.core.events import NOBODY, Identity, RunStart, Status, TokenEvent
from streamll.core.positions import Position, position, read_position


def test_the_position_after_a_merged_token_is_that_of_its_last_part():
    run = Identity(run_id="r1")
    token = TokenEvent(
        seq=3, identity=run, field="answer", token="abc", token_index=0, offset=4, count=2
    )
    assert position(RunStart(seq=0, identity=run, program="QA")) == ("r1", 0, None)
    assert position(token) == ("r1", 4, 7)
    assert str(position(token)) == "r1:4:7"


def test_events_outside_runs_have_no_position():
    with pytest.raises(ValueError, match="no position"):
        position(Status(message="x", identity=NOBODY))


def test_a_position_is_read_as_it_was_written():
    for each in (Position("a" * 32, 3), Position("a" * 32, 3, 7), Position("1" * 32, -1)):
        assert read_position(str(each)) == each
    assert read_position("12:40", "r") == Position("r", 12, 40)
    for nonsense in ("", "x", "1:2:3:4", "1e3", "9" * 40, ":1", "a:b", "r:-2"):
        with pytest.raises(ValueError, match="not a position"):
            read_position(nonsense, "r")
