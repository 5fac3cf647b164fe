"""The providers' wire formats, one file each."""

from __future__ import annotations

from .base import Frame, Tool, Wire
from .openai_chat import OpenAIChat

WIRES: tuple[Wire, ...] = (OpenAIChat(),)

__all__ = ["WIRES", "Frame", "Tool", "Wire"]
