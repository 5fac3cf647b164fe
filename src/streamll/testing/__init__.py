"""Test your own streaming: a practice LM server, faults on demand, and every way to cut a text."""

from __future__ import annotations

from .chunkings import chunkings
from .recorded import RecordedRequest
from .replies import Citation, Fault, Reply, ToolCall, Usage
from .server import PracticeServer

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
