"""Fixtures of the tests of streamed questions."""

from stream_fixtures import breaker, lm, programs_have_ended, run

__all__ = ["breaker", "lm", "programs_have_ended", "run"]
