"""Models to talk to: the model names of ``streamll.chat`` at the notebook's path."""

from streamll.chat.calling import Calling as Calling
from streamll.chat.calling import CallStatus as CallStatus
from streamll.chat.calling import Chunk as Chunk
from streamll.chat.calling import Execution as Execution
from streamll.chat.calling import InvokeStream as InvokeStream
from streamll.chat.model import iModel as iModel
from streamll.chat.question import Hooks as Hooks
from streamll.chat.question import Question as Question
from streamll.chat.reply import ModelReply as ModelReply
from streamll.chat.reply import ModelToolCall as ModelToolCall
from streamll.core.errors import CircuitOpen as CircuitOpen
from streamll.core.errors import MissingKeyError as MissingKeyError
from streamll.core.errors import ReplySuperseded as ReplySuperseded
from streamll.flow.breaker import CircuitBreaker as CircuitBreaker
from streamll.flow.config import StreamConfig as StreamConfig
from streamll.flow.limits import Limits as Limits
