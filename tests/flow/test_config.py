"""B3: the options of a stream, their defaults and what they refuse."""

from __future__ import annotations

import pytest

from streamll import StreamConfig
from streamll.core.errors import ConfigurationError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"buffer_size": 0}, "buffer_size must be a whole number, at least 1, not 0"),
        ({"buffer_size": 1.5}, "buffer_size"),
        ({"max_retries": -1}, "max_retries must be a whole number, at least 0"),
        ({"max_retries": True}, "max_retries"),
        ({"retry_delay": -1}, "retry_delay must be 0 or more seconds"),
        ({"timeout": 0}, "timeout must be more than 0 seconds, or None for no limit"),
        ({"idle_timeout": float("nan")}, "idle_timeout"),
        ({"first_token_timeout": "5"}, "first_token_timeout"),
        ({"overflow": "drop"}, "overflow must be one of block, coalesce, drop_oldest, fail"),
        ({"on_partial": "retry"}, "on_partial must be one of fail, restart, continue"),
        ({"max_retry_delay": float("inf")}, "max_retry_delay"),
        ({"breaker": "yes"}, "breaker must be True, None or a CircuitBreaker"),
        ({"breaker": 1}, "breaker must be True, None or a CircuitBreaker, not 1"),
        ({"retry_timeouts": "no"}, "retry_timeouts must be one of True, False, not 'no'"),
    ],
)
def test_an_impossible_option_is_refused_with_the_reason(options, message):
    with pytest.raises(ConfigurationError, match=message):
        StreamConfig(**options)


def test_the_defaults_are_those_of_the_rust_example():
    config = StreamConfig()
    assert (config.buffer_size, config.max_retries, config.retry_delay) == (100, 3, 2.0)
    assert config.timeout is None
    assert config.overflow == "block"
    assert config.on_partial == "restart"
