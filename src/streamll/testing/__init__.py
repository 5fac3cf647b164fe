"""Test your own streaming: a practice LM server, faults on demand, and every way to cut a text."""

from __future__ import annotations

from streamll.testing.chunkings import chunkings
from streamll.testing.recorded import RecordedRequest
from streamll.testing.replies import Citation, Fault, Reply, ToolCall, Usage
from streamll.testing.server import PracticeServer

__all__ = [
    "Citation",
    "Fault",
    "PracticeServer",
    "RecordedRequest",
    "Reply",
    "ToolCall",
    "Usage",
    "chunkings",
]
