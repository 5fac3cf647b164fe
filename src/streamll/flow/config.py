"""``StreamConfig``: the buffer, retries and timeouts of a stream."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from streamll.core.errors import ConfigurationError
from streamll.flow.breaker import CircuitBreaker
from streamll.flow.buffer import Policy
from streamll.flow.limits import Limits
from streamll.flow.retry import Backoff

OnPartial = Literal["fail", "restart", "continue"]
BUFFER_SIZE = 100
"""Events a reader may be behind before the program stops reading the provider's socket."""


@dataclass(frozen=True)
class StreamConfig:
    """Bounds, retries and timeouts of one stream. Times are seconds, ``None`` is no limit.

    Before DSPy 3.4 a stream takes ``buffer_size``, ``overflow`` and ``timeout`` alone.

    Args:
        buffer_size: events a reader may be behind.
        max_retries: further attempts of each LM call after the first, in place of the LM's own
            ``num_retries``. Only transient failures are retried: rate limits, server errors, lost
            connections.
        retry_delay: before the first retry; doubles each time, with jitter. A provider's
            ``Retry-After`` is followed instead.
        timeout: from the start of the stream to its end.
        first_token_timeout: from each LM request to the model's first output (text, thinking,
            tool call). A reply that cannot be streamed comes whole, at its end.
        idle_timeout: between two pieces of output. Keep-alive comments do not count as output, nor
            the time in which the reader keeps the stream waiting as idle.
        overflow: what a full buffer does: ``"block"`` stops reading the provider's socket,
            ``"coalesce"`` merges tokens, ``"drop_oldest"`` drops events and reports how many,
            ``"fail"`` ends the stream.
        on_partial: when an attempt fails after some text: ``"fail"``, ``"restart"`` (the text is
            superseded), ``"continue"`` (the model is asked to continue it, where the wire has a way
            to; else as ``"restart"``).
        max_retry_delay: the longest wait before a retry. A longer ``Retry-After`` is an error.
        retry_timeouts: retry after a first-token or idle timeout as well, instead of ending.
        breaker: ``True`` for the circuit breaker shared by all streams with the same provider and
            API key, a ``CircuitBreaker`` of your own, or ``None`` for none.
        limits: LM requests at once and per minute, shared by all that have the same ``Limits``.
        fallbacks: LMs (``dspy.LM``) that are asked in this order, each with retries and timeouts of
            its own, when an LM call has finally failed: also where it timed out, its breaker is
            open, or the error is permanent (a wrong key, a refused request). After some text as
            ``on_partial`` says, with ``"fail"`` not at all.
    """

    buffer_size: int = BUFFER_SIZE
    max_retries: int = 3
    retry_delay: float = 2.0
    timeout: float | None = None
    first_token_timeout: float | None = None
    idle_timeout: float | None = None
    overflow: Policy = "block"
    on_partial: OnPartial = "restart"
    max_retry_delay: float = 60.0
    retry_timeouts: bool = False
    breaker: CircuitBreaker | Literal[True] | None = True
    limits: Limits | None = None
    fallbacks: Sequence[Any] = ()

    def __post_init__(self) -> None:
        _check_count("buffer_size", self.buffer_size, 1)
        _check_count("max_retries", self.max_retries, 0)
        for name in ("retry_delay", "max_retry_delay"):
            _check_seconds(name, getattr(self, name), zero=True)
        for name in ("timeout", "first_token_timeout", "idle_timeout"):
            if getattr(self, name) is not None:
                _check_seconds(name, getattr(self, name), zero=False)
        _check_choice("overflow", self.overflow, get_args(Policy))
        _check_choice("on_partial", self.on_partial, get_args(OnPartial))
        _check_choice("retry_timeouts", self.retry_timeouts, (True, False))
        if not (self.breaker is True or isinstance(self.breaker, (CircuitBreaker, type(None)))):
            raise ConfigurationError(
                f"breaker must be True, None or a CircuitBreaker, not {self.breaker!r}"
            )
        if self.limits is not None and not isinstance(self.limits, Limits):
            raise ConfigurationError(f"limits must be a Limits or None, not {self.limits!r}")
        if not isinstance(self.fallbacks, (list, tuple)):
            given = type(self.fallbacks).__name__
            raise ConfigurationError(f"fallbacks must be a list of dspy.LM objects, not a {given}")
        object.__setattr__(self, "fallbacks", tuple(self.fallbacks))

    @property
    def backoff(self) -> Backoff:
        """The waits between attempts that these options make."""
        return Backoff(attempts=self.max_retries, base=self.retry_delay, cap=self.max_retry_delay)


def checked_config(config: Any) -> StreamConfig:
    """The config; ``ConfigurationError`` for what is none, such as its class."""
    if not isinstance(config, StreamConfig):
        given = repr(config) if isinstance(config, type) else type(config).__name__
        raise ConfigurationError(f"config is a StreamConfig, not {given}")
    return config


def _check_count(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"{name} must be a whole number, at least {least}, not {value!r}")


def _check_seconds(name: str, value: Any, *, zero: bool) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        least = "0 or more" if zero else "more than 0"
        none = "" if zero else ", or None for no limit"
        raise ConfigurationError(f"{name} must be {least} seconds{none}, not {value!r}")


def _check_choice(name: str, value: Any, choices: tuple[object, ...]) -> None:
    if value not in choices:
        raise ConfigurationError(
            f"{name} must be one of {', '.join(map(str, choices))}, not {value!r}"
        )
