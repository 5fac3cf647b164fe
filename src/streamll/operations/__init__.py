"""Turns of a conversation: the names of ``streamll.chat`` at the notebook's path."""

from streamll.chat.streaming_chat import StreamingChat as StreamingChat
from streamll.chat.turns import TurnStream as TurnStream
from streamll.chat.turns import communicate as communicate
from streamll.chat.turns import communicate_stream as communicate_stream
from streamll.chat.turns import communicate_sync as communicate_sync
