"""Fixtures of the tests that collect what a program streams."""

from stream_fixtures import lm

__all__ = ["lm"]
