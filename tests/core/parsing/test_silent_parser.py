"""Fields of replies whose format is not known here."""

from __future__ import annotations

from streamll.core.parsing.base import SilentParser


def test_nothing_is_released():
    parser = SilentParser()
    assert parser.feed("[[ ## answer ## ]]\nx") == ()
    assert parser.finish() == ()
