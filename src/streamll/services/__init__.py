"""Models to talk to: the model names of ``streamll.chat`` at the notebook's path."""

from streamll.chat.calling import Calling, CallStatus, Execution
from streamll.chat.invoke_stream import Chunk, InvokeStream
from streamll.chat.model import iModel
from streamll.chat.question import Question
from streamll.chat.reply import ModelReply, ModelToolCall
from streamll.chat.runner import Hooks
from streamll.core.errors import CircuitOpen, MissingKeyError, ReplySuperseded
from streamll.flow.breaker import CircuitBreaker
from streamll.flow.config import StreamConfig
from streamll.flow.limits import Limits

__all__ = [
    "CallStatus",
    "Calling",
    "Chunk",
    "CircuitBreaker",
    "CircuitOpen",
    "Execution",
    "Hooks",
    "InvokeStream",
    "Limits",
    "MissingKeyError",
    "ModelReply",
    "ModelToolCall",
    "Question",
    "ReplySuperseded",
    "StreamConfig",
    "iModel",
]
