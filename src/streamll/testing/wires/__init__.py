"""The providers' wire formats, one file each.

A new wire is one file with a subclass of ``PracticeWire`` (see ``base``) and one entry in
``WIRES``. Its tests: a request and a reader of its text in ``tests/testing/raw_client.py``, a fold
of its frames in ``test_practice_wires.py``, its error frame in ``test_practice_faults.py``; the
tests with the fixture ``wire`` then run for it.
"""

from __future__ import annotations

from streamll.testing.wires.anthropic import AnthropicMessages
from streamll.testing.wires.base import PracticeWire, WireFrame
from streamll.testing.wires.gemini import Gemini
from streamll.testing.wires.openai_chat import OpenAIChat
from streamll.testing.wires.openai_responses import OpenAIResponses

WIRES: tuple[PracticeWire, ...] = (OpenAIChat(), OpenAIResponses(), AnthropicMessages(), Gemini())

__all__ = ["WIRES", "PracticeWire", "WireFrame"]
