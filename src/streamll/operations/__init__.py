"""Turns of a conversation: the names of ``streamll.chat`` at the notebook's path."""

from streamll.chat.streaming_chat import StreamingChat
from streamll.chat.turns import TurnStream, communicate, communicate_stream, communicate_sync

__all__ = [
    "StreamingChat",
    "TurnStream",
    "communicate",
    "communicate_stream",
    "communicate_sync",
]
