"""Reading what other processes' programs emit. Loads neither dspy nor a broker's client.

``EventConsumer`` is the one consumer; the others are names for it with the broker fixed.
"""

from __future__ import annotations

from streamll.consumer.consumer import EventConsumer, RabbitMQConsumer, RedisStreamConsumer
from streamll.consumer.session import ConsumerStatistics
from streamll.core.positions import position

__all__ = [
    "ConsumerStatistics",
    "EventConsumer",
    "RabbitMQConsumer",
    "RedisStreamConsumer",
    "position",
]
