"""Models to talk to, over DSPy's own provider client: no program, no signature.

Follow one question: ``model`` makes an ``Asked`` of it; entering that starts a ``streamll.stream``
whose program is ``answering``, which asks the model's engine (``engines``) through capture's tap;
``reply`` hears what comes. So a question is a run like any other: same events, same sinks, same
retries and timeouts.
"""

from __future__ import annotations

from streamll.core.errors import CircuitOpen
from streamll.flow.breaker import CircuitBreaker
from streamll.flow.config import StreamConfig
from streamll.services.asking import Question
from streamll.services.calling import Calling, Execution, Status
from streamll.services.errors import MissingKeyError, ReplySuperseded
from streamll.services.hooks import Hooks
from streamll.services.limits import Limits
from streamll.services.model import iModel
from streamll.services.reply import Reply, ToolCall
from streamll.services.streaming import Chunk, InvokeStream

__all__ = [
    "Calling",
    "Chunk",
    "CircuitBreaker",
    "CircuitOpen",
    "Execution",
    "Hooks",
    "InvokeStream",
    "Limits",
    "MissingKeyError",
    "Question",
    "Reply",
    "ReplySuperseded",
    "Status",
    "StreamConfig",
    "ToolCall",
    "iModel",
]
