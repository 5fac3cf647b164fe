"""What is done with sessions and models together."""

from __future__ import annotations

from streamll.operations.chat import StreamingChat
from streamll.operations.turns import (
    TurnStream,
    communicate,
    communicate_stream,
    communicate_sync,
)

__all__ = [
    "StreamingChat",
    "TurnStream",
    "communicate",
    "communicate_stream",
    "communicate_sync",
]
