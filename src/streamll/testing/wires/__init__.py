"""The providers' wire formats, one file each."""

from __future__ import annotations

from streamll.testing.wires.anthropic import Anthropic
from streamll.testing.wires.base import Frame, Wire
from streamll.testing.wires.openai_chat import OpenAIChat
from streamll.testing.wires.responses import Responses

WIRES: tuple[Wire, ...] = (OpenAIChat(), Responses(), Anthropic())

__all__ = ["WIRES", "Frame", "Wire"]
