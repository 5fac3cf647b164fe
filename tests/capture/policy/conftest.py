"""Fixtures of the tests of StreamConfig at work."""

from stream_fixtures import breaker, lm, programs_have_ended, run

__all__ = ["breaker", "lm", "programs_have_ended", "run"]
