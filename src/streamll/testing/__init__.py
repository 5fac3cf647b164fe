r"""Test your own streaming: a practice LM server, faults on demand, every way to cut a text.

>>> from streamll.testing import Fault, PracticeServer, Reply
>>> with PracticeServer(pace=0.01) as server:
...     server.script(
...         {"answer": "Paris"},  # rendered in the format that the adapter asks for
...         Reply("[[ ## answer ## ]]\nParis", hold_after=3),  # exact text, held until released
...         Fault(status=429, retry_after=0),
...     )
...     dspy.configure(lm=server.lm())  # or wire="responses", "anthropic", "gemini"
...     ...
...     [request] = server.wait_for_requests(1)
...     request.wait_closed(timeout=1)  # the client has closed the connection

``record`` keeps what a real provider sends; ``replay`` plays it through the same program, offline.

``PracticeServer`` speaks the providers' own wire formats over real HTTP, so the program under test
is not changed. ``streamll practice`` runs the same server from the command line.
"""

from __future__ import annotations

from streamll.core.ordering import OrderCheck
from streamll.sinks.memory import MemorySink as RecordingSink
from streamll.testing.cutting import chunkings
from streamll.testing.prompts import Prompt
from streamll.testing.record_and_replay import Replay, record, replay
from streamll.testing.recorded import RecordedRequest
from streamll.testing.replies import Citation, Fault, Reply, ToolCall, Usage
from streamll.testing.server import PracticeServer

__all__ = [
    "Citation",
    "Fault",
    "OrderCheck",
    "PracticeServer",
    "Prompt",
    "RecordedRequest",
    "RecordingSink",
    "Replay",
    "Reply",
    "ToolCall",
    "Usage",
    "chunkings",
    "record",
    "replay",
]
